"""One act told by four systems, each in its own words: agent spans, an MCP gateway, a token
server, a cloud trail.

Alice signs in to `planner`, which hands the work to `deployer` (token exchange); `deployer`
calls the tool `publish_site` through the gateway; the server behind it exchanges the token
for one that AWS accepts, takes a role with it, and writes to a bucket.
"""

from __future__ import annotations

import json
from typing import Any

ISSUER = "https://auth.acme.example"
ALICE, PLANNER, DEPLOYER, SERVER = "alice", "planner", "deployer", "site-mcp"
ROLE = "arn:aws:iam::111122223333:role/site-publisher"
SESSION = "arn:aws:sts::111122223333:assumed-role/site-publisher/site-mcp"
KEY = "ASIAQ7STORYKEY000001"
TRACE = "7c1f0e5d9a3b48e2b6d4c8a1f2e3d405"
EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
DAY = "2026-03-02T"
NANOS = 1_772_442_000_000_000_000
"""09:00:00Z of that day."""


def token_server() -> list[dict[str, Any]]:
    """Return the log lines of the authorization server."""
    return [
        _issued("09:00:00", "tok-a", PLANNER, [ISSUER], grant_type="authorization_code", auth=True),
        _issued(
            "09:00:05",
            "tok-b",
            DEPLOYER,
            ["https://mcp.acme.example"],
            parent="tok-a",
            act=[DEPLOYER],
        ),
        _issued(
            "09:00:21",
            "tok-c",
            SERVER,
            ["sts.amazonaws.com"],
            parent="tok-b",
            act=[SERVER, DEPLOYER],
        ),
    ]


def _issued(
    clock: str,
    jti: str,
    client: str,
    audience: list[str],
    *,
    grant_type: str = EXCHANGE,
    parent: str | None = None,
    act: list[str] | None = None,
    auth: bool = False,
) -> dict[str, Any]:
    at = _seconds(clock)
    claims: dict[str, Any] = {
        "iss": ISSUER,
        "sub": ALICE,
        "aud": audience,
        "jti": jti,
        "client_id": client,
        "scope": "site.read site.write",
        "iat": at,
        "exp": at + 900,
    }
    if auth:
        claims["auth_time"] = at - 2
    for actor in reversed(act or []):
        claims["act"] = {"iss": ISSUER, "sub": actor} | (
            {"act": claims["act"]} if "act" in claims else {}
        )
    line: dict[str, Any] = {
        "time": f"{DAY}{clock}Z",
        "event": "token.exchanged" if parent else "token.issued",
        "event_id": f"as-{jti}",
        "grant_type": grant_type,
        "client_id": client,
        "claims": claims,
    }
    if parent:
        line["subject_token"] = {"iss": ISSUER, "jti": parent}
    return line


def spans() -> list[dict[str, Any]]:
    """Return what the agent's runtime exports: its run and the tool's execution."""
    user = _attribute("user.id", ALICE)
    run = _span(
        "invoke_agent deployer",
        "00f067aa0ba902b7",
        None,
        19,
        [
            _attribute("gen_ai.operation.name", "invoke_agent"),
            _attribute("gen_ai.agent.name", DEPLOYER),
            user,
        ],
    )
    tool = _span(
        "execute_tool publish_site",
        "53995c3f42cd8ad8",
        "00f067aa0ba902b7",
        20,
        [
            _attribute("gen_ai.operation.name", "execute_tool"),
            _attribute("gen_ai.tool.name", "publish_site"),
            _attribute("gen_ai.tool.call.id", "call_9b1d"),
        ],
    )
    resource = {"attributes": [_attribute("service.name", DEPLOYER)]}
    return [
        {
            "resourceSpans": [
                {
                    "resource": resource,
                    "scopeSpans": [{"scope": {"name": "acme.agents"}, "spans": [run, tool]}],
                }
            ]
        }
    ]


def _span(
    name: str, span_id: str, parent: str | None, second: int, attributes: list[Any]
) -> dict[str, Any]:
    begins = NANOS + second * 1_000_000_000
    return {
        "traceId": TRACE,
        "spanId": span_id,
        "parentSpanId": parent or "",
        "name": name,
        "kind": 1,
        "startTimeUnixNano": str(begins),
        "endTimeUnixNano": str(begins + 900_000_000),
        "attributes": attributes,
        "status": {},
    }


def _attribute(key: str, value: str) -> dict[str, Any]:
    return {"key": key, "value": {"stringValue": value}}


def gateway() -> list[dict[str, Any]]:
    """Return the gateway's audit event of the call."""
    return [
        {
            "audit_id": "5d0c7e10-0000-4000-8000-00000000a001",
            "type": "mcp_tool_call",
            "logged_at": f"{DAY}09:00:20.250Z",
            "outcome": "success",
            "component": SERVER,
            "trace_id": TRACE,
            "source": {"type": "network", "value": "10.0.0.7", "extra": {"request_id": "2"}},
            "subjects": {"user_id": ALICE},
            "delegation": {
                "chain": [{"iss": ISSUER, "sub": DEPLOYER}],
                "truncated": False,
                "omitted": 0,
                "malformed": False,
            },
            "target": {
                "endpoint": "/mcp",
                "method": "tools/call",
                "name": "publish_site",
                "type": "tool",
            },
        }
    ]


def cloud_trail() -> list[dict[str, Any]]:
    """Return the role that the server took with its token, and what it did in the role."""
    common = {"awsRegion": "eu-west-1", "recipientAccountId": "111122223333"}
    provider = f"arn:aws:iam::111122223333:oidc-provider/{ISSUER.removeprefix('https://')}"
    taken = common | {
        "eventID": "9c5f8a1e-0000-4000-8000-000000000001",
        "eventTime": f"{DAY}09:00:22Z",
        "eventSource": "sts.amazonaws.com",
        "eventName": "AssumeRoleWithWebIdentity",
        "userIdentity": {
            "type": "WebIdentityUser",
            "principalId": f"{provider}:sts.amazonaws.com:{ALICE}",
            "userName": ALICE,
            "identityProvider": provider,
        },
        "requestParameters": {"roleArn": ROLE, "roleSessionName": SERVER},
        "responseElements": {
            "credentials": {
                "accessKeyId": KEY,
                "sessionToken": "do-not-store",
                "expiration": "Mar 2, 2026, 10:00:22 AM",
            },
            "subjectFromWebIdentityToken": ALICE,
            "audience": "sts.amazonaws.com",
            "provider": provider,
            "assumedRoleUser": {"arn": SESSION, "assumedRoleId": "AROASITE:site-mcp"},
        },
    }
    written = common | {
        "eventID": "9c5f8a1e-0000-4000-8000-000000000002",
        "eventTime": f"{DAY}09:00:24Z",
        "eventSource": "s3.amazonaws.com",
        "eventName": "PutObject",
        "userIdentity": {
            "type": "AssumedRole",
            "principalId": "AROASITE:site-mcp",
            "arn": SESSION,
            "accountId": "111122223333",
            "accessKeyId": KEY,
            "sessionContext": {
                "sessionIssuer": {"type": "Role", "arn": ROLE, "accountId": "111122223333"}
            },
        },
        "requestParameters": {"bucketName": "acme-site", "key": "index.html"},
    }
    return [taken, written]


def _seconds(clock: str) -> int:
    hours, minutes, seconds = map(int, clock.split(":"))
    return NANOS // 1_000_000_000 + (hours - 9) * 3600 + minutes * 60 + seconds


SYSTEMS = {
    "jwt_claims": token_server,
    "otel_genai": spans,
    "toolhive": gateway,
    "cloudtrail": cloud_trail,
}


def lines_of(system: str) -> bytes:
    """Return what one system wrote, as JSON lines."""
    return b"\n".join(json.dumps(record).encode() for record in SYSTEMS[system]()) + b"\n"

"""OCSF: API Activity (6003) and Authentication (3002) of whatever product wrote them.

An API call is one tool call; an authentication is one token event, and so is the use of a
token beside a delegation.  A `delegation` object is a credential of its own, made by its
issuer and known by its uid: a token event `delegate`, told again by every record under it
and stored once for each way in which it was told.  Without `parent_uid` it is a root of
which nothing is known: OCSF writes a missing record the same way.
User Management and its kin (3001, 3005, 3007, 3008) are calls that change rights, and
secret events where programmatic credentials come or go.  Other classes are skipped by
number, findings (2004) among them, which is what our own alerts are.

An AI agent acts on behalf of the actor's user; without one, the application does, or else
the user.  A call presents its delegation, else its token, else its user's credential.
Where AWS's token service answered with a key, that key is a token event: of the answer its id
and end are read, and of the request the role.  Else reads no `raw_data`, `unmapped`,
`observables`, headers, prompts, request or response data.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from pipeline.ingest.json_text import member, parse_json
from pipeline.ingest.sql_source import SqlSource

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pipeline.ingest.sources import Adapted, Context

WRAPPER = None

_TIMES = {"created_time": "VARCHAR", "created_time_dt": "VARCHAR"}
_ENDS = {"expiration_time": "VARCHAR", "expiration_time_dt": "VARCHAR"}
_ACCOUNT = {"uid": "VARCHAR", "name": "VARCHAR"}
_NAMED = {"uid": "VARCHAR", "name": "VARCHAR"}
_CREDENTIAL = {"uid": "VARCHAR", "type": "VARCHAR", "last_used_time": "VARCHAR"}
_USER = {
    **_NAMED,
    "email_addr": "VARCHAR",
    "type": "VARCHAR",
    "type_id": "INTEGER",
    "domain": "VARCHAR",
    "credential_uid": "VARCHAR",
    "account": _ACCOUNT,
    "programmatic_credentials": [_CREDENTIAL],
}
_SESSION = {
    "uid": "VARCHAR",
    "issuer": "VARCHAR",
    "credential_uid": "VARCHAR",
    "is_mfa": "BOOLEAN",
    **_TIMES,
    **_ENDS,
}
_TOKEN = {"uid": "VARCHAR", "type": "VARCHAR", "type_id": "INTEGER", **_TIMES, **_ENDS}
_AGENT = {**_NAMED, "instance_uid": "VARCHAR", "version": "VARCHAR"}
_DELEGATION = {
    "uid": "VARCHAR",
    "parent_uid": "VARCHAR",
    "issuer_uid": "VARCHAR",
    "scopes": "VARCHAR",
    "audience": "VARCHAR",
    **_TIMES,
    **_ENDS,
}
_PROFILE = {"ai_agent": _AGENT, "delegation": _DELEGATION}

SHAPE = {
    "class_uid": "INTEGER",
    "type_uid": "BIGINT",
    "activity_id": "INTEGER",
    "activity_name": "VARCHAR",
    "time": "VARCHAR",
    "time_dt": "VARCHAR",
    "status_id": "INTEGER",
    "status_code": "VARCHAR",
    "action_id": "INTEGER",
    "disposition_id": "INTEGER",
    "metadata": {
        "uid": "VARCHAR",
        "correlation_uid": "VARCHAR",
        "event_code": "VARCHAR",
        "original_time": "VARCHAR",
        "version": "VARCHAR",
        "product": {"name": "VARCHAR", "vendor_name": "VARCHAR"},
    },
    "actor": {
        "user": _USER,
        "session": _SESSION,
        "app_uid": "VARCHAR",
        "app_name": "VARCHAR",
        "invoked_by": "VARCHAR",
        "iam_role": {**_NAMED, "account": _ACCOUNT},
        "idp": {"issuer": "VARCHAR"},
        "process": {"name": "VARCHAR"},
        "authorizations": [
            {
                "decision": "VARCHAR",
                "policy": {"uid": "VARCHAR", "name": "VARCHAR", "version": "VARCHAR"},
            }
        ],
    },
    # The profile's members stand at the top; some producers keep them under its name.
    **_PROFILE,
    "ai_operation": _PROFILE,
    "api": {
        "operation": "VARCHAR",
        "service": _NAMED,
        "request": {
            "uid": "VARCHAR",
            "data": {"roleArn": "VARCHAR", "sourceIdentity": "VARCHAR"},
        },
        "response": {
            "code": "INTEGER",
            "error": "VARCHAR",
            "data": {
                "credentials": {"accessKeyId": "VARCHAR", "expiration": "VARCHAR"},
                "assumedRoleUser": {"arn": "VARCHAR"},
                "federatedUser": {"arn": "VARCHAR"},
                "subject": "VARCHAR",
                "subjectFromWebIdentityToken": "VARCHAR",
                "sourceIdentity": "VARCHAR",
            },
        },
        "token": _TOKEN,
    },
    "cloud": {"provider": "VARCHAR", "region": "VARCHAR", "account": _ACCOUNT},
    "src_endpoint": {"ip": "VARCHAR"},
    "dst_endpoint": {"hostname": "VARCHAR", "svc_name": "VARCHAR"},
    "http_request": {"uid": "VARCHAR", "user_agent": "VARCHAR"},
    "http_response": {"code": "INTEGER"},
    "resources": [_NAMED],
    "trace": {"uid": "VARCHAR", "span": {"uid": "VARCHAR", "parent_uid": "VARCHAR"}},
    "user": _USER,
    "session": _SESSION,
    "service": _NAMED,
    "authentication_token": _TOKEN,
    "auth_protocol": "VARCHAR",
    "auth_protocol_id": "INTEGER",
    "logon_type_id": "INTEGER",
    "iam_role": _NAMED,
    "iam_roles": [_NAMED],
    "programmatic_credentials": [_CREDENTIAL],
}
_TAKES_KEY = re.compile(r"AssumeR\w+|GetSessionToken|GetFederationToken")


def _prepared(record: dict[str, Any]) -> dict[str, Any]:
    """Return a record with what AWS's token service was asked and answered as no text."""
    operation = member(record, "api", "operation")
    if not isinstance(operation, str) or not _TAKES_KEY.fullmatch(operation):
        return record
    parts = {part: _opened(member(record, "api", part)) for part in ("request", "response")}
    return {**record, "api": {**record["api"], **parts}}


def _opened(part: Any) -> Any:
    data = member(part, "data")
    if not isinstance(data, str):
        return part
    try:
        return {**part, "data": parse_json(data.encode("utf-8", "surrogatepass"))}
    except ValueError:
        return {**part, "data": None}


SOURCE = SqlSource(
    name="ocsf",
    shape=SHAPE,
    prepare=_prepared,
    digests={
        "args_hash": ("api", "request", "data"),
        "result_hash": ("api", "response", "data"),
    },
    hidden=(
        ("api", "request", "data"),
        ("api", "response", "data"),
        ("api", "response", "error_message"),
        ("api", "response", "message"),
        ("enrichments",),
        ("http_request", "args"),
        ("http_request", "http_headers"),
        ("http_request", "url"),
        ("http_response", "http_headers"),
        ("message",),
        ("message_context",),
        ("observables",),
        ("raw_data",),
        ("resources",),
        ("status_detail",),
        ("unmapped",),
    ),
)


def recognises(record: object) -> bool:
    """Return whether a record has the members that every OCSF event has."""
    return (
        isinstance(record, dict)
        and any(str(record.get(name)).isdecimal() for name in ("class_uid", "type_uid"))
        and isinstance(record.get("metadata"), dict)
        and not {"time", "time_dt"}.isdisjoint(record)
    )


def adapt(values: Sequence[bytes | None], context: Context) -> Adapted:
    """Return the calls, tokens, delegations and credentials that the records tell of."""
    return SOURCE.adapt(values, context)

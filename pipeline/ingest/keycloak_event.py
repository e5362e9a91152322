"""Keycloak's user events that concern tokens, as JSON or as its console log writes them.

Pure.  They carry no claims but name tokens by `jti` (`token_id`, `refresh_token_id`).
They name a realm and not the issuer: that is the instance, or the realm under it, and
without an instance a name of our own, which no other log knows.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from pipeline.ingest.claims import moment_us, scopes_in, word
from pipeline.ingest.json_text import digest
from pipeline.ingest.token_line import Unusable

if TYPE_CHECKING:
    from pipeline.ingest.sources import Context

_OPS = {
    "CODE_TO_TOKEN": "issue",
    "CLIENT_LOGIN": "issue",
    "OAUTH2_DEVICE_CODE_TO_TOKEN": "issue",
    "AUTHREQID_TO_TOKEN": "issue",
    "PERMISSION_TOKEN": "issue",
    "TOKEN_EXCHANGE": "exchange",
    "REFRESH_TOKEN": "refresh",
    "INTROSPECT_TOKEN": "introspect",
    "REVOKE_GRANT": "revoke",
    "LOGIN": "issue",
    "OAUTH2_EXTENSION_GRANT": "issue",
}
_MADE_OR_NOT = frozenset({"LOGIN", "OAUTH2_EXTENSION_GRANT"})
"""Kinds that make a token only where they name it: a login by the password grant does."""
_GRANTS = {
    "CODE_TO_TOKEN": "authorization_code",
    "CLIENT_LOGIN": "client_credentials",
    "OAUTH2_DEVICE_CODE_TO_TOKEN": "urn:ietf:params:oauth:grant-type:device_code",
    "AUTHREQID_TO_TOKEN": "urn:openid:params:grant-type:ciba",
    "TOKEN_EXCHANGE": "urn:ietf:params:oauth:grant-type:token-exchange",
    "REFRESH_TOKEN": "refresh_token",
}
_PAIR = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
_TOP = ("type", "realmId", "realmName", "clientId", "userId", "sessionId", "ipAddress", "error")
_TYPE_URN = "urn:ietf:params:oauth:token-type:"
_MICROSECONDS = 1_000_000


def is_keycloak_event(record: Any) -> bool:
    """Return whether a record is a user event of Keycloak."""
    if not isinstance(record, dict):
        return False
    if record.get("loggerName") == "org.keycloak.events" and "details" not in record:
        return isinstance(record.get("message"), str)
    named = word(record.get("realmId")) or word(record.get("realmName"))
    return bool(named and word(record.get("type")) and isinstance(record.get("details"), dict))


def keycloak_rows(record: dict[str, Any], context: Context) -> list[dict[str, Any]] | Unusable:
    """Return the token events of one event: of the access token, and of a new refresh token."""
    event = _event(record)
    details = event["details"]
    told = word(event.get("type")) or ""
    kind = told.removesuffix("_ERROR")
    made = word(details.get("token_id"))
    op = _OPS.get(kind)
    if op is None or (kind in _MADE_OR_NOT and not made):
        return Unusable("a Keycloak event that concerns no token", is_skipped=True)
    time = moment_us(event.get("time"))
    time = time if time is not None else moment_us(event.get("timestamp"))
    if time is None:
        return Unusable("time is missing or is no time")
    issuer = _issuer(event, context)
    if op == "revoke":
        return _revocation(event, issuer, context, time, digest(record))
    row = {
        **_common(event, issuer, context, time),
        "event_id": word(event.get("id")) or digest(record),
        "op": op,
        "issued_at": time if op != "introspect" else None,
        "grant_type": word(details.get("grant_type")) or _GRANTS.get(kind),
        **_key(issuer, made),
        "token_type": word(details.get("requested_token_type")) or f"{_TYPE_URN}access_token",
        "expires_at": _end(time, details.get("access_token_expiration_time")),
    }
    rotated = word(details.get("updated_refresh_token_id"))
    old = word(details.get("refresh_token_id"))
    if kind == "REFRESH_TOKEN" and old:
        row["parents"] = [{"role": "refresh", "issuer": issuer, "kind": "jti", "id": old}]
    new = rotated if kind == "REFRESH_TOKEN" else old
    if not new or op == "introspect" or row["outcome"] == "failure":
        return [row]
    return [row, {**row, **_refresh_token(row, issuer, new)}]


def _revocation(
    event: dict[str, Any], issuer: str, context: Context, time: int, sha256: str
) -> list[dict[str, Any]] | Unusable:
    details = event["details"]
    access, refresh = word(details.get("token_id")), word(details.get("refresh_token_id"))
    row = {
        **_common(event, issuer, context, time),
        "event_id": word(event.get("id")) or sha256,
        "op": "revoke",
        "revoke_target": "token",
        **_key(issuer, access or refresh),
        "token_type": f"{_TYPE_URN}{'access' if access or not refresh else 'refresh'}_token",
    }
    if row["credential_id"] is None and row["outcome"] == "success":
        # Of a client's grants Keycloak ends one user's: the contract cannot name these.
        return Unusable("a Keycloak revocation that names no token", is_skipped=True)
    return [row]


def _event(record: dict[str, Any]) -> dict[str, Any]:
    if isinstance(record.get("details"), dict):
        return record
    pairs = {name: value.replace('\\"', '"') for name, value in _PAIR.findall(record["message"])}
    top = {name: pairs.pop(name) for name in _TOP if name in pairs}
    return {**top, "timestamp": record.get("timestamp"), "details": pairs}


def _issuer(event: dict[str, Any], context: Context) -> str:
    realm = word(event.get("realmName")) or word(event.get("realmId")) or "unknown"
    if context.instance is None:
        return f"keycloak:{realm}"
    base = context.instance.rstrip("/")
    return base if "/realms/" in base else f"{base}/realms/{realm}"


def _common(event: dict[str, Any], issuer: str, context: Context, time: int) -> dict[str, Any]:
    details = event["details"]
    error = word(event.get("error"))
    failed = error is not None or (word(event.get("type")) or "").endswith("_ERROR")
    subject, client = word(event.get("userId")), word(event.get("clientId"))
    caller = None
    if (word(event.get("type")) or "").startswith("INTROSPECT_TOKEN"):
        # The event's client is the server that asked.
        caller, client = client, word(details.get("token_issued_for"))
    scopes = scopes_in(details.get("scope"))
    is_service = (word(details.get("username")) or "").startswith("service-account-")
    return {
        "source": f"keycloak:{word(event.get('realmName')) or word(event.get('realmId'))}",
        "event_time": time,
        "observer": "authz_server",
        "tenant_id": context.tenant_id,
        "outcome": "failure" if failed else "success",
        "error": error or ("unspecified" if failed else None),
        "subject_id": subject,
        "subject_issuer": issuer if subject else None,
        "subject_kind": "client" if subject and is_service else None,
        "client_id": client,
        **_actor(details, client, issuer),
        "scopes": scopes or [],
        "scope_known": scopes is not None,
        "audience": scopes_in(details.get("audience")) or [],
        "session_id": word(event.get("sessionId")),
        "ext": {
            **{
                name: found
                for name in ("subject_token_client_id", "refresh_token_type", "client_auth_method")
                if (found := word(details.get(name)))
            },
            **({"callerId": caller} if caller else {}),
            **({"src_ip": address} if (address := word(event.get("ipAddress"))) else {}),
        },
        "is_partial": False,
    }


def _actor(details: dict[str, Any], client: str | None, issuer: str) -> dict[str, Any]:
    actor = word(details.get("actor_id"))
    if actor:
        return {
            "actor_id": actor,
            "actor_issuer": issuer,
            "actor_convention": "act",
            "act_chain": [{"issuer": issuer, "subject": actor}],
        }
    if client is None:
        return {}
    return {"actor_id": client, "actor_issuer": issuer, "actor_convention": "client_id"}


def _key(issuer: str, made: str | None) -> dict[str, str | None]:
    return {
        "credential_issuer": issuer if made else None,
        "credential_kind": "jti" if made else None,
        "credential_id": made,
    }


def _refresh_token(row: dict[str, Any], issuer: str, new: str) -> dict[str, Any]:
    return {
        "event_id": f"{row['event_id']}/refresh_token",
        **_key(issuer, new),
        "token_type": f"{_TYPE_URN}refresh_token",
        "expires_at": None,
    }


def _end(time: int, lifetime_s: Any) -> int | None:
    written = word(lifetime_s)
    return (
        time + int(written) * _MICROSECONDS
        if written and re.fullmatch(r"\d{1,9}", written)
        else None
    )

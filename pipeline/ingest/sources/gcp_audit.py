"""Google Cloud Audit Logs: `LogEntry` records, alone, as lines, in lists, or pushed by Pub/Sub.

Every record is one tool call; the first and the last record of a long operation are
one call before and after.  A token made by the credentials or the token service is a
token event besides, with an id of ours (`local`), for Google names none; a key of a
service account is known by its key id.  Keys and secrets that come, go or are read
are secret events.

Who acts is the principal whose rights were used.  The subject is the first identity of
`serviceAccountDelegationInfo`, which Google sorts by time, the real authority first; the
chain of actors is that list backwards, so the acting principal is its first.
Never copies a request or an answer; of these only what names a key, a scope or a lifetime
is read.
"""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING, Any

from pipeline.ingest.json_text import is_cut_json, member, parse_json, speller
from pipeline.ingest.sql_source import SqlSource

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pipeline.ingest.sources import Adapted, Context

WRAPPER = "entries"

_SHAPE = {
    "insertId": "VARCHAR",
    "logName": "VARCHAR",
    "timestamp": "VARCHAR",
    "receiveTimestamp": "VARCHAR",
    "trace": "VARCHAR",
    "spanId": "VARCHAR",
    "operation": {"id": "VARCHAR", "first": "BOOLEAN", "last": "BOOLEAN"},
    "resource": {"type": "VARCHAR", "labels": "MAP(VARCHAR, VARCHAR)"},
    "protoPayload": {
        "serviceName": "VARCHAR",
        "methodName": "VARCHAR",
        "resourceName": "VARCHAR",
        "authenticationInfo": {
            "principalEmail": "VARCHAR",
            "principalSubject": "VARCHAR",
            "serviceAccountKeyName": "VARCHAR",
            "oauthInfo": {"oauthClientId": "VARCHAR"},
            "serviceAccountDelegationInfo": [
                {
                    "principalSubject": "VARCHAR",
                    "firstPartyPrincipal": {
                        "principalEmail": "VARCHAR",
                        "principalSubject": "VARCHAR",
                    },
                    "thirdPartyPrincipal": {"thirdPartyClaims": {"sub": "VARCHAR"}},
                }
            ],
        },
        "authorizationInfo": [{"permission": "VARCHAR", "granted": "VARCHAR"}],
        "requestMetadata": {
            "callerIp": "VARCHAR",
            "callerSuppliedUserAgent": "VARCHAR",
            "requestAttributes": {"time": "VARCHAR"},
        },
        "status": {"code": "INTEGER"},
        "request": {
            "name": "VARCHAR",
            "scope": ["VARCHAR"],
            "lifetime": "VARCHAR",
            "delegates": ["VARCHAR"],
            "audience": "VARCHAR",
            "grantType": "VARCHAR",
        },
        "response": {"name": "VARCHAR", "valid_before_time": {"seconds": "DOUBLE"}},
        "serviceData": {
            "policyDelta": {"bindingDeltas": [{"action": "VARCHAR", "member": "VARCHAR"}]}
        },
        "metadata": {"identityDelegationChain": ["VARCHAR"], "mapped_principal": "VARCHAR"},
    },
}


def _entries(document: Any) -> list[Any] | None:
    if isinstance(document, dict) and "protoPayload" in document:
        return None
    for name in (WRAPPER, "receivedMessages"):
        listed = member(document, name)
        if isinstance(listed, list):
            return [_pushed(item) or item for item in listed]
    if isinstance(document, list):
        return [_pushed(item) or item for item in document]
    pushed = _pushed(document)
    return None if pushed is None else [pushed]


def _pushed(envelope: Any) -> Any:
    data = member(envelope, "message", "data")
    if not isinstance(data, str):
        return None
    try:
        return parse_json(base64.b64decode(data, validate=True))
    except (binascii.Error, ValueError):
        return None


_respelt = speller(_SHAPE)
_payload = speller({"protoPayload": "JSON"})


def _prepared(record: dict[str, Any]) -> dict[str, Any]:
    # As Google spells it, a record is read as it stands.
    if "insertId" in record and member(record, "protoPayload", "requestMetadata", "callerIp"):
        return record
    found: dict[str, Any] = _respelt(record)
    return found


SOURCE = SqlSource(
    name="gcp_audit",
    wrapper=WRAPPER,
    shape=_SHAPE,
    unwrap=_entries,
    prepare=_prepared,
    digests={
        "args_hash": ("protoPayload", "request"),
        "result_hash": ("protoPayload", "response"),
    },
    hidden=(
        # Of Pub/Sub: what it pushes where that is no entry; a program's own lines.
        ("message",),
        ("textPayload",),
        ("jsonPayload",),
        ("protoPayload", "request"),
        ("protoPayload", "response"),
        ("protoPayload", "serviceData"),
        ("protoPayload", "metadata"),
        ("protoPayload", "status", "message"),
        ("protoPayload", "status", "details"),
    ),
)


def recognises(record: object) -> bool:
    """Return whether a record is a log entry with an audit payload, or pushes one."""
    if isinstance(record, bytes):
        return is_cut_json(record, b"google.cloud.audit.AuditLog")
    entries = _entries(record)
    if entries is not None:
        return bool(entries) and recognises(entries[0])
    payload = member(_payload(record), "protoPayload")
    if not isinstance(payload, dict):
        return False
    kind = payload.get("@type")
    if isinstance(kind, str):
        return kind.endswith("google.cloud.audit.AuditLog")
    return not {"methodName", "serviceName", "authenticationInfo"}.isdisjoint(payload)


def adapt(values: Sequence[bytes | None], context: Context) -> Adapted:
    """Return one tool call per entry, and token and secret events where they come or go."""
    return SOURCE.adapt(values, context)

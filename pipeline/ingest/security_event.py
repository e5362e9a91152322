"""Security event tokens (RFC 8417) of CAEP and RISC: claims that tell of an event, not of a token.

Pure.  A session or an account that ended revokes what its subject holds; of other events
the contract holds nothing.  Only the subject's issuer, its id and the session's are read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pipeline.ingest.claims import moment_us, name_of, word
from pipeline.ingest.json_text import digest, member
from pipeline.ingest.token_line import Unusable

if TYPE_CHECKING:
    from pipeline.ingest.sources import Context

_ENDS = frozenset({"session-revoked", "account-disabled", "account-purged"})


def is_security_event(record: Any) -> bool:
    """Return whether claims carry the events of RFC 8417, by their names."""
    events = record.get("events") if isinstance(record, dict) else None
    return isinstance(events, dict) and any("://" in name for name in events)


def security_rows(record: dict[str, Any], context: Context) -> list[dict[str, Any]] | Unusable:
    """Return one revocation per subject whose session or account ended."""
    ended = [
        (name.rpartition("/")[2], told)
        for name, told in record["events"].items()
        if name.rpartition("/")[2] in _ENDS
    ]
    if not ended:
        return Unusable("a security event that ends no session and no account", is_skipped=True)
    rows = [row for kind, told in ended if (row := _row(record, kind, told, context))]
    return rows or Unusable("a security event names no time, no issuer or no subject")


def _row(record: dict[str, Any], kind: str, told: Any, context: Context) -> dict[str, Any] | None:
    issuer = word(record.get("iss"))
    time = moment_us(member(told, "event_timestamp")) or moment_us(record.get("iat"))
    whole = member(told, "subject") or record.get("sub_id")
    subject, session = _named(member(whole, "user") or whole), _named(member(whole, "session"))
    if issuer is None or time is None or not (subject or session):
        return None
    own = name_of(record.get("jti")) or digest(record)
    subject_issuer = word(member(member(whole, "user") or whole, "iss")) or issuer
    return {
        "event_id": f"{own}/{kind}",
        "source": f"oauth.claims:{context.instance or issuer}",
        "event_time": time,
        "observer": "idp",
        "tenant_id": context.tenant_id,
        "op": "revoke",
        "outcome": "success",
        "credential_issuer": issuer,
        "credential_kind": "local",
        # A session is a credential of its own; all of a subject's have no other name.
        "credential_id": session or own,
        "revoke_target": "token" if session else "subject",
        "revoke_reason": kind,
        "subject_id": subject,
        "subject_issuer": subject_issuer if subject else None,
        "session_id": session,
        "scope_known": False,
        "ext": {"event": kind},
        "is_partial": False,
    }


def _named(subject: Any) -> str | None:
    """Return the id of a subject of RFC 9493, in whichever format."""
    names = ("sub", "id", "uri")
    return next((one for name in names if (one := name_of(member(subject, name)))), None)

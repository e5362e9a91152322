"""One CloudTrail record: what all the rows made of it have in common.

Pure; copies named fields only, so that nothing else of a record can reach a row.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from pipeline.ingest.aws import Principal, account_issuer, moment, principal_of, text
from pipeline.ingest.json_text import digest, member

if TYPE_CHECKING:
    from datetime import datetime

KEY_ISSUER = "aws"
"""Access key ids are unique over all accounts, so one issuer stands for all."""


class Event(NamedTuple):
    """What the rows of one record have in common."""

    record: dict[str, Any]
    time: datetime
    who: Principal
    envelope: dict[str, Any]
    account: str | None
    name: str
    error: str | None


def read_event(record: dict[str, Any], tenant_id: str) -> Event | None:
    """Return the record's common part; None where it has no readable time."""
    time = moment(record.get("eventTime"))
    if time is None:
        return None
    identity = record.get("userIdentity")
    sha256 = digest(record)
    ext = _ext(record, _object(identity), sha256)
    account = ext.get("recipientAccountId") or ext.get("accountId")
    who = principal_of(identity, text(record.get("eventSource")))
    return Event(
        record=record,
        time=time,
        who=who,
        envelope={
            "event_id": text(record.get("eventID")) or sha256,
            "source": f"aws.cloudtrail:{account}" if account else "aws.cloudtrail",
            "event_time": time,
            "observer": "cloud_audit",
            "tenant_id": tenant_id,
            "trust_domain": account_issuer(account),
            "session_id": _session(ext),
            "ext": ext,
        },
        account=account,
        name=text(record.get("eventName")) or "unknown",
        error=_error(record),
    )


_NAMES = (
    "recipientAccountId",
    "errorCode",
    "eventType",
    "eventCategory",
    "readOnly",
    "requestID",
    "sharedEventID",
    "vpcEndpointId",
    "sessionCredentialFromConsole",
)
"""Members of a record that `ext` keeps under their own name."""


def _session(ext: dict[str, str]) -> str | None:
    created, principal = ext.get("sessionCreation"), ext.get("principalId")
    return f"{principal}@{created}" if created and principal else None


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _error(record: dict[str, Any]) -> str | None:
    code = text(record.get("errorCode"))
    if code or not text(record.get("errorMessage")):
        signed_in = text(member(record, "responseElements", "ConsoleLogin"))
        return code or ("ConsoleLoginFailure" if signed_in == "Failure" else None)
    return "Unspecified"


def _ext(record: dict[str, Any], identity: dict[str, Any], sha256: str) -> dict[str, str]:
    context = _object(identity.get("sessionContext"))
    attributes = _object(context.get("attributes"))
    found = {
        **{name: text(record.get(name)) for name in _NAMES},
        "record_sha256": sha256,
        "region": text(record.get("awsRegion")),
        "accountId": text(identity.get("accountId")),
        "identityType": text(identity.get("type")),
        "principalId": text(identity.get("principalId")),
        "invokedBy": text(identity.get("invokedBy")),
        # A vendor whom the account lent its rights for a while.
        "invokedByDelegate": text(member(identity, "invokedByDelegate", "accountId")),
        "credentialsIssuedTo": text(member(identity, "inScopeOf", "credentialsIssuedTo")),
        "mfaAuthenticated": text(attributes.get("mfaAuthenticated")),
        "sessionCreation": text(attributes.get("creationDate")),
        "sourceIdentity": text(context.get("sourceIdentity")),
    }
    return _told(found)


def _told(found: dict[str, str | None]) -> dict[str, str]:
    return {name: value for name, value in found.items() if value is not None}


def finish(event: Event, row: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Return a row with its envelope; `more` goes to `ext`."""
    ext = event.envelope["ext"]
    if more:
        ext = {**ext, **_told({name: text(value) for name, value in more.items()})}
    return {**event.envelope, **row, "ext": ext}


def subject_of(identity: Any) -> dict[str, str | None]:
    """Return the columns of who a caller stands for, none where AWS does not say."""
    user = text(member(identity, "onBehalfOf", "userId"))
    if user:
        store = text(member(identity, "onBehalfOf", "identityStoreArn"))
        return subject_columns(user, store, "human")
    source = text(member(identity, "sessionContext", "sourceIdentity"))
    if source:
        return subject_columns(source, KEY_ISSUER, "unknown")
    kind = text(member(identity, "type"))
    if kind in {"SAMLUser", "WebIdentityUser"}:
        who = principal_of(identity)
        return subject_columns(who.id, who.issuer, "human" if kind == "SAMLUser" else "unknown")
    return {}


def subject_columns(subject: str, issuer: str | None, kind: str) -> dict[str, str | None]:
    """Return the three subject columns."""
    return {"subject_id": subject, "subject_issuer": issuer, "subject_kind": kind}

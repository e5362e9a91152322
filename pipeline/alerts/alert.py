"""What is told about a finding, and when there is something new to tell.

Takes findings as rows and what a sink was told before; leaves alerts with a
stable id and a finished body.  Does no I/O and reads no clock.  Every text in a
finding may have been written by an attacker.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

from pipeline.log import one_line

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

MAX_BODY_BYTES = 20_000
MAX_TEXT = 1_000
MAX_EVENTS = 50
MAX_PATH = 30

AlertType = Literal["finding.created", "finding.updated", "finding.resolved"]

_SEVERITIES = ("", "info", "low", "medium", "high", "critical")
_PLAIN = (
    "finding_id",
    "rule_id",
    "rule_code",
    "rule_version",
    "family",
    "severity",
    "confidence",
    "tenant_id",
    "title",
    "entity",
    "status",
    "status_reason",
    "first_seen",
    "last_seen",
    "credential_key",
    "route_owner",
    "policy_version",
    "coverage_note",
)


@dataclass(frozen=True)
class Alert:
    """One thing to tell about one finding."""

    alert_id: str
    """sha256 of the finding and of what is told: the same news has the same id."""
    finding_id: str
    tenant_id: str
    type: AlertType
    body: str
    """JSON; what is signed and sent, unchanged from attempt to attempt."""


@dataclass(frozen=True)
class Told:
    """One alert that a sink was told before, oldest first in a list."""

    type: str
    severity: int


@dataclass(frozen=True)
class Outcome:
    """What a sink made of one attempt; only `delivered` is success."""

    delivered: bool
    status_code: int | None = None
    error: str | None = None
    """What failed; never the URL, never a secret."""
    retry_after_s: float | None = None
    """Seconds that the receiver asked us to wait."""
    gone: bool = False
    """The receiver wants nothing more from us."""


def news(finding: Mapping[str, Any], told: Sequence[Told], min_severity: int) -> AlertType | None:
    """Return what a sink has to be told about a finding, None where it knows all.

    Created once, updated when the severity rises above what was told, resolved
    when it is no longer open; created again when it opens again.
    """
    known = bool(told) and told[-1].type != "finding.resolved"
    if finding["status"] != "open":
        return "finding.resolved" if known else None
    if finding["severity"] < min_severity:
        return None
    if not known:
        return "finding.created"
    highest = max(entry.severity for entry in told[_episode_start(told) :])
    return "finding.updated" if finding["severity"] > highest else None


def _episode_start(told: Sequence[Told]) -> int:
    ends = [place for place, entry in enumerate(told) if entry.type == "finding.resolved"]
    return ends[-1] + 1 if ends else 0


def make_alert(
    finding: Mapping[str, Any], kind: AlertType, told: Sequence[Told], chain_text: str | None
) -> Alert:
    """Return the alert about a finding; equal arguments give an equal alert."""
    # The episode keeps a finding that opens again from looking like its old self.
    episode = sum(entry.type == "finding.resolved" for entry in told)
    identity = f"{finding['finding_id']}\x1f{kind}\x1f{finding['severity']}\x1f{episode}"
    body = {
        "type": kind,
        "timestamp": iso(finding.get("updated_at") or finding["last_seen"]),
        "data": _data(finding, chain_text),
    }
    alert_id = hashlib.sha256(identity.encode()).hexdigest()
    return Alert(alert_id, finding["finding_id"], finding["tenant_id"], kind, _fit(body))


def trial_alert(sink: str, now: datetime) -> Alert:
    """Return an alert about nothing, marked as such, to try a sink with."""
    finding = {
        "finding_id": "test",
        "rule_id": "test",
        "severity": 1,
        "confidence": 1.0,
        "tenant_id": "default",
        "title": f"Test alert of delegraph for {sink}: nothing has happened",
        "entity": "none",
        "status": "open",
    }
    body = {"type": "test", "timestamp": iso(now), "data": _data(finding, None)}
    alert_id = hashlib.sha256(f"test\x1f{sink}\x1f{iso(now)}".encode()).hexdigest()
    return Alert(alert_id, "test", "default", "finding.created", _fit(body))


def _data(finding: Mapping[str, Any], chain_text: str | None) -> dict[str, Any]:
    data = {name: _clean(finding.get(name)) for name in _PLAIN}
    events = list(finding.get("event_uids") or [])
    path = list(finding.get("chain_path") or [])
    data["severity_name"] = _SEVERITIES[finding["severity"]]
    data["event_uids"] = _clean(events[:MAX_EVENTS])
    data["event_count"] = len(events)
    data["chain_path"] = _clean(path if len(path) <= MAX_PATH else [path[0], "...", *path[-28:]])
    data["chain_text"] = "\n".join(map(one_line, chain_text.splitlines())) if chain_text else None
    data["summary"] = _summary(finding.get("summary"))
    data["query"] = _query(finding["finding_id"], finding.get("credential_key"), events)
    return data


def _summary(text: str | None) -> Any:
    try:
        return _clean(json.loads(text or "{}"))
    except ValueError:
        return {}


def _query(finding_id: str, credential_key: str | None, events: Sequence[str]) -> dict[str, str]:
    """Return SQL that shows the same again in any client that has the views."""
    # For people to paste: nothing of ours executes it (hence the exemptions from S608).
    queries = {"finding": f"SELECT * FROM findings WHERE finding_id = {_literal(finding_id)}"}  # noqa: S608
    if credential_key:
        queries["chain"] = f"SELECT * FROM chains WHERE credential_key = {_literal(credential_key)}"  # noqa: S608
    if events:
        uids = ", ".join(map(_literal, events[:5]))
        queries["calls"] = f"SELECT * FROM calls WHERE event_uid IN ({uids})"  # noqa: S608
    return queries


def _literal(text: str) -> str:
    return "'" + one_line(text).replace("'", "''") + "'"


def _clean(value: Any) -> Any:
    """Return a JSON value without control or bidirectional characters, and not too long."""
    if isinstance(value, dict):
        return {_clean(str(key)): _clean(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_clean(inner) for inner in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, bool | int):
        return value
    text = iso(value) if isinstance(value, datetime) else one_line(str(value))
    return text if len(text) <= MAX_TEXT else text[:MAX_TEXT] + "..."


def _fit(body: dict[str, Any]) -> str:
    """Return the body as JSON of at most `MAX_BODY_BYTES`; the queries lead to what is left out."""
    data = body["data"]
    for drop in ("", "summary", "chain_text", "event_uids", "chain_path", "query", "entity"):
        if drop:
            data[drop] = None
            data["shortened"] = True
        text = _json(body)
        if len(text.encode()) <= MAX_BODY_BYTES:
            break
    return text


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def iso(time: datetime) -> str:
    """Return a time as RFC 3339 in UTC."""
    return time.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")

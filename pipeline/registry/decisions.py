"""What one version of the registry decides: each identity's limits and states, each class.

Decisions are what an event is judged by as of its own time, so they are what a
lake keeps of every version; see periods.py.  Facts, such as aliases, are not here.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from pipeline.registry.columns import SCHEMAS
from pipeline.registry.shapes import LIMITS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pipeline.registry.read import Entry

Sections = dict[str, list["Entry"]]
Row = dict[str, Any]

AGENT_DEFAULTS: Row = {
    "kind": "agent",
    "business_units": [],
    "is_broker": False,
    "vendor_hosted": False,
    "status": "active",
    "pass_through": False,
    "delegate_for": [],
    "risk_tier": "normal",
    "seasonal": False,
    "vendor_accounts": [],
    "shared_units": [],
    "environments": [],
    "approved_secrets": [],
    "reentry_allowed_with": [],
}
EXCEPTIONS = "static_secret_exceptions"
_CLASS_DEFAULTS: Row = {"risk_tier": "normal", "signoff_roles": []}
_TIMES = frozenset(f.name for s in SCHEMAS.values() for f in s if pa.types.is_timestamp(f.type)) | {
    "until"
}


@dataclass(frozen=True)
class Said:
    """What one version says of one identity or class.

    `before` are its earlier states, oldest first, each with the time at which it
    ended; `statement` is a hash of that history as written, empty without one, so
    that a history which somebody edits is told from one that merely still stands.
    """

    now: Row
    before: tuple[tuple[datetime, Row], ...] = ()
    statement: str = ""


@dataclass(frozen=True)
class Decisions:
    """The decisions of one version, by identity and by class."""

    identities: Mapping[str, Said]
    classes: Mapping[str, Said]

    @cached_property
    def text(self) -> str:
        """Return them as JSON that `read_decisions` takes; equal decisions, equal text."""
        parts = {
            part: {name: _as_json(said) for name, said in sorted(getattr(self, part).items())}
            for part in ("identities", "classes")
        }
        return json.dumps(parts, sort_keys=True, separators=(",", ":"), default=_time_text)


def decide(sections: Sections) -> Decisions:
    """Return what the sections of one folder decide."""
    limits = {
        entry.name: {key: value for key, value in entry.values.items() if key in LIMITS}
        for entry in sections.get("classes", [])
    }
    return Decisions(
        identities={agent.name: _said(agent, limits) for agent in sections.get("agents", [])},
        classes={row["class"]: Said(row) for row in map(_class, sections.get("classes", []))},
    )


def read_decisions(texts: Iterable[str]) -> list[Decisions]:
    """Return decisions from the JSON of versions; columns newer than a text get their default.

    What one version says as the one before it is the same object: thousands of
    identities over many versions are mostly that.
    """
    found: list[Decisions] = []
    raw: Row = {}
    for text in texts:
        last, raw = raw, json.loads(text)
        before = found[-1] if found else Decisions({}, {})
        found.append(
            Decisions(
                _read(raw, last, before.identities, "identities"),
                _read(raw, last, before.classes, "classes"),
            )
        )
    return found


def _read(raw: Row, last: Row, before: Mapping[str, Said], part: str) -> dict[str, Said]:
    defaults = AGENT_DEFAULTS if part == "identities" else _CLASS_DEFAULTS
    known = last.get(part, {})
    return {
        name: before[name] if known.get(name) == said else _from_json(said, defaults)
        for name, said in raw[part].items()
    }


def scope_hash(values: Mapping[str, Any]) -> str:
    """Return what a sign-off names: 16 hex digits over everything a class may do.

    Hashes the limits in a fixed order with sorted lists, so that a reordered file
    needs no new sign-off and any wider or narrower limit does.
    """
    limits = {
        key: sorted(value) if isinstance(value, list) else value
        for key, value in values.items()
        if key in LIMITS
    }
    return _hash(json.dumps(limits, sort_keys=True, separators=(",", ":")))


def _said(agent: Entry, limits: Mapping[str, Row]) -> Said:
    states = sorted(agent.values.get("history", []), key=lambda state: state.values["until"])
    before: list[tuple[datetime, Row]] = []
    for state in states:
        # A key that is written without a value says that there was none.
        values = {k: v for k, v in agent.values.items() if k not in state.lines} | state.values
        before.append((state.values["until"], _identity(agent.name, values, limits)))
    statement = json.dumps(
        [[sorted(state.lines), plain(state.values)] for state in states],
        sort_keys=True,
        default=_time_text,
    )
    now = _identity(agent.name, agent.values, limits)
    return Said(now, tuple(before), _hash(statement) if states else "")


def _identity(name: str, values: Mapping[str, Any], limits: Mapping[str, Row]) -> Row:
    row = AGENT_DEFAULTS | limits.get(values.get("class", ""), {}) | dict(values)
    kept = {key: row[key] for key in SCHEMAS["reg_identities"].names if key in row}
    return kept | {"identity_id": name, EXCEPTIONS: _exceptions(values)}


def _exceptions(values: Mapping[str, Any]) -> list[Row]:
    """Return the exceptions of one state; the old key is one for every secret."""
    named = [plain(entry.values) for entry in values.get(EXCEPTIONS, [])]
    until = values.get("static_secret_exception_until")
    return [*named, {"until": until}] if until else named


def _class(entry: Entry) -> Row:
    own = {k: entry.values[k] for k in SCHEMAS["reg_classes"].names if k in entry.values}
    return _CLASS_DEFAULTS | own | {"class": entry.name, "scope_hash": scope_hash(entry.values)}


def plain(value: Any) -> Any:
    """Return nested entries as plain mappings: what was written, without lines."""
    if isinstance(value, dict):
        return {key: plain(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    return plain(value.values) if hasattr(value, "lines") else value


def _as_json(said: Said) -> Row:
    return {"now": said.now} | (
        {"before": said.before, "statement": said.statement} if said.before else {}
    )


def _from_json(said: Row, defaults: Row) -> Said:
    before = tuple(
        (datetime.fromisoformat(until), defaults | _with_times(row))
        for until, row in said.get("before", [])
    )
    return Said(defaults | _with_times(said["now"]), before, said.get("statement", ""))


def _with_times(row: Mapping[str, Any]) -> Row:
    read: Row = {
        key: datetime.fromisoformat(value) if key in _TIMES and value else value
        for key, value in row.items()
    }
    if EXCEPTIONS in read:
        read[EXCEPTIONS] = [_with_times(exception) for exception in read[EXCEPTIONS]]
    return read


def _time_text(value: Any) -> str:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    raise TypeError(type(value).__name__)


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]

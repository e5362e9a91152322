"""Which state of an identity or a class was in force when.

Versions of the registry are replayed in the order in which they were recorded.
Each holds from its own time on and leaves what was before it as it stood.  Three
things reach further back, because nobody had decided otherwise or somebody
says so outright:

* the first version that knows an identity holds for all time before;
* a `history` that a version writes or edits replaces everything before its last
  `until`, and the present state holds from there;
* a version that was recorded as in force since an earlier time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.registry.columns import ALWAYS
from pipeline.registry.decisions import EXCEPTIONS, Decisions, Row, Said

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime


@dataclass(frozen=True)
class Version:
    """One version of the registry, in force from `valid_from` on."""

    policy_version: str
    valid_from: datetime
    decisions: Decisions


# From when a state held, and the state; None: not registered.
Timeline = list[tuple["datetime", "Row | None"]]


def identity_periods(versions: Sequence[Version]) -> list[Row]:
    """Return each identity's states with `valid_from` and `valid_to`, which never overlap."""
    said = [(v.valid_from, v.decisions.identities) for v in versions]
    return [row for _, periods in sorted(_replay(said).items()) for row in _rows(periods)]


def class_periods(versions: Sequence[Version]) -> list[Row]:
    """Return each class's states with `valid_from` and `valid_to`, which never overlap."""
    said = [(v.valid_from, v.decisions.classes) for v in versions]
    return [row for _, periods in sorted(_replay(said).items()) for row in _rows(periods)]


def exception_periods(identities: Iterable[Row]) -> list[Row]:
    """Return when which static secret was allowed, from the periods of identities.

    A date that is written holds as written.  Without `since` an exception begins
    when it is first on record, and one that is withdrawn ends there.
    """
    found: dict[tuple[object, ...], Row] = {}
    for row in identities:
        for given in row.get(EXCEPTIONS, []):
            named = [given.get(key) for key in ("secret_id", "reason", "approved_by", "since")]
            since = given.get("since") or row["valid_from"]
            until = min(given["until"], row["valid_to"])
            key = (row["identity_id"], *named, given["until"])
            before = found.get(key)
            if before and before["until"] in (row["valid_from"], given["until"]):
                before["until"] = until
            elif since < until:
                found[key if not before else (*key, since)] = given | {
                    "identity_id": row["identity_id"],
                    "since": since,
                    "until": until,
                }
    return list(found.values())


def _replay(versions: Iterable[tuple[datetime, Mapping[str, Said]]]) -> dict[str, Timeline]:
    timelines: dict[str, Timeline] = {}
    statements: dict[str, str] = {}
    for valid_from, said in versions:
        for name in timelines.keys() - said.keys():
            timelines[name] = _then(timelines[name], valid_from, None)
        for name, state in said.items():
            timelines[name] = _said_now(
                timelines.get(name, []), valid_from, state, statements.get(name, "")
            )
            statements[name] = state.statement
    return timelines


def _said_now(timeline: Timeline, valid_from: datetime, said: Said, statement: str) -> Timeline:
    if said.before and said.statement != statement:
        stated: Timeline = []
        since = ALWAYS[0]
        for until, row in said.before:
            stated = _then(stated, since, row)
            since = until
        return _then(stated, since, said.now)
    return _then(timeline, valid_from if timeline else ALWAYS[0], said.now)


def _then(timeline: Timeline, since: datetime, state: Row | None) -> Timeline:
    """Return the timeline up to `since`, and the state from then on."""
    if timeline and timeline[-1][1] is state and timeline[-1][0] < since:
        return timeline
    kept = [(start, row) for start, row in timeline if start < since]
    return kept if kept and kept[-1][1] == state else [*kept, (since, state)]


def _rows(timeline: Timeline) -> list[Row]:
    ends = [start for start, _ in timeline[1:]] + [ALWAYS[1]]
    return [
        row | {"valid_from": start, "valid_to": end}
        for (start, row), end in zip(timeline, ends, strict=True)
        if row is not None
    ]

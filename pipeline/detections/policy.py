"""The registry's versions, as a lake remembers them: events are judged by the one of their time.

A run records the version that it uses, unless that is the one in force already.
The first version on record holds for all time before; a later one from the run
that first used it, a rollback included.  A run as of a time before the newest
record looks back: it reads the record and leaves it as it is.  A run as of a
future time records its version as of the present.  Without a registry nothing
is recorded, so that adding one later still holds for everything.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from pipeline.lake.tables import tables
from pipeline.registry.columns import ALWAYS
from pipeline.registry.decisions import decide, read_decisions
from pipeline.registry.periods import Version

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pipeline.lake import Lake
    from pipeline.registry import Registry

_TABLE = "policy_versions"


def record_policy(
    lake: Lake, registry: Registry, now: datetime, *, since: datetime | None = None
) -> Registry:
    """Record the registry's version if it is new; return it with the history of all versions.

    `since` states that this version has been in force since then, whatever was
    recorded from that time on.  May be called twice, and by two jobs at once: both
    write the same record, or one that says the same once more.

    Raises:
        LakeError: the record could not be written.
    """
    if registry.policy_version == "none":
        return registry
    at = min(now, datetime.now(UTC))
    recorded = _recorded(lake)
    newest = recorded[-1] if recorded else None
    is_known = newest is not None and newest["policy_version"] == registry.policy_version
    is_back = newest is not None and at < newest["recorded_at"]
    if since is not None or not (is_known or is_back):
        row = _row(registry, recorded, at, since if recorded or since else ALWAYS[0])
        lake.merge(_TABLE, pa.Table.from_pylist([row], schema=tables()[_TABLE].schema))
        recorded.append(row)
    return _with_history(registry, recorded)


def read_policy(lake: Lake, registry: Registry) -> Registry:
    """Return the registry with the recorded history, without recording it.

    A version that is not on record holds from the newest record on, and for all
    time for the identities that no record knows.
    """
    if registry.policy_version == "none":
        return registry
    return _with_history(registry, _recorded(lake))


def _with_history(registry: Registry, recorded: Sequence[dict[str, Any]]) -> Registry:
    texts = {row["decisions_hash"]: row["decisions"] for row in recorded if row["decisions"]}
    decisions = read_decisions(texts[row["decisions_hash"]] for row in recorded)
    versions = [
        Version(row["policy_version"], row["valid_from"] or ALWAYS[0], decided)
        for row, decided in zip(recorded, decisions, strict=True)
    ]
    if not recorded or recorded[-1]["policy_version"] != registry.policy_version:
        since = recorded[-1]["recorded_at"] if recorded else ALWAYS[0]
        versions.append(Version(registry.policy_version, since, decide(registry.sections)))
    return registry.with_history(versions)


def _row(
    registry: Registry,
    recorded: Sequence[dict[str, Any]],
    at: datetime,
    since: datetime | None,
) -> dict[str, Any]:
    text = decide(registry.sections).text
    digest = hashlib.sha256(text.encode()).hexdigest()
    is_held = any(row["decisions_hash"] == digest and row["decisions"] for row in recorded)
    valid_from = at if since is None else since
    return {
        "sequence": recorded[-1]["sequence"] + 1 if recorded else 1,
        "policy_version": registry.policy_version,
        "recorded_at": at,
        "valid_from": None if valid_from == ALWAYS[0] else valid_from,
        "decisions_hash": digest,
        "decisions": None if is_held else text,
    }


def _recorded(lake: Lake) -> list[dict[str, Any]]:
    """Return every recorded version in the order of its recording."""
    rows: list[dict[str, Any]] = lake.read_table(_TABLE).to_pylist()
    return sorted(rows, key=lambda row: (row["sequence"], row["policy_version"]))

"""Rebuild every delegation chain that new events touch.

Takes the event views of one lake version and the registry; leaves credentials,
hops, chains and what hangs from them, published together.  Reads no clock, and
bad data is a status, never an exception.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from pipeline.chains.resolve import resolve
from pipeline.chains.scope import choose_scope
from pipeline.chains.steps import CONTEXT, define_macros, rows, run, sql
from pipeline.lake import Change, halve_memory

if TYPE_CHECKING:
    from datetime import datetime

    import duckdb

    from pipeline.lake import Lake
    from pipeline.registry import Registry

# Table written, its SELECT, and the column of the keys that go when only a part is built.
_BY_CREDENTIAL = {
    "credentials": "credential_key",
    "chains": "credential_key",
    "hops": "child_key",
    "hop_candidates": "child_key",
}
_WHOLE = ("secrets", "coverage", "watermarks", "source_hours", "source_gaps")


@dataclass(frozen=True)
class BuildReport:
    """What one build did.  Counts are of rows written."""

    mode: str
    reason: str
    token_events: int
    tool_calls: int
    credentials: int
    chains: int
    call_links: int
    seconds: float

    def as_dict(self) -> dict[str, Any]:
        """Return the report as JSON-ready values."""
        return asdict(self)


def build_chains(
    lake: Lake, registry: Registry, now: datetime, *, full: bool = False
) -> BuildReport:
    """Bring the derived tables up to date with the events; publish them together.

    Equal events give equal tables, in whatever order and in however many builds
    they came.  `now` closes sources that are read from files; `full` rebuilds
    everything, also what no new event touches.

    Raises:
        LakeError: another build is running, or the lake cannot be written.
    """
    started = time.monotonic()
    with lake.connect_build() as session:
        con = session.con
        halve_memory(con)
        prepare(con, registry)
        run(con, CONTEXT, as_of=now)
        scope = choose_scope(session, registry.policy_version, full=full)
        resolve(con)
        changes = collect(con, now, registry.policy_version, partial=scope.is_partial)
        counts = {name: change.rows.num_rows for name, change in changes.items()}
        token_events, tool_calls = _scope_size(con)
        session.publish(changes, now)
    return BuildReport(
        mode="incremental" if scope.is_partial else "full",
        reason=scope.reason,
        token_events=token_events,
        tool_calls=tool_calls,
        credentials=counts["credentials"],
        chains=counts["chains"],
        call_links=counts["call_links"],
        seconds=round(time.monotonic() - started, 3),
    )


def prepare(con: duckdb.DuckDBPyConnection, registry: Registry) -> None:
    """Give a connection the registry's tables, the scope vocabulary and the macros."""
    con.execute("SET TimeZone = 'UTC'")
    for name, table in registry.tables().items():
        con.register(f"{name}_arrow", table)
        con.execute(f"CREATE OR REPLACE TEMP TABLE {name} AS FROM {name}_arrow")
        con.unregister(f"{name}_arrow")
    for variable in ("implications", "hierarchy_issuers", "bare_wildcard_issuers"):
        con.execute(sql(f"02_{variable}"))
    define_macros(con)


def _scope_size(con: duckdb.DuckDBPyConnection) -> tuple[int, int]:
    found = con.execute("SELECT (SELECT count(*) FROM tok), (SELECT count(*) FROM obs)").fetchone()
    return (found[0], found[1]) if found else (0, 0)


def collect(
    con: duckdb.DuckDBPyConnection, now: datetime, policy_version: str, *, partial: bool
) -> dict[str, Change]:
    """Return what is to be published of a resolved connection, table by table."""
    gone = rows(con, "delete_credentials") if partial else None
    if gone is None:
        run(con, ("80_kept_keys",))
    changes: dict[str, Change] = {}
    for table, column in _BY_CREDENTIAL.items():
        delete = gone.rename_columns([column]) if gone is not None else None
        changes[table] = Change(_with_kept(con, table, partial=partial), delete)
    ids = rows(con, "delete_aliases") if partial else None
    changes["credential_aliases"] = Change(
        _with_kept(con, "credential_aliases", partial=partial), ids
    )
    calls = rows(con, "delete_call_links") if partial else None
    changes["call_links"] = Change(rows(con, "out_call_links"), calls)
    run(con, ("all_call_links", "all_chains") if partial else ("own_call_links", "own_chains"))
    for table in _WHOLE:
        found = rows(con, f"out_{table}", as_of=now, policy_version=policy_version)
        changes[table] = Change(found)
    return changes


def _with_kept(con: duckdb.DuckDBPyConnection, table: str, *, partial: bool) -> pa.Table:
    """Return a table's new rows; where they replace all, with what retention would orphan.

    An edge outlives the events that it was derived from: who stands behind a live
    credential must not be forgotten because its root has expired.
    """
    made = rows(con, f"out_{table}")
    if partial:
        return made
    kept = rows(con, f"kept_{table}")
    return pa.concat_tables([made, kept.select(made.column_names).cast(made.schema)])

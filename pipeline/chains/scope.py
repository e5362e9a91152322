"""Choose which events a build must look at again.

A new event can change only what shares an identifier with it, directly or
through other events.  The scope is closed under sharing, so resolving it alone
gives the same rows as resolving everything.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.chains.steps import advance, run, sql

if TYPE_CHECKING:
    import duckdb

    from pipeline.lake import BuildSession

# Above this share of new rows, choosing costs more than it saves.
_FULL_ABOVE = 0.2


@dataclass(frozen=True)
class Scope:
    """Whether a part suffices, and why."""

    is_partial: bool
    reason: str


def choose_scope(session: BuildSession, policy_version: str, *, full: bool) -> Scope:
    """Define `scope_token_events` and `scope_tool_calls`; say whether they are a part."""
    con = session.con
    why_full = _why_full(session, policy_version, full=full)
    if why_full:
        for table in ("token_events", "tool_calls"):
            con.execute(f"CREATE OR REPLACE TEMP VIEW scope_{table} AS FROM {table}")
        return Scope(is_partial=False, reason=why_full)
    run(con, ("scope_10_token_keys", "scope_11_call_keys", "scope_12_needy_start"))
    _grow(con, "needy_ids", "scope_13_needy_step")
    run(con, ("scope_14_item_keys",))
    run(con, ("scope_20_start",), waiting=_waiting(con))
    _grow(con, "scope_keys", "scope_21_step")
    run(con, ("scope_30_items", "scope_31_token_events", "scope_32_tool_calls"))
    return Scope(is_partial=True, reason="new events")


def _why_full(session: BuildSession, policy_version: str, *, full: bool) -> str:
    con = session.con
    if full:
        return "asked for"
    if session.previous is None:
        return "first build"
    _define_fresh(session)
    policies = con.execute("SELECT DISTINCT policy_version FROM prev_watermarks").fetchall()
    if policies and policies != [(policy_version,)]:
        return "the registry changed"
    share = con.execute(
        "SELECT (SELECT count(*) FROM fresh_uids)"
        " / greatest(1, (SELECT count(*) FROM tool_calls) + (SELECT count(*) FROM token_events))"
    ).fetchone()
    if share and share[0] > _FULL_ABOVE:
        return "most events are new"
    return ""


def _define_fresh(session: BuildSession) -> None:
    """Give the new rows a fixed name, so that the statements need not be put together."""
    for table in ("token_events", "tool_calls"):
        rows = session.con.table(session.fresh[table])
        session.con.register(f"fresh_{table}", rows.select("event_uid").to_arrow_table())
    run(session.con, ("scope_01_fresh",))


def _waiting(con: duckdb.DuckDBPyConnection) -> list[str]:
    """Return the ends that may change without an event of their own.

    A pending end waits for the watermark.  The others depend on which issuers
    reach us and since when; where that moved, they are looked at again.
    """
    moved = con.execute(sql("scope_02_moved")).fetchone()
    if moved and moved[0]:
        return ["pending", "broken", "boundary", "retention_truncated", "unknown_root"]
    return ["pending"]


def _grow(con: duckdb.DuckDBPyConnection, table: str, step: str) -> None:
    """Repeat a step, which leaves `<table>_next`, until the table grows no more."""
    size = -1
    while True:
        found = con.execute("SELECT count(*) FROM query_table($table)", {"table": table}).fetchone()
        if not found or found[0] == size:
            return
        size = found[0]
        advance(con, table, step)

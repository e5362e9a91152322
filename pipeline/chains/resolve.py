"""Resolve the events in scope: ids, credentials, links, hops, chains, calls.

Works on one DuckDB connection that has `scope_token_events`,
`scope_tool_calls`, the registry tables and the context of `steps.CONTEXT`;
leaves temporary tables.  The loops below are over rounds, never over rows.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from pipeline.chains.steps import (
    ALIASES,
    CALLS,
    CHAINS,
    CREDENTIALS,
    HOPS,
    LINKS,
    advance,
    run,
    sql,
)

if TYPE_CHECKING:
    import duckdb


def resolve(con: duckdb.DuckDBPyConnection) -> None:
    """Leave `cred`, `hop`, `chain`, `call_link` and what they rest on; may be called twice."""
    run(con, ALIASES)
    _join_aliases(con)
    run(con, (*CREDENTIALS, *LINKS, *HOPS))
    _walk(con)
    run(con, (*CHAINS, *CALLS))


def _join_aliases(con: duckdb.DuckDBPyConnection) -> None:
    """Spread the smallest label through each alias set until nothing changes."""
    while True:
        run(con, ("17_alias_step",))
        changed = con.execute(
            "SELECT count(*) FROM alias_labels JOIN alias_labels_next AS next USING (id_key)"
            " WHERE alias_labels.label <> next.label"
        ).fetchone()
        con.execute("DROP TABLE alias_labels")
        con.execute("ALTER TABLE alias_labels_next RENAME TO alias_labels")
        if not changed or not changed[0]:
            return


def _walk(con: duckdb.DuckDBPyConnection) -> None:
    """Walk down from every top; cut cycles where they are weakest and walk those too."""
    run(con, ("46_walk_roots", "51_walk", "52_unreached"))
    left = con.execute("SELECT count(*) FROM jump").fetchall()[0][0]
    _double(con, "jump", "53_jump_step", left)
    run(con, ("54_ring",))
    _double(con, "ring", "54_ring_step", left)
    run(con, ("54_cycle_cuts",))
    if not left:
        return
    con.execute("CREATE OR REPLACE TEMP TABLE reached AS FROM walk")
    # The cut hop stays visible among the candidates; here it must not close the circle again.
    con.execute("DELETE FROM hop WHERE child_key IN (SELECT child_key FROM cycle_cuts)")
    con.execute("DELETE FROM links WHERE child_key IN (SELECT child_key FROM cycle_cuts)")
    run(con, ("55_cut_roots",))
    con.execute(sql("51_walk"))
    con.execute("INSERT INTO walk FROM reached")


def _double(con: duckdb.DuckDBPyConnection, table: str, step: str, count: int) -> None:
    """Repeat a step that doubles how far each pointer reaches, until it spans `count`."""
    for _ in range(math.ceil(math.log2(count + 1))):
        advance(con, table, step)

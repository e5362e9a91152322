"""The statements of the build, in order.

Each name is a file under `sql/`; one statement each.  A newcomer reads this
list first: it is the stage in order.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

CONTEXT = (
    "05_identity_lookup",
    "06_heartbeats",
    "06_watermarks",
    "07_issuer_sources",
    "07_issuer_reach",
    "07_source_minutes",
    "07_source_silences",
    "07_source_gaps",
    "08_agent_lookup",
    "08_gateways",
    "08_registered_names",
    "08_server_names",
)
"""What the whole lake says, whatever part of it is built."""

ALIASES = (
    "10_tok",
    "11_obs",
    "12_mentions",
    "13_ids",
    "14_id_facts",
    "15_alias_edges",
    "16_alias_labels",
)
CREDENTIALS = (
    "18_alias_conflicts",
    "19_credential_ids",
    "20_own_events",
    "21_folded",
    "22_used",
    "23_mentioned",
    "23_forgotten",
    "23_renewed",
    "24_cred",
    "25_actors",
)
LINKS = (
    "30_consents",
    "31_explicit_parents",
    "32_orphans",
    "33_inferred_parents",
    "34_parent_votes",
    "35_parent_choice",
    "36_links",
)
HOPS = (
    "40_original_grants",
    "41_hop_base",
    "42_pairs_of_hops",
    "43_answers",
    "44_hop",
    "45_revocations",
    "50_ends",
)
CHAINS = ("60_chain", "61_pairs_with_root", "43_answers", "62_beyond_root")
CALLS = (
    "70_calls_keyed",
    "71_call_candidates",
    "72_call_choice",
    "73_call_facts",
    "74_call_coverage",
    "75_call_links",
    "76_uses",
)


@cache
def sql(name: str) -> str:
    """Return the text of one statement."""
    return (files(__package__) / "sql" / f"{name}.sql").read_text(encoding="utf-8")


def run(con: duckdb.DuckDBPyConnection, names: tuple[str, ...], **values: Any) -> None:
    """Execute statements in order, binding the values that each of them names."""
    for name in names:
        con.execute(sql(name), _bound(name, values))


def rows(con: duckdb.DuckDBPyConnection, name: str, **values: Any) -> pa.Table:
    """Return the rows of a SELECT, binding the values that it names."""
    found: pa.Table = con.sql(sql(name), params=_bound(name, values)).to_arrow_table()
    return found


def advance(con: duckdb.DuckDBPyConnection, table: str, step: str) -> None:
    """Run a step that leaves `<table>_next`, and put that in the table's place."""
    run(con, (step,))
    con.execute(f"DROP TABLE {table}")
    con.execute(f"ALTER TABLE {table}_next RENAME TO {table}")


def _bound(name: str, values: dict[str, Any]) -> dict[str, Any] | None:
    return {key: value for key, value in values.items() if f"${key}" in sql(name)} or None


def define_macros(con: duckdb.DuckDBPyConnection) -> None:
    """Create the macros that the statements share; those that others use come first."""
    folder = files(__package__) / "sql"
    names = sorted(
        p.name.removesuffix(".sql") for p in folder.iterdir() if p.name.startswith("01_")
    )
    first = (
        "01_macros",
        "01_macro_evidence_class_rank",
        "01_macro_evidence_class",
        "01_macro_covers",
        "01_macro_authority",
        "01_macro_intersect",
        "01_macro_asserted_after",
        "01_macro_earlier_actors",
        "01_macro_extend_path",
        "01_macro_was_valid",
    )
    run(con, (*first, *(name for name in names if name not in first)))

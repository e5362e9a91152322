"""The `identities` and `identity_periods` tables: who is registered, now and over time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.detections.finding import statement
from pipeline.lake.tables import tables

if TYPE_CHECKING:
    from datetime import datetime

    import duckdb

    from pipeline.lake import Lake
    from pipeline.registry import Registry


def write_identities(
    lake: Lake, con: duckdb.DuckDBPyConnection, registry: Registry, now: datetime
) -> None:
    """Replace what would change of both; `con` has the views and the registry."""
    bound = {"as_of": now, "policy_version": registry.policy_version}
    for name, values in (("identities", bound), ("identity_periods", None)):
        schema = tables()[name].schema
        rows = schema.empty_table()
        # Without a registry there is nothing to look up, and a lake to read through.
        if registry.tables()["reg_identities"].num_rows:
            rows = con.sql(statement(name), params=values).to_arrow_table().cast(schema)
        stored = con.table(name).order(", ".join(tables()[name].key)).to_arrow_table()
        if not rows.equals(stored.cast(schema)):
            lake.replace_table(name, rows)

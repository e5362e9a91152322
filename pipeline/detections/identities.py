"""The `identities` table: the registry, beside what the events show of each identity."""

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
    """Replace `identities` if it would change; `con` has the views and the registry."""
    schema = tables()["identities"].schema
    rows = schema.empty_table()
    # Without a registry there is nothing to look up, and a lake to read through.
    if registry.tables()["reg_identities"].num_rows:
        bound = {"as_of": now, "policy_version": registry.policy_version}
        rows = con.sql(statement("identities"), params=bound).to_arrow_table().cast(schema)
    stored = con.sql("SELECT * FROM identities ORDER BY identity_id").to_arrow_table().cast(schema)
    if not rows.equals(stored):
        lake.replace_table("identities", rows)

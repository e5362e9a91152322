"""`identity_activity`: which registered identities were seen, by which names, and when last.

Several rules and the `identities` table ask it, so it is worked out once per run, from the
events and the registry; like `rule_watermarks` it is a view for rules, and no table of the lake.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.detections.check import ACTIVITY
from pipeline.detections.finding import statement

if TYPE_CHECKING:
    import duckdb

    from pipeline.registry import Registry

_EVIDENCE = 20
"""Newest events of a name: enough to show an analyst what it does; more only repeats it."""


def register_activity(con: duckdb.DuckDBPyConnection, registry: Registry) -> None:
    """Register `identity_activity` on a connection that has the views and the policy."""
    rows = ACTIVITY.empty_table()
    # Without a registry nobody is known, and a lake would be read for nothing.
    if registry.tables()["reg_identities"].num_rows:
        found = con.sql(statement("identity_activity"), params={"most": _EVIDENCE})
        rows = found.to_arrow_table().cast(ACTIVITY)
    con.register("identity_activity", rows)

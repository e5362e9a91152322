"""How complete the data behind findings is, in words for the analyst.

A finding that rests on a source of which half the calls link to no credential,
or on a time in which another source was silent, must say so itself.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

if TYPE_CHECKING:
    from datetime import datetime

    import duckdb

_COLUMNS = ["tenant_id", "event_uids", "first_seen", "last_seen", "coverage_note"]


def coverage_notes(con: duckdb.DuckDBPyConnection, found: pa.Table, *, as_of: datetime) -> pa.Array:
    """Return one text per row of `found`, null where there is nothing to say.

    `found` has the columns of `findings`; what its `coverage_note` says already
    comes first.  Named are the sources of the evidence on its days with their
    shares, and, within the finding's time, sources that lag or were silent.

    The first call on a connection looks through all events once and keeps 24
    bytes of each; later calls ask only that.
    """
    if not found.num_rows:
        return pa.array([], pa.string())
    con.execute(_sql("coverage_places"))
    places = pa.array(range(found.num_rows), pa.int64())
    con.register("noted", found.select(_COLUMNS).append_column("place", places))
    try:
        notes = con.sql(_sql("coverage_notes"), params={"as_of": as_of}).to_arrow_table()
    finally:
        con.unregister("noted")
    texts: pa.Array = notes["note"].cast(pa.string()).combine_chunks()
    return texts


def _sql(name: str) -> str:
    return (Path(__file__).parent / "sql" / f"{name}.sql").read_text(encoding="utf-8")

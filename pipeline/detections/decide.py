"""What a person decides about a finding: accept it until a date, close it.

Takes the lake and a decision; leaves one row of `finding_history` and the
finding's new status.  Nothing is ever taken out of the history.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import pyarrow as pa

from pipeline.detections.finding import change_id
from pipeline.detections.ledger import alone
from pipeline.errors import QueryError
from pipeline.lake.tables import tables

if TYPE_CHECKING:
    from datetime import datetime

    from pipeline.lake import Lake

# What may still be decided about; a finding that has ended asks for nothing.
UNDECIDED = ("open", "accepted", "suppressed")

Row = dict[str, Any]


@dataclass(frozen=True)
class Decision:
    """What one person decided, and why; `until` only for an acceptance."""

    change: Literal["accepted", "closed"]
    by: str
    reason: str
    until: datetime | None = None


def decide(lake: Lake, finding_id: str, decision: Decision, now: datetime) -> Row:
    """Write a decision about a finding; return the finding after it.

    No detection runs meanwhile: it would write the finding as it was before.

    Raises:
        QueryError: the finding has ended, or the acceptance would end in the past.
        LakeError: a detection has held the lake for too long.
    """
    if decision.until is not None and decision.until <= now:
        raise QueryError("an acceptance must end in the future")
    with alone(lake):
        with lake.connect(comments=False) as con:
            before = _one(con, "findings", "finding_id = $id", {"id": finding_id})
            if before["status"] not in UNDECIDED:
                raise QueryError(f"finding {finding_id} is {before['status']}, not open")
            after = before | {
                "status": "accepted" if decision.change == "accepted" else "resolved",
                "status_reason": decision.reason,
                "decided_by": decision.by,
                "accepted_until": decision.until,
                "suppressed_by": None,
                "updated_at": max(now, before["updated_at"]),
            }
            change = _change(before, after, decision, now)
            known = "SELECT count(*) FROM finding_history WHERE change_id = $id"
            is_new = not con.execute(known, {"id": change["change_id"]}).fetchall()[0][0]
        # History first, as in detection: repeated after a crash between the two, the
        # same decision has the same id.
        if is_new:
            lake.append_rows("finding_history", _table("finding_history", change))
        lake.merge("findings", _table("findings", after))
    return after


def _change(before: Row, after: Row, decision: Decision, now: datetime) -> Row:
    schema = tables()["finding_history"].schema
    row = {name: after[name] for name in schema.names if name in after}
    row |= {
        "change": decision.change,
        "reason": decision.reason,
        "changed_by": decision.by,
        "changed_at": now,
    }
    hashed = row | {
        "was_updated_at": before["updated_at"],
        "reason": f"{decision.by}\x1f{decision.until}\x1f{decision.reason}",
    }
    return row | {"change_id": change_id(hashed)}


def _one(con: Any, table: str, where: str, values: Row) -> Row:
    found = con.sql(f"SELECT * FROM {table} WHERE {where}", params=values)  # noqa: S608 - our own words
    row: Row = found.to_arrow_table().to_pylist()[0]
    return row


def _table(name: str, row: Row) -> pa.Table:
    return pa.Table.from_pylist([row], schema=tables()[name].schema)

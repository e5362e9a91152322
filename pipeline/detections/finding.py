"""From the rows of one rule to findings, and to what became of the stored ones.

Takes what rule.sql returned; leaves rows of `findings` and `finding_history`.
Reads no clock.  Equal rows in any order give equal findings; writing the same
result twice changes nothing and adds no history.

    open        true now; updated when its severity, evidence, text or owner changes
    suppressed  true, and an entry of suppressions.yaml hides it; stored and counted
    accepted    true, and a person bears it until a date or until it gets more severe
    resolved    it has ended, or a person closed it: newer evidence opens it again
    refuted     it never was true, as late evidence, a rule or the policy now says
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.detections.check import KNOWN_COLUMNS, REQUIRED_COLUMNS
from pipeline.detections.coverage import coverage_notes
from pipeline.detections.suppress import Suppression, hide
from pipeline.errors import RuleError
from pipeline.lake.tables import tables

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import duckdb

    from pipeline.detections.rule import Rule

ALWAYS = (datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, tzinfo=UTC))
_RETURNED = pa.schema([("finding_id", pa.string())])
# Columns that `findings` has a place for; the others of a row become its summary.
_STORED = {
    *REQUIRED_COLUMNS,
    "title",
    "severity",
    "severity_delta",
    "confidence",
    "credential_key",
    "coverage_note",
}


@dataclass(frozen=True)
class Look:
    """One look of one rule: over which time, under which policy, as of when."""

    rule: Rule
    start: datetime
    end: datetime
    now: datetime
    policy_version: str

    @property
    def span(self) -> tuple[datetime, datetime]:
        """Return when the evidence lies of the findings that this look answers for.

        A rule about a state judges as of now, whatever the window: an owner who left
        today is news about an identity that last acted a month ago.
        """
        if self.rule.when_gone == "resolved":
            return ALWAYS
        return self.start, self.end


@dataclass(frozen=True)
class Changes:
    """What to write: rows of `findings` and of `finding_history`; `found` is what is true now.

    `merged` counts rows that shared the identity of another row.
    """

    found: pa.Table
    findings: pa.Table
    history: pa.Table
    merged: int


def finding_id(rule: Rule, tenant_id: str, identity: Mapping[str, Any]) -> str:
    """Return the id under which this is the same finding in every run.

    Depends on rule id, major version, tenant and the identity columns.
    """
    hashed = {"rule": rule.id, "major": rule.major, "tenant": tenant_id, "identity": identity}
    return hashlib.sha256(canonical(hashed).encode()).hexdigest()


def canonical(value: Any) -> str:
    """Return JSON that is equal for equal values: sorted keys, no spaces, UTF-8."""
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=_plain
    )


def work_out(
    con: duckdb.DuckDBPyConnection,
    look: Look,
    rows: pa.Table,
    suppressions: Sequence[Suppression] = (),
) -> Changes:
    """Return what a rule's rows change, given the views and `rule_watermarks` on a connection.

    Raises:
        RuleError: a row without tenant, or a column of the wrong type.
    """
    known = identify(look.rule, rows)
    stored = _stored(con, look.rule)
    if not known.num_rows and not stored.num_rows:
        # So it is with most rules on most days: nothing to weigh, to route or to end.
        nothing = tables()["findings"].schema.empty_table()
        return Changes(nothing, nothing, tables()["finding_history"].schema.empty_table(), 0)
    con.register("returned", known.select(["finding_id"]).cast(_RETURNED))
    con.register("stored", stored)
    inside = known.filter(_is_inside(known, look, _to_review(stored, look.now)))
    con.register("rule_rows", inside)
    found = _weigh_and_route(con, look)
    con.register("found", hide(found, suppressions))
    stamps = {
        "now": look.now,
        "rule_version": look.rule.version,
        "policy_version": look.policy_version,
    }
    compared = _query(con, "changes", stamps)
    gone = _still_there(con, _query(con, "gone", stamps | _gone_values(look)))
    return Changes(
        _findings(compared, look),
        pa.concat_tables(
            [_findings(compared.filter(compared["is_written"]), look), _ended(gone, look)]
        ),
        _history(compared.filter(pc.is_valid(compared["change"])), gone, look),
        inside.num_rows - found.num_rows,
    )


def _weigh_and_route(con: duckdb.DuckDBPyConnection, look: Look) -> pa.Table:
    rule = look.rule
    weights = {
        "base": rule.severity,
        "title": rule.title,
        "credential_theft": rule.credential_theft,
    }
    found = _query(con, "findings", weights)
    con.register("unrouted", found)
    routed = _query(con, "routes", {"owner_role": rule.owner_role, "now": look.now})
    notes = coverage_notes(con, routed, as_of=look.now)
    return routed.set_column(routed.column_names.index("coverage_note"), "coverage_note", notes)


def identify(rule: Rule, rows: pa.Table) -> pa.Table:
    """Return rows with `finding_id`, `identity` and `summary`, and every known column typed.

    Raises:
        RuleError: a row without tenant, or a column of the wrong type.
    """
    missing = [n for n in (*REQUIRED_COLUMNS, *rule.identity) if n not in rows.column_names]
    if missing:
        raise RuleError(rule.file("rule.sql"), 1, f"columns are missing: {', '.join(missing)}")
    if rows["tenant_id"].null_count:
        message = f"{rows['tenant_id'].null_count} row(s) without tenant_id"
        raise RuleError(rule.file("rule.sql"), 1, message)
    try:
        columns = {
            name: rows[name].cast(kind)
            if name in rows.column_names
            else pa.nulls(rows.num_rows, kind)
            for name, kind in KNOWN_COLUMNS.items()
        }
    except pa.ArrowException as error:
        raise RuleError(rule.file("rule.sql"), 1, f"a column of the wrong type: {error}") from error
    # One Python object per finding, not per event: findings are few.
    identities = rows.select(rule.identity).to_pylist()
    tenants = rows["tenant_id"].to_pylist()
    rest = [n for n in rows.column_names if n not in _STORED and n not in rule.identity]
    ids = [finding_id(rule, t, identity) for t, identity in zip(tenants, identities, strict=True)]
    summaries = [canonical(_told(row)) for row in rows.select(rest).to_pylist()]
    if not rest:
        summaries = ["{}"] * rows.num_rows
    return pa.table(
        columns
        | {
            "finding_id": pa.array(ids, pa.string()),
            "identity": pa.array([canonical(i) for i in identities], pa.string()),
            "summary": pa.array(summaries, pa.string()),
        }
    )


@cache
def statement(name: str) -> str:
    """Return one statement of `sql/`."""
    return (Path(__file__).parent / "sql" / f"{name}.sql").read_text(encoding="utf-8")


def _query(con: duckdb.DuckDBPyConnection, name: str, values: Mapping[str, Any]) -> pa.Table:
    return con.sql(statement(name), params=dict(values)).to_arrow_table()


def _told(row: dict[str, Any]) -> dict[str, Any]:
    return {name: _finite(value) for name, value in row.items() if value is not None}


def _finite(value: Any) -> Any:
    """JSON has no word for infinity."""
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _plain(value: Any) -> Any:
    """Return a value that JSON has, for one that it has not."""
    match value:
        case Decimal():
            return int(value) if value == value.to_integral_value() else float(value)
        case datetime():
            return value.isoformat().replace("+00:00", "Z")
        case bytes():
            return value.hex()
        case _:
            return str(value)


def _is_inside(rows: pa.Table, look: Look, review: pa.Array) -> pa.Array:
    """Return which rows have their last evidence in [start, end), or none, or must be reviewed."""
    last = pc.coalesce(rows["last_seen"], rows["first_seen"])
    kind = last.type
    start, end = (pa.scalar(edge, kind) for edge in look.span)
    inside = pc.and_(pc.greater_equal(last, start), pc.less(last, end))
    return pc.or_(pc.fill_null(inside, True), pc.is_in(rows["finding_id"], value_set=review))


def _to_review(stored: pa.Table, now: datetime) -> pa.Array:
    """Return the findings that a look over any window judges again.

    An acceptance or a suppression ends on a date; the evidence may be far older
    than what a scheduler looks at.
    """
    over = pc.less_equal(stored["accepted_until"], pa.scalar(now, stored["accepted_until"].type))
    is_due = pc.or_(pc.fill_null(over, False), pc.equal(stored["status"], "suppressed"))
    return stored.filter(is_due)["finding_id"].combine_chunks()


def _stored(con: duckdb.DuckDBPyConnection, rule: Rule) -> pa.Table:
    query = "SELECT * FROM findings WHERE rule_id = $rule_id"
    return con.sql(query, params={"rule_id": rule.id}).to_arrow_table()


def _gone_values(look: Look) -> dict[str, Any]:
    return {
        "from": look.span[0],
        "to": look.span[1],
        "when_gone": look.rule.when_gone,
        "is_absence": look.rule.is_absence,
    }


def _still_there(con: duckdb.DuckDBPyConnection, gone: pa.Table) -> pa.Table:
    """Return the findings of which all evidence is in the lake: only data can refute."""
    if not gone.num_rows:
        return gone
    con.register("gone", gone)
    lost = _query(con, "lost_evidence", {})["finding_id"]
    return gone.filter(pc.invert(pc.is_in(gone["finding_id"], value_set=lost)))


def _findings(compared: pa.Table, look: Look) -> pa.Table:
    rule, size = look.rule, compared.num_rows
    stamps = {
        "rule_id": rule.id,
        "rule_code": rule.code,
        "rule_version": rule.version,
        "family": rule.family,
        "policy_version": look.policy_version,
    }
    for name, value in stamps.items():
        compared = compared.append_column(name, pa.repeat(pa.scalar(value), size))
    return _fitted(compared, "findings")


def _ended(gone: pa.Table, look: Look) -> pa.Table:
    ended = _with(gone, "status", look.rule.when_gone)
    ended = ended.set_column(
        ended.column_names.index("status_reason"), "status_reason", ended["reason"]
    )
    return _fitted(_with(ended, "updated_at", look.now), "findings")


def _history(changed: pa.Table, gone: pa.Table, look: Look) -> pa.Table:
    ended = gone.append_column("change", pa.repeat(pa.scalar(look.rule.when_gone), gone.num_rows))
    ended = ended.append_column("was_updated_at", ended["updated_at"])
    ended = _with(ended, "status", look.rule.when_gone)
    schema = tables()["finding_history"].schema
    parts = []
    for rows in (changed, ended):
        # The state before is part of the id: the same turn taken twice is two changes,
        # the same run repeated after a crash is one.
        ids = [change_id(row) for row in rows.to_pylist()]
        columns = {name: rows[name] for name in schema.names if name in rows.column_names} | {
            "change_id": pa.array(ids, pa.string()),
            "rule_id": pa.repeat(pa.scalar(look.rule.id), rows.num_rows),
            "changed_by": pa.nulls(rows.num_rows, pa.string()),
            "changed_at": pa.repeat(pa.scalar(look.now, pa.timestamp("us", "UTC")), rows.num_rows),
        }
        parts.append(pa.table(columns).select(schema.names).cast(schema))
    return pa.concat_tables(parts)


def change_id(row: Mapping[str, Any]) -> str:
    """Return the id of a change: `row` is a finding after it, and its `was_updated_at`."""
    names = ("finding_id", "change", "reason", "severity", "confidence", "status", "event_uids")
    hashed = {name: row[name] for name in (*names, "was_updated_at")}
    return hashlib.sha256(canonical(hashed).encode()).hexdigest()


def _with(rows: pa.Table, name: str, value: Any) -> pa.Table:
    at = rows.column_names.index(name)
    column = pa.repeat(pa.scalar(value, rows.schema.field(name).type), rows.num_rows)
    return rows.set_column(at, name, column)


def _fitted(rows: pa.Table, table: str) -> pa.Table:
    schema = tables()[table].schema
    return rows.select(schema.names).cast(schema)

"""Run rules over a window and write what they found.

Claims each (rule, window) in the ledger, runs every rule on one consistent
version of the lake, then writes once for all of them: history, findings, the
ledger.  A rule that fails is recorded as failed and does not stop the others.
Everything can be repeated: a crash at any point leaves what the next run
completes.  `run_detections` looks once over one window, `catch_up` does every
window that is not done.
"""

from __future__ import annotations

import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.detections.activity import register_activity
from pipeline.detections.bind import run_statement
from pipeline.detections.catch_up import MOST_WINDOWS, plan
from pipeline.detections.check import EPOCH
from pipeline.detections.finding import Changes, Look, statement, work_out
from pipeline.detections.identities import write_identities
from pipeline.detections.ledger import Claim, Task, Window, alone, claim, write
from pipeline.detections.policy import record_policy
from pipeline.detections.settle import hold_few, settle_calls
from pipeline.detections.suppress import load_suppressions
from pipeline.errors import RuleError, RuleErrors
from pipeline.lake import halve_memory
from pipeline.lake.tables import tables

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pipeline.detections.rule import Rule
    from pipeline.lake import Lake
    from pipeline.registry import Registry


# An open window takes events of the future too: a forged clock must not hide a finding.
FOREVER = datetime(9999, 12, 31, tzinfo=UTC)


@dataclass(frozen=True)
class DetectReport:
    """What one run did.

    `findings` is what its rules say now, in the columns of `findings`; `changes`
    are the rows that it added to `finding_history`; `runs` its rows of the
    ledger.  `skipped` are rules whose window was done or is held by another run.
    `merged` counts, by rule id, rows that shared the identity of another row: a rule's fault.
    """

    findings: pa.Table
    changes: pa.Table
    runs: pa.Table
    failed: list[RuleError] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    merged: Mapping[str, int] = field(default_factory=dict)

    def raise_failed(self) -> None:
        """Raise RuleErrors if a rule failed; the others have run and are written."""
        if self.failed:
            raise RuleErrors(self.failed)


def run_detections(
    lake: Lake,
    registry: Registry,
    *,
    rules: Sequence[Rule],
    window: Window,
    now: datetime,
    again: bool = True,
) -> DetectReport:
    """Run each rule over the window, as of `now`, and write findings and ledger.

    `again` False leaves out closed windows that are done: what a scheduler wants.

    Raises:
        LakeError: another detection has held the lake for too long.
    """
    tasks = [Task(rule, (window,), window) for rule in rules]
    with alone(lake):
        return _run_tasks(lake, registry, tasks, now, again=again)


def catch_up(
    lake: Lake,
    registry: Registry,
    *,
    rules: Sequence[Rule],
    now: datetime,
    since: datetime | None = None,
    most: int = MOST_WINDOWS,
) -> DetectReport:
    """Run each rule over every window that is not done, as of `now`, and over the open one.

    `since` is where the windows begin; else where those of the ledger do.  `most` bounds
    the closed windows of one rule, oldest first.

    Raises:
        LakeError: another detection has held the lake for too long.
    """
    with alone(lake):
        with lake.connect(comments=False) as con:
            tasks = plan(con, rules, since=since, now=now, most=most)
        return _run_tasks(lake, registry, tasks, now, again=False)


def _run_tasks(
    lake: Lake, registry: Registry, tasks: Sequence[Task], now: datetime, *, again: bool
) -> DetectReport:
    policy = record_policy(lake, registry, now)
    outcomes: list[_Outcome] = []
    changes = [_nothing("finding_history")]
    for few in _rounds(tasks):
        made, changed = _run_round(lake, policy, few, now, again=again)
        outcomes += made
        changes.append(changed)
    merged: Counter[str] = Counter()
    for outcome in outcomes:
        merged[outcome.rule.id] += outcome.changes.merged if outcome.changes else 0
    ran = {outcome.rule.id for outcome in outcomes}
    rows = [row for outcome in outcomes for row in outcome.rows]
    return DetectReport(
        findings=_last_of_each(_all(outcomes, "found")),
        changes=pa.concat_tables(changes),
        runs=pa.Table.from_pylist(rows, schema=tables()["runs"].schema),
        failed=[outcome.error for outcome in outcomes if outcome.error],
        merged={rule: count for rule, count in merged.items() if count},
        skipped=sorted({task.rule.id for task in tasks} - ran),
    )


def _rounds(tasks: Sequence[Task]) -> list[list[Task]]:
    """Return the tasks so that each look of a rule sees what its look before has written."""
    rounds: list[list[Task]] = [[]]
    looks: Counter[str] = Counter()
    for task in tasks:
        if looks[task.rule.id] == len(rounds):
            rounds.append([])
        rounds[looks[task.rule.id]].append(task)
        looks[task.rule.id] += 1
    return rounds


def _run_round(
    lake: Lake, registry: Registry, tasks: Sequence[Task], now: datetime, *, again: bool
) -> tuple[list[_Outcome], pa.Table]:
    claims = claim(lake, tasks, again=again, started_at=datetime.now(UTC))
    # The folder goes after the connection: a file of it may be a view.
    with (
        tempfile.TemporaryDirectory(prefix="delegraph-") as scratch,
        lake.connect(comments=False, scratch=Path(scratch)) as con,
    ):
        halve_memory(con)
        rules = [one.rule for one in claims]
        if not settle_calls(con, rules, Path(scratch)):
            hold_few(con, rules)
        register_policy(con, registry)
        outcomes = [_run_claim(con, registry, one, now) for one in claims]
        changes = pa.concat_tables([_nothing("finding_history"), *_all(outcomes, "history")])
        changes = _not_yet_written(con, changes)
        # History first: after a crash the same change is worked out again from
        # the finding as it was, and has the same id.
        lake.append_rows("finding_history", changes)
        lake.merge(
            "findings", pa.concat_tables([_nothing("findings"), *_all(outcomes, "findings")])
        )
        write_identities(lake, con, registry, now)
    write(lake, [row for outcome in outcomes for row in outcome.rows])
    return outcomes, changes


def register_policy(con: duckdb.DuckDBPyConnection, registry: Registry) -> None:
    """Register the `reg_*` tables and `identity_activity`; the connection has the lake's views.

    Names of instances that the events show stand beside those that the registry says.
    """
    registered = registry.tables()
    for name, table in registered.items():
        con.register(name, table)
    if registered["reg_names"].num_rows:
        instances = con.sql(statement("instances")).to_arrow_table()
        for name in ("reg_names", "reg_aliases"):
            known = registered[name]
            more = pa.Table.from_arrays(instances.columns, schema=known.schema)
            con.register(name, pa.concat_tables([known, more]))
    register_activity(con, registry)


@dataclass(frozen=True)
class _Outcome:
    rule: Rule
    rows: Sequence[Mapping[str, Any]]
    changes: Changes | None = None
    error: RuleError | None = None


def _run_claim(
    con: duckdb.DuckDBPyConnection, registry: Registry, one: Claim, now: datetime
) -> _Outcome:
    span = one.span
    look = Look(one.rule, span.start or EPOCH, span.end or FOREVER, now, registry.policy_version)
    started = time.perf_counter()
    stamp: dict[str, Any] = {"policy_version": registry.policy_version}
    try:
        seen = examine(con, look, registry)
    except RuleError as error:
        failed = error
    except (duckdb.Error, pa.ArrowException, ValueError, TypeError, ArithmeticError) as error:
        # What a rule's rows hold is not ours: no value of theirs may stop the other rules.
        failed = RuleError(look.rule.file("rule.sql"), 1, str(error).split("\n")[0])
    else:
        stamp |= {"rows_read": seen.examined, "watermark": seen.watermark}
        rows = [
            dict(row) | stamp | _window_outcome(window, seen, now) | _end(started)
            for window, row in zip(one.windows, one.rows, strict=True)
        ]
        return _Outcome(one.rule, rows, seen.changes)
    stamp |= {"state": "failed", "error": str(failed)} | _end(started)
    rows = [dict(row) | stamp | {"window_to": row["window_to"] or now} for row in one.rows]
    return _Outcome(one.rule, rows, error=failed)


@dataclass(frozen=True)
class Seen:
    """What one look of one rule gave; nothing is written yet."""

    changes: Changes
    examined: int | None
    watermark: datetime | None
    """The earliest watermark that an absence rule waited for."""


def examine(con: duckdb.DuckDBPyConnection, look: Look, registry: Registry) -> Seen:
    """Run one rule; `con` has the lake's views and the policy.

    Raises:
        RuleError: a fault of the rule, with file and line.
        duckdb.Error, pa.ArrowException: what its statements met in the data.
    """
    watermark = _register_watermarks(con, look)
    examined = _examined(con, look)
    found = run_statement(con, look.rule.file("rule.sql"), look.rule.sql["rule.sql"], values(look))
    suppressions = load_suppressions(registry.tables()["reg_suppressions"], look.rule, look.now)
    return Seen(work_out(con, look, found, suppressions), examined, watermark)


def _window_outcome(window: Window, seen: Seen, now: datetime) -> dict[str, Any]:
    found, end = seen.changes.found, window.end
    if end is None:
        return {"window_to": now, "state": "done", "findings": found.num_rows}
    last = pc.coalesce(found["last_seen"], found["first_seen"])
    inside = pc.less(last, pa.scalar(end, last.type))
    if window.start:
        inside = pc.and_(inside, pc.greater_equal(last, pa.scalar(window.start, last.type)))
    # A closed window whose sources are late is looked at again; an open one always is.
    is_early = seen.watermark is not None and seen.watermark < end
    return {
        "state": "waiting" if is_early else "done",
        "findings": pc.sum(pc.cast(inside, pa.int64())).as_py() or 0,
    }


def values(look: Look) -> dict[str, Any]:
    """Return everything that a rule's SQL may bind."""
    parameters = {name: parameter.default for name, parameter in look.rule.parameters.items()}
    end = look.now if look.end == FOREVER else look.end
    return parameters | {"as_of": look.now, "from": look.start, "to": end}


def _register_watermarks(con: duckdb.DuckDBPyConnection, look: Look) -> datetime | None:
    """Register `rule_watermarks` for one rule; return the earliest for an absence rule."""
    bound = {
        "sources": list(look.rule.sources) or ["none"],
        "as_of": look.now,
        "grace_s": look.rule.grace_s,
    }
    watermarks = con.sql(statement("watermarks"), params=bound).to_arrow_table()
    con.register("rule_watermarks", watermarks)
    if not look.rule.is_absence:
        return None
    earliest: datetime | None = pc.min(watermarks["watermark"]).as_py()
    return earliest


def _examined(con: duckdb.DuckDBPyConnection, look: Look) -> int | None:
    sql = look.rule.sql.get("count.sql")
    if sql is None:
        return None
    counted = run_statement(con, look.rule.file("count.sql"), sql, values(look))
    return int(counted.column(0)[0].as_py())


def _end(started: float) -> dict[str, Any]:
    return {
        "lease_until": None,
        "duration_s": round(time.perf_counter() - started, 6),
        "finished_at": datetime.now(UTC),
    }


def _nothing(table: str) -> pa.Table:
    return tables()[table].schema.empty_table()


def _all(outcomes: Sequence[_Outcome], part: str) -> list[pa.Table]:
    return [getattr(outcome.changes, part) for outcome in outcomes if outcome.changes]


def _last_of_each(parts: Sequence[pa.Table]) -> pa.Table:
    """Return the findings of all looks, each as the last look that found it says."""
    rows = pa.concat_tables([_nothing("findings"), *parts])
    if len(set(ids := rows["finding_id"].to_pylist())) == len(ids):
        return rows
    place = {name: at for at, name in enumerate(ids)}
    return rows.take(sorted(place.values()))


def _not_yet_written(con: duckdb.DuckDBPyConnection, changes: pa.Table) -> pa.Table:
    con.register("changes", changes)
    query = "SELECT * FROM changes ANTI JOIN finding_history USING (finding_id, change_id)"
    return con.sql(query).to_arrow_table().cast(changes.schema)

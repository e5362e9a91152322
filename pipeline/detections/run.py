"""Run rules over a window and write what they found.

Claims each (rule, window) in the ledger, runs every rule on one consistent
version of the lake, then writes once for all of them: history, findings, the
ledger.  A rule that fails is recorded as failed and does not stop the others.
Everything can be repeated: a crash at any point leaves what the next run
completes.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.detections.bind import run_statement
from pipeline.detections.check import EPOCH
from pipeline.detections.finding import Changes, Look, load_suppressions, statement, work_out
from pipeline.detections.identities import write_identities
from pipeline.detections.ledger import Claim, Window, alone, claim, write
from pipeline.detections.policy import record_policy
from pipeline.errors import RuleError, RuleErrors
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
    with alone(lake):
        registry = record_policy(lake, registry, now)
        claims = claim(lake, rules, window, again=again, started_at=datetime.now(UTC))
        with lake.connect(comments=False) as con:
            for name, table in registry.tables().items():
                con.register(name, table)
            outcomes = [_run_claim(con, registry, one, window, now) for one in claims]
            changes = pa.concat_tables([_nothing("finding_history"), *_all(outcomes, "history")])
            changes = _not_yet_written(con, changes)
            # History first: after a crash the same change is worked out again from
            # the finding as it was, and has the same id.
            lake.append_rows("finding_history", changes)
            lake.merge(
                "findings", pa.concat_tables([_nothing("findings"), *_all(outcomes, "findings")])
            )
            write_identities(lake, con, registry, now)
        runs = write(lake, [outcome.row for outcome in outcomes])
    return DetectReport(
        findings=pa.concat_tables([_nothing("findings"), *_all(outcomes, "found")]),
        changes=changes,
        runs=runs,
        failed=[outcome.error for outcome in outcomes if outcome.error],
        merged={
            outcome.row["rule_id"]: outcome.changes.merged
            for outcome in outcomes
            if outcome.changes and outcome.changes.merged
        },
        skipped=sorted({r.id for r in rules} - {one.rule.id for one in claims}),
    )


@dataclass(frozen=True)
class _Outcome:
    row: Mapping[str, Any]
    changes: Changes | None = None
    error: RuleError | None = None


def _run_claim(
    con: duckdb.DuckDBPyConnection,
    registry: Registry,
    one: Claim,
    window: Window,
    now: datetime,
) -> _Outcome:
    look = Look(
        one.rule, window.start or EPOCH, window.end or FOREVER, now, registry.policy_version
    )
    started = time.perf_counter()
    row = dict(one.row) | {
        "window_to": window.end or now,
        "policy_version": registry.policy_version,
    }
    try:
        watermark = _register_watermarks(con, look)
        examined = _examined(con, look)
        found = run_statement(
            con, look.rule.file("rule.sql"), look.rule.sql["rule.sql"], values(look)
        )
        suppressions = load_suppressions(registry.tables()["reg_suppressions"], look.rule, now)
        changes = work_out(con, look, found, suppressions)
    except RuleError as error:
        failed = error
    except (duckdb.Error, pa.ArrowException) as error:
        failed = RuleError(look.rule.file("rule.sql"), 1, str(error).split("\n")[0])
    else:
        is_early = look.rule.is_absence and watermark is not None and watermark < look.end
        # A closed window whose sources are late is looked at again; an open one always is.
        state = "waiting" if is_early and window.end else "done"
        row |= {
            "state": state,
            "rows_read": examined,
            "findings": changes.found.num_rows,
            "watermark": watermark,
        }
        return _Outcome(row | _end(started), changes)
    return _Outcome(row | {"state": "failed", "error": str(failed)} | _end(started), error=failed)


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


def _not_yet_written(con: duckdb.DuckDBPyConnection, changes: pa.Table) -> pa.Table:
    con.register("changes", changes)
    query = "SELECT * FROM changes ANTI JOIN finding_history USING (finding_id, change_id)"
    return con.sql(query).to_arrow_table().cast(changes.schema)

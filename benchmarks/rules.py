"""All rules over one big lake: what each costs, beside one plain pass over the calls.

The events go straight into the tables, so that the time of a run is that of the
rules.  A pass is the cheapest thing that a rule could do with every call: read
the columns that most rules read, joined with their chains, and count by agent.
"""

from __future__ import annotations

import resource
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from benchmarks.table import Row
from pipeline.chains import build_chains
from pipeline.demo.generate import Stream, generate
from pipeline.demo.policy import REGISTRY
from pipeline.detections.ledger import Window
from pipeline.detections.rule import read_rules
from pipeline.detections.run import run_detections
from pipeline.events.complete import to_table_batch
from pipeline.events.schema import TABLES
from pipeline.ingest.batch import TopicPartition
from pipeline.lake import Lake, open_lake
from pipeline.registry import load_registry

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

EVENTS = 12_000_000
NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
ROWS_PER_COMMIT = 500_000
SLOWEST = 8
PASS = """
SELECT tenant_id, agent_id, tool_name, count(*), max(event_time), max(depth), max(confidence)
FROM calls GROUP BY tenant_id, agent_id, tool_name
"""


def run_rules(scale: float) -> list[Row]:
    """Run every rule once over everything, and a second time with nothing changed."""
    with tempfile.TemporaryDirectory(prefix="delegraph-bench-") as name:
        lake = open_lake(str(Path(name) / "lake"), create=True)
        counts = write_events(lake, int(EVENTS * scale))
        registry = load_registry(REGISTRY)
        built_s = _timed(lambda: build_chains(lake, registry, NOW, full=True))
        pass_s = _timed(lambda: _pass(lake))
        rules, faults = read_rules()
        if faults:
            raise SystemExit("\n".join(map(str, faults)))
        began = time.monotonic()
        report = run_detections(lake, registry, rules=rules, window=Window(), now=NOW)
        all_s = time.monotonic() - began
        report.raise_failed()
    each = sorted(
        ((row["duration_s"], row["rule_id"], row["findings"]) for row in report.runs.to_pylist()),
        reverse=True,
    )
    peak_gib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return [
        Row("tool calls, token events", f"{counts['tool_call']:,}, {counts['token_event']:,}", ""),
        Row("chain build", f"{built_s:.0f} s", f"{built_s / pass_s:.1f} passes"),
        Row("one pass over the calls", f"{pass_s:.1f} s", ""),
        Row(
            f"all {len(rules)} rules, findings written",
            f"{all_s:.0f} s, {report.findings.num_rows:,} findings",
            f"{all_s / pass_s:.1f} passes, {all_s / pass_s / len(rules):.2f} per rule",
        ),
        Row("peak resident memory, build included", f"{peak_gib:.1f} GiB", ""),
        *(
            Row(f"{rule}", f"{took_s:.1f} s, {found:,} findings", f"{took_s / pass_s:.2f} passes")
            for took_s, rule, found in each[:SLOWEST]
        ),
        Row(
            f"the other {len(each) - SLOWEST} rules",
            f"{sum(took_s for took_s, *_ in each[SLOWEST:]):.1f} s together",
            "",
        ),
    ]


def write_events(lake: Lake, events: int) -> Mapping[str, int]:
    """Put a stream into a lake, past the broker; return how many events of each family."""
    waiting: dict[str, list[pa.RecordBatch]] = {family: [] for family in TABLES}
    counts = dict.fromkeys(TABLES, 0)
    for arrived in generate(Stream(events, 1, NOW)):
        for part in arrived:
            rows = to_table_batch(
                part.family,
                part.batch,
                adapter="native",
                topic=f"agent.{part.family}s",
                partition=0,
                offsets=range(counts[part.family], counts[part.family] + part.batch.num_rows),
                ingest_time=NOW,
            )
            counts[part.family] += rows.num_rows
            waiting[part.family].append(rows)
        for family, batches in waiting.items():
            if sum(batch.num_rows for batch in batches) >= ROWS_PER_COMMIT:
                _commit(lake, family, batches, counts[family])
    for family, batches in waiting.items():
        _commit(lake, family, batches, counts[family])
    lake.mark_events()
    return counts


def _commit(lake: Lake, family: str, batches: list[pa.RecordBatch], end: int) -> None:
    if batches:
        place = TopicPartition(f"agent.{family}s", 0)
        lake.append(TABLES[family], pa.Table.from_batches(batches), {place: end - 1})
        batches.clear()


def _pass(lake: Lake) -> None:
    with lake.connect(comments=False) as con:
        con.sql(PASS).to_arrow_table()


def _timed(work: Callable[[], object]) -> float:
    began = time.monotonic()
    work()
    return time.monotonic() - began

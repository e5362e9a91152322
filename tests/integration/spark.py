"""Small lakes in which every rule finds something, and one Spark session over their views."""

from __future__ import annotations

import importlib
import json
import math
import re
from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from functools import cached_property
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from pipeline.chains import build_chains
from pipeline.detections.bind import run_statement
from pipeline.detections.check import EPOCH
from pipeline.detections.finding import statement
from pipeline.detections.policy import record_policy
from pipeline.detections.portable import spark_steps
from pipeline.detections.run import register_policy
from pipeline.detections.testing import Case, group_cases, read_cases
from pipeline.ingest.run import ingest_files
from pipeline.lake import open_lake
from pipeline.registry import load_registry

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from pyspark.sql import DataFrame, SparkSession

    from pipeline.detections.rule import Rule

Row = dict[str, Any]


@dataclass(frozen=True)
class Stories:
    """Cases of one registry and one time, in a lake of their own, each as a tenant."""

    folder: Path
    cases: Sequence[Case]

    @cached_property
    def _opened(self) -> tuple[Any, Any]:
        head = self.cases[0]
        registry = load_registry(_registry(self.folder, head))
        lake = open_lake(str(self.folder / "lake"), create=True)
        files = [_story(self.folder, number, case) for number, case in enumerate(self.cases)]
        ingest_files(files, adapter="native", sink=lake, now=head.as_of)
        build_chains(lake, registry, head.as_of)
        return lake, record_policy(lake, registry, head.as_of)

    def tables(self, rule: Rule) -> dict[str, pa.Table]:
        """Return what a rule may read."""
        with self._connect(rule) as con:
            return {n: con.sql(f'SELECT * FROM "{n}"').to_arrow_table() for n in rule.tables}

    def duckdb_rows(self, rule: Rule, file: str) -> list[Row]:
        with self._connect(rule) as con:
            found = run_statement(con, rule.file(file), rule.sql[file], self.values(rule))
        return found.to_pylist()

    def values(self, rule: Rule) -> Row:
        """Return what a run without a window would bind."""
        as_of = self.cases[0].as_of
        defaults = {name: parameter.default for name, parameter in rule.parameters.items()}
        return defaults | {"as_of": as_of, "from": EPOCH, "to": as_of}

    def _connect(self, rule: Rule) -> Any:
        lake, registry = self._opened
        con = lake.connect(comments=False)
        register_policy(con, registry)
        bound = {
            "sources": list(rule.sources) or ["none"],
            "as_of": self.cases[0].as_of,
            "grace_s": rule.grace_s,
        }
        marks = con.sql(statement("watermarks"), params=bound).to_arrow_table()
        con.register("rule_watermarks", marks)
        return con


def choose_stories(rules: Sequence[Rule], folder: Path) -> dict[str, Stories]:
    """Return for each rule a lake in which it fires; as few lakes as will do."""
    groups = group_cases([case for rule in rules for case in read_cases(rule)])
    left = {rule.id for rule in rules}
    chosen: dict[str, Stories] = {}
    while left:
        group = max(groups, key=lambda one: len(left & _firing(one)))
        taken = left & _firing(group)
        if not taken:
            break
        place = folder / str(len(chosen))
        place.mkdir()
        stories = Stories(place, _few([case for case in group if case.rule.id in taken]))
        chosen |= dict.fromkeys(taken, stories)
        left -= taken
    return chosen


def _few(cases: Sequence[Case]) -> list[Case]:
    """Return of each rule two stories that fire and a benign one."""
    kept: Counter[tuple[str, bool]] = Counter()
    few = []
    for case in sorted(cases, key=lambda case: case.path):
        kept[key := (case.rule.id, case.is_firing)] += 1
        if kept[key] <= (2 if case.is_firing else 1):
            few.append(case)
    return few


def _firing(group: Sequence[Case]) -> set[str]:
    return {case.rule.id for case in group if case.is_firing}


def _registry(folder: Path, case: Case) -> Path | None:
    if not case.registry:
        return None
    registry = folder / "registry"
    registry.mkdir()
    for name, content in case.registry.items():
        (registry / name).write_text(json.dumps(content), encoding="utf-8")
    return registry


def _story(folder: Path, number: int, case: Case) -> Path:
    story = folder / f"story-{number}.jsonl"
    tenants = ({"tenant_id": f"{event.get('tenant_id', '')}|{number}"} for event in case.events)
    lines = [json.dumps(e | t) for e, t in zip(case.events, tenants, strict=True)]
    story.write_text("\n".join(lines), encoding="utf-8")
    return story


class OnSpark:
    """Runs rules' files on one session; views of one rule replace those of the one before."""

    def __init__(self, session: SparkSession) -> None:
        self.session = session
        # Spark is an extra: what is not asked for is not imported.
        self.error = importlib.import_module("pyspark.errors").PySparkException

    def show(self, tables: Mapping[str, pa.Table]) -> None:
        for name, table in tables.items():
            if not table.num_rows:  # Spark wants at least one batch
                batch = pa.RecordBatch.from_pylist([], schema=table.schema)
                table = pa.Table.from_batches([batch])  # noqa: PLW2901
            self.session.createDataFrame(table).createOrReplaceTempView(name)

    def rows(self, file: str, sql: str, values: Mapping[str, Any]) -> list[Row]:
        kept = []
        try:
            for step in spark_steps(file, sql):
                frame = self._sql(step.sql, values)
                if not step.name:
                    return frame.toArrow().to_pylist()
                # A checkpoint forgets how the rows came about, which a view would not.
                frame.localCheckpoint().createOrReplaceTempView(step.name)
                kept.append(step.name)
        finally:
            for name in kept:
                self.session.catalog.dropTempView(name)
        raise AssertionError("the last step has no name")

    def _sql(self, sql: str, values: Mapping[str, Any]) -> DataFrame:
        used = {name: value for name, value in values.items() if re.search(rf":{name}\b", sql)}
        return self.session.sql(sql, args=used)


def comparable(rows: Sequence[Row]) -> list[str]:
    """Return rows as sorted text, so that engines' types and orders do not matter."""
    return sorted(json.dumps(_plain(row), sort_keys=True, ensure_ascii=False) for row in rows)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(one) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    if isinstance(value, datetime):
        return value.timestamp()
    if isinstance(value, bool) or value is None or isinstance(value, str):
        return value
    if isinstance(value, (int, float, Decimal)):
        number = float(value)
        return round(number, 6) if math.isfinite(number) else str(number)
    return str(value)

"""Run the stories of a rule through the real road: file, lake, chains, rule.

Takes a rule's cases; leaves for each what was not as expected, in words.  The
events of a case go three times into a small lake in a temporary folder, as
three tenants that never meet: in order, shuffled, and each event twice.
"""

from __future__ import annotations

import json
import random
import re
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.chains import build_chains
from pipeline.detections.ledger import Window
from pipeline.detections.rule import Rule, nearest, read_text
from pipeline.detections.run import run_detections
from pipeline.errors import RegistryErrors, RuleError
from pipeline.ingest.run import ingest_files
from pipeline.lake import Lake, open_lake
from pipeline.registry import load_registry
from pipeline.registry.shapes import FILES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

VARIANTS = ("in order", "shuffled", "twice")
_KEYS = ("name", "as_of", "expect", "registry")
_HASH = re.compile(r"\b[0-9a-f]{32,64}\b")
# Columns that must not depend on the order in which events came.
_COMPARED = (
    "title",
    "entity",
    "severity",
    "confidence",
    "status",
    "first_seen",
    "last_seen",
    "chain_path",
    "identity",
    "summary",
    "route_owner",
)

Event = dict[str, Any]


@dataclass(frozen=True)
class Case:
    """One story and what must be found in it."""

    rule: Rule
    path: Path
    name: str
    as_of: datetime
    expect: Sequence[Mapping[str, Any]]
    registry: Mapping[str, Any]
    events: Sequence[Event]

    @property
    def is_firing(self) -> bool:
        """Return whether something must be found; otherwise it is a benign twin."""
        return bool(self.expect)


@dataclass(frozen=True)
class Outcome:
    """What came out of one case; it passed if there are no problems."""

    case: Case
    problems: list[str]
    findings: Mapping[str, list[dict[str, Any]]]


def read_cases(rule: Rule) -> list[Case]:
    """Return the stories of a rule.

    Raises:
        RuleError: a line is no JSON, or the first line is not what it must be.
    """
    return [read_case(rule, path) for path in rule.cases]


def read_case(rule: Rule, path: Path) -> Case:
    """Return one story.

    Raises:
        RuleError: a line is no JSON, or the first line is not what it must be.
    """
    file = rule.file(f"cases/{path.name}")
    lines = []
    for number, line in enumerate(read_text(path, file).splitlines(), start=1):
        try:
            lines.append(json.loads(line))
        except ValueError as error:
            raise RuleError(file, number, f"not JSON: {error}") from error
        if not isinstance(lines[-1], dict):
            raise RuleError(file, number, "must be a JSON object")
    head, *events = lines or [{}]
    if fault := _fault(head, events):
        raise RuleError(file, 1, fault)
    try:
        as_of = _time(head["as_of"]) if "as_of" in head else _newest(events) + timedelta(days=1)
    except (ValueError, TypeError, KeyError, OverflowError) as error:
        raise RuleError(
            file, 1, f"no time to judge it at, by as_of or the events: {error}"
        ) from error
    name = str(head.get("name", path.stem))
    return Case(rule, path, name, as_of, head["expect"], head.get("registry", {}), events)


def _fault(head: Mapping[str, Any], events: Sequence[Event]) -> str:
    """Return what is wrong with the first line of a case, in words; or nothing."""
    unknown = [key for key in head if key not in _KEYS]
    if unknown:
        return f'unknown key "{unknown[0]}"{nearest(unknown[0], _KEYS)}'
    expect, registry = head.get("expect"), head.get("registry", {})
    if not isinstance(expect, list) or not events:
        return "must be an object with a list expect, then events"
    if not all(isinstance(one, dict) for one in expect):
        return '"expect" must be a list of objects'
    files = registry if isinstance(registry, dict) else {"": None}
    strange = [name for name in files if name not in FILES]
    return f'"registry" has no file "{strange[0]}"{nearest(strange[0], FILES)}' if strange else ""


def run_case(case: Case) -> Outcome:
    """Return what was not as expected, after all three orders of the events."""
    return run_cases([case])[0]


def run_cases(cases: Sequence[Case]) -> list[Outcome]:
    """Return the outcome of each case, of one rule or several, as `run_case` does in fewer lakes.

    Cases with equal registry and time share a lake.  A rule that failed is the problem of its
    cases, a faulty registry that of the cases that bring it.
    """
    outcomes = {
        id(outcome.case): outcome for group in group_cases(cases) for outcome in _run_group(group)
    }
    return [outcomes[id(case)] for case in cases]


def group_cases(cases: Sequence[Case]) -> list[list[Case]]:
    """Return the cases by what may share a lake: equal registry and time."""
    groups: dict[str, list[Case]] = {}
    for case in cases:
        key = json.dumps([str(case.as_of), case.registry], sort_keys=True)
        groups.setdefault(key, []).append(case)
    return list(groups.values())


def _run_group(group: Sequence[Case]) -> list[Outcome]:
    rules = list({case.rule.id: case.rule for case in group}.values())
    as_of = group[0].as_of
    with tempfile.TemporaryDirectory(prefix="delegraph-case-") as temporary:
        folder = Path(temporary)
        try:
            registry = load_registry(_write_registry(folder, group[0]))
        except RegistryErrors as error:
            told = [f"{Path(one.file).name}: {one.message}" for one in error.errors]
            return [Outcome(case, told, {}) for case in group]
        lake = open_lake(str(folder / "lake"), create=True)
        stories = [_write_story(folder, number, case) for number, case in enumerate(group)]
        ingest_files(stories, adapter="native", sink=lake, now=as_of)
        build_chains(lake, registry, as_of)
        report = run_detections(lake, registry, rules=rules, window=Window(), now=as_of)
        refused = _refused(lake)
    found = report.findings.to_pylist()
    # A fault's file begins with the rule's folder.
    failed = {error.file.split("/")[0]: str(error) for error in report.failed}
    return [
        _judge(
            case,
            [
                f | _tenancy(f["tenant_id"])
                for f in found
                if _number(f["tenant_id"]) == number and f["rule_id"] == case.rule.id
            ],
            refused.get(number, []),
            report.merged.get(case.rule.id, 0),
            failed.get(case.rule.id),
        )
        for number, case in enumerate(group)
    ]


def _judge(
    case: Case,
    found: Sequence[Event],
    refused: Sequence[tuple[int, str]],
    merged: int,
    failed: str | None,
) -> Outcome:
    findings = {v: [f for f in found if f["order"] == v] for v in VARIANTS}
    if failed:
        return Outcome(case, [failed], findings)
    # The first order is that of the file, whose first line is no event.
    lines = [(at + 2, reason) for at, reason in refused if at < len(case.events)]
    problems = [f"{case.path.name}:{line}: {reason}" for line, reason in lines]
    if merged:
        problems.append(f"{merged} row(s) share the identity of another row")
    for variant, rows in findings.items():
        problems += [f"{variant}: {text}" for text in _differences(case.expect, rows)]
    return Outcome(case, problems + _order_matters(findings), findings)


def _refused(lake: Lake) -> dict[int, list[tuple[int, str]]]:
    """Return which events of each story the contract refuses, by their place, and why."""
    query = """
        SELECT regexp_extract(kafka_topic, 'story-(\\d+)', 1)::INTEGER, kafka_offset, reason
        FROM dead_letters ORDER BY ALL
    """
    refused: dict[int, list[tuple[int, str]]] = {}
    with lake.connect(comments=False) as con:
        for story, place, reason in con.execute(query).fetchall():
            refused.setdefault(story, []).append((place, reason))
    return refused


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


def _newest(events: Sequence[Event]) -> datetime:
    times = [event["event_time"] for event in events]
    return max(
        datetime.fromtimestamp(t / 1e6, UTC) if isinstance(t, int) else _time(t) for t in times
    )


def _write_story(folder: Path, number: int, case: Case) -> Path:
    """Write a case's events in all orders, each order as tenants of its own."""
    shuffled = list(case.events)
    random.Random(case.name).shuffle(shuffled)
    orders = (case.events, shuffled, [event for event in case.events for _ in range(2)])
    story = folder / f"story-{number}.jsonl"
    with story.open("w", encoding="utf-8") as lines:
        for variant, events in zip(VARIANTS, orders, strict=True):
            for event in events:
                tenant = f"{event.get('tenant_id', 'default')}|{number}|{variant}"
                lines.write(json.dumps(event | {"tenant_id": tenant}) + "\n")
    return story


def _tenancy(tenant_id: str) -> Event:
    """Return the tenant as the case sent it, and the order that it stands for."""
    sent, _, variant = tenant_id.rsplit("|", 2)
    return {"tenant_id": sent, "order": variant}


def _number(tenant_id: str) -> int:
    return int(tenant_id.rsplit("|", 2)[1])


def _write_registry(folder: Path, case: Case) -> Path | None:
    if not case.registry:
        return None
    registry = folder / "registry"
    registry.mkdir()
    for name, content in case.registry.items():
        # JSON is YAML.
        (registry / name).write_text(json.dumps(content, indent=1), encoding="utf-8")
    return registry


def _differences(
    expected: Sequence[Mapping[str, Any]], found: Sequence[Mapping[str, Any]]
) -> list[str]:
    """Return what is missing and what is too much, one finding for one expectation."""
    seen = [_flat(finding) for finding in found]
    taken: dict[int, int] = {}
    missing = [e for e in range(len(expected)) if not _assign(e, expected, seen, taken, set())]
    return [
        *(f"not found: {json.dumps(expected[e])}" for e in missing),
        *(
            f"not expected: {finding['entity']}: {finding['title']}, severity {finding['severity']}"
            for at, finding in enumerate(found)
            if at not in taken
        ),
    ]


def _assign(
    wanted: int,
    expected: Sequence[Mapping[str, Any]],
    seen: Sequence[Mapping[str, Any]],
    taken: dict[int, int],
    tried: set[int],
) -> bool:
    """Give an expectation a finding of its own, moving others if they have a choice."""
    for at, finding in enumerate(seen):
        if at in tried or not _fits(expected[wanted], finding):
            continue
        tried.add(at)
        if at not in taken or _assign(taken[at], expected, seen, taken, tried):
            taken[at] = wanted
            return True
    return False


def _flat(finding: Mapping[str, Any]) -> dict[str, Any]:
    """Return a finding with its identity and summary beside its columns."""
    more: dict[str, Any] = json.loads(finding["summary"]) | json.loads(finding["identity"])
    return more | dict(finding)


def _fits(expected: Mapping[str, Any], finding: Mapping[str, Any]) -> bool:
    return all(_same(value, finding.get(name)) for name, value in expected.items())


def _same(expected: Any, found: Any) -> bool:
    if isinstance(found, datetime) and isinstance(expected, str):
        return _time(expected) == found
    return bool(expected == found)


def _order_matters(findings: Mapping[str, list[dict[str, Any]]]) -> list[str]:
    """Return a problem for each order of the same events that gave other findings."""
    shapes = {variant: sorted(map(_shape, rows)) for variant, rows in findings.items()}
    return [
        f"{variant}: not the same findings as {VARIANTS[0]}"
        for variant in VARIANTS[1:]
        if shapes[variant] != shapes[VARIANTS[0]]
    ]


def _shape(finding: Mapping[str, Any]) -> str:
    text = json.dumps({name: finding[name] for name in _COMPARED}, default=str)
    # Keys are hashes over the tenant, and the tenants differ.
    return _HASH.sub("#", text) + f" {len(finding['event_uids'])} events"

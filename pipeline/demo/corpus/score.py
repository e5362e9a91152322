"""Make a corpus, run everything on it, and hold what the rules say against the truth.

Files in, as fast as they can be read: generate, ingest, chains, rules, judgement.
"""

from __future__ import annotations

import json
import shutil
import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from pipeline.chains import build_chains
from pipeline.demo.corpus.folder import write_registry
from pipeline.demo.corpus.judge import (
    Verdict,
    judge_findings,
    scores_as_markdown,
    scores_as_text,
)
from pipeline.demo.judge import EVIDENCE
from pipeline.demo.produce import write_files
from pipeline.demo.run import Demo, fresh_lake
from pipeline.detections.ledger import Window
from pipeline.detections.rule import read_rules
from pipeline.detections.run import run_detections
from pipeline.errors import RuleErrors
from pipeline.ingest.run import ingest_files
from pipeline.registry import load_registry

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from pipeline.demo.generate import Stream
    from pipeline.detections.rule import Rule
    from pipeline.lake import Lake

    Say = Callable[[str], None]

PLACES, CORPUS_EVENTS = 3, 30_000
CORPUS_END = datetime(2026, 11, 2, 12, tzinfo=UTC)
"""When the scored corpus ends, so that every run gives the same numbers."""
EVENTS, REGISTRY, TRUTH = "corpus-events", "corpus-registry", "corpus-truth.json"


@dataclass(frozen=True)
class Scored:
    """The verdict, and how it came about: `failed` are rules that broke off."""

    verdict: Verdict
    events: int
    plantings: int
    rules: int
    failed: tuple[str, ...]
    elapsed_s: float

    def meets(self, least: float) -> bool:
        """Return whether no rule failed and each has that precision and recall at least."""
        values = [v for one in self.verdict.scores for v in (one.precision, one.recall)]
        return not self.failed and all(value >= least for value in values if value is not None)


def score_corpus(
    stream: Stream, folder: Path, say: Say, rules: Sequence[Rule] | None = None
) -> Scored:
    """Run the rules, else every stable one, on the corpus in a fresh lake at the folder.

    Tells each step.

    Raises:
        ConfigError: fewer events than the stories need.
        LakeError: the folder holds something that is not a demo lake.
        RuleErrors: a rule's folder is faulty.
    """
    began = time.monotonic()
    lake = fresh_lake(Demo(stream.events, stream.seed, folder, stream.now))
    corpus = stream.corpus()
    say(f"corpus     {stream.events:,} events, {len(corpus.plantings)} plantings")
    _fill(lake, stream, folder, say)
    write_registry(corpus.registry(), folder / REGISTRY)
    registry = load_registry(folder / REGISTRY)
    say(f"registry   {len(registry.tables()['reg_identities'])} identities")
    built = build_chains(lake, registry, stream.now)
    say(f"chains     {built.credentials:,} credentials in {built.seconds:.0f} s")
    rules = stable_rules() if rules is None else rules
    report = run_detections(lake, registry, rules=rules, window=Window(), now=stream.now)
    say(f"detect     {len(rules)} rules, {report.findings.num_rows} findings")
    verdict = judge_findings(
        corpus.plantings, read_findings(lake), {rule.code: rule.id for rule in rules}
    )
    return Scored(
        verdict=verdict,
        events=stream.events,
        plantings=len(corpus.plantings),
        rules=len(rules),
        failed=tuple(str(error) for error in report.failed),
        elapsed_s=time.monotonic() - began,
    )


def _fill(lake: Lake, stream: Stream, folder: Path, say: Say) -> None:
    """Write the events as Avro containers beside the lake's tables and read them in."""
    files = folder / EVENTS
    paths = write_files(stream, files, "avro")
    taken = ingest_files(paths, adapter="native", sink=lake, now=stream.now)
    lake.mark_events()
    say(f"ingest     {taken.records:,} records, {taken.dead_letters} dead letters")
    (files / "truth.json").rename(folder / TRUTH)
    # The lake has them now, and they are as large as it is.
    shutil.rmtree(files)


def stable_rules() -> list[Rule]:
    """Return our own rules that are not experimental.

    Raises:
        RuleErrors: a rule's folder is faulty.
    """
    rules, faults = read_rules()
    if faults:
        raise RuleErrors(faults)
    return [rule for rule in rules if rule.maturity == "stable"]


def read_findings(lake: Lake) -> list[dict[str, Any]]:
    """Return the open findings with the producers' ids of the events that they cite."""
    with lake.connect(comments=False) as con:
        found: list[dict[str, Any]] = con.sql(EVIDENCE).to_arrow_table().to_pylist()
    return found


def as_report(scored: Scored) -> str:
    """Return the table, and below it everything that went wrong, one line each."""
    wrong = [str(one) for one in scored.verdict.mismatches]
    failed = [f"failed: {error}" for error in scored.failed]
    took = f"{scored.events:,} events, {scored.plantings} plantings, {scored.rules} rules"
    parts = [scores_as_text(scored.verdict.scores), *wrong, *failed]
    return "\n".join([*parts, f"{took} in {scored.elapsed_s:.0f} s"])


def as_markdown(scored: Scored) -> str:
    """Return the table for a README."""
    return scores_as_markdown(scored.verdict.scores)


def as_json_text(scored: Scored) -> str:
    """Return the scores and everything that went wrong, for a program."""
    scores = [
        asdict(one) | {"missed": one.missed, "precision": one.precision, "recall": one.recall}
        for one in scored.verdict.scores
    ]
    wrong = [str(mismatch) for mismatch in scored.verdict.mismatches]
    about = {"events": scored.events, "plantings": scored.plantings, "rules": scored.rules}
    return json.dumps(about | {"scores": scores, "wrong": wrong, "failed": list(scored.failed)})

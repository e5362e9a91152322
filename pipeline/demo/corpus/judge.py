"""What the rules said of a corpus, held against the truth: found, missed, false.

Pure: takes plantings and findings as plain data, reads no lake.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from pipeline.demo.corpus.plan import Planting

NAME = re.compile(r"(?<![A-Za-z0-9])x\d{4}(?![A-Za-z0-9])")
"""Every name that a planting made up begins with its own; it says nothing of what it is."""

Finding = Mapping[str, Any]


@dataclass(frozen=True)
class Score:
    """One rule against the truth.

    `planted` plantings had to be found by it, `found` were.  False findings are
    counted once per planting on which neither truth nor collateral allows the
    rule, and once per finding about ordinary traffic.
    """

    code: str
    rule_id: str
    planted: int
    found: int
    false_on_twins: int
    false_elsewhere: int
    false_on_ordinary: int

    @property
    def missed(self) -> int:
        """Return how many plantings it did not find."""
        return self.planted - self.found

    @property
    def precision(self) -> float | None:
        """Return true among all that it said; None where it said nothing."""
        said = self.found + self.false_on_twins + self.false_elsewhere + self.false_on_ordinary
        return self.found / said if said else None

    @property
    def recall(self) -> float | None:
        """Return found among all that was planted; None where nothing was."""
        return self.found / self.planted if self.planted else None


@dataclass(frozen=True)
class Mismatch:
    """One thing that a rule missed, or said without reason; `planting` None is ordinary traffic."""

    code: str
    why: str
    planting: Planting | None
    entity: str = ""

    def __str__(self) -> str:
        """Return a line for the engineer who looks into it."""
        one = self.planting
        where = f"{one.name} {one.code} {one.kind}" if one else "ordinary traffic"
        return f"{self.code} {self.why}: {where} {self.entity}".rstrip()


@dataclass(frozen=True)
class Verdict:
    """All scores, in the order of the codes, and what went wrong one by one."""

    scores: tuple[Score, ...]
    mismatches: tuple[Mismatch, ...]


def judge_findings(
    plantings: Sequence[Planting], findings: Iterable[Finding], rules: Mapping[str, str]
) -> Verdict:
    """Return how well each rule did; `rules` are the codes that ran, with their ids.

    A finding has `rule_code`, `entity`, `identity` and `event_ids`.  It belongs
    to every planting whose event it cites, or whose name its entity or identity
    bears.
    """
    by_event = {event: planting for planting in plantings for event in planting.event_ids}
    by_name = {planting.name: planting for planting in plantings}
    said: dict[str, dict[str, str]] = {}
    strangers: list[Mismatch] = []
    for finding in findings:
        code, entity = finding["rule_code"], str(finding["entity"])
        owners = _owners(finding, by_event, by_name)
        for owner in owners:
            said.setdefault(code, {})[owner] = entity
        if not owners:
            strangers.append(Mismatch(code, "false", None, entity))
    mismatches = list(strangers)
    scores = []
    for code in sorted({*rules, *said, *(one.code for one in strangers)}):
        on = said.get(code, {})
        wanted = [one for one in plantings if code in one.must]
        false = [by_name[n] for n in on if code not in by_name[n].must | by_name[n].may]
        mismatches += [Mismatch(code, "missed", one) for one in wanted if one.name not in on]
        mismatches += [Mismatch(code, "false", one, on[one.name]) for one in false]
        scores.append(_score(code, rules.get(code, ""), (wanted, on, false), strangers))
    return Verdict(tuple(scores), tuple(mismatches))


def _owners(
    finding: Finding, by_event: Mapping[str, Planting], by_name: Mapping[str, Planting]
) -> set[str]:
    owners = {by_event[event].name for event in finding["event_ids"] if event in by_event}
    if owners:
        return owners
    text = f"{finding['entity']} {finding.get('identity') or ''}"
    return {name for name in NAME.findall(text) if name in by_name}


def _score(
    code: str,
    rule_id: str,
    seen: tuple[Sequence[Planting], Collection[str], Sequence[Planting]],
    strangers: Sequence[Mismatch],
) -> Score:
    wanted, on, false = seen
    # A twin of this very detection, or any other planting: both must be left in peace.
    on_twins = sum(one.twin for one in false)
    return Score(
        code=code,
        rule_id=rule_id,
        planted=len(wanted),
        found=sum(one.name in on for one in wanted),
        false_on_twins=on_twins,
        false_elsewhere=len(false) - on_twins,
        false_on_ordinary=Counter(one.code for one in strangers)[code],
    )


HEAD = (
    *("code", "rule", "planted", "found", "missed"),
    *("false on twins", "false on other stories", "false on ordinary", "precision", "recall"),
)


def table(scores: Iterable[Score]) -> list[tuple[str, ...]]:
    """Return the rows below HEAD as text; a ratio of nothing is a dash."""
    return [
        (
            one.code,
            one.rule_id,
            *(str(n) for n in (one.planted, one.found, one.missed)),
            *(str(n) for n in (one.false_on_twins, one.false_elsewhere, one.false_on_ordinary)),
            _ratio(one.precision),
            _ratio(one.recall),
        )
        for one in scores
    ]


def _ratio(value: float | None) -> str:
    # Rounded down: 1.00 means all of them.
    return "-" if value is None else f"{int(value * 100) / 100:.2f}"


def scores_as_markdown(scores: Iterable[Score]) -> str:
    """Return the table for a README."""
    rows = [HEAD, tuple("---" for _ in HEAD), *table(scores)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def scores_as_text(scores: Iterable[Score]) -> str:
    """Return the table for a terminal, columns aligned."""
    rows = [HEAD, *table(scores)]
    widths = [max(len(row[place]) for row in rows) for place in range(len(HEAD))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if place < 2 else cell.rjust(width)  # noqa: PLR2004 - two of text
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )

"""Where each story of the catalogue stands in a stream, and what is true of it.

Takes a seed, a stretch of time and how often each kind is planted; leaves the
plantings with their events, and the background that gives rules over months
something to look back on.  The same arguments give the same plantings.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

from pipeline.demo.columns import SECOND
from pipeline.demo.company import INDEX_AUDIENCE, INDEX_SCOPES, INDEX_TOOL
from pipeline.demo.corpus import bt, go, ls, pc, sp, tr  # noqa: F401 - they fill the catalogue
from pipeline.demo.corpus.catalogue import CATALOGUE, Story
from pipeline.demo.corpus.folder import Files, registry_files
from pipeline.demo.corpus.plot import CLASS, DAY, HOUR, Plot

TAIL_S = 3 * HOUR
"""Stories end so long before the stream: rules about what is absent wait for it."""
LATE, REPEATED, UNTRACED = 0.08, 0.03, 0.25
BACKGROUND_DAYS = 120


@dataclass(frozen=True)
class Planting:
    """One story or twin among the traffic."""

    code: str
    kind: str
    twin: bool
    must: frozenset[str]
    may: frozenset[str]
    plot: Plot

    @property
    def name(self) -> str:
        """Return the word that all its own names begin with."""
        return self.plot.name

    @property
    def event_ids(self) -> frozenset[str]:
        """Return the producer's ids of its events; no other event bears them."""
        return frozenset(event["event_id"] for _, event, _ in self.plot.events)

    def as_row(self) -> dict[str, Any]:
        """Return the truth of it as plain data."""
        return {
            "name": self.name,
            "code": self.code,
            "kind": self.kind,
            "twin": self.twin,
            "must_fire": sorted(self.must),
            "may_fire": sorted(self.may),
            "event_ids": sorted(self.event_ids),
        }


@dataclass(frozen=True)
class Corpus:
    """All plantings, and the quiet background of the months before."""

    plantings: tuple[Planting, ...]
    background: tuple[Plot, ...]

    @property
    def plots(self) -> tuple[Plot, ...]:
        """Return whatever has events."""
        return (*self.background, *(planting.plot for planting in self.plantings))

    def registry(self) -> Files:
        """Return the registry that knows the plantings, file name to content."""
        return registry_files(self.plots)


def plant_corpus(begin: int, end: int, seed: int, places: int) -> Corpus:
    """Plant every kind of every story so many times between two times (microseconds)."""
    rng = random.Random(f"corpus {seed}")
    wanted = [(one, kind) for one in CATALOGUE for kind in one.kinds for _ in range(places)]
    spots = [begin + (end - TAIL_S * SECOND - begin) * n // len(wanted) for n in range(len(wanted))]
    rng.shuffle(spots)
    plantings = [
        _plant(one, kind, Plot(f"x{number:04d}", spot // SECOND * SECOND, end=end), seed)
        for number, ((one, kind), spot) in enumerate(zip(wanted, spots, strict=True))
    ]
    return Corpus(tuple(plantings), _background(end))


def _plant(one: Story, kind: str, plot: Plot, seed: int) -> Planting:
    plot.kind = kind
    plot.dice = random.Random(f"{seed} {plot.name}")
    one.tell(plot)
    if not plot.keeps_order:
        _disturb(plot)
    twin = kind in one.twins
    must = frozenset() if twin else frozenset({one.code, *plot.must})
    may = frozenset(plot.may - must - {one.code})
    return Planting(one.code, kind, twin, must, may, plot)


def _disturb(plot: Plot) -> None:
    """Let some events come late, some twice, and some producers not know of traces."""
    for _, event, _ in list(plot.events):
        happened = (event["event_time"] - plot.begins) // SECOND
        if plot.chance(LATE):
            plot.delay(event, happened + plot.some(30, 900))
        if plot.chance(REPEATED):
            plot.repeat(event, happened + plot.some(5, 600))
    if plot.chance(UNTRACED):
        for _, event, _ in plot.events:
            event["trace_id"] = None
    plot.dice.shuffle(plot.events)


def _background(end: int) -> tuple[Plot, ...]:
    """Return one harmless task a day for months, so that the sources were alive all along."""
    first = Plot("x", end, end=end)
    first.note("classes", "classes", {"version": "1", "description": "Planted agents."}, CLASS)
    first.sign(CLASS)
    return (first, *(_quiet_day(end, days) for days in range(2, BACKGROUND_DAYS)))


def _quiet_day(end: int, days: int) -> Plot:
    plot = Plot(f"x-{days}", end - days * DAY * SECOND, end=end)
    token = plot.client_token(
        0, "indexer", INDEX_SCOPES, lives_s=1800, audience=list(INDEX_AUDIENCE)
    )
    call = plot.call(60, token, INDEX_TOOL, tool_server=INDEX_AUDIENCE[0])
    plot.seen_by_runtime(60, call)
    plot.vault(90, "read", "kv/app/0", "analyst", consumers=["analyst"])
    return plot

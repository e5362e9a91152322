"""A deterministic stream of a small company's events, with planted stories.

Takes a number of events, a seed and a `now`; leaves slices of Arrow batches in
contract shape, in the order in which they would arrive: slightly shuffled, some
late, a few twice.  Any size in constant memory; no Python object per event.
The same arguments give the same bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import product
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from pipeline.demo.calls import SECRETS, make_calls, make_secret_events
from pipeline.demo.columns import SECOND, Ints, take_rows
from pipeline.demo.corpus.plan import Corpus, plant_corpus
from pipeline.demo.credentials import Slice, closing_events, issuing_events, make_credentials
from pipeline.demo.script import Script, event_batch
from pipeline.demo.stories import Planted, plant_stories
from pipeline.errors import ConfigError
from pipeline.events.schema import FAMILIES, contract_schema

if TYPE_CHECKING:
    from collections.abc import Iterator

SLICE_EVENTS = 16_000
EVENTS_PER_TASK = 18
EVENTS_PER_HOUR = 5_000
LEAST_HOURS, MOST_HOURS = 8, 24 * 14
LEAST_EVENTS = 600
LEAST_PER_PLACE = 5_000
# A task may go on for 1,300 s after its start; the stream ends a minute before `now`.
TAIL = 1_400 * SECOND
REPEATED, LATE = 0.003, 0.01
FOREVER = np.iinfo(np.int64).max


@dataclass(frozen=True)
class Arrivals:
    """Events of one family in arrival order; `key` is equal for events of one task."""

    family: str
    batch: pa.RecordBatch
    key: Ints


@dataclass(frozen=True)
class Stream:
    """What to generate: how many events, from which seed, ending when (UTC)."""

    events: int
    seed: int
    now: datetime
    places: int = 0
    """How often each story of the corpus is planted; 0 for the five of the demo instead."""

    def __post_init__(self) -> None:
        """Refuse what cannot hold the stories."""
        least = LEAST_PER_PLACE * self.places or LEAST_EVENTS
        if self.events < least:
            raise ConfigError(f"--events {self.events}: the stories need at least {least}")

    @property
    def end(self) -> int:
        """Return `now` in microseconds."""
        return int(self.now.astimezone(UTC).timestamp()) * SECOND

    @property
    def begin(self) -> int:
        """Return where the stream starts: small streams fill eight hours, no more than 14 days."""
        hours = min(max(self.events / EVENTS_PER_HOUR, LEAST_HOURS), MOST_HOURS)
        return self.end - int(hours * 3600) * SECOND

    def truth(self) -> list[Planted]:
        """Return the planted stories and twins, with what must fire for each."""
        return plant_stories(self.begin, self.end)

    def corpus(self) -> Corpus:
        """Return the plantings of the corpus, with the registry that knows them."""
        return plant_corpus(self.begin, self.end, self.seed, self.places)

    def scripts(self) -> list[Script]:
        """Return whatever has planted events."""
        if self.places:
            return list(self.corpus().plots)
        return [planted.script for planted in self.truth()]


def generate(stream: Stream) -> Iterator[list[Arrivals]]:
    """Yield exactly `stream.events` events, slice by slice, each in arrival order."""
    slices = -(-stream.events // SLICE_EVENTS)
    edges = np.linspace(stream.begin, stream.end - TAIL, slices + 1).astype(np.int64)
    sizes = np.diff(np.linspace(0, stream.events, slices + 1).astype(np.int64))
    carried = {family: _nothing(family) for family in FAMILIES}
    planted = _planted_by_slice(stream, edges)
    for number, size in enumerate(sizes):
        last = number == slices - 1
        rng = np.random.default_rng([stream.seed, number])
        begin, end = int(edges[number]), int(edges[number + 1])
        story = planted[number]
        own = int(size) - sum(len(part.arrival) for part in story)
        fresh = [*_ordinary(rng, Slice(begin, end, own // EVENTS_PER_TASK), stream, own), *story]
        arrived = []
        for family in FAMILIES:
            parts = [carried[family], *(part for part in fresh if part.family == family)]
            ready, carried[family] = _arrive(parts, FOREVER if last else end)
            arrived.append(ready)
        yield arrived


@dataclass(frozen=True)
class _Timed:
    """Events of one family with the time at which each arrives."""

    family: str
    batch: pa.RecordBatch
    arrival: Ints
    key: Ints


def _nothing(family: str) -> _Timed:
    batch = pa.RecordBatch.from_pylist([], schema=contract_schema(family))
    return _Timed(family, batch, np.empty(0, np.int64), np.empty(0, np.int64))


def _ordinary(rng: np.random.Generator, span: Slice, stream: Stream, count: int) -> list[_Timed]:
    creds = make_credentials(rng, span)
    tokens = issuing_events(rng, creds)
    token_task = creds.task[creds.seen_issued()]
    closing = closing_events(rng, creds, 0.25)
    reads = count // 60
    secrets = make_secret_events(rng, span, stream.end, reads)
    repeats = int(count * REPEATED)
    calls_wanted = count - tokens.num_rows - closing.num_rows - SECRETS - reads - repeats
    calls = make_calls(rng, creds, span, calls_wanted)
    late = rng.random(calls.num_rows) < LATE
    parts = [
        _timed(rng, "token_event", tokens, token_task, 0),
        _timed(rng, "token_event", closing, np.zeros(closing.num_rows, np.int64), 0),
        _timed(rng, "secret_event", secrets, np.arange(secrets.num_rows), 0),
        _timed(rng, "tool_call", calls, rng.integers(0, 1 << 30, calls.num_rows), late * 600),
    ]
    return [*parts, _repeated(rng, parts[-1], repeats)]


def _timed(
    rng: np.random.Generator, family: str, batch: pa.RecordBatch, key: Ints, late_s: Ints | int
) -> _Timed:
    happened = batch["event_time"].cast(pa.int64()).to_numpy(zero_copy_only=False)
    lag = rng.exponential(0.4, len(happened)) + rng.random(len(happened)) * late_s
    return _Timed(family, batch, happened + (lag * SECOND).astype(np.int64), key)


def _repeated(rng: np.random.Generator, part: _Timed, count: int) -> _Timed:
    """Return some events once more, byte for byte, as at-least-once shippers do."""
    rows = rng.choice(len(part.arrival), count, replace=False)
    again = part.arrival[rows] + rng.integers(SECOND, 60 * SECOND, count)
    return _Timed(part.family, take_rows(part.batch, rows), again, part.key[rows])


def _arrive(parts: list[_Timed], until: int) -> tuple[Arrivals, _Timed]:
    """Return what arrives up to a time, in order, and what is still on its way."""
    family = parts[0].family
    batch = pa.concat_batches([part.batch for part in parts])
    arrival = np.concatenate([part.arrival for part in parts])
    key = np.concatenate([part.key for part in parts])
    order = np.argsort(arrival, kind="stable")
    cut = int(np.searchsorted(arrival[order], until, "right"))
    now, later = order[:cut], order[cut:]
    rest = _Timed(family, take_rows(batch, later), arrival[later], key[later])
    return Arrivals(family, take_rows(batch, now), key[now]), rest


def _planted_by_slice(stream: Stream, edges: Ints) -> list[list[_Timed]]:
    """Return the planted events by the slice in which they arrive; older ones in the first."""
    told = [
        (family, event, arrival, number)
        for number, script in enumerate(stream.scripts())
        for family, event, arrival in script.events
    ]
    found: list[list[_Timed]] = [[] for _ in edges[1:]]
    place = np.searchsorted(edges[1:-1], [arrival for _, _, arrival, _ in told], "right")
    for number, (timed, family) in enumerate(product(found, FAMILIES)):
        mine = [told[at] for at in np.flatnonzero(place == number // len(FAMILIES))]
        mine = [one for one in mine if one[0] == family]
        batch = event_batch(family, [event for _, event, _, _ in mine])
        arrivals = np.array([arrival for _, _, arrival, _ in mine], np.int64)
        keys = np.array([key for _, _, _, key in mine], np.int64)
        timed.append(_Timed(family, batch, arrivals, keys))
    return found


def default_now() -> datetime:
    """Return the present full minute, UTC."""
    return datetime.now(UTC).replace(second=0, microsecond=0)

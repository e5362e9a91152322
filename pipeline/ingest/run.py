"""The ingest loop: poll, adapt, buffer, commit, tell Kafka.

Takes slices from a source; leaves every record once, as rows of its tables or
as a dead letter, with its offset in the same commit.  The sink says where a
partition resumes.  Bad data never stops the loop; a source or a registry that
is down makes it wait (or end, when reading once); a second owner of a partition
ends it.
"""

from __future__ import annotations

import contextlib
import gc
import signal
import threading
import time
from collections import Counter, deque
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from pipeline.errors import SourceError
from pipeline.ingest.batch import (
    ANCHOR,
    Buffers,
    Limits,
    Sink,
    Slice,
    TopicPartition,
    merge_slices,
)
from pipeline.ingest.consumer import KafkaSource, Source
from pipeline.ingest.files import FileSource
from pipeline.ingest.recognise import AUTO
from pipeline.ingest.schema_registry import RegistryClient
from pipeline.ingest.sources import Context, load_adapter
from pipeline.ingest.take import take_slice
from pipeline.ingest.tally import Tally
from pipeline.ingest.writer import Writer
from pipeline.log import get_log

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
    from pathlib import Path

    from pipeline.config import IngestConfig, KafkaConfig
    from pipeline.ingest.writer import Stored

log = get_log(__name__)

POLL_S = 0.2
PATIENCE_S = 1.0
"""Seconds to wait for the writer before reading is paused: pausing throws fetched data away."""
COLLECT_S = 10.0
"""Seconds after which garbage is collected though nothing was flushed."""
GATHER_RECORDS = 24_000
GATHER_BYTES = 16 * 1024 * 1024
GATHER_S = 0.2
"""How much is read before it is decoded: a slice of 500 records costs four times one of
10,000, and a poll holds a slice of each partition."""
RETRY_S = 5.0
"""Seconds between two tries while a schema registry is down."""


@dataclass(frozen=True)
class IngestReport:
    """What one run has done so far."""

    records: int = 0
    """Records stored, as rows or as dead letters."""
    rows: Mapping[str, int] = field(default_factory=dict)
    """New rows by table."""
    flushes: int = 0
    lag: Mapping[TopicPartition, int] = field(default_factory=dict)
    """Records of each partition that are not stored yet, as far as known."""
    elapsed_s: float = 0.0
    notes: Sequence[str] = ()
    """What a person should know, such as an empty file."""
    tally: Tally = field(default_factory=Tally)
    """Which adapter took how many records, and what says nothing that the contract holds."""
    stopped: bool = False
    """Ended by the stop signal."""

    @property
    def dead_letters(self) -> int:
        """Return how many records could not be taken."""
        return self.rows.get(ANCHOR, 0)


@dataclass(frozen=True)
class Control:
    """How a run begins, ends and tells the time."""

    once: bool = False
    """End with what is there now."""
    stop: threading.Event = field(default_factory=threading.Event)
    on_progress: Callable[[IngestReport], None] = lambda _: None
    """Called after each commit, in the loop's thread."""
    clock: Callable[[], datetime] = lambda: datetime.now(UTC)


def ingest_topics(
    kafka: KafkaConfig,
    sink: Sink,
    *,
    limits: IngestConfig | None = None,
    tenant: str = "default",
    control: Control | None = None,
) -> IngestReport:
    """Read topics into the sink until stopped, or with `control.once` to their present end.

    Raises:
        SourceError: the broker does not answer (only when reading once), an adapter is
            unknown or at fault, a topic is missing, or a topic was made anew under the
            lake's offsets.
        FencedError: another process stores the same partitions.
        LakeError: the sink failed; what is not stored is read again next time.
    """
    control = control or Control()
    for adapter in {*kafka.topics.values(), *(limits.sources if limits else ())} - {AUTO}:
        load_adapter(adapter)  # one that is missing would only be met with its first record
    registry = RegistryClient(kafka.registry_url) if kafka.registry_url else None
    source = KafkaSource(kafka, once=control.once, should_stop=control.stop.is_set)
    sizes = (
        Limits(limits.batch_rows, limits.batch_bytes, limits.batch_age_s) if limits else Limits()
    )
    own = limits.sources if limits else ()
    with contextlib.closing(registry) if registry else contextlib.nullcontext():
        context = Context(tenant, registry, adapters=own)
        return Loop(source, sink, sizes, context, control).run()


def ingest_files(
    paths: Sequence[str | Path],
    *,
    adapter: str,
    sink: Sink,
    context: Context | None = None,
    now: datetime | None = None,
) -> IngestReport:
    """Read files into the sink, in the order given; the same content again is a no-op.

    `adapter` is a source, a YAML file of the user's, or `auto`: told by the content,
    record by record.

    Raises:
        SourceError: a file is not there or cannot be opened; nothing is read then.
        LakeError: the sink failed.
    """
    moment = now or datetime.now(UTC)
    context = context or Context()
    source = FileSource(paths, adapter, context.adapters)
    control = Control(once=True, clock=lambda: moment)
    return Loop(source, sink, Limits(), context, control).run()


class Loop:
    """One run over one source; the source tells it when partitions come and go."""

    def __init__(
        self, source: Source, sink: Sink, limits: Limits, context: Context, control: Control
    ) -> None:
        self._source, self._sink, self._context, self._control = source, sink, context, control
        self._buffers = Buffers(limits)
        self._gather = Limits(
            min(GATHER_RECORDS, limits.max_rows), min(GATHER_BYTES, limits.max_bytes)
        )
        self._pending: deque[Slice] = deque()
        self._gathering_since: datetime | None = None
        self._starts: dict[TopicPartition, int] = {}
        self._next: dict[TopicPartition, int] = {}
        self._stored: dict[TopicPartition, int] = {}
        self._retry_at: datetime | None = None
        self._idle = True
        self._is_closing = False
        self._records = self._flushes = 0
        self._rows: Counter[str] = Counter()
        self._tally = Tally()
        self._began = self._collected = time.monotonic()

    def run(self) -> IngestReport:
        """Read until the end or the stop; everything that was read to the end is stored."""
        with _collecting_at_flush(), contextlib.closing(Writer(self._sink)) as writer:
            self._writer = writer
            try:
                self._source.subscribe(self)
                while not self._is_over():
                    self._turn()
                self._work_off()
                self._drain()
                return self.report()
            finally:
                self._is_closing = True
                self._source.close()

    def report(self) -> IngestReport:
        """Return what has been done so far."""
        return IngestReport(
            records=self._records,
            rows=dict(self._rows),
            flushes=self._flushes,
            lag=self._source.lag(self._stored),
            elapsed_s=time.monotonic() - self._began,
            notes=tuple(self._source.notes),
            tally=self._tally,
            stopped=self._control.stop.is_set(),
        )

    def _is_over(self) -> bool:
        if self._control.stop.is_set():
            return True
        return self._control.once and not self._pending and self._source.finished()

    def _turn(self) -> None:
        self._settle()
        if time.monotonic() - self._collected > COLLECT_S:
            self._collect()
        is_clear = not self._is_ripe() or self._work_off()
        is_flushed = not self._buffers.is_due(self._control.clock()) or self._flush(PATIENCE_S)
        if is_clear and is_flushed:
            self._source.resume()
        else:
            self._source.pause()
        self._idle = True
        for records in self._source.poll(POLL_S):
            self._idle = False
            self._receive(records)

    def _is_ripe(self) -> bool:
        """Return whether what is pending is worth decoding, or nothing more comes for now."""
        since = self._gathering_since
        return (
            self._idle
            or since is None
            or self._control.clock() - since >= timedelta(seconds=GATHER_S)
            or sum(len(item.offsets) for item in self._pending) >= self._gather.max_rows
            or sum(item.size for item in self._pending) >= self._gather.max_bytes
        )

    def _work_off(self) -> bool:
        """Move what is pending into the buffers; return False while something is down."""
        if self._retry_at and self._control.clock() < self._retry_at:
            return False
        self._pending = deque(merge_slices(self._pending))
        self._gathering_since = None
        while self._pending:
            try:
                self._take(self._pending[0])
            except SourceError as error:
                if self._control.once:
                    raise
                log.warning("waiting, nothing is lost", reason=error, retry_s=RETRY_S)
                self._retry_at = self._control.clock() + timedelta(seconds=RETRY_S)
                return False
            self._pending.popleft()
        self._retry_at = None
        return True

    def _take(self, records: Slice) -> None:
        now = self._control.clock()
        rows = take_slice(records, self._context, now)
        self._buffers.add(records, rows.tables, now, rows.tally)
        if self._buffers.is_due(now):
            self._flush(0)

    def _receive(self, records: Slice) -> None:
        place, first = records.place, records.offsets[0]
        due = self._next.get(place)
        if due is None:
            return  # another consumer's by now
        start = self._starts[place]
        if first < start:
            raise SourceError(
                f"{place.topic}/{place.partition}: offset {first} came where {start} is next: the "
                "topic was made anew or cut back. Use another topic name, or another lake"
            )
        if first > due == start > 0:
            log.warning("records are gone from the broker", place=place, since=due, next=first)
        fresh = records.behind(due)
        if fresh.offsets:
            self._next[place] = fresh.offsets[-1] + 1
            self._gathering_since = self._gathering_since or self._control.clock()
            self._pending.append(fresh)

    def _flush(self, timeout_s: float) -> bool:
        """Hand the buffers to the writer; return False when it has no room."""
        if not self._writer.has_room(timeout_s):
            return False
        flush = self._buffers.take()
        if flush is None:
            self._writer.give_back()
        else:
            self._writer.put(flush)
            self._collect()
        return True

    def _collect(self) -> None:
        gc.collect()
        self._collected = time.monotonic()

    def _drain(self) -> None:
        while not self._flush(PATIENCE_S):
            self._settle()
        self._writer.wait()
        self._settle()

    def _settle(self) -> None:
        for stored in self._writer.stored():
            self._count(stored)
        self._writer.check()

    def _count(self, stored: Stored) -> None:
        offsets = stored.flush.offsets
        self._stored.update(offsets)
        self._records += stored.flush.records
        self._flushes += 1
        self._rows.update(stored.written)
        self._tally.add(stored.flush.tally)
        self._source.hint(offsets)
        self._control.on_progress(self.report())

    def assigned(self, places: Collection[TopicPartition]) -> Mapping[TopicPartition, int]:
        """Resume each partition behind what the anchor table stores."""
        found = self._sink.offsets(ANCHOR, list(places)) if places else {}
        self._stored.update(found)
        starts = {place: last + 1 for place, last in found.items()}
        for place, start in starts.items():
            # The first start counts: a rebalance may leave older records in flight.
            self._starts.setdefault(place, start)
        self._next.update(starts)
        return starts

    def revoked(self, places: Collection[TopicPartition]) -> None:
        """Store what is held, then forget the partitions."""
        if not self._is_closing:
            self._work_off()
            self._drain()
        self.lost(places)

    def lost(self, places: Collection[TopicPartition]) -> None:
        """Forget the partitions and what is held of them."""
        gone = set(places)
        self._buffers.drop(gone)
        self._pending = deque(item for item in self._pending if item.place not in gone)
        for place in gone:
            self._next.pop(place, None)


@contextlib.contextmanager
def _collecting_at_flush() -> Iterator[None]:
    # Automatic collections walk every message list: up to 40 % of the speed.
    was_enabled = gc.isenabled()
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        gc.unfreeze()
        if was_enabled:
            gc.enable()


@contextlib.contextmanager
def stop_on_signals() -> Iterator[threading.Event]:
    """Give an event that SIGTERM and SIGINT set; a second SIGINT interrupts at once."""
    stop = threading.Event()

    def ask(number: int, _frame: object) -> None:
        if stop.is_set() and number == signal.SIGINT:
            raise KeyboardInterrupt
        stop.set()

    before = {number: signal.signal(number, ask) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

"""What waits to be committed, kept apart by partition.

Pure: reads no clock and does no I/O.  A buffer never holds an offset twice and
never mixes partitions, so that those lost in a rebalance can be dropped alone.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple, Protocol

import pyarrow as pa

from pipeline.ingest.tally import Tally

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence
    from datetime import datetime

ANCHOR = "dead_letters"
"""The table that is committed last and decides where a partition resumes.

One for all topics: it gets the offsets of every flush, with rows or without.
The other tables get theirs only with rows; they drop what they already hold
when a crash fell between their commit and this one.
"""


class TopicPartition(NamedTuple):
    """One partition of one topic, or one file (`file:...`, partition 0)."""

    topic: str
    partition: int


class Sink(Protocol):
    """Where rows go, with their offsets in the same commit; the lake is one."""

    def offsets(
        self, table: str, partitions: Collection[TopicPartition]
    ) -> Mapping[TopicPartition, int]:
        """Return the last stored offset of each partition, -1 where there is none.

        Called when partitions are assigned; from then on the sink takes a change of
        these offsets by somebody else for a second owner.
        """

    def append(self, table: str, rows: pa.Table, offsets: Mapping[TopicPartition, int]) -> int:
        """Commit rows and last offsets together; return how many rows were new.

        Rows at or below the stored offset of their partition are dropped.  Raises
        FencedError when another writer has moved one of the partitions.
        """


@dataclass(frozen=True)
class Limits:
    """When buffers are due; whichever is reached first."""

    max_rows: int = 30_000
    """Rows over all partitions and tables."""
    max_bytes: int = 64 * 1024 * 1024
    """Bytes of raw values over all partitions."""
    max_age_s: float = 2.0
    """Seconds since the oldest record came in."""


@dataclass(frozen=True)
class Slice:
    """Records of one partition in the order of their offsets, as a source hands them out."""

    place: TopicPartition
    adapter: str
    values: Sequence[bytes | None]
    offsets: Sequence[int]
    faults: Mapping[int, tuple[str, str]] = field(default_factory=dict)
    """Index of a record that the source itself could not read; stage and reason."""
    instance: str | None = None
    """The cluster, vault or gateway that the topic is of, where it was configured."""
    received_at: datetime | None = None
    """When the records had come at the latest: a file's last change; None is now."""

    @cached_property
    def size(self) -> int:
        """Bytes of the raw values."""
        return sum(len(value) for value in self.values if value)

    def behind(self, offset: int) -> Slice:
        """Return the part from this offset on; usually that is all of it."""
        if self.offsets[0] >= offset:
            return self
        skipped = bisect_left(self.offsets, offset)
        faults = {at - skipped: why for at, why in self.faults.items() if at >= skipped}
        return replace(
            self, values=self.values[skipped:], offsets=self.offsets[skipped:], faults=faults
        )


@dataclass(frozen=True)
class Flush:
    """What one commit per table holds."""

    tables: Mapping[str, pa.Table]
    offsets: Mapping[TopicPartition, int]
    records: int
    tally: Tally = field(default_factory=Tally)


def merge_slices(slices: Iterable[Slice]) -> list[Slice]:
    """Return one slice per partition; slices of a partition must come in order."""
    groups: dict[TopicPartition, list[Slice]] = {}
    for item in slices:
        groups.setdefault(item.place, []).append(item)
    return [group[0] if len(group) == 1 else _joined(group) for group in groups.values()]


def _joined(group: Sequence[Slice]) -> Slice:
    faults: dict[int, tuple[str, str]] = {}
    first = 0
    for item in group:
        faults |= {first + at: fault for at, fault in item.faults.items()}
        first += len(item.offsets)
    values = [value for item in group for value in item.values]
    offsets = [offset for item in group for offset in item.offsets]
    return replace(group[0], values=values, offsets=offsets, faults=faults)


@dataclass
class _Buffer:
    since: datetime
    last_offset: int = -1
    records: int = 0
    rows: int = 0
    size: int = 0
    tables: dict[str, list[pa.RecordBatch]] = field(default_factory=dict)
    tally: Tally = field(default_factory=Tally)


class Buffers:
    """One buffer per partition, taken together."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._buffers: dict[TopicPartition, _Buffer] = {}

    def add(
        self,
        records: Slice,
        rows: Mapping[str, Sequence[pa.RecordBatch]],
        now: datetime,
        tally: Tally | None = None,
    ) -> None:
        """Keep the rows of a slice; records that led to no row still move the offset."""
        buffer = self._buffers.setdefault(records.place, _Buffer(now))
        buffer.last_offset = max(buffer.last_offset, records.offsets[-1])
        buffer.records += len(records.offsets)
        buffer.size += records.size
        for table, batches in rows.items():
            buffer.tables.setdefault(table, []).extend(batches)
            buffer.rows += sum(batch.num_rows for batch in batches)
        if tally:
            buffer.tally.add(tally)

    def is_due(self, now: datetime) -> bool:
        """Return whether a limit is reached."""
        if not self._buffers:
            return False
        held = self._buffers.values()
        age = now - min(buffer.since for buffer in held)
        return (
            sum(max(buffer.rows, buffer.records) for buffer in held) >= self._limits.max_rows
            or sum(buffer.size for buffer in held) >= self._limits.max_bytes
            # A clock that was set back must not keep rows waiting.
            or not timedelta(0) <= age < timedelta(seconds=self._limits.max_age_s)
        )

    def drop(self, places: Collection[TopicPartition]) -> None:
        """Forget what waits for these partitions: another consumer reads them now."""
        for place in places:
            self._buffers.pop(place, None)

    def take(self) -> Flush | None:
        """Return everything that waits and start empty; None if nothing does."""
        if not self._buffers:
            return None
        buffers, self._buffers = self._buffers, {}
        batches: dict[str, list[pa.RecordBatch]] = {}
        tally = Tally()
        for buffer in buffers.values():
            tally.add(buffer.tally)
            for table, rows in buffer.tables.items():
                batches.setdefault(table, []).extend(rows)
        return Flush(
            tables={table: pa.Table.from_batches(rows) for table, rows in batches.items()},
            offsets={place: buffer.last_offset for place, buffer in buffers.items()},
            records=sum(buffer.records for buffer in buffers.values()),
            tally=tally,
        )

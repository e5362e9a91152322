"""Exactly-once append: rows and the offsets that they end at, in one commit.

The stored offset is read and the rows are written through one and the same
handle.  A duplicate is therefore either seen by the check or loses the race for
the commit; there is no third way.  Application id: topic and partition.
"""

from __future__ import annotations

import json
import threading
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.errors import FencedError, LakeError
from pipeline.ingest.batch import TopicPartition
from pipeline.lake.delta import Conflict, DeltaFolder

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

_ATTEMPTS = 8
_PLACE = ["kafka_topic", "kafka_partition"]


def app_id(place: TopicPartition) -> str:
    """Return the application id under which a table keeps a partition's last offset."""
    return f"offset:{place.topic}/{place.partition}"


class Appender:
    """The writing side of one raw table.

    Remembers the offsets that it has seen: one that moved without its doing
    means that another writer owns the partition now.
    """

    def __init__(self, folder: DeltaFolder) -> None:
        self.folder = folder
        self._seen: dict[TopicPartition, int] = {}
        self._lock = threading.Lock()

    def offsets(self, places: Collection[TopicPartition]) -> dict[TopicPartition, int]:
        """Return the last stored offset of each partition, -1 if none, from a fresh handle.

        Asking makes the caller the owner: call it on assignment and not again.
        """
        with self._lock:
            self.folder.reopen()
            found = {place: self.folder.stored(app_id(place)) for place in places}
            self._seen.update(found)
            return found

    def forget(self, places: Collection[TopicPartition]) -> None:
        """Take the partitions as found at the next append: their owner may have changed."""
        with self._lock:
            self.folder.close()
            for place in places:
                self._seen.pop(place, None)

    def append(self, rows: pa.Table, offsets: Mapping[TopicPartition, int]) -> int:
        """Commit the rows that are not in yet; return their number.

        May be called again with the same batch, or with one that overlaps.

        Raises:
            FencedError: another writer moved one of the partitions.
            LakeError: a row lies outside the offsets, or the store failed.
        """
        extent = _extent(rows)
        _check(extent, offsets)
        with self._lock:
            for _ in range(_ATTEMPTS):
                try:
                    return self._try(rows, extent, offsets)
                except Conflict:
                    self.folder.reopen()
        raise LakeError(f"{self.folder.table.name}: lost {_ATTEMPTS} commits in a row to others")

    def _try(
        self,
        rows: pa.Table,
        extent: dict[TopicPartition, tuple[int, int]],
        offsets: Mapping[TopicPartition, int],
    ) -> int:
        self.folder.handle()
        stored = {place: self.folder.stored(app_id(place)) for place in offsets}
        self._refuse_zombie(stored)
        moved = {place: last for place, last in offsets.items() if last > stored[place]}
        fresh = _drop_stored(rows, extent, stored)
        if not moved:
            return 0
        if self.folder.widen():
            return self._try(rows, extent, offsets)
        ranges = {app_id(place): [stored[place] + 1, last] for place, last in moved.items()}
        self.folder.append(
            fresh,
            transactions={app_id(place): last for place, last in moved.items()},
            note={"offsets": json.dumps(ranges, sort_keys=True), "rows": str(fresh.num_rows)},
        )
        self._seen.update(moved)
        return int(fresh.num_rows)

    def _refuse_zombie(self, stored: dict[TopicPartition, int]) -> None:
        for place, offset in stored.items():
            if offset != self._seen.setdefault(place, offset):
                seen = self._seen.pop(place)
                raise FencedError(
                    f"{self.folder.table.name}: {place.topic}/{place.partition} stands at offset"
                    f" {offset}, not at {seen} where this process left it: another writer owns it,"
                    " so stop here"
                )


def _extent(rows: pa.Table) -> dict[TopicPartition, tuple[int, int]]:
    grouped = rows.group_by(_PLACE).aggregate([("kafka_offset", "min"), ("kafka_offset", "max")])
    return {
        TopicPartition(row["kafka_topic"], row["kafka_partition"]): (
            row["kafka_offset_min"],
            row["kafka_offset_max"],
        )
        for row in grouped.to_pylist()
    }


def _check(
    extent: dict[TopicPartition, tuple[int, int]], offsets: Mapping[TopicPartition, int]
) -> None:
    for place, (_, last) in extent.items():
        if last > offsets.get(place, -1):
            raise LakeError(
                f"a row of {place.topic}/{place.partition} has offset {last}, beyond its batch"
            )


def _drop_stored(
    rows: pa.Table,
    extent: dict[TopicPartition, tuple[int, int]],
    stored: dict[TopicPartition, int],
) -> pa.Table:
    for place, (first, _) in extent.items():
        if first <= stored[place]:
            mine = pc.and_(
                pc.equal(rows["kafka_topic"], place.topic),
                pc.equal(rows["kafka_partition"], pa.scalar(place.partition, pa.int32())),
            )
            old = pc.and_(mine, pc.less_equal(rows["kafka_offset"], stored[place]))
            rows = rows.filter(pc.invert(old))
    return rows

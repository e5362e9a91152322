"""Files as a source of slices.

The content decides what a file is, not its name: gzip, an Avro container, JSON
lines, or one JSON document (an object, an array, or a vendor's wrapper around
an array).  Only `.jsonl` and `.ndjson` are lines whatever stands in them.
A file is a topic of its own, named by its content, and a record's number is its
offset: the same content again adds nothing.
What can be read of a damaged file is read; the rest is one faulty record.
"""

from __future__ import annotations

import hashlib
from collections import deque
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.errors import SourceError
from pipeline.ingest.batch import Slice, TopicPartition
from pipeline.ingest.file_records import Faulty, Wrapping, read_records, wrapped_in
from pipeline.ingest.recognise import AUTO, recogniser
from pipeline.ingest.sources import load_adapter
from pipeline.log import get_log

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from pipeline.ingest.consumer import Listener

log = get_log(__name__)

MAX_RECORDS = 4_000
MAX_BYTES = 16 * 1024 * 1024


class FileSource:
    """Files and folders, one after the other."""

    def __init__(
        self, paths: Sequence[str | Path], adapter: str, own: tuple[str, ...] = ()
    ) -> None:
        self._wrapping = wrapping_of(adapter, own)
        self._adapter = adapter
        self._files = _files(paths)
        self._waiting: deque[tuple[TopicPartition, Path]] = deque()
        self._starts: Mapping[TopicPartition, int] = {}
        self._reading: tuple[TopicPartition, Iterator[bytes | Faulty]] | None = None
        self._offset = 0
        self._changed: datetime | None = None
        self._paused = False
        self.notes: list[str] = []

    def subscribe(self, listener: Listener) -> None:
        """Name every file by its content and ask where to start in each."""
        found = {place_of(path): path for path in self._files}
        self._waiting.extend(found.items())
        self._starts = listener.assigned(list(found))

    def poll(self, timeout_s: float) -> list[Slice]:
        """Return the next records of the current file, at once."""
        del timeout_s  # nothing to wait for
        if self._paused or self.finished():
            return []
        if self._reading is None:
            place, path = self._waiting.popleft()
            self._reading, self._offset = (place, read_records(path, self._wrapping)), 0
            with _opening(path):
                self._changed = datetime.fromtimestamp(path.stat().st_mtime, UTC)
        return self._next_slice(*self._reading)

    def _next_slice(self, place: TopicPartition, records: Iterator[bytes | Faulty]) -> list[Slice]:
        values: list[bytes | None] = []
        faults: dict[int, tuple[str, str]] = {}
        size = 0
        for record in islice(records, MAX_RECORDS):
            if isinstance(record, Faulty):
                faults[len(values)] = (record.stage, record.reason)
                record = record.raw  # noqa: PLW2901 - what is left of it
            values.append(record)
            size += len(record)
            if size >= MAX_BYTES:
                break
        first, self._offset = self._offset, self._offset + len(values)
        if not values:
            self._reading = None
            self._note_end(place, first)
            return []
        offsets = range(first, self._offset)
        whole = Slice(place, self._adapter, values, offsets, faults, received_at=self._changed)
        start = self._starts.get(place, 0)
        return [whole.behind(start)] if self._offset > start else []

    def _note_end(self, place: TopicPartition, records: int) -> None:
        name = place.topic.removeprefix("file:").rpartition("#")[0]
        if records == 0:
            self._note(f"{name}: no records in it")
        elif self._starts.get(place, 0) >= records:
            self._note(f"{name}: the lake has all {records} records of it already")

    def _note(self, text: str) -> None:
        self.notes.append(text)
        log.info(text)

    def finished(self) -> bool:
        """Return whether every file has been read."""
        return self._reading is None and not self._waiting

    def pause(self) -> None:
        """Read no further."""
        self._paused = True

    def resume(self) -> None:
        """Read on."""
        self._paused = False

    def hint(self, stored: Mapping[TopicPartition, int]) -> None:
        """Do nothing: nobody watches a file's lag."""

    def lag(self, stored: Mapping[TopicPartition, int]) -> dict[TopicPartition, int]:
        """Return nothing: how much is in a file is known at its end only."""
        del stored
        return {}

    def close(self) -> None:
        """Forget the file that is open."""
        self._reading = None


def wrapping_of(adapter: str, own: tuple[str, ...] = ()) -> Wrapping:
    """Return how documents list the records of an adapter, or of any where it is `auto`."""
    if adapter == AUTO:
        return recogniser(own).wrapping()
    return wrapped_in(load_adapter(adapter).WRAPPER)


def place_of(path: Path) -> TopicPartition:
    """Return the topic that stands for a file's content.

    A control character in a name must not reach a table or a log line.
    """
    with _opening(path), path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    name = "".join(char if char.isprintable() else "?" for char in path.name)
    return TopicPartition(f"file:{name}#{digest[:16]}", 0)


def _files(paths: Sequence[str | Path]) -> list[Path]:
    found: list[Path] = []
    for given in paths:
        path = Path(given)
        if path.is_dir():
            inside = sorted(item for item in path.rglob("*") if item.is_file())
            found += [item for item in inside if not item.name.startswith(".")]
        else:
            found.append(path)
    return found


class _opening:  # noqa: N801 - used as a statement
    """Turn what the system says of a file into a SourceError that names it."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, OSError):
            raise SourceError(f"{self._path}: {error.strerror or 'cannot be read'}") from error

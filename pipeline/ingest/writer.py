"""The thread that commits, so that reading and decoding go on meanwhile.

One flush is being written and at most one waits: a sink that is slower than the
source makes the loop wait, never the memory grow.
"""

from __future__ import annotations

import queue
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.events.schema import DEAD_LETTER_SCHEMA
from pipeline.ingest.batch import ANCHOR

if TYPE_CHECKING:
    from pipeline.ingest.batch import Flush, Sink


@dataclass(frozen=True)
class Stored:
    """A flush that is committed, and how many of its rows were new, by table."""

    flush: Flush
    written: dict[str, int]


def store_flush(sink: Sink, flush: Flush) -> Stored:
    """Commit a flush: one commit for each table with rows, the anchor last."""
    tables = {ANCHOR: DEAD_LETTER_SCHEMA.empty_table(), **flush.tables}
    order = sorted(tables, key=lambda table: (table == ANCHOR, table))
    return Stored(
        flush, {table: sink.append(table, tables[table], flush.offsets) for table in order}
    )


class Writer:
    """Stores flushes in the order in which they were given, until one fails."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._waiting: queue.Queue[Flush | None] = queue.Queue(maxsize=1)
        self._stored: queue.SimpleQueue[Stored] = queue.SimpleQueue()
        self._room = threading.Semaphore(1)
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._work, name="ingest-writer", daemon=True)
        self._thread.start()

    def has_room(self, timeout_s: float) -> bool:
        """Wait for room for one flush; True obliges the caller to `put` it or to `give_back`."""
        return self._room.acquire(timeout=timeout_s)

    def give_back(self) -> None:
        """Leave the room to the next caller."""
        self._room.release()

    def put(self, flush: Flush) -> None:
        """Hand over a flush for which there is room."""
        self._waiting.put(flush)

    def stored(self) -> list[Stored]:
        """Return what was committed since the last call."""
        found = []
        while not self._stored.empty():
            found.append(self._stored.get())
        return found

    def check(self) -> None:
        """Raise what the sink raised; nothing is stored after that."""
        if self._error is not None:
            raise self._error

    def wait(self) -> None:
        """Wait until everything handed over is committed or has failed."""
        self._waiting.join()

    def close(self) -> None:
        """Finish what was handed over and end the thread."""
        self._waiting.put(None)
        self._thread.join()

    def _work(self) -> None:
        while (flush := self._waiting.get()) is not None:
            self._room.release()
            if self._error is None:
                self._store(flush)
            self._waiting.task_done()
        self._waiting.task_done()

    def _store(self, flush: Flush) -> None:
        try:
            self._stored.put(store_flush(self._sink, flush))
        except BaseException as error:  # noqa: BLE001 - raised again by `stored`, in the loop
            self._error = error

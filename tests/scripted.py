"""A source fed from a list, with CRASH, REBALANCE and END among the items.

`Scripted` keeps to the same contract as Kafka: it starts where the listener
says, hands a revoked partition out no further, and gives it back from where the
listener says.  `Log` is the broker: what it holds outlives a crash.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

from pipeline.ingest.batch import Slice, TopicPartition

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pipeline.ingest.consumer import Listener


class Mark(Enum):
    """What may happen between two records."""

    CRASH = "the process ends here"
    REBALANCE = "all partitions are revoked and come back"
    LOST = "all partitions are lost and come back"
    POLL = "a poll ends here"
    END = "there is no more"


FIRST = TopicPartition("agent.tool_calls", 0)

CRASH, REBALANCE, LOST, POLL, END = Mark


class Crashed(BaseException):
    """The end of the process; nothing catches it."""


@dataclass(frozen=True)
class Sent:
    """One record on its way to a partition."""

    value: bytes | None
    place: TopicPartition = FIRST


@dataclass
class Log:
    """The broker: every record at its offset."""

    records: dict[TopicPartition, list[bytes | None]] = field(
        default_factory=lambda: defaultdict(list)
    )

    def send(self, sent: Sent) -> int:
        """Append a record, return its offset."""
        self.records[sent.place].append(sent.value)
        return len(self.records[sent.place]) - 1


class Scripted:
    """A source that plays a list of records and marks."""

    def __init__(
        self,
        script: Sequence[Sent | Mark],
        *,
        log: Log | None = None,
        adapters: Mapping[str, str] | None = None,
    ) -> None:
        self.log = log or Log()
        self.notes: list[str] = []
        self.hints: dict[TopicPartition, int] = {}
        self.pauses = 0
        self._script = list(script)
        self._adapters = adapters or {}
        self._position: dict[TopicPartition, int] = {}
        self._listener: Listener | None = None
        self._paused = self._ended = False
        self._places = sorted({item.place for item in script if isinstance(item, Sent)})

    def subscribe(self, listener: Listener) -> None:
        self._listener = listener
        places = sorted({*self._places, *self.log.records})
        self._position = dict(listener.assigned(places))

    def poll(self, timeout_s: float) -> list[Slice]:
        if self._paused:
            return []
        mark = POLL
        while self._script:
            item = self._script.pop(0)
            if isinstance(item, Mark):
                mark = item
                break
            self.log.send(item)
        else:
            mark = END
        # What lay in the log before comes with what was sent just now.
        slices = self._fetch()
        if mark in (REBALANCE, LOST):
            self._rebalance(mark)
            slices = []
        if mark is CRASH:
            raise Crashed
        self._ended = mark is END
        return slices

    def _fetch(self) -> list[Slice]:
        found = []
        for place, start in self._position.items():
            values = self.log.records[place][start:]
            if values:
                self._position[place] = start + len(values)
                adapter = self._adapters.get(place.topic, "native")
                found.append(Slice(place, adapter, values, range(start, start + len(values))))
        return found

    def _rebalance(self, mark: Mark) -> None:
        places = list(self._position)
        if mark is LOST:
            self._listener.lost(places)
        else:
            self._listener.revoked(places)
        self._position = dict(self._listener.assigned(places))

    def left(self) -> list[Sent | Mark]:
        """Return what has not been played, for the next life."""
        return list(self._script)

    def finished(self) -> bool:
        done = all(len(self.log.records[p]) <= at for p, at in self._position.items())
        return self._ended and done

    def pause(self) -> None:
        self.pauses += not self._paused
        self._paused = True

    def resume(self) -> None:
        self._paused = False

    def hint(self, stored: Mapping[TopicPartition, int]) -> None:
        self.hints.update(stored)

    def lag(self, stored: Mapping[TopicPartition, int]) -> dict[TopicPartition, int]:
        return {p: len(values) - 1 - stored.get(p, -1) for p, values in self.log.records.items()}

    def close(self) -> None:
        pass

"""Kafka as a source of slices; the only module that reads with confluent_kafka.

Two ways to read.  Continuously: a member of the consumer group, cooperative
rebalancing.  Once: all partitions assigned by hand, without joining the group,
until the end that each had when it was first fetched.  Where to start is always
the listener's word; Kafka's own committed offsets are written as a hint for lag
displays and never read.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException
from confluent_kafka import TopicPartition as Assignment

from pipeline.errors import SourceError
from pipeline.ingest.batch import Slice, TopicPartition
from pipeline.log import get_log

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from pipeline.config import KafkaConfig

log = get_log(__name__)

METADATA_TIMEOUT_S = 10.0
SILENCE_S = 60.0
"""How often an unreachable broker is logged."""

# The client names its own error codes with an underscore; they are public all the same.
_GONE = {
    KafkaError.UNKNOWN_TOPIC_OR_PART,
    KafkaError._UNKNOWN_TOPIC,  # noqa: SLF001
    KafkaError._UNKNOWN_PARTITION,  # noqa: SLF001
}
_UNREACHABLE = {
    KafkaError._ALL_BROKERS_DOWN,  # noqa: SLF001
    KafkaError._TRANSPORT,  # noqa: SLF001
    KafkaError._RESOLVE,  # noqa: SLF001
    KafkaError._AUTHENTICATION,  # noqa: SLF001
}
_AT_END = KafkaError._PARTITION_EOF  # noqa: SLF001
_PASSING = _UNREACHABLE | {KafkaError._MAX_POLL_EXCEEDED}  # noqa: SLF001


class Listener(Protocol):
    """Who is told when partitions come and go; called from within `poll` and `subscribe`."""

    def assigned(self, places: Collection[TopicPartition]) -> Mapping[TopicPartition, int]:
        """Return the next offset to read of each partition."""
        ...

    def revoked(self, places: Collection[TopicPartition]) -> None:
        """Store what is held of these partitions; they are still ours while this runs."""
        ...

    def lost(self, places: Collection[TopicPartition]) -> None:
        """Drop what is held of these partitions; somebody else may read them already."""
        ...


class Source(Protocol):
    """What the loop reads from: Kafka, files, or a list in a test."""

    notes: list[str]
    """What a person should know."""

    def subscribe(self, listener: Listener) -> None:
        """Start; SourceError when there is nothing to read from."""
        ...

    def poll(self, timeout_s: float) -> list[Slice]:
        """Return what has come, in the order of offsets within each partition.

        Of a partition that went or came during the call, nothing from before is in it.
        """
        ...

    def finished(self) -> bool:
        """Return whether everything has been handed out that was there at the start."""
        ...

    def pause(self) -> None:
        """Hand out nothing until `resume`, but stay alive; may be called twice."""
        ...

    def resume(self) -> None:
        """Hand out records again, from where they stopped."""
        ...

    def hint(self, stored: Mapping[TopicPartition, int]) -> None:
        """Tell the outside how far storing has come; last offsets.  Failure is no matter."""
        ...

    def lag(self, stored: Mapping[TopicPartition, int]) -> dict[TopicPartition, int]:
        """Return how many records of each partition are not stored, as far as known."""
        ...

    def close(self) -> None:
        """Let go; not guaranteed to be called."""
        ...


@dataclass
class _Progress:
    """How far one partition was handed out, for reading once."""

    position: int
    end: int | None = None
    at_end: bool = False

    def is_done(self) -> bool:
        return self.at_end or (self.end is not None and self.position >= self.end)


@dataclass
class KafkaSource:
    """Topics of one broker."""

    config: KafkaConfig
    once: bool = False
    should_stop: Callable[[], bool] = lambda: False
    """Asked while waiting for a broker."""
    max_records: int = 4_000
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._consumer: Any = Consumer(self._settings(), logger=_quiet())
        self._progress: dict[TopicPartition, _Progress] = {}
        self._moved: set[TopicPartition] = set()
        self._paused = False
        self._heard = time.monotonic()
        self._complained = -SILENCE_S
        self._listener: Listener | None = None

    def _settings(self) -> dict[str, Any]:
        return {
            "bootstrap.servers": self.config.bootstrap,
            "group.id": self.config.group,
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "auto.offset.reset": "earliest",
            "isolation.level": "read_committed",
            "partition.assignment.strategy": "cooperative-sticky",
            "enable.partition.eof": self.once,
            "check.crcs": True,
            # A small queue bounds memory; the short back-off keeps it from costing speed.
            "queued.max.messages.kbytes": 32 * 1024,
            "fetch.queue.backoff.ms": 5,
            "fetch.wait.max.ms": 100,
            "error_cb": self._on_error,
            **{name: secret.reveal() for name, secret in self.config.security.items()},
        }

    def subscribe(self, listener: Listener) -> None:
        """Join the group, or take all partitions when reading once."""
        self._listener = listener
        partitions = self._partitions()
        if not self.once:
            self._consumer.subscribe(
                sorted(self.config.topics),
                on_assign=self._on_assign,
                on_revoke=self._on_revoke,
                on_lost=self._on_lost,
            )
            return
        self._consumer.assign(self._start(partitions))
        self._heard = time.monotonic()

    def _partitions(self) -> list[TopicPartition]:
        metadata = self._metadata()
        if metadata is None:
            return []
        known = {name: topic for name, topic in metadata.topics.items() if topic.error is None}
        missing = sorted(set(self.config.topics) - set(known))
        if missing:
            raise SourceError(
                f"no topic {', '.join(missing)} on {self.config.bootstrap}; "
                "create it, or correct [kafka.topics]"
            )
        return [
            TopicPartition(topic, partition)
            for topic in sorted(self.config.topics)
            for partition in sorted(known[topic].partitions)
        ]

    def _metadata(self) -> Any:
        while not self.should_stop():
            try:
                return self._consumer.list_topics(timeout=METADATA_TIMEOUT_S)
            except KafkaException as error:
                if self.once:
                    raise self._unreachable() from error
                self._complain(error.args[0])
        return None

    def _unreachable(self) -> SourceError:
        return SourceError(
            f"no answer from Kafka at {self.config.bootstrap} within {METADATA_TIMEOUT_S:.0f} s; "
            "is it running, and is [kafka] bootstrap right?"
        )

    def _start(self, places: list[TopicPartition]) -> list[Assignment]:
        listener = self._listener
        assert listener is not None  # noqa: S101 - subscribe sets it before anything else
        starts = listener.assigned(places)
        for place in places:
            self._progress[place] = _Progress(starts[place])
        self._moved.update(places)
        return [Assignment(*place, starts[place] or OFFSET_BEGINNING) for place in places]

    def _on_assign(self, consumer: Any, assignments: list[Assignment]) -> None:
        consumer.incremental_assign(self._start(_places(assignments)))
        if self._paused:
            consumer.pause(assignments)

    def _on_revoke(self, consumer: Any, assignments: list[Assignment]) -> None:
        if self._listener is not None:
            self._listener.revoked(_places(assignments))
        self._release(consumer, assignments)

    def _on_lost(self, consumer: Any, assignments: list[Assignment]) -> None:
        if self._listener is not None:
            self._listener.lost(_places(assignments))
        self._release(consumer, assignments)

    def _release(self, consumer: Any, assignments: list[Assignment]) -> None:
        for place in _places(assignments):
            self._progress.pop(place, None)
            self._moved.add(place)
        consumer.incremental_unassign(assignments)

    def poll(self, timeout_s: float) -> list[Slice]:
        """Return one slice per partition that had something."""
        self._moved.clear()
        messages = self._consume(timeout_s)
        if messages:
            self._heard = time.monotonic()
        elif self.once and time.monotonic() - self._heard > METADATA_TIMEOUT_S and not self._paused:
            raise self._unreachable()
        groups: dict[tuple[str, int], list[Any]] = defaultdict(list)
        for message in messages:
            error = message.error()
            if error is None:
                groups[message.topic(), message.partition()].append(message)
            else:
                self._take_error(TopicPartition(message.topic(), message.partition()), error)
        for place in self._moved.intersection(groups):
            del groups[place]
            self._rewind(place)
        return [self._slice(TopicPartition(*key), group) for key, group in groups.items()]

    def _consume(self, timeout_s: float) -> list[Any]:
        try:
            messages: list[Any] = self._consumer.consume(self.max_records, timeout_s)
        except KafkaException as error:
            reason = error.args[0].str()
            raise SourceError(f"Kafka at {self.config.bootstrap}: {reason}") from error
        return messages

    def _rewind(self, place: TopicPartition) -> None:
        """Read a partition from its start: what came may be of the assignment before."""
        progress = self._progress.get(place)
        if progress is None:
            return
        # Refused while the new assignment has fetched nothing: then it starts there anyway.
        with contextlib.suppress(KafkaException):
            self._consumer.seek(Assignment(*place, progress.position or OFFSET_BEGINNING))

    def _slice(self, place: TopicPartition, messages: list[Any]) -> Slice:
        offsets = [message.offset() for message in messages]
        progress = self._progress.get(place)
        if progress is not None:
            progress.position = offsets[-1] + 1
            if self.once and progress.end is None:
                progress.end = self._high(place)
        values = [message.value() for message in messages]
        instance = self.config.instances.get(place.topic)
        return Slice(place, self.config.topics[place.topic], values, offsets, instance=instance)

    def _take_error(self, place: TopicPartition, error: KafkaError) -> None:
        if error.code() == _AT_END:
            if place in self._progress:
                self._progress[place].at_end = True
        elif error.code() in _GONE:
            raise SourceError(f"topic {place.topic} is gone from {self.config.bootstrap}")
        elif not error.retriable() and error.code() not in _PASSING:
            raise SourceError(f"Kafka at {self.config.bootstrap}: {error.str()}")

    def _high(self, place: TopicPartition) -> int | None:
        # From the fetch itself: some brokers answer ListOffsets wrongly.
        _, high = self._consumer.get_watermark_offsets(Assignment(*place), cached=True)
        return high if high > 0 else None

    def finished(self) -> bool:
        """Return whether each partition has come to the end it had when first fetched.

        The broker's word that there is no more counts too: the last offsets of a
        compacted or transactional topic may belong to no record.
        """
        return all(progress.is_done() for progress in self._progress.values())

    def pause(self) -> None:
        """Stop fetching; `poll` then only keeps the membership alive."""
        if not self._paused:
            self._paused = True
            self._consumer.pause(self._consumer.assignment())

    def resume(self) -> None:
        """Fetch again."""
        if self._paused:
            self._paused = False
            self._consumer.resume(self._consumer.assignment())
            self._heard = time.monotonic()

    def hint(self, stored: Mapping[TopicPartition, int]) -> None:
        """Commit to Kafka in the background."""
        offsets = [Assignment(*place, last + 1) for place, last in stored.items()]
        try:
            self._consumer.commit(offsets=offsets, asynchronous=True)
        except KafkaException as error:
            log.debug("the broker took no commit", error=error.args[0].name())

    def lag(self, stored: Mapping[TopicPartition, int]) -> dict[TopicPartition, int]:
        """Return the distance to the high watermark that the last fetch showed."""
        highs = {place: self._high(place) for place in self._progress}
        return {
            place: max(0, high - 1 - stored.get(place, -1))
            for place, high in highs.items()
            if high is not None
        }

    def close(self) -> None:
        """Leave the group."""
        self._consumer.close()

    def _on_error(self, error: KafkaError) -> None:
        if error.code() in _UNREACHABLE:
            self._complain(error)

    def _complain(self, error: KafkaError) -> None:
        if time.monotonic() - self._complained >= SILENCE_S:
            self._complained = time.monotonic()
            log.warning(
                "Kafka does not answer; trying on",
                bootstrap=self.config.bootstrap,
                error=error.name(),
            )


def _quiet() -> logging.Logger:
    # What the client has to say comes through error_cb, at most once a minute.
    logger = logging.getLogger("librdkafka")
    logger.addHandler(logging.NullHandler())
    logger.propagate = False
    return logger


def _places(assignments: list[Assignment]) -> list[TopicPartition]:
    return [TopicPartition(item.topic, item.partition) for item in assignments]

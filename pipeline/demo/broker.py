"""An embedded Kafka-compatible broker: librdkafka's mock cluster, on loopback.

It speaks the real protocol and starts in a tenth of a second, but it silently
keeps only the last 5 MB or so of each partition: whoever writes to it drains it
before that.  It is not Kafka; see the integration tests for that.
"""

from __future__ import annotations

import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING

from confluent_kafka import Producer

from pipeline.errors import SourceError

if TYPE_CHECKING:
    from collections.abc import Iterator

PARTITIONS = 4
"""What the mock cluster gives a topic that it creates by itself."""
KEEPS_BYTES = 4_500_000
"""Bytes of one partition that are surely still there."""


@contextmanager
def embedded_broker() -> Iterator[str]:
    """Start the broker in this process and give its bootstrap address; it ends with the block."""
    # The cluster lives inside a client, and replaces the brokers that it would have called.
    host = Producer(
        {"bootstrap.servers": "127.0.0.1:9", "test.mock.num.brokers": 1}, logger=quiet_logger()
    )
    brokers = host.list_topics(timeout=5).brokers.values()
    if not brokers:
        raise SourceError("the embedded broker did not start; name a broker with --bootstrap")
    broker = next(iter(brokers))
    yield f"{broker.host}:{broker.port}"
    # Destroying the client ends the cluster.
    del host


def quiet_logger() -> logging.Logger:
    """Return a logger that keeps librdkafka's connection chatter off stderr."""
    logger = logging.getLogger("librdkafka.demo")
    logger.addHandler(logging.NullHandler())
    logger.propagate = False
    return logger

"""One Kafka node and one schema registry for all integration tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.integration.kafka import KafkaNode, kafka_node
from tests.integration.registry import schema_registry

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything in this folder needs Java and a real broker."""
    for item in items:
        if "integration" in item.path.parts:
            item.add_marker(pytest.mark.integration)


@pytest.fixture(scope="session")
def kafka() -> Iterator[KafkaNode]:
    with kafka_node() as node:
        yield node


@pytest.fixture(scope="session")
def registry_url() -> Iterator[str]:
    with schema_registry() as url:
        yield url


@pytest.fixture
def lake_path(tmp_path: Path) -> Path:
    return tmp_path / "lake"

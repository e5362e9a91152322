"""What most tests need: an empty lake of their own and a clock that stands still."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pipeline.lake import Lake, open_lake
from tests.factories import NOW

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path


@pytest.fixture
def now() -> datetime:
    return NOW


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return open_lake(str(tmp_path / "lake"), create=True)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update-golden", action="store_true", help="write derived documents and golden files anew"
    )

"""What most tests need: an empty lake of their own and a clock that stands still."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.factories import NOW

if TYPE_CHECKING:
    from datetime import datetime


@pytest.fixture
def now() -> datetime:
    return NOW

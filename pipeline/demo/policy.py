"""The demo's registry, with its dates moved to where the demo's clock stands.

Sign-offs last a year at most and exceptions end, so a folder with fixed dates
would be right for some months only.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

REGISTRY = Path(__file__).parent / "registry"
WRITTEN = datetime(2026, 3, 2, tzinfo=UTC)
"""The day on which the folder's dates are right as they stand."""

_DATE = re.compile(r"(?<![\w-])(\d{4})-(\d\d)-(\d\d)(?!\d)")


def write_policy(folder: Path, now: datetime) -> Path:
    """Write the registry with every date as far from `now` as it is from the day it was written."""
    folder.mkdir(parents=True, exist_ok=True)
    for file in sorted(REGISTRY.glob("*.yaml")):
        text = moved(file.read_text(encoding="utf-8"), now)
        (folder / file.name).write_text(text, encoding="utf-8")
    return folder


def moved(text: str, now: datetime) -> str:
    """Return a text with its dates moved by the whole days between its writing and `now`."""
    days = timedelta(days=(now - WRITTEN).days)

    def move(found: re.Match[str]) -> str:
        year, month, day = map(int, found.groups())
        return (datetime(year, month, day, tzinfo=UTC) + days).date().isoformat()

    return _DATE.sub(move, text)

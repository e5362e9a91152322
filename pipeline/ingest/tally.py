"""What became of records, by the adapter that took them: counted beside the rows.

A tally travels with its rows through buffers and commits, so that only what is
stored is told.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import NamedTuple


class Taken(NamedTuple):
    """Records of one topic or file that went one way."""

    topic: str
    asked: str
    """The adapter that was named, or `auto`."""
    adapter: str | None
    """The adapter that took them; None where none recognised them."""


class Skipped(NamedTuple):
    """Records that say nothing the contract holds."""

    adapter: str
    reason: str


@dataclass(frozen=True)
class Tally:
    """Counts of records; one that holds records for two adapters counts for both."""

    taken: Counter[Taken] = field(default_factory=Counter)
    skipped: Counter[Skipped] = field(default_factory=Counter)

    def add(self, other: Tally) -> None:
        """Count what another tally counted."""
        self.taken.update(other.taken)
        self.skipped.update(other.skipped)

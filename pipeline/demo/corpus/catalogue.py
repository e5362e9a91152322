"""How a story is declared: its code, in which ways it attacks, and which twins look alike."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from pipeline.demo.corpus.plot import Plot

    Tell = Callable[[Plot], None]


@dataclass(frozen=True)
class Story:
    """One detection's story; `tell` writes one planting, told its kind by the plot.

    On an attack the story's code must fire, and whatever the teller adds; on a
    twin nothing may but what the teller allows.
    """

    code: str
    tell: Tell
    attacks: tuple[str, ...]
    twins: tuple[str, ...]

    @property
    def kinds(self) -> tuple[str, ...]:
        """Return all kinds, attacks first."""
        return (*self.attacks, *self.twins)


CATALOGUE: list[Story] = []


def story(code: str, attacks: str, twins: str) -> Callable[[Tell], Tell]:
    """Add a teller to the catalogue; kinds are words divided by spaces."""

    def add(tell: Tell) -> Tell:
        CATALOGUE.append(Story(code, tell, tuple(attacks.split()), tuple(twins.split())))
        return tell

    return add

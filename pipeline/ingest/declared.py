"""Adapters that users declare in a YAML file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.errors import SourceError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pipeline.ingest.sources import Adapted, Context


@dataclass(frozen=True)
class DeclaredAdapter:
    """A source made of a YAML file; has what a module of `sources` has."""

    name: str
    """The name in the file: what the `adapter` column holds."""
    WRAPPER: str | None

    def adapt(self, values: Sequence[bytes | None], context: Context) -> Adapted:
        """Return rows in contract shape, and refusals."""
        raise NotImplementedError

    def recognises(self, record: object) -> bool:
        """Return whether the file's `recognise` holds for a record."""
        raise NotImplementedError

    def declared_fields(self) -> dict[str, list[str]]:
        """Return the contract's fields that the file maps, by family."""
        raise NotImplementedError


def load_declared(path: str) -> DeclaredAdapter:
    """Return the adapter of a file; SourceError with every fault of it, one a line."""
    raise SourceError(f"{path}: not yet")

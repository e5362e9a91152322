"""Event sources: one module each, found by its file name.

A source module offers three names:

    WRAPPER     the member under which a delivery file lists its records, or None
    adapt       the function below
    recognises  whether a record is of this source, told by its content alone

and `MAPPING` where its rows are not made by SQL (`pipeline.ingest.sql_source`): pairs
of a vendor's field and the contract's, for the README.

`adapt(values, context)` takes values as Kafka or a file holds them and returns
rows in contract shape.  It is called from one thread, with any mix of good and
bad values, and may be called again with the same ones.  It never raises for bad
data: what it cannot take is a refusal.  It raises SourceError only where the
data may be good and something else is down; the same values then come again.
It reads no clock, and copies no secret, token or argument into a row.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections import Counter
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Protocol, cast

from pipeline.config import YAML_ENDINGS
from pipeline.errors import SourceError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from pipeline.events.wire import DecodedBatch, SchemaLookup


@dataclass(frozen=True)
class Context:
    """What an adapter may need besides the values."""

    tenant_id: str = "default"
    """Tenant of a vendor's records, which name none."""
    registry: SchemaLookup | None = None
    instance: str | None = None
    """Which cluster, vault or gateway the records are of, where they do not say it."""
    adapters: tuple[str, ...] = ()
    """YAML files of the user's that `auto` asks before our sources."""
    received_at: datetime | None = None
    """When the records had come at the latest, for those that bear no time themselves."""


@dataclass(frozen=True)
class Refusal:
    """One record that could not be taken."""

    row: int
    stage: str
    reason: str
    """What was wrong, without the content."""
    raw: bytes | None = None
    """The refused part, where a value holds many events; None is the whole value."""


@dataclass(frozen=True)
class Adapted:
    """What became of a list of values."""

    batches: list[DecodedBatch] = field(default_factory=list)
    """A value's number may stand several times, for one value may hold many events."""
    refusals: list[Refusal] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)
    """Records that say nothing the contract holds, by reason; no fault, but told and counted."""


class Adapter(Protocol):
    """A module of this folder."""

    WRAPPER: str | None

    def adapt(self, values: Sequence[bytes | None], context: Context) -> Adapted:
        """Return rows in contract shape, and refusals."""

    def recognises(self, record: object) -> bool:
        """Return whether a parsed JSON record, or bytes that are no JSON, is of this source.

        Never raises, and is true of no other source's records.
        """


def adapter_names() -> list[str]:
    """Return the names of all sources, sorted."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


@cache
def load_adapter(name: str) -> Adapter:
    """Return the source of that name, or the one that the YAML file of that path declares.

    Raises:
        SourceError: there is none, or the file has faults.
    """
    if name.endswith(YAML_ENDINGS):
        declared = importlib.import_module("pipeline.ingest.declared")
        return cast("Adapter", declared.load_declared(name))
    known = adapter_names()
    if name not in known:
        raise SourceError(f"no adapter {name!r}; there are {', '.join(known)}")
    return cast("Adapter", importlib.import_module(f"{__name__}.{name}"))


def stored_name(name: str) -> str:
    """Return what the `adapter` column holds: the name, or the one that the YAML file gives.

    Dead letters keep the path, for they are read again by it.
    """
    return str(getattr(load_adapter(name), "name", name))

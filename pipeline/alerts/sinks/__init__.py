"""Sinks: where alerts go.  One module per kind; its file name is the kind.

A module has one frozen dataclass of its own options, named by `SINK`, whose
fields are the keys of a `[[alerts.sinks]]` table.  `send` is called once per
attempt, perhaps more than once for one delivery: the receiver tells repeats by
`delivery_id`.  It must never raise for what the receiver or the network does, and
must put neither URL nor secret into an Outcome.
"""

from __future__ import annotations

import dataclasses
import importlib
import os
import pkgutil
from typing import TYPE_CHECKING, Protocol

from pipeline.config import AlertsConfig, Place, SinkTable, read_options
from pipeline.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from pipeline.alerts.alert import Outcome


class Sink(Protocol):
    """Anything that takes alerts."""

    @property
    def name(self) -> str:
        """Name of the `[[alerts.sinks]]` table."""

    @property
    def min_severity(self) -> int:
        """Findings below it are not told to this sink."""

    def send(self, delivery_id: str, body: str, at: datetime) -> Outcome:
        """Make one attempt at the time `at`; `body` is the alert's JSON."""


def kinds() -> list[str]:
    """Return the kinds that exist: the modules of this folder."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def load_sinks(config: AlertsConfig, environ: Mapping[str, str] | None = None) -> list[Sink]:
    """Return the configured sinks.

    Raises:
        ConfigError: An unknown kind or option, or a secret that cannot be had.
    """
    environ = os.environ if environ is None else environ
    return [_load(table, config.min_severity, environ) for table in config.sinks]


def _load(table: SinkTable, min_severity: int, environ: Mapping[str, str]) -> Sink:
    place = Place("configuration", f"alerts.sinks.{table.name}", table.folder, environ)
    if table.kind not in kinds():
        raise place.fault("kind", f"no sink of kind {table.kind!r}; there is {', '.join(kinds())}")
    module = importlib.import_module(f"{__name__}.{table.kind}")
    options = {"min_severity": min_severity, **table.options, "name": table.name}
    try:
        sink: Sink = read_options(module.SINK, options, place)
    except ValueError as error:
        raise place.fault("", str(error)) from None
    return sink


def choose(sinks: list[Sink], name: str) -> Sink:
    """Return the sink of that name.

    Raises:
        ConfigError: There is none.
    """
    for sink in sinks:
        if sink.name == name:
            return sink
    known = ", ".join(sink.name for sink in sinks) or "none is configured"
    raise ConfigError(f"no sink is called {name!r}; known: {known}")


def options_of(kind: str) -> list[str]:
    """Return the option names of a kind, for messages and documentation."""
    module = importlib.import_module(f"{__name__}.{kind}")
    return [field.name for field in dataclasses.fields(module.SINK)]

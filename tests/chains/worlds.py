"""Chain builds without a lake: the same statements over events held in memory.

A `World` takes events in any number of batches and builds after each, in part
where the stage would; what it then shows is what a lake would publish.  Tests
of the lake itself are elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import duckdb
import pyarrow as pa

from pipeline.chains.build import collect, prepare
from pipeline.chains.resolve import resolve
from pipeline.chains.scope import choose_scope
from pipeline.chains.steps import CONTEXT, run
from pipeline.events.schema import TABLES
from pipeline.lake.tables import arrow_type, declaration, tables
from pipeline.registry import Registry, load_registry
from tests.factories import NOW, contract_table

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

BY_CREDENTIAL = ("credentials", "credential_aliases", "hops", "hop_candidates", "chains")
DERIVED = (*BY_CREDENTIAL, "call_links")
BY_SOURCE = ("coverage", "watermarks", "source_hours", "source_gaps")
_ALL = (*DERIVED, "secrets", *BY_SOURCE)
Event = dict[str, Any]


@dataclass
class _Session:
    con: duckdb.DuckDBPyConnection
    previous: dict[str, int] | None
    fresh: dict[str, str]


@dataclass
class World:
    """Events so far and what the builds made of them."""

    registry: Registry = field(default_factory=lambda: load_registry(None))
    events: list[Event] = field(default_factory=list)
    derived: dict[str, pa.Table] = field(default_factory=dict)

    def feed(self, events: Sequence[Event], *, now: datetime = NOW, full: bool = False) -> str:
        """Add events, build, and return why the build was whole, or "new events"."""
        con = duckdb.connect()
        con.execute("SET TimeZone = 'UTC'")
        # Tiny tables: threads would only wait for one another.
        con.execute("SET threads = 1")
        seen = len(self.events)
        self.events += events
        self._define_events(con, seen)
        for name in _ALL:
            con.register(
                f"prev_{name}", self.derived.get(name, tables()[name].schema.empty_table())
            )
        previous = {"tool_calls": 0} if self.derived else None
        session = _Session(con, previous, {name: f"new_{name}" for name in TABLES.values()})
        prepare(con, self.registry)
        run(con, CONTEXT, as_of=now)
        scope = choose_scope(session, self.registry.policy_version, full=full)
        resolve(con)
        version = self.registry.policy_version
        for name, change in collect(con, now, version, partial=scope.is_partial).items():
            self.derived[name] = self._applied(con, name, change)
        con.close()
        return scope.reason

    def rows(self, *, tenant: str | None = None, only: Sequence[str] = DERIVED) -> dict[str, list]:
        """Return the rows of the derived tables, sorted, of one tenant or of all."""
        return {
            name: sorted(
                (repr(row) for row in self._plain(name) if tenant in {None, row["tenant_id"]}),
            )
            for name in only
        }

    def table(self, name: str) -> list[dict[str, Any]]:
        """Return one table's rows."""
        return self.derived[name].to_pylist()

    def _plain(self, name: str) -> list[dict[str, Any]]:
        return self.derived[name].to_pylist()

    def _define_events(self, con: duckdb.DuckDBPyConnection, seen: int) -> None:
        for family, name in TABLES.items():
            old = [e for e in self.events[:seen] if e["family"] == family]
            new = [e for e in self.events[seen:] if e["family"] == family]
            con.register(f"all_{name}", contract_table(family, old + new))
            con.register(f"late_{name}", contract_table(family, new, first_offset=len(old)))
            for view, source in ((name, f"all_{name}"), (f"new_{name}", f"late_{name}")):
                con.execute(
                    f"CREATE TABLE {view} AS SELECT *, false AS id_conflict FROM {source}"
                    " QUALIFY row_number() OVER (PARTITION BY event_uid ORDER BY kafka_offset) = 1"
                )

    def _applied(self, con: duckdb.DuckDBPyConnection, name: str, change: Any) -> pa.Table:
        fields = declaration(name)[1]
        rows = change.rows.select(list(fields)).cast(
            pa.schema([(column, arrow_type(doc[0])) for column, doc in fields.items()])
        )
        if change.delete is None or name not in self.derived:
            return rows
        con.register("kept_from", self.derived[name])
        con.register("deleted", change.delete)
        keys = ", ".join(change.delete.column_names)
        kept = con.sql(f"FROM kept_from ANTI JOIN deleted USING ({keys})").to_arrow_table()
        return pa.concat_tables([kept.cast(rows.schema), rows])


def built(events: Sequence[Event], **how: Any) -> World:
    """Return a world in which all events came in one build."""
    world = World(**how)
    world.feed(events, full=True)
    return world

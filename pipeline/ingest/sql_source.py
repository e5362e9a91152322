"""A source whose mapping is SQL: JSON records in, contract rows out, a batch at a time.

A source `name` has its statements in `sources/sql/<name>/`:

    tool_call.sql, token_event.sql, secret_event.sql
                  one SELECT each: `part` and the contract's columns by name, as many
                  rows per record as there are events; columns left out are defaults
    refused.sql   optional: `part` and `reason` of records that cannot be taken
    skipped.sql   optional: `part` and `reason` of records that say nothing we hold

They read one table, `records`: `part` (BIGINT, one record), `r` (STRUCT, the record in
the source's `shape`: what has another type is null, what is not named is never read),
`sha256` (VARCHAR, of the whole record, where a statement names it) and one VARCHAR digest
per name in `digests`; `records` holds every record of the batch, so that they may be
compared.  `$tenant_id`, `$instance` and `$received_at` are bound.  `is_partial` (BOOLEAN)
beside the contract's columns marks a row as partial.  `uid_of` (VARCHAR) is what a row's
`event_uid` is made of instead of its columns, where these depend on the records around it.
A record that comes out of no statement is refused: nothing is lost in silence.
"""

from __future__ import annotations

import warnings
from collections import Counter
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import numpy as np
import orjson
import pyarrow as pa

from pipeline.errors import SourceError
from pipeline.events.conform import conform_batch
from pipeline.events.identity import digests
from pipeline.events.schema import FAMILIES
from pipeline.events.wire import Decoded
from pipeline.ingest.json_text import digest, digest_or_none, dump_json, member, parse_json
from pipeline.ingest.sources import Adapted, Refusal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from pipeline.events.conform import Conformed
    from pipeline.ingest.sources import Context

_FOLDER = Path(__file__).parent / "sources" / "sql"
_NO_ROW = "holds no event of this source"
_NOT_THE_DATA = (
    duckdb.BinderException,
    duckdb.CatalogException,
    duckdb.IOException,
    duckdb.OutOfMemoryException,
    duckdb.ParserException,
)
"""What a statement of ours that is wrong raises, or a disk: no record is at fault."""
_MOST_HELD = 100_000
"""Records after which a session begins anew: DuckDB keeps the place of deleted rows."""
_OURS = {"part", "is_partial", "uid_of"}
"""What a statement gives besides the contract's columns."""


@dataclass
class _Batch:
    """The records of one call, and where they came from."""

    rows: list[int] = field(default_factory=list)
    whole: list[bool] = field(default_factory=list)
    """Whether the record is all of its value."""
    documents: list[dict[str, Any]] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)


class _Session:
    """A source's statements, planned once: that takes longer than a small batch."""

    def __init__(self, statements: Mapping[str, str], shape: str) -> None:
        # One thread: ingest has its own, and another process may share the cores.
        self._con = duckdb.connect(config={"threads": 1, "autoinstall_known_extensions": False})
        self._con.execute("SET TimeZone = 'UTC'")
        self._con.execute((_FOLDER / "macros.sql").read_text(encoding="utf-8"))
        self._statements, self._shape = statements, shape
        self._names: dict[str, list[str]] = {}
        self.held = 0

    def fill(self, given: pa.Table) -> None:
        """Let `records` hold these records only."""
        read = "SELECT * EXCLUDE (record), json_transform(record, $shape) AS r FROM given"
        into = "INSERT INTO records " if self.held else "CREATE TEMP TABLE records AS "
        if self.held:
            self._con.execute("TRUNCATE records")
        self._con.register("given", given)
        try:
            self._con.execute(into + read, {"shape": self._shape})
        finally:
            self._con.unregister("given")
        self.held += given.num_rows

    def ask(self, name: str, context: Context) -> pa.Table:
        """Return the rows of a statement over the records that are held."""
        if name not in self._names:
            sql = self._statements[name]
            (statement,) = self._con.extract_statements(sql)
            self._con.execute(f"PREPARE {name} AS {sql}")
            self._names[name] = sorted(statement.named_parameters)
        known = {
            "tenant_id": context.tenant_id,
            "instance": context.instance,
            "received_at": context.received_at,
        }
        # DuckDB binds no parameter in EXECUTE.
        asked = ", ".join(f"{given} := {_literal(known[given])}" for given in self._names[name])
        self._con.execute(f"EXECUTE {name}({asked})" if asked else f"EXECUTE {name}")
        with warnings.catch_warnings():
            # It says that a relation saves a copy of the rows, but a relation plans twice.
            warnings.simplefilter("ignore", UserWarning)
            return self._con.to_arrow_table()


@dataclass(frozen=True)
class SqlSource:
    """What a source needs besides its statements."""

    name: str
    shape: Mapping[str, Any]
    """What is read of a record, as DuckDB's json_transform takes it; all else stays unread."""
    wrapper: str | None = None
    """The member under which a document lists its records."""
    digests: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Column to the path of what it is the sha256 of: arguments, answers."""
    hidden: tuple[tuple[str, ...], ...] = ()
    """Paths that no dead letter may keep: tokens, secrets, answers that hold them."""
    unwrap: Callable[[Any], list[Any] | None] | None = None
    """The records of a document that lists them otherwise than under `wrapper`; else None."""
    prepare: Callable[[dict[str, Any]], dict[str, Any]] | None = None
    """A record as the statements read it, where a vendor spells its names in several ways."""
    derive: Callable[[Sequence[dict[str, Any]]], Mapping[str, Sequence[str | None]]] | None = None
    """More VARCHAR columns of `records`, made of all records of the batch at once."""

    def adapt(self, values: Sequence[bytes | None], context: Context) -> Adapted:
        """Return the rows of all statements; see `sources.Adapter`."""
        batch = self._read(values)
        if not batch.texts:
            return Adapted([], batch.refusals)
        try:
            return self._run(batch, context)
        except _NOT_THE_DATA as error:
            # To halve the batch would only make a dead letter of every good record.
            raise SourceError(f"source {self.name}: {_first_line(error)}") from error
        except duckdb.Error as error:
            if len(values) > 1:
                # The loop halves the batch on a ValueError, down to the record at fault.
                raise ValueError(f"DuckDB: {_first_line(error)}") from error
            reason = f"the source failed on it: {type(error).__name__}"
            failed = [self._refuse(batch, at, "adapt", reason) for at in range(len(batch.texts))]
            return Adapted([], batch.refusals + failed)

    @cached_property
    def statements(self) -> dict[str, str]:
        """Return the SQL by file name without its ending."""
        found = sorted((_FOLDER / self.name).glob("*.sql"))
        return {path.stem: path.read_text(encoding="utf-8") for path in found}

    def _read(self, values: Sequence[bytes | None]) -> _Batch:
        batch = _Batch()
        for row, value in enumerate(values):
            if value is None or not value.strip():
                batch.refusals.append(Refusal(row, "frame", "no value"))
                continue
            try:
                document = parse_json(value)
            except ValueError as error:
                raw = before(value, self.hidden)
                batch.refusals.append(Refusal(row, "decode", f"not JSON: {error}", raw))
                continue
            self._take(batch, row, value, document)
        return batch

    def _take(self, batch: _Batch, row: int, value: bytes, document: Any) -> None:
        listed = member(document, self.wrapper) if self.wrapper else None
        if isinstance(document, list):
            listed = document
        if self.unwrap and (unwrapped := self.unwrap(document)) is not None:
            listed = unwrapped
        if not isinstance(listed, list):
            if isinstance(document, dict):
                text = value.decode("utf-8-sig")
                _add(batch, row, document, self._text(document, text), whole=True)
            else:
                batch.refusals.append(Refusal(row, "decode", "a record is no JSON object"))
            return
        if not listed:
            batch.refusals.append(Refusal(row, "decode", "an empty list of records"))
        seen = set()
        for record in listed:
            text = dump_json(record).decode()
            if not isinstance(record, dict):
                reason = "a record is no JSON object"
                batch.refusals.append(Refusal(row, "decode", reason, text.encode()))
            elif text not in seen:
                # Repeats inside one value share their offset: keep the first.
                seen.add(text)
                _add(batch, row, record, self._text(record, text), whole=False)

    def _text(self, record: dict[str, Any], text: str) -> str:
        if self.prepare is None:
            return text
        prepared = self.prepare(record)
        return text if prepared is record else dump_json(prepared).decode()

    def _run(self, batch: _Batch, context: Context) -> Adapted:
        session: _Session | None = self.__dict__.pop("_session", None)
        if session is None or session.held + len(batch.texts) > _MOST_HELD:
            session = _Session(self.statements, orjson.dumps(self.shape).decode())
        try:
            session.fill(self._table(batch))
            found = self._answer(session, batch, context)
        except (duckdb.FatalException, duckdb.InternalException):
            raise
        except duckdb.Error:
            # One record of the batch is at fault; planning anew for each half would be slow.
            self.__dict__["_session"] = session
            raise
        self.__dict__["_session"] = session
        return found

    def _table(self, batch: _Batch) -> pa.Table:
        columns: dict[str, Any] = {
            "part": pa.array(range(len(batch.texts)), pa.int64()),
            "record": pa.array(batch.texts, pa.large_string()),
        }
        if any("sha256" in statement for statement in self.statements.values()):
            whole = [digest(record) for record in batch.documents]
            columns["sha256"] = pa.array(whole, pa.string())
        for name, path in self.digests.items():
            found = [digest_or_none(member(record, *path)) for record in batch.documents]
            columns[name] = pa.array(found, pa.string())
        if self.derive is not None:
            for name, derived in self.derive(batch.documents).items():
                columns[name] = pa.array(derived, pa.string())
        return pa.table(columns)

    def _answer(self, session: _Session, batch: _Batch, context: Context) -> Adapted:
        decoded, refusals = Decoded(), list(batch.refusals)
        rows = np.array(batch.rows, dtype=np.int64)
        answered = np.zeros(len(rows), dtype=bool)
        for family in FAMILIES:
            if family not in self.statements:
                continue
            for found in session.ask(family, context).to_batches():
                parts = found.column("part").to_numpy()
                answered[parts] = True
                refusals += self._take_rows(family, found, batch, decoded)
        for part, reason in self._told(session, "refused", context):
            answered[part] = True
            refusals.append(self._refuse(batch, part, "adapt", reason))
        skipped: Counter[str] = Counter()
        for part, reason in self._told(session, "skipped", context):
            skipped[reason] += not answered[part]
            answered[part] = True
        left = np.flatnonzero(~answered)
        refusals += [self._refuse(batch, int(part), "adapt", _NO_ROW) for part in left]
        return Adapted(decoded.batches, refusals, +skipped)

    def _told(self, session: _Session, name: str, context: Context) -> Iterator[tuple[int, str]]:
        if name in self.statements:
            told = session.ask(name, context)
            yield from zip(
                told.column("part").to_pylist(), told.column("reason").to_pylist(), strict=True
            )

    def _take_rows(
        self, family: str, found: pa.RecordBatch, batch: _Batch, decoded: Decoded
    ) -> list[Refusal]:
        parts = found.column("part").to_numpy()
        partial = np.zeros(found.num_rows, dtype=bool)
        if "is_partial" in found.schema.names:
            marks = found.column("is_partial").fill_null(False)
            partial = marks.to_numpy(zero_copy_only=False)
        ours = [name for name in found.schema.names if name in _OURS]
        built = conform_batch(family, found.drop_columns(ours))
        kept = replace(built, partial=built.partial | partial[built.rows], failures=[])
        decoded.take(kept, np.array(batch.rows, dtype=np.int64)[parts], _uids(kept, found))
        return [
            self._refuse(batch, int(parts[row]), stage, reason)
            for row, stage, reason in built.failures
        ]

    def _refuse(self, batch: _Batch, part: int, stage: str, reason: str) -> Refusal:
        if batch.whole[part] and not self.hidden:
            return Refusal(batch.rows[part], stage, reason)
        raw = dump_json(without(batch.documents[part], self.hidden))
        return Refusal(batch.rows[part], stage, reason, raw)


def _uids(kept: Conformed, found: pa.RecordBatch) -> list[str] | None:
    if "uid_of" not in found.schema.names:
        return None
    bases = found.column("uid_of").take(pa.array(kept.rows)).to_pylist()
    names = (kept.batch.column(name).to_pylist() for name in ("tenant_id", "source", "event_id"))
    told = zip(*names, bases, strict=True)
    return digests(kept.family, ("\0".join(row).encode() for row in told))


def without(record: Any, paths: Sequence[tuple[str, ...]]) -> Any:
    """Return a record without the members at these paths; what it holds is not changed.

    The case of a name's letters does not matter: a secret hides behind no other spelling.
    """
    for path in paths:
        record = _without(record, tuple(name.lower() for name in path))
    return record


def _without(value: Any, path: tuple[str, ...]) -> Any:
    if isinstance(value, list):
        return [_without(part, path) for part in value]
    if not isinstance(value, dict):
        # An object that is written as a text may hold what is to be hidden.
        return None if isinstance(value, str) else value
    if len(path) == 1:
        return {name: part for name, part in value.items() if name.lower() != path[0]}
    return {
        name: _without(part, path[1:]) if name.lower() == path[0] else part
        for name, part in value.items()
    }


def before(value: bytes, paths: Sequence[tuple[str, ...]]) -> bytes | None:
    """Return what stands before the first name of a hidden part; None where that is all."""
    lowered = value.lower()
    found = [lowered.find(f'"{path[-1].lower()}"'.encode()) for path in paths]
    begins = [at for at in found if at >= 0]
    return value[: min(begins)] if begins else None


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]


def _add(batch: _Batch, row: int, document: dict[str, Any], text: str, *, whole: bool) -> None:
    batch.rows.append(row)
    batch.whole.append(whole)
    batch.documents.append(document)
    batch.texts.append(text)


def _literal(value: str | datetime | None) -> str:
    if value is None:
        return "CAST(NULL AS VARCHAR)"
    if isinstance(value, datetime):
        return f"TIMESTAMPTZ '{value.isoformat()}'"
    return "'" + value.replace("'", "''") + "'"

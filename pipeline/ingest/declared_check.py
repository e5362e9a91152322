"""What an adapter makes of sample files, before it is let loose on a topic.

Reads the files, writes nothing.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.events.redact import redact_batch
from pipeline.events.schema import defaults
from pipeline.ingest.declared import load_declared
from pipeline.ingest.file_records import Faulty, read_records
from pipeline.ingest.recognise import recogniser
from pipeline.ingest.sources import Context, load_adapter
from pipeline.ingest.take import adapt_values

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import pyarrow as pa

    from pipeline.ingest.file_records import Wrapping
    from pipeline.ingest.sources import Adapted, Adapter

_BATCH = 10_000


@dataclass(frozen=True)
class Refused:
    """Records refused for one reason."""

    stage: str
    reason: str
    """Names the field, never its content."""
    count: int
    first: str
    """`file: record N` of the first one; records count from 1."""


@dataclass
class DeclaredReport:
    """What became of the samples; `ok` where every record was taken or skipped by name."""

    adapter: str
    """The name in the file."""
    records: int = 0
    rows: dict[str, int] = field(default_factory=dict)
    """Rows per family, families without any left out."""
    partial: int = 0
    """Rows of which a value was dropped or cut."""
    refused: list[Refused] = field(default_factory=list)
    """Most frequent first."""
    skipped: dict[str, int] = field(default_factory=dict)
    """Records per reason of the file's `skip`."""
    never_filled: dict[str, list[str]] = field(default_factory=dict)
    """Per family, the fields that the file maps and no record filled: a path may be wrong."""
    preview: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Per family, its first row with secrets masked, without what is empty or default."""

    @property
    def ok(self) -> bool:
        """Return whether there were records, and none was refused."""
        return bool(self.records) and not self.refused


def check_declared(file: str | Path, samples: Sequence[str | Path]) -> DeclaredReport:
    """Return what the declared adapter in `file` makes of the records in `samples`.

    Raises:
        SourceError: faults of the file, all at once, one line each with file and line;
            a sample that cannot be opened.
    """
    adapter = load_declared(str(file))
    return check_adapter(adapter.name, adapter, samples, adapter.declared_fields())


def check_adapter(
    name: str,
    adapter: Adapter,
    samples: Sequence[str | Path],
    fields: Mapping[str, Sequence[str]] | None = None,
    context: Context | None = None,
) -> DeclaredReport:
    """Return what any adapter makes of the records in `samples`.

    `fields` are the contract's fields, by family, that it should fill somewhere.
    Raises SourceError where a sample cannot be opened.
    """
    report = DeclaredReport(name)
    work = _Work(adapter, report, context or Context(), fields or {})
    for sample in map(Path, samples):
        for first, values in _batches(sample, adapter.WRAPPER):
            work.take(sample.name, list(enumerate(values, first)))
    work.finish()
    return report


def check_recognised(
    samples: Sequence[str | Path], context: Context | None = None
) -> list[DeclaredReport]:
    """Return what each source makes of the records that it recognises.

    Those that nobody recognises are refused in a report without a name.  Raises
    SourceError where a sample cannot be opened.
    """
    context = context or Context()
    known = recogniser(context.adapters)
    works: dict[str | None, _Work] = {}
    for sample in map(Path, samples):
        for first, values in _batches(sample, known.wrapping()):
            groups: dict[str | None, list[tuple[int, bytes | Faulty]]] = {}
            for number, value in enumerate(values, first):
                for part in known.parts(number, value) if isinstance(value, bytes) else ():
                    found = Faulty(b"", *reversed(part.fault)) if not part.adapter else part.value
                    groups.setdefault(part.adapter, []).append((number, found or b""))
                if isinstance(value, Faulty):
                    groups.setdefault(None, []).append((number, value))
            for name, records in groups.items():
                works.setdefault(name, _work_of(name, context)).take(sample.name, records)
    for work in works.values():
        work.finish()
    return [work.report for work in works.values()]


def _work_of(name: str | None, context: Context) -> _Work:
    adapter = load_adapter(name or "native")  # gets no record where nobody recognised one
    return _Work(adapter, DeclaredReport(name or ""), context, {})


def _batches(
    path: Path, wrapper: str | Wrapping | None
) -> Iterator[tuple[int, list[bytes | Faulty]]]:
    batch: list[bytes | Faulty] = []
    first = 1
    for record in read_records(path, wrapper):
        batch.append(record)
        if len(batch) == _BATCH:
            yield first, batch
            first, batch = first + len(batch), []
    if batch:
        yield first, batch


@dataclass
class _Work:
    adapter: Adapter
    report: DeclaredReport
    context: Context
    fields: Mapping[str, Sequence[str]]
    rows: Counter[str] = field(default_factory=Counter)
    skipped: Counter[str] = field(default_factory=Counter)
    reasons: Counter[tuple[str, str]] = field(default_factory=Counter)
    first: dict[tuple[str, str], str] = field(default_factory=dict)
    filled: set[tuple[str, str]] = field(default_factory=set)

    def take(self, file: str, records: list[tuple[int, bytes | Faulty]]) -> None:
        """Count what became of one batch of a file's records, each with its number."""
        self.report.records += len(records)
        for number, record in records:
            if isinstance(record, Faulty):
                self._refuse(record.stage, record.reason, f"{file}: record {number}")
        numbers = [number for number, record in records if isinstance(record, bytes)]
        values = [record for _, record in records if isinstance(record, bytes)]
        adapted = adapt_values(self.adapter, values, self.context)
        for refusal in adapted.refusals:
            place = f"{file}: record {numbers[refusal.row]}"
            self._refuse(refusal.stage, refusal.reason, place)
        self.skipped.update(adapted.skipped)
        self._count(adapted)

    def finish(self) -> None:
        """Fill the report."""
        self.report.rows = dict(self.rows)
        self.report.skipped = dict(self.skipped)
        self.report.refused = [
            Refused(*key, count, self.first[key]) for key, count in self.reasons.most_common()
        ]
        for family, columns in self.fields.items():
            empty = [name for name in columns if (family, name) not in self.filled]
            if empty:
                self.report.never_filled[family] = empty

    def _refuse(self, stage: str, reason: str, place: str) -> None:
        self.reasons[stage, reason] += 1
        self.first.setdefault((stage, reason), place)

    def _count(self, adapted: Adapted) -> None:
        for batch in adapted.batches:
            if not batch.batch.num_rows:
                continue
            family = batch.family
            self.rows[family] += batch.batch.num_rows
            self.report.partial += batch.parse_status.to_pylist().count("partial")
            for name in batch.batch.schema.names:
                if _is_filled(family, name, batch.batch.column(name)):
                    self.filled.add((family, name))
            if family not in self.report.preview:
                self.report.preview[family] = _preview(family, batch.batch.slice(0, 1))


def _preview(family: str, row: pa.RecordBatch) -> dict[str, Any]:
    clean, _ = redact_batch(row)
    (values,) = clean.to_pylist(maps_as_pydicts="strict")
    known = defaults(family)
    return {
        name: value for name, value in values.items() if name not in known or value != known[name]
    }


def _is_filled(family: str, name: str, column: pa.Array) -> bool:
    default = defaults(family).get(name)
    if default is None:
        return bool(column.null_count < len(column))
    empty: Any = list(default.items()) if isinstance(default, dict) else default
    return any(value not in (None, empty) for value in column.to_pylist())

"""One Delta table on disk or in an object store; the only module that speaks Delta.

Takes Arrow tables, leaves commits; hands out file lists of one version.  Every
fault of the format, of the disk or of the store leaves as a LakeError, a lost
race as a Conflict.  Never decides what belongs together: see publication.py.
"""

from __future__ import annotations

import contextlib
import errno
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from deltalake import (
    ColumnProperties,
    CommitProperties,
    DeltaTable,
    Transaction,
    WriterProperties,
    write_deltalake,
)
from deltalake import Schema as DeltaSchema
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError

from pipeline.errors import LakeError
from pipeline.lake.fsync import sync_commit

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import date

    from pipeline.lake.tables import Table

# delta-rs keeps more state per commit made on a handle: a fresh one is cheaper.
COMMITS_PER_HANDLE = 100

# fmt: off
_LOW_CARDINALITY = frozenset((
    "source", "observer", "tenant_id", "trust_domain", "environment", "business_unit",
    "instruction_source", "op", "outcome", "tool_name", "phase", "tool_server",
    "tool_protocol", "operation", "resource_sensitivity", "action_class", "decision_effect",
    "decision_policy", "decision_policy_version", "subject_issuer", "subject_kind",
    "actor_issuer", "actor_convention", "agent_issuer", "agent_version", "credential_issuer",
    "credential_kind", "token_type", "grant_type", "client_id", "scope_dialect", "family",
    "adapter", "kafka_topic", "parse_status", "stage", "reason", "method", "evidence_class",
    "status", "end_kind", "root_kind", "user_agent", "secret_kind", "store",
))
# fmt: on


_WIDENED = "delegraph.widened"


@dataclass(frozen=True)
class Files:
    """The files of one table at one version; `widened` when older ones may lack a column."""

    version: int
    paths: tuple[str, ...]
    widened: bool = False


class Conflict(Exception):  # noqa: N818  # it is an answer, not yet an error
    """Another writer committed first; reopen, look and decide."""


class DeltaFolder:
    """One table and the handle that was opened last."""

    def __init__(self, uri: str, table: Table, options: dict[str, str] | None = None) -> None:
        self.uri, self.table, self._options = uri, table, options
        self.is_local = "://" not in uri
        self._handle: DeltaTable | None = None
        self._commits = 0

    def exists(self) -> bool:
        """Return whether the table has been created."""
        with _translated(self.table.name):
            return bool(DeltaTable.is_deltatable(self.uri, storage_options=self._options))

    def refuse_orphans(self) -> None:
        """Refuse data files without a log: an empty table over them would hide the loss.

        Raises:
            LakeError: there are some.
        """
        if self.is_local and any(Path(self.uri).rglob("*.parquet")):
            raise LakeError(f"{self.table.name}: data files without their log; restore _delta_log")

    def create(self) -> None:
        """Create the empty table unless it exists."""
        settings = {
            "delta.deletedFileRetentionDuration": "interval 1 days",
            "delta.logRetentionDuration": "interval 2 days",
            "delta.dataSkippingStatsColumns": ",".join(self.table.filtered),
        }
        if self.table.is_raw:
            settings["delta.appendOnly"] = "true"
        with _translated(self.table.name):
            DeltaTable.create(
                self.uri,
                _plain(self.table.schema),
                mode="ignore",
                partition_by=self._partition_by,
                configuration=settings,
                storage_options=self._options,
            )

    def handle(self) -> DeltaTable:
        """Return the open handle; its version is the last one that was looked at."""
        if self._handle is None or self._commits >= COMMITS_PER_HANDLE:
            return self.reopen()
        return self._handle

    def reopen(self, version: int | None = None) -> DeltaTable:
        """Open the table anew, at its newest version or at the one named."""
        with _translated(self.table.name):
            self._handle = DeltaTable(self.uri, version=version, storage_options=self._options)
        self._commits = 0
        return self._handle

    def close(self) -> None:
        """Drop the handle; the next use opens the newest version."""
        self._handle = None

    def version(self) -> int:
        """Return the version that the handle stands at."""
        return int(self.handle().version())

    def stored(self, app_id: str) -> int:
        """Return the version of an application transaction, -1 if there is none."""
        found = self.handle().transaction_version(app_id)
        return -1 if found is None else int(found)

    def at(self, version: int | None = None) -> Files:
        """Return the files of one version (None: the newest); the handle stays as it is."""
        with _translated(self.table.name):
            found = DeltaTable(self.uri, version=version, storage_options=self._options)
            settings = found.metadata().configuration
            logged = {field.name for field in found.schema().fields}
            return Files(
                int(found.version()),
                tuple(sorted(found.file_uris())),
                widened=settings.get(_WIDENED) == "true"
                or not logged.issuperset(self.table.schema.names),
            )

    def columns(self) -> list[str]:
        """Return the column names that the handle's version has."""
        return [field.name for field in self.handle().schema().fields]

    def append(
        self,
        rows: pa.Table,
        *,
        transactions: Mapping[str, int] | None = None,
        note: Mapping[str, str] | None = None,
    ) -> int:
        """Commit rows behind the others; return the new version.

        With `transactions` the commit is refused (Conflict) when another writer
        has moved one of them since the handle was opened.
        """
        return self._write(rows, "append", None, _properties(transactions, note))

    def overwrite(self, rows: pa.Table, predicate: str | None = None) -> int:
        """Replace all rows, or those of the partitions that `predicate` names; one commit."""
        return self._write(rows, "overwrite", predicate, _properties(None, None))

    def merge(self, rows: pa.Table, key: tuple[str, ...]) -> int:
        """Replace the rows that share a key with one of `rows` and add the others; one commit."""
        handle = self.handle()
        predicate = " AND ".join(f't."{name}" = s."{name}"' for name in key)
        with _translated(self.table.name):
            (
                handle.merge(
                    _plain_rows(rows),
                    predicate,
                    source_alias="s",
                    target_alias="t",
                    writer_properties=_writer_properties(self.table),
                )
                .when_matched_update_all()
                .when_not_matched_insert_all()
                .execute()
            )
        return self._committed()

    def restore(self, version: int) -> int:
        """Make the files of an older version current again; return the new version."""
        with _translated(self.table.name):
            self.handle().restore(version)
        return self._committed()

    def compact(self, partitions: Sequence[str | None]) -> None:
        """Merge the small files of each partition; rows and their order stay."""
        for day in partitions:
            only = [(str(self.table.partition), "=", day)] if day else None
            with _translated(self.table.name):
                self.handle().optimize.compact(
                    partition_filters=only, writer_properties=_writer_properties(self.table)
                )
            self._committed()

    def tidy(self) -> None:
        """Write a checkpoint and delete log entries past their retention."""
        with _translated(self.table.name):
            self.handle().create_checkpoint()
            self.handle().cleanup_metadata()

    def vacuum(self, keep: list[int] | None) -> int:
        """Delete files that no version of the last day, nor one of `keep`, needs."""
        with _translated(self.table.name):
            deleted = self.handle().vacuum(dry_run=False, full=True, keep_versions=keep)
        return len(deleted)

    def added(self) -> list[tuple[str, int, int]]:
        """Return (path, bytes, rows) of each file of the handle's version, as logged."""
        with _translated(self.table.name):
            found = pa.table(self.handle().get_add_actions(flatten=True))
        columns = [found[name].to_pylist() for name in ("path", "size_bytes", "num_records")]
        return list(zip(*columns, strict=True))

    def sizes(self) -> list[tuple[str | None, int]]:
        """Return (day or None, bytes) of each file of the handle's version."""
        column = self.table.partition
        with _translated(self.table.name):
            found = pa.table(self.handle().get_add_actions(flatten=True))
        days = found[f"partition.{column}"].to_pylist() if column else [None] * found.num_rows
        sizes = found["size_bytes"].to_pylist()
        return [(str(day) if day else None, size) for day, size in zip(days, sizes, strict=True)]

    def delete_days(self, before: date) -> int:
        """Drop the partitions before a day, append-only or not; return how many files left."""
        predicate = f"{self.table.partition} < '{before.isoformat()}'"
        if self.table.is_raw:
            self._set_append_only("false")
        try:
            return self.delete_rows(predicate)
        finally:
            if self.table.is_raw:
                self._set_append_only("true")

    def delete_rows(self, predicate: str) -> int:
        """Delete the rows that a predicate names; return how many files left the table."""
        with _translated(self.table.name):
            before = self.handle().version()
            metrics = self.handle().delete(predicate)
        if self.version() != before:
            self._committed()
        return int(metrics.get("num_removed_files") or 0)

    def _set_append_only(self, value: str) -> None:
        with _translated(self.table.name):
            self.handle().alter.set_table_properties({"delta.appendOnly": value})
        self.reopen()

    def ensure_checkpoint(self) -> None:
        """Write a checkpoint of the oldest version unless there is one; local tables only."""
        log = Path(self.uri) / "_delta_log"
        if not any(log.glob("*.checkpoint.parquet")):
            oldest = int(min(path.stem for path in log.glob("*.json") if path.stem.isdigit()))
            with _translated(self.table.name):
                DeltaTable(self.uri, version=oldest).create_checkpoint()

    def widen(self) -> bool:
        """Add the columns that a newer declaration has; return whether there were any."""
        have = set(self.columns())
        missing = [field for field in _plain(self.table.schema) if field.name not in have]
        if not missing:
            return False
        with _translated(self.table.name):
            fields = DeltaSchema.from_arrow(_schema(missing)).fields
            self.handle().alter.add_columns(list(fields))
            self.handle().alter.set_table_properties({_WIDENED: "true"}, raise_if_not_exists=False)
        self.reopen()
        return True

    @property
    def _partition_by(self) -> list[str] | None:
        return [self.table.partition] if self.table.partition else None

    def _write(
        self, rows: pa.Table, mode: Any, predicate: str | None, properties: CommitProperties
    ) -> int:
        with _translated(self.table.name):
            write_deltalake(
                self.handle(),
                _plain_rows(rows),
                mode=mode,
                predicate=predicate,
                writer_properties=_writer_properties(self.table),
                commit_properties=properties,
            )
        return self._committed()

    def _committed(self) -> int:
        self._commits += 1
        version = int(self._handle.version())  # type: ignore[union-attr]
        if self.is_local:
            with _translated(self.table.name):
                sync_commit(Path(self.uri), version)
        return version


@contextlib.contextmanager
def _translated(table: str) -> Iterator[None]:
    try:
        yield
    except CommitFailedError as error:
        raise Conflict(table) from error
    except TableNotFoundError as error:
        raise LakeError(f"{table}: no Delta table in the lake; restore it or start anew") from error
    except (DeltaError, OSError) as error:
        raise LakeError(f"{table}: {_plain_text(error)}") from error


def _plain_text(error: Exception) -> str:
    text = str(error)
    full = isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT}
    if full or "No space left" in text or "os error 28" in text:
        return "the disk is full; nothing of this commit is stored. Free space and run again"
    return text.splitlines()[0] if text else type(error).__name__


def _properties(
    transactions: Mapping[str, int] | None, note: Mapping[str, str] | None
) -> CommitProperties:
    moved = [Transaction(app_id, version) for app_id, version in (transactions or {}).items()]
    return CommitProperties(
        app_transactions=moved or None,
        custom_metadata=dict(note) if note else None,
        max_commit_retries=30,
    )


def _writer_properties(table: Table) -> WriterProperties:
    plain = ColumnProperties(dictionary_enabled=False, statistics_enabled="NONE")
    columns = {
        name: ColumnProperties(
            dictionary_enabled=name in _LOW_CARDINALITY,
            statistics_enabled="CHUNK" if name in table.filtered else "NONE",
        )
        for name in table.schema.names
        if name in _LOW_CARDINALITY or name in table.filtered
    }
    return WriterProperties(
        compression="ZSTD",
        compression_level=1,
        default_column_properties=plain,
        column_properties=columns,
    )


def _schema(fields: list[pa.Field]) -> pa.Schema:
    return pa.schema(fields)


def _plain(schema: pa.Schema) -> pa.Schema:
    """Return the schema without documentation: it would be repeated in every file."""
    return pa.schema([field.remove_metadata() for field in schema])


def _plain_rows(rows: pa.Table) -> pa.Table:
    return rows.cast(_plain(rows.schema)) if rows.schema.metadata else rows


def storage_options() -> dict[str, str] | None:
    """Return the object store's settings from the environment, as delta-rs names them."""
    prefixes = ("AWS_", "AZURE_", "GOOGLE_", "GCS_")
    found = {name: value for name, value in os.environ.items() if name.startswith(prefixes)}
    return found or None

"""Adapters that users declare in a YAML file: JSON paths to fields of the contract.

    adapter: acme_gateway              what the `adapter` column holds
    wrapper: events                    member under which a document lists its records
    recognise: {path: $.product, in: [acme-gateway]}       what `--adapter auto` goes by
    source: {name: acme.gateway, instance: $.region}       or a text alone
    observer: gateway                  who saw the events: decides how far they are believed
    hidden: [$.request.body]           kept out of dead letters
    events:
      - family: tool_call
        when: {path: $.kind, in: [tool]}                   one condition, or a list: all must hold
        fields:                        see `declared_fields` for what a value may be
          event_time: $.ts             RFC 3339, or a number since 1970 whose size tells its unit
          tool_name: [$.tool.name, $.method]
          outcome: {path: $.status, map: {ok: success, "5*": failure}, default: unknown}
          agent_id: $.caller.agent
          args_hash: {path: $.args, digest: true}
          ext: {zone: $.zone}
    skip:
      - {when: {path: $.kind, in: [heartbeat]}, reason: heartbeat}

A condition is a path with one of `in`, `not_in`, `exists`, `matches` (RE2), or `any: [...]`
of such.  A record makes one row for each event whose conditions hold; one that `skip`
names makes none and is counted under the reason; one that neither names is refused.
`event_id` is the record's sha256 where it has none; two events of one family made of one
record need an `event_id` each, such as `{join: [$.id, "/answer"]}`.
`scope_known` is true where `scopes` was found, unless the file says it.  An issuer or a
kind stands only where the id beside it was found.

An object or a list never becomes a text: it may hold arguments.  What is called like a
secret (`access_token`) or like raw content (`arguments`) is taken as a digest only.
"""

from __future__ import annotations

import stat
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.errors import RegistryError, SourceError
from pipeline.ingest.declared_read import MOST_BYTES, read_declared
from pipeline.ingest.declared_sql import compile_declared
from pipeline.ingest.sources import Context, adapter_names
from pipeline.ingest.sql_source import SqlSource

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pipeline.ingest.declared_path import Step
    from pipeline.ingest.declared_read import Condition, Declared
    from pipeline.ingest.sources import Adapted


@dataclass(eq=False)
class DeclaredAdapter:
    """A source made of a YAML file; has what a module of `sources` has."""

    name: str
    """The name in the file: what the `adapter` column holds."""
    WRAPPER: str | None
    declared: Declared = field(repr=False)
    _source: SqlSource = field(repr=False)

    def adapt(self, values: Sequence[bytes | None], context: Context) -> Adapted:
        """Return rows in contract shape, and refusals."""
        return self._source.adapt(values, context)

    def recognises(self, record: object) -> bool:
        """Return whether the file's `recognise` holds for a record; without one, False."""
        tests = self.declared.recognise
        return bool(tests) and isinstance(record, dict) and all(_holds(t, record) for t in tests)

    def declared_fields(self) -> dict[str, list[str]]:
        """Return the contract's fields that the file maps, by family."""
        found: dict[str, dict[str, None]] = {}
        for event in self.declared.events:
            found.setdefault(event.family, {}).update(dict.fromkeys(event.fields))
        return {family: list(names) for family, names in found.items()}


@dataclass(frozen=True)
class _Compiled(SqlSource):
    """A source whose statements are not in a folder."""

    given: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def statements(self) -> dict[str, str]:
        return dict(self.given)


def load_declared(path: str) -> DeclaredAdapter:
    """Return the adapter of a file.

    Raises:
        SourceError: the file cannot be read, or every fault of it, one a line with its line.
    """
    declared, errors = read_declared(path, _content(path))
    if declared is not None and declared.name in {*adapter_names(), "auto"}:
        told = f'"{declared.name}" is an adapter of the package: choose another name'
        errors = [RegistryError(path, 1, told)]
    if declared is None or errors:
        raise SourceError("\n".join(map(str, errors)))
    compiled = compile_declared(declared)
    source = _Compiled(
        name=declared.name,
        shape=compiled.shape,
        wrapper=declared.wrapper,
        digests=compiled.digests,
        hidden=compiled.hidden,
        given=compiled.statements,
    )
    _try(path, source)
    return DeclaredAdapter(declared.name, declared.wrapper, declared, source)


def _try(path: str, source: SqlSource) -> None:
    """Run the statements once, so that a fault in them is told before any record is refused."""
    try:
        source.adapt([b"{}"], Context())
    except ValueError as error:
        raise SourceError(f"{path}: cannot be run: {error}") from error


def _content(path: str) -> bytes:
    try:
        if not stat.S_ISREG(Path(path).stat().st_mode):
            raise SourceError(f"{path}: an adapter is a YAML file")
        with Path(path).open("rb") as stream:
            return stream.read(MOST_BYTES + 1)
    except OSError as error:
        raise SourceError(f"{path}: {error.strerror or 'cannot be read'}") from error


def _holds(condition: Condition, record: object) -> bool:
    if condition.path is None:
        return any(_holds(part, record) for part in condition.any)
    found = _find(record, condition.path.steps)
    if condition.exists is not None:
        return (found is not None) is condition.exists
    text = _written(found)
    if condition.within is not None:
        return text in condition.within
    return text not in (condition.without or ())


def _find(value: object, steps: Sequence[Step]) -> object:
    for step in steps:
        if isinstance(step, str) and isinstance(value, dict):
            value = value.get(step)
        elif isinstance(step, int) and isinstance(value, list) and -len(value) <= step < len(value):
            value = value[step]
        else:
            return None
    return value


def _written(value: object) -> str | None:
    """Return a value as the file would write it; None of what is no text or number."""
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, str | int | float) else None

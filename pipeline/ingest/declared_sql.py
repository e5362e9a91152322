"""Compile a declared adapter to the shape and the statements of a `SqlSource`.

Texts of the file enter the SQL as quoted literals and quoted names only; nothing of
it is ever taken for SQL.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pipeline.events.schema import FAMILIES, contract_schema
from pipeline.ingest.declared_fields import (
    JSON_HASHES,
    MOST_NESTED,
    Column,
    Structs,
    Value,
    column_of,
)
from pipeline.ingest.declared_path import Path, Tree, inside, quoted

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pipeline.ingest.declared_fields import Field
    from pipeline.ingest.declared_read import Condition, Declared, Event

# What says nothing where the id beside it is missing.
_BESIDE = {
    "credential_issuer": "credential_id",
    "credential_kind": "credential_id",
    "subject_issuer": "subject_id",
    "subject_kind": "subject_id",
    "actor_issuer": "actor_id",
    "bound_identity_issuer": "bound_identity_id",
    "accessed_by_issuer": "accessed_by_id",
}
_PER_SECOND = {"s": 1, "ms": 1_000, "us": 1_000_000}
_STRUCTS = {
    "act_chain": "STRUCT(issuer VARCHAR, subject VARCHAR)[]",
    "may_act": "STRUCT(issuer VARCHAR, subject VARCHAR)[]",
    "credential_aliases": 'STRUCT(issuer VARCHAR, "kind" VARCHAR, id VARCHAR)[]',
    "parents": 'STRUCT("role" VARCHAR, issuer VARCHAR, "kind" VARCHAR, id VARCHAR)[]',
}
_DIGEST = "[a-z0-9]*:?[0-9a-fA-F]{32,128}"
_EMPTY = {
    "list": "CAST([] AS VARCHAR[])",
    "map": "CAST(MAP {} AS MAP(VARCHAR, VARCHAR))",
    "time": "CAST(NULL AS TIMESTAMPTZ)",
    "flag": "CAST(NULL AS BOOLEAN)",
}


@dataclass(frozen=True)
class Compiled:
    """What a `SqlSource` is made of."""

    shape: Any
    statements: dict[str, str]
    digests: dict[str, tuple[str, ...]] = field(default_factory=dict)
    hidden: tuple[tuple[str, ...], ...] = ()


def compile_declared(declared: Declared) -> Compiled:
    """Return the shape, the statements and what is kept out of dead letters."""
    return _Compiler(declared).compiled()


class _Compiler:
    def __init__(self, declared: Declared) -> None:
        self._declared = declared
        self._tree = Tree()
        self._digests: dict[tuple[str, ...], str] = {}
        self._taken: set[tuple[str, ...]] = set()
        for event in declared.events:
            for name, made in event.fields.items():
                self._gather(made, is_digest=name in JSON_HASHES)
        if declared.instance is not None:
            self._gather(declared.instance)
        tests = [event.when for event in declared.events] + [skip.when for skip in declared.skips]
        for condition in (part for when in tests for each in when for part in (each, *each.any)):
            if condition.path is not None:
                self._tree.add(condition.path, as_json=condition.exists is not None)

    def compiled(self) -> Compiled:
        statements = {}
        for family in FAMILIES:
            events = [event for event in self._declared.events if event.family == family]
            if events:
                names = self._columns(family, events)
                parts = [self._select(event, names) for event in events]
                statements[family] = "\nUNION ALL\n".join(parts)
        statements["refused"] = self._refused()
        if self._declared.skips:
            statements["skipped"] = self._skipped()
        hidden = {path.steps for path in self._declared.hidden} | self._taken
        return Compiled(
            self._tree.shape(),
            statements,
            {name: path for path, name in self._digests.items()},
            tuple(sorted(tuple(map(str, path)) for path in hidden)),
        )

    def _gather(self, made: Field, *, is_digest: bool = False) -> None:
        if isinstance(made, Structs):
            if made.at is not None:
                self._tree.add(made.at, as_json=True)
                return
            values = [value for row in made.rows for value in row.values()]
        elif isinstance(made, dict):
            values = list(made.values())
        else:
            values = [made] if isinstance(made, Value) else []
        for value in values:
            for path in value.paths():
                if value.digest:
                    self._taken.add(tuple(map(str, path.steps)))
                if not (value.digest and is_digest):
                    self._tree.add(path)

    def _columns(self, family: str, events: Sequence[Event]) -> list[str]:
        named = {name for event in events for name in event.fields}
        named |= {"event_id", "source", "observer", "tenant_id"}
        if family == "token_event":
            named.add("scope_known")
        if any(_is_nested(event.fields.get("act_chain")) for event in events):
            named.add("act_truncated")
        return [name for name in contract_schema(family).names if name in named]

    def _select(self, event: Event, names: Sequence[str]) -> str:
        columns = [f"    {self._column(event, name)} AS {name}" for name in names]
        listed = ",\n".join(["    part", *columns])
        rows = f"SELECT\n{listed}\nFROM records{self._where(event)}"
        # What the file says stands in it quoted, and nowhere else.
        return f"SELECT * FROM ({rows}\n) WHERE event_time IS NOT NULL"  # noqa: S608

    def _where(self, event: Event) -> str:
        tests = [self._all(event.when)] if event.when else []
        tests += [f"NOT ({self._all(skip.when)})" for skip in self._declared.skips]
        return f"\nWHERE {' AND '.join(tests)}" if tests else ""

    def _refused(self) -> str:
        """Return the records that an event fits and that have no time, and why."""
        parts = []
        for event in self._declared.events:
            made = event.fields["event_time"]
            found = self._found(made, self._at) if isinstance(made, Value) else "NULL"
            time = self._column(event, "event_time")
            reason = (
                f"CASE WHEN {found} IS NULL THEN 'event_time is missing'"
                " ELSE 'event_time is no time that can be read' END"
            )
            rows = f"SELECT part, {reason} AS reason, {time} AS time\nFROM records"
            rows += self._where(event)
            parts.append(f"SELECT part, reason FROM ({rows}) WHERE time IS NULL")  # noqa: S608
        return "\nUNION\n".join(parts)

    def _column(self, event: Event, name: str) -> str:
        column = column_of(event.family, name)
        made = event.fields.get(name)
        if made is None:
            return self._unsaid(event, column)
        sql = self._made(column, made)
        fallback = {"event_id": "sha256", "tenant_id": "$tenant_id"}.get(name)
        if fallback:
            return f"coalesce({sql}, {fallback})"
        named = event.fields.get(_BESIDE.get(name, ""))
        if isinstance(named, Value):
            return f"CASE WHEN {self._text(named, self._at)} IS NOT NULL THEN {sql} END"
        return sql

    def _unsaid(self, event: Event, column: Column) -> str:
        """Return what stands in a column that an event does not name."""
        known: dict[str, Callable[[], str]] = {
            # Without the vendor's own id the record's digest is one.
            "event_id": lambda: "sha256",
            "tenant_id": lambda: "$tenant_id",
            "observer": lambda: quoted(self._declared.observer),
            "source": self._source,
            "scope_known": lambda: self._scopes_found(event),
            "act_truncated": lambda: self._is_cut(event),
        }
        return known.get(column.name, lambda: _nothing(column))()

    def _is_cut(self, event: Event) -> str:
        """Return whether nested actors go deeper than we look."""
        made = event.fields.get("act_chain")
        if not isinstance(made, Structs) or made.at is None or made.nested is None:
            return "false"
        steps = (made.nested,) * MOST_NESTED
        return f"{inside(self._tree.json(made.at), steps, as_text=False)} IS NOT NULL"

    def _are_scopes_fixed(self, event: Event) -> bool:
        return isinstance(event.fields.get("scopes"), tuple)

    def _scopes_found(self, event: Event) -> str:
        """Return whether a record says its scopes: unknown is not empty."""
        made = event.fields.get("scopes")
        if not isinstance(made, Value):
            return "true" if made is not None else "false"
        return f"({self._list(made)}) IS NOT NULL"

    def _source(self) -> str:
        instance = "$instance"
        if self._declared.instance is not None:
            found = self._text(self._declared.instance, self._at)
            instance = f"coalesce({found}, $instance)"
        return f"{quoted(self._declared.source)} || coalesce(':' || {instance}, '')"

    def _made(self, column: Column, made: Field) -> str:
        if isinstance(made, tuple):
            return f"CAST([{', '.join(map(quoted, made))}] AS VARCHAR[])"
        if isinstance(made, dict):
            names = ", ".join(map(quoted, made))
            texts = ", ".join(self._text(value, self._at) for value in made.values())
            return f"ext_of([{names}], CAST([{texts}] AS VARCHAR[]))"
        if isinstance(made, Structs):
            return self._structs(column, made)
        as_column: dict[str, Callable[[Column, Value], str]] = {
            "list": self._texts,
            "time": self._time,
            "hash": self._hash,
            "flag": self._flag,
            "number": self._number,
        }
        if column.kind in as_column:
            return as_column[column.kind](column, made)
        return self._text(made, self._at)

    def _texts(self, _column: Column, value: Value) -> str:
        return f"coalesce({self._list(value)}, {_EMPTY['list']})"

    def _time(self, _column: Column, value: Value) -> str:
        return _moment(self._found(value, self._at), value.unit)

    def _flag(self, _column: Column, value: Value) -> str:
        text = self._text(value, self._at)
        return f"CASE lower({text}) WHEN 'true' THEN true WHEN 'false' THEN false END"

    def _number(self, column: Column, value: Value) -> str:
        return f"TRY_CAST({self._text(value, self._at)} AS {_number_type(column)})"

    def _at(self, path: Path) -> str:
        return self._tree.text(path)

    def _found(self, value: Value, at: Callable[[Path], str]) -> str:
        """Return the first of a value's sources that is there, as text."""
        found = [
            " || ".join(_part(part, at) for part in source)
            if isinstance(source, tuple)
            else _part(source, at)
            for source in value.sources
        ]
        return found[0] if len(found) == 1 else f"coalesce({', '.join(found)})"

    def _text(self, value: Value, at: Callable[[Path], str]) -> str:
        text = self._found(value, at)
        if value.digest:
            return f"sha256({text})"
        if not value.words:
            return text if value.default is None else f"coalesce({text}, {quoted(value.default)})"
        return _translated(text, value)

    def _hash(self, column: Column, value: Value) -> str:
        """Return a digest: made here of what stands there, or the vendor's own."""
        if value.digest and column.name in JSON_HASHES:
            names = [self._digest_of(path) for path in value.paths()]
            return f"coalesce({', '.join(names)}, NULL)"
        text = self._text(value, self._at)
        if value.digest or column.name == "fingerprint":
            return text
        return f"CASE WHEN regexp_full_match({text}, {quoted(_DIGEST)}) THEN {text} END"

    def _digest_of(self, path: Path) -> str:
        steps = tuple(map(str, path.steps))
        return self._digests.setdefault(steps, f"digest_{len(self._digests)}")

    def _list(self, value: Value) -> str:
        """Return a list of texts, null where nothing says one."""
        found = [self._one_list(source, value) for source in value.sources]
        default = [] if value.default is None else [f"[{quoted(value.default)}]"]
        whole = f"coalesce({', '.join([*found, *default, 'CAST(NULL AS VARCHAR[])'])})"
        if not value.words:
            return whole
        fallback = Value(value.sources, value.words, value.default)
        meant = _translated("x", fallback)
        return f"list_filter(list_transform({whole}, lambda x: {meant}), lambda x: x IS NOT NULL)"

    def _one_list(self, source: Path | str | tuple[Path | str, ...], value: Value) -> str:
        if isinstance(source, tuple):
            return f"[{' || '.join(_part(part, self._at) for part in source)}]"
        if isinstance(source, str):
            return f"[{quoted(source)}]"
        if source.each is not None:
            text = f"plain_of({inside('x', source.each, as_text=True)})"
            return (
                f"list_filter(list_transform({_items(self._tree.json(source))}, lambda x: {text}),"
                " lambda x: x IS NOT NULL)"
            )
        text = self._tree.text(source)
        separator = "NULL" if value.split is None else quoted(value.split)
        return f"texts_of({text}, {separator})"

    def _structs(self, column: Column, made: Structs) -> str:
        kind = _STRUCTS[column.name]
        if made.at is None:
            rows = [self._struct(column, row, self._at) for row in made.rows]
            whole = f"CAST([{', '.join(rows)}] AS {kind})"
        else:
            json = self._tree.json(made.at)
            items = _items(json) if made.nested is None else _levels(json, made.nested)
            row = self._struct(
                column, made.rows[0], lambda path: inside("x", path.steps, as_text=True)
            )
            whole = f"CAST(list_transform({items}, lambda x: {row}) AS {kind})"
        tests = " AND ".join(f"item.{name} IS NOT NULL" for name in sorted(column.needed))
        kept = f"list_filter({whole}, lambda item: {tests})" if tests else whole
        return kept if column.name == "may_act" else f"coalesce({kept}, {_nothing(column)})"

    def _struct(self, column: Column, row: Mapping[str, Value], at: Callable[[Path], str]) -> str:
        members = [
            f"{name} := {self._text(row[name], at) if name in row else 'CAST(NULL AS VARCHAR)'}"
            for name in column.members
        ]
        return f"struct_pack({', '.join(members)})"

    def _all(self, when: Sequence[Condition]) -> str:
        return " AND ".join(self._test(condition) for condition in when)

    def _test(self, condition: Condition) -> str:
        if condition.path is None:
            return "(" + " OR ".join(self._test(part) for part in condition.any) + ")"
        if condition.exists is not None:
            found = self._tree.json(condition.path)
            return f"({found} IS {'NOT ' if condition.exists else ''}NULL)"
        text = self._tree.text(condition.path)
        if condition.matches is not None:
            return f"coalesce(regexp_matches({text}, {quoted(condition.matches)}), false)"
        if condition.within is not None:
            return f"coalesce({_is_in(text, condition.within)}, false)"
        return f"coalesce(NOT {_is_in(text, condition.without or ())}, true)"

    def _skipped(self) -> str:
        tests = [
            f"WHEN {self._all(skip.when)} THEN {quoted(skip.reason)}"
            for skip in self._declared.skips
        ]
        told = f"CASE {' '.join(tests)} END"
        return f"SELECT part, {told} AS reason\nFROM records\nWHERE {told} IS NOT NULL"


def _nothing(column: Column) -> str:
    """Return an empty value in the column's type."""
    if column.kind == "structs":
        empty = "NULL" if column.name == "may_act" else "[]"
        return f"CAST({empty} AS {_STRUCTS[column.name]})"
    if column.kind == "number":
        return f"CAST(NULL AS {_number_type(column)})"
    return _EMPTY.get(column.kind, "CAST(NULL AS VARCHAR)")


def _number_type(column: Column) -> str:
    return "BIGINT" if column.name == "ttl_s" else "INTEGER"


def _is_nested(made: Field | None) -> bool:
    return isinstance(made, Structs) and made.nested is not None


def _part(part: Path | str, at: Callable[[Path], str]) -> str:
    return quoted(part) if isinstance(part, str) else f"plain_of({at(part)})"


def _is_in(text: str, words: Sequence[str]) -> str:
    return f"{text} IN ({', '.join(map(quoted, words))})" if words else "false"


def _translated(text: str, value: Value) -> str:
    exact = [(given, meant) for given, meant in value.words if not given.endswith("*")]
    begun = [(given[:-1], meant) for given, meant in value.words if given.endswith("*")]
    cases = [f"WHEN {text} = {quoted(given)} THEN {quoted(meant)}" for given, meant in exact]
    cases += [
        f"WHEN starts_with({text}, {quoted(given)}) THEN {quoted(meant)}" for given, meant in begun
    ]
    default = "CAST(NULL AS VARCHAR)" if value.default is None else quoted(value.default)
    return f"CASE {' '.join(cases)} ELSE {default} END"


def _moment(text: str, unit: str | None) -> str:
    if unit is None:
        return f"moment_of({text})"
    factor = _PER_SECOND.get(unit)
    if factor is None:
        return f"TRY(make_timestamptz(TRY_CAST({text} AS BIGINT) // 1000))"
    micros = 1_000_000 // factor
    return f"TRY(make_timestamptz(CAST(TRY_CAST({text} AS DECIMAL(38, 6)) * {micros} AS BIGINT)))"


def _items(json: str) -> str:
    """Return the items of a JSON list, or the one object that stands in its place."""
    return (
        f"CASE json_type({json}) WHEN 'ARRAY' THEN json_extract({json}, '$[*]')"
        f" WHEN 'NULL' THEN NULL ELSE [{json}] END"
    )


def _levels(json: str, nested: str) -> str:
    """Return an object, the one under this name in it, and so on."""
    levels = [inside(json, (nested,) * depth, as_text=False) for depth in range(1, MOST_NESTED)]
    return f"list_filter([{', '.join([json, *levels])}], lambda level: json_type(level) = 'OBJECT')"

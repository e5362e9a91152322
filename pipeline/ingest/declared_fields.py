"""The value of one contract field, as a declared adapter writes it.

    $.a.b                      a path; any other text is that text itself
    [$.a, $.b, text]           the first that is there; only the last may be a text
    {path: ..., map: {...}, default: ..., split: ..., digest: true, unit: ms}
    {value: ...}, {join: [$.a, "/", $.b]}
    {list: $.act, issuer: $.iss, subject: $.sub}       lists of structs, paths within an item
    {list: $.act, nested: act, issuer: ..., ...}       an object in an object in an object
    [{role: subject, issuer: ..., id: $.parent}]       lists of structs, written out
    {name: $.a, other: $.b}                            `ext` only

Every value is checked against the column it is for; faults go to the reader with their
line.  What is called like a secret, or like raw arguments or results, is taken only as a
digest.
"""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING

import pyarrow as pa
import yaml

from pipeline.events.schema import contract_schema, enum_symbols, nested_enums, nested_required
from pipeline.events.shapes import is_raw_name, is_secret_name
from pipeline.ingest.declared_path import Path, is_path, parse_path
from pipeline.registry.shapes import FLAG, TEXT, Key

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pipeline.registry.read import Entry, Reader

NODE = Key("node")
UNITS = ("s", "ms", "us", "ns")
MOST_NESTED = 16
"""Levels of nested actors that are read; a longer chain is marked as cut."""

JSON_HASHES = frozenset({"args_hash", "result_hash", "approval_args_hash"})
HASHES = JSON_HASHES | {"fingerprint"}
"""Columns that take a digest, or a text that is one already."""

VALUE_KEYS: Mapping[str, Key] = {
    "path": NODE,
    "value": NODE,
    "join": NODE,
    "map": NODE,
    "default": TEXT,
    "split": TEXT,
    "digest": FLAG,
    "unit": Key("word", words=UNITS),
}

_KINDS = (
    (pa.types.is_list, "list"),
    (pa.types.is_map, "map"),
    (pa.types.is_timestamp, "time"),
    (pa.types.is_boolean, "flag"),
    (pa.types.is_integer, "number"),
)


@dataclass(frozen=True)
class Column:
    """What a contract field takes."""

    name: str
    kind: str
    """text, word, hash, flag, number, time, list, structs or map."""
    words: tuple[str, ...] = ()
    members: tuple[str, ...] = ()
    needed: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Value:
    """One value: where it is looked for, and what is made of it."""

    sources: tuple[Path | str | tuple[Path | str, ...], ...]
    """Paths and fixed texts, the first that is there; a tuple is joined."""
    words: tuple[tuple[str, str], ...] = ()
    default: str | None = None
    split: str | None = None
    digest: bool = False
    unit: str | None = None

    def paths(self) -> list[Path]:
        """Return every path that is read."""
        parts = [
            part
            for source in self.sources
            for part in (source if isinstance(source, tuple) else (source,))
        ]
        return [part for part in parts if isinstance(part, Path)]


@dataclass(frozen=True)
class Structs:
    """A list of structs: of the items at a path, or written out."""

    rows: tuple[Mapping[str, Value], ...]
    at: Path | None = None
    nested: str | None = None


Field = Value | Structs | tuple[str, ...] | dict[str, Value]
"""What a field is made of; a tuple is a fixed list, a dict is for `ext`."""


def column_of(family: str, name: str) -> Column:
    """Return what a field of the contract takes."""
    kind = contract_schema(family).field(name).type
    words = enum_symbols(family).get(name, ())
    if pa.types.is_list(kind) and pa.types.is_struct(kind.value_type):
        members = tuple(kind.value_type.field(i).name for i in range(kind.value_type.num_fields))
        return Column(name, "structs", (), members, nested_required(name))
    for is_of, called in _KINDS:
        if is_of(kind):
            return Column(name, called)
    if name in HASHES:
        return Column(name, "hash")
    return Column(name, "word" if words else "text", words)


def nearest(name: str, known: Iterable[str]) -> str:
    """Return a hint at the name that was meant."""
    names = list(known)
    near = get_close_matches(name, names, n=1)
    return f'; did you mean "{near[0]}"?' if near else f"; known are {', '.join(names)}"


class FieldReader:
    """Reads fields from nodes; what is wrong goes to `reader`."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    def field(self, column: Column, node: yaml.Node) -> Field | None:
        """Return what a field is made of, None where its node is at fault."""
        if column.kind == "map":
            return self._ext(node)
        if column.kind == "structs":
            return self._structs(column, node)
        if column.kind == "list" and (fixed := self._fixed_list(node)) is not None:
            return fixed
        return self.value(column, node)

    def value(self, column: Column, node: yaml.Node) -> Value | None:
        """Return one value for a column."""
        if not isinstance(node, yaml.MappingNode):
            sources = self._sources(node, column)
            return self._checked(column, Value(sources), node) if sources else None
        entry = self._reader.mapping(node, VALUE_KEYS, column.name)
        if entry is None or not self._has_one(entry, node, ("path", "value", "join")):
            return None
        sources = self._entry_sources(entry, column)
        if not sources:
            return None
        given = entry.values
        value = Value(
            sources,
            words=self._words(given["map"]) if "map" in given else (),
            default=given.get("default"),
            split=given.get("split"),
            digest=bool(given.get("digest")),
            unit=given.get("unit"),
        )
        return self._checked(column, value, node)

    def path(self, node: yaml.Node, what: str) -> Path | None:
        """Return the path that a node must be."""
        text = node.value if isinstance(node, yaml.ScalarNode) else ""
        if not is_path(text):
            self._reader.fault(node, f'"{what}" must be a path, as $.name')
            return None
        try:
            return parse_path(text)
        except ValueError as error:
            self._reader.fault(node, f'"{text}" is no path: {error}')
            return None

    def _entry_sources(
        self, entry: Entry, column: Column
    ) -> tuple[Path | str | tuple[Path | str, ...], ...]:
        if "path" in entry.values:
            return self._sources(entry.values["path"], column, only_paths=True)
        if "value" in entry.values:
            text = self._text(entry.values["value"], "value")
            return () if text is None else (text,)
        parts = self._sources(entry.values["join"], column, joined=True)
        return (tuple(part for part in parts if not isinstance(part, tuple)),) if parts else ()

    def _sources(
        self, node: yaml.Node, column: Column, *, only_paths: bool = False, joined: bool = False
    ) -> tuple[Path | str | tuple[Path | str, ...], ...]:
        nodes = node.value if isinstance(node, yaml.SequenceNode) else [node]
        if not nodes or (joined and not isinstance(node, yaml.SequenceNode)):
            self._reader.fault(node, f'"{column.name}" needs a list of paths and texts here')
            return ()
        found: list[Path | str] = []
        for at, item in enumerate(nodes):
            text = self._text(item, column.name)
            if text is None:
                return ()
            if is_path(text) or only_paths:
                path = self.path(item, column.name)
                if path is None:
                    return ()
                found.append(path)
            elif joined or at == len(nodes) - 1:
                found.append(text)
            else:
                self._reader.fault(item, "only the last of several may be a fixed text")
                return ()
        return tuple(found)

    def _text(self, node: yaml.Node, what: str) -> str | None:
        if isinstance(node, yaml.ScalarNode) and node.tag != "tag:yaml.org,2002:null":
            return str(node.value)
        self._reader.fault(node, f'"{what}" must be a path or a text')
        return None

    def _has_one(self, entry: Entry, node: yaml.Node, names: tuple[str, ...]) -> bool:
        given = [name for name in names if name in entry.values]
        if len(given) == 1:
            return True
        self._reader.fault(node, f"exactly one of {', '.join(names)} must be given")
        return False

    def _words(self, node: yaml.Node) -> tuple[tuple[str, str], ...]:
        if not isinstance(node, yaml.MappingNode) or not node.value:
            self._reader.fault(node, '"map" must map texts of the record to values')
            return ()
        found: dict[str, str] = {}
        for key, item in node.value:
            given, meant = self._text(key, "map"), self._text(item, "map")
            if given in found:
                self._reader.fault(key, f'duplicate key "{given}"')
            elif given is not None and meant is not None:
                found[given] = meant
        return tuple(found.items())

    def _fixed_list(self, node: yaml.Node) -> tuple[str, ...] | None:
        """Return a list that holds no path, from `[a, b]` or `{value: [a, b]}`."""
        if isinstance(node, yaml.MappingNode):
            inner = [item for key, item in node.value if key.value == "value"]
            if len(node.value) != 1 or not inner:
                return None
            node, is_fixed = inner[0], True
        else:
            is_fixed = False
        if not isinstance(node, yaml.SequenceNode):
            return None
        texts = [item.value for item in node.value if isinstance(item, yaml.ScalarNode)]
        if len(texts) < len(node.value):
            return None
        return tuple(texts) if is_fixed or not any(map(is_path, texts)) else None

    def _ext(self, node: yaml.Node) -> dict[str, Value] | None:
        if not isinstance(node, yaml.MappingNode):
            self._reader.fault(node, '"ext" must map names to values')
            return None
        found: dict[str, Value] = {}
        for key, item in node.value:
            name = self._text(key, "ext")
            if name is None:
                continue
            if name in found:
                self._reader.fault(key, f'duplicate key "{name}"')
            elif is_secret_name(name) or is_raw_name(name):
                self._reader.fault(key, f'"{name}" under "ext" would be a secret or raw content')
            elif value := self.value(Column(name, "text"), item):
                found[name] = value
        return found

    def _structs(self, column: Column, node: yaml.Node) -> Structs | None:
        if isinstance(node, yaml.SequenceNode):
            rows = [self._members(column, item, listed=False) for item in node.value]
            return (
                Structs(tuple(row for row, _ in rows if row)) if all(r for r, _ in rows) else None
            )
        members, entry = self._members(column, node, listed=True)
        if not members or entry is None:
            return None
        at = self.path(entry.values["list"], "list")
        if at is not None and at.each is not None:
            self._reader.fault(node, '"list" takes no [*]')
            return None
        return Structs((members,), at, entry.values.get("nested")) if at else None

    def _members(
        self, column: Column, node: yaml.Node, *, listed: bool
    ) -> tuple[dict[str, Value] | None, Entry | None]:
        shape = {name: Key("node", required=name in column.needed) for name in column.members} | (
            {"list": Key("node", required=True), "nested": TEXT} if listed else {}
        )
        before = len(self._reader.errors)
        entry = self._reader.mapping(node, shape, column.name)
        if entry is None:
            return None, None
        words = nested_enums(column.name)
        members = {}
        for name in column.members:
            if name in entry.values:
                kind = "word" if name in words else "text"
                inner = Column(f"{column.name}.{name}", kind, words.get(name, ()))
                value = self.value(inner, entry.values[name])
                if value is not None:
                    members[name] = value
        return (members if len(self._reader.errors) == before else None), entry

    def _checked(self, column: Column, value: Value, node: yaml.Node) -> Value | None:
        """Return the value when it can be one of the column's."""
        before = len(self._reader.errors)
        self._check_texts(column, value, node)
        self._check_options(column, value, node)
        if not value.digest and column.kind not in ("word", "flag", "number", "time", "hash"):
            for path in value.paths():
                self._check_name(column, path, node)
        return value if len(self._reader.errors) == before else None

    def _check_texts(self, column: Column, value: Value, node: yaml.Node) -> None:
        texts = [source for source in value.sources if isinstance(source, str)]
        texts += [meant for _, meant in value.words]
        texts += [value.default] if value.default is not None else []
        for text in texts:
            if column.kind == "word" and text not in column.words:
                hint = nearest(text, column.words)
                self._reader.fault(node, f'"{text}" is no value of "{column.name}"{hint}')
            elif column.kind == "flag" and text not in ("true", "false"):
                self._reader.fault(node, f'"{column.name}" is true or false, not "{text}"')
            elif column.kind == "number" and not text.isdecimal():
                self._reader.fault(node, f'"{column.name}" is a whole number, not "{text}"')
            elif column.kind in ("time", "hash"):
                self._reader.fault(node, f'"{column.name}" is taken from the record, by a path')

    def _check_options(self, column: Column, value: Value, node: yaml.Node) -> None:
        allowed = {
            "split": column.kind == "list",
            "unit": column.kind == "time",
            "digest": column.kind in ("text", "hash") and column.name != "fingerprint",
            "map": column.kind not in ("time", "hash") and not value.digest,
        }
        given = {
            "split": value.split is not None,
            "unit": value.unit is not None,
            "digest": value.digest,
            "map": bool(value.words) or value.default is not None,
        }
        for name, is_given in given.items():
            if is_given and not allowed[name]:
                told = "map or default" if name == "map" else name
                self._reader.fault(node, f'"{column.name}" takes no {told} here')
        for path in value.paths():
            if path.each is not None and column.kind != "list":
                self._reader.fault(node, f'"{column.name}" is no list: [*] cannot stand there')
            if value.digest and not _is_plain(path):
                self._reader.fault(node, "a digest is taken at a path of names, as $.a.b")

    def _check_name(self, column: Column, path: Path, node: yaml.Node) -> None:
        name = path.last_name
        if is_secret_name(name) or is_raw_name(name):
            self._reader.fault(
                node,
                f'"{name}" would put a secret or raw content into "{column.name}": '
                "take it with digest: true, or not at all",
            )


def _is_plain(path: Path) -> bool:
    return bool(path.steps) and all(isinstance(step, str) for step in path.steps)

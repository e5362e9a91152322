"""Read the YAML file of a declared adapter: every fault at once, with its line."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc
import yaml

from pipeline.errors import RegistryError
from pipeline.events.schema import FAMILIES, contract_schema, defaults, enum_symbols
from pipeline.ingest.declared_fields import NODE, Column, FieldReader, column_of, nearest
from pipeline.registry.read import Entry, Reader
from pipeline.registry.shapes import NEEDED_TEXT, TEXT, TEXTS, Key

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pipeline.ingest.declared_fields import Field, Value
    from pipeline.ingest.declared_path import Path

MOST_BYTES = 1024 * 1024
NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")
_TESTS = ("in", "not_in", "exists", "matches")
_SEVERAL = Key("node", required=True)

CONDITION: Mapping[str, Key] = {
    "path": NODE,
    "in": TEXTS,
    "not_in": TEXTS,
    "exists": Key("flag"),
    "matches": TEXT,
    "any": NODE,
}
EVENT: Mapping[str, Key] = {
    "family": Key("word", required=True, words=FAMILIES),
    "when": NODE,
    "fields": _SEVERAL,
}
SKIP: Mapping[str, Key] = {"when": _SEVERAL, "reason": NEEDED_TEXT}
SOURCE: Mapping[str, Key] = {"name": NEEDED_TEXT, "instance": NODE}
FILE: Mapping[str, Key] = {
    "adapter": NEEDED_TEXT,
    "wrapper": TEXT,
    "recognise": NODE,
    "source": _SEVERAL,
    "observer": Key("word", required=True, words=enum_symbols("tool_call")["observer"]),
    "events": _SEVERAL,
    "skip": NODE,
    "hidden": NODE,
}

GIVEN = frozenset({"event_id", "source", "observer"})
"""Fields filled by the file's own keys, or by the record's digest."""


@dataclass(frozen=True)
class Condition:
    """One test of a record; where `any` is given, one of those must hold."""

    path: Path | None
    within: tuple[str, ...] | None = None
    without: tuple[str, ...] | None = None
    exists: bool | None = None
    matches: str | None = None
    any: tuple[Condition, ...] = ()


@dataclass(frozen=True)
class Event:
    """One row for each record of which all conditions hold."""

    family: str
    when: tuple[Condition, ...]
    fields: Mapping[str, Field]


@dataclass(frozen=True)
class Skip:
    """Records that say nothing the contract holds, and why."""

    when: tuple[Condition, ...]
    reason: str


@dataclass(frozen=True)
class Declared:
    """A whole file."""

    name: str
    wrapper: str | None
    source: str
    instance: Value | None
    observer: str
    recognise: tuple[Condition, ...]
    events: tuple[Event, ...]
    skips: tuple[Skip, ...]
    hidden: tuple[Path, ...]


def read_declared(file: str, text: bytes) -> tuple[Declared | None, list[RegistryError]]:
    """Return what a file declares, or every fault of it in the order of its lines."""
    reader = _FileReader(file)
    declared = reader.declared(text)
    unlike = {str(error): error for error in reader.errors}
    errors = sorted(unlike.values(), key=lambda error: error.line)
    return (None, errors) if errors else (declared, [])


class _FileReader(Reader):
    def declared(self, text: bytes) -> Declared | None:
        if len(text) > MOST_BYTES:
            self.errors.append(RegistryError(self.file, 1, f"more than {MOST_BYTES} bytes"))
            return None
        root = self.root(text)
        if root is None or self._is_hostile(text):
            if not self.errors:
                self.errors.append(RegistryError(self.file, 1, "the file is empty"))
            return None
        entry = self.mapping(root, FILE, "")
        if entry is None:
            return None
        self._fields = FieldReader(self)
        given = entry.values
        name = str(given.get("adapter") or "")
        if name and not NAME.fullmatch(name):
            told = f'"{name}" is no name: lower-case letters, digits and _ after a letter'
            self.errors.append(RegistryError(self.file, entry.line_of("adapter"), told))
        source, instance = self._source(given.get("source"))
        return Declared(
            name=name,
            wrapper=given.get("wrapper"),
            source=source,
            instance=instance,
            observer=str(given.get("observer") or ""),
            recognise=self._recognise(given.get("recognise")),
            events=self._events(given.get("events")),
            skips=self._skips(given.get("skip")),
            hidden=self._hidden(given.get("hidden")),
        )

    def _read_node(self, node: yaml.Node, _declared: Key, _key: str) -> yaml.Node:
        return node

    def _is_hostile(self, text: bytes) -> bool:
        """Return whether the file repeats a part of itself or holds a NUL.

        A few bytes of aliases could mean millions of nodes.
        """
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            line = event.start_mark.line + 1 if event.start_mark else 1
            if isinstance(event, yaml.AliasEvent):
                told = "write it out: anchors and aliases are not read here"
                self.errors.append(RegistryError(self.file, line, told))
            elif isinstance(event, yaml.ScalarEvent) and "\0" in event.value:
                self.errors.append(RegistryError(self.file, line, "a text holds a NUL character"))
        return bool(self.errors)

    def _source(self, node: yaml.Node | None) -> tuple[str, Value | None]:
        if node is None:
            return "", None
        if isinstance(node, yaml.ScalarNode):
            return self._read_text(node, TEXT, "source") or "", None
        entry = self.mapping(node, SOURCE, "source")
        if entry is None:
            return "", None
        instance = entry.values.get("instance")
        value = self._fields.value(Column("instance", "text"), instance) if instance else None
        return str(entry.values.get("name") or ""), value

    def _items(self, node: yaml.Node | None, what: str) -> Sequence[yaml.Node]:
        if node is None:
            return ()
        if isinstance(node, yaml.SequenceNode) and node.value:
            items: list[yaml.Node] = node.value
            return items
        self.fault(node, f'"{what}" must be a list, and not an empty one')
        return ()

    def _events(self, node: yaml.Node | None) -> tuple[Event, ...]:
        found = []
        for item in self._items(node, "events"):
            entry = self.mapping(item, EVENT, "events")
            if entry is None or not {"family", "fields"} <= entry.values.keys():
                continue
            family = entry.values["family"]
            when = self.conditions(entry.values.get("when"), "when")
            if family:
                found.append(Event(family, when, self._event_fields(family, entry)))
        return tuple(found)

    def _event_fields(self, family: str, entry: Entry) -> dict[str, Field]:
        node = entry.values["fields"]
        if not isinstance(node, yaml.MappingNode):
            self.fault(node, '"fields" must map names of the contract to values')
            return {}
        known = contract_schema(family).names
        found: dict[str, Field] = {}
        named = set()
        for key, item in self._pairs(node):
            named.add(key.value)
            if key.value not in known:
                hint = _elsewhere(key.value, family) or nearest(key.value, known)
                self.fault(key, f'"{key.value}" is no field of {family}{hint}')
            elif field := self._fields.field(column_of(family, key.value), item):
                found[key.value] = field
        optional = defaults(family).keys() | GIVEN | named
        for name in known:
            if name not in optional:
                self.fault(node, f'the field "{name}" is missing: every {family} needs it')
        return found

    def _skips(self, node: yaml.Node | None) -> tuple[Skip, ...]:
        found = []
        for item in self._items(node, "skip"):
            entry = self.mapping(item, SKIP, "skip")
            if entry and SKIP.keys() <= entry.values.keys():
                when = self.conditions(entry.values["when"], "when")
                found.append(Skip(when, str(entry.values["reason"])))
        return tuple(found)

    def _hidden(self, node: yaml.Node | None) -> tuple[Path, ...]:
        paths = [self._fields.path(item, "hidden") for item in self._items(node, "hidden")]
        for path in paths:
            if (
                node
                and path
                and (not path.steps or any(isinstance(step, int) for step in path.steps))
            ):
                self.fault(node, '"hidden" takes paths of names only, as $.request.body')
        return tuple(path for path in paths if path)

    def _recognise(self, node: yaml.Node | None) -> tuple[Condition, ...]:
        found = self.conditions(node, "recognise")
        for condition in (part for each in found for part in (each, *each.any)):
            if node and condition.matches is not None:
                self.fault(node, '"recognise" takes in, not_in and exists, no matches')
        return found

    def conditions(
        self, node: yaml.Node | None, what: str, *, depth: int = 0
    ) -> tuple[Condition, ...]:
        """Return the conditions that must all hold; one alone needs no list."""
        if node is None:
            return ()
        items = self._items(node, what) if isinstance(node, yaml.SequenceNode) else [node]
        read = [self._condition(item, what, depth) for item in items]
        return tuple(condition for condition in read if condition)

    def _condition(self, node: yaml.Node, what: str, depth: int) -> Condition | None:
        entry = self.mapping(node, CONDITION, what)
        if entry is None:
            return None
        given = entry.values
        if "any" in given:
            if len(given) > 1 or depth:
                self.fault(node, '"any" stands alone, and not within another')
                return None
            return Condition(None, any=self.conditions(given["any"], "any", depth=1))
        if "path" not in given or sum(given.get(name) is not None for name in _TESTS) != 1:
            self.fault(node, f"a condition is a path and one of {', '.join(_TESTS)}")
            return None
        path = self._fields.path(given["path"], "path")
        if path is not None and (not path.steps or path.each is not None):
            self.fault(node, "a condition looks at one place of the record")
        pattern = given.get("matches")
        if pattern is not None:
            self._check_pattern(node, pattern)
        within, without = _texts(given.get("in")), _texts(given.get("not_in"))
        return Condition(path, within, without, given.get("exists"), pattern) if path else None

    def _check_pattern(self, node: yaml.Node, pattern: str) -> None:
        try:
            # RE2, as in DuckDB: no pattern takes more than linear time.
            pc.match_substring_regex(pa.array([""]), pattern)
        except pa.ArrowInvalid:
            self.fault(node, '"matches" is no regular expression of RE2')


def _texts(given: list[str] | None) -> tuple[str, ...] | None:
    return None if given is None else tuple(given)


def _elsewhere(name: str, family: str) -> str:
    others = [other for other in FAMILIES if other != family]
    found = [other for other in others if name in contract_schema(other).names]
    return f", but of {' and '.join(found)}" if found else ""

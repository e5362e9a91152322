"""Read one YAML file of the registry against its declared shape.

Faults are collected with their line, so that one run shows them all.  Values
are taken from the composed nodes: a scope `1.10` or a subject `no` stays the
text that was written.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from yaml.reader import ReaderError

from pipeline.errors import RegistryError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pipeline.registry.shapes import Key

_NULL = "tag:yaml.org,2002:null"
_MOST_DIGITS = 10
_MOST_NAMED = 12


@dataclass(frozen=True)
class Entry:
    """One mapping as written: its values, and the line of each key."""

    file: str
    line: int
    name: str
    values: dict[str, Any]
    lines: dict[str, int]

    def line_of(self, key: str) -> int:
        """Return the line of a key, or of the entry where the key is not given."""
        return self.lines.get(key, self.line)


@dataclass
class Reader:
    """One file being read; `errors` fills up."""

    file: str
    errors: list[RegistryError] = field(default_factory=list)
    unread: set[str] = field(default_factory=set)
    """Sections of which nothing is known: what others say of their names cannot be judged."""

    def fault(self, node: yaml.Node, message: str) -> None:
        """Record one fault at a node's line."""
        self.errors.append(RegistryError(self.file, node.start_mark.line + 1, message))

    def sections(self, text: bytes, shape: Mapping[str, Key]) -> dict[str, list[Entry]]:
        """Return the entries of every section of the file, in file order."""
        root = self.root(text)
        if root is None or root.tag == _NULL:
            self.unread |= set(shape) if self.errors else set()
            return {}
        found = self.mapping(root, shape, "")
        if found is None or not _keys(root) <= set(shape):
            # A section under a misspelt key is not a section without entries.
            self.unread |= set(shape) - set(found.values if found else ())
        return {name: entries or [] for name, entries in found.values.items()} if found else {}

    def root(self, text: bytes) -> yaml.Node | None:
        """Return the document's node; None where it is empty or, with a fault, no YAML."""
        try:
            return yaml.compose(text, Loader=yaml.SafeLoader)
        except ReaderError as error:
            self.errors.append(RegistryError(self.file, *_unreadable(text, error)))
        except (yaml.YAMLError, RecursionError) as error:
            mark = getattr(error, "problem_mark", None)
            problem = str(getattr(error, "problem", None) or "nested too deeply to be read as YAML")
            if problem.startswith("but "):
                problem = f"{getattr(error, 'context', None)}, {problem}"
            self.errors.append(RegistryError(self.file, mark.line + 1 if mark else 1, problem))
        return None

    def mapping(self, node: yaml.Node, shape: Mapping[str, Key], name: str) -> Entry | None:
        """Return one mapping checked against its keys; None where it is none at all."""
        line = node.start_mark.line + 1
        if not isinstance(node, yaml.MappingNode):
            self.fault(node, f"expected a mapping with keys {', '.join(shape)}")
            return None
        entry = Entry(self.file, line, name, {}, {})
        for key_node, value_node in self._pairs(node):
            key = key_node.value
            if key not in shape:
                self.fault(key_node, f'unknown key "{key}"{self._nearest(key, shape)}')
                continue
            entry.lines[key] = key_node.start_mark.line + 1
            if value_node.tag != _NULL:
                entry.values[key] = self._value(value_node, shape[key], key)
            if shape[key].required and _is_blank(entry.values.get(key)):
                self.fault(value_node, f'"{key}" must not be empty')
        for key, declared in shape.items():
            if declared.required and key not in entry.values:
                self.fault(node, f'the key "{key}" is missing')
        return entry

    def _pairs(self, node: yaml.MappingNode) -> list[tuple[yaml.ScalarNode, yaml.Node]]:
        seen: dict[str, int] = {}
        pairs = []
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                self.fault(key_node, "a key must be plain text")
            elif key_node.value in seen:
                first = seen[key_node.value]
                self.fault(key_node, f'duplicate key "{key_node.value}", first on line {first}')
            else:
                seen[key_node.value] = key_node.start_mark.line + 1
                pairs.append((key_node, value_node))
        return pairs

    def _value(self, node: yaml.Node, declared: Key, key: str) -> Any:
        reader: Callable[[yaml.Node, Key, str], Any] = getattr(self, f"_read_{declared.kind}")
        return reader(node, declared, key)

    def _read_text(self, node: yaml.Node, _declared: Key, key: str) -> str | None:
        if isinstance(node, yaml.ScalarNode) and node.tag != _NULL:
            return str(node.value)
        self.fault(node, f'"{key}" must be text')
        return None

    def _read_texts(self, node: yaml.Node, declared: Key, key: str) -> list[str]:
        if not isinstance(node, yaml.SequenceNode):
            self.fault(node, f'"{key}" must be a list of texts')
            return []
        read = [self._read_text(item, declared, key) for item in node.value]
        return [text for text in read if text is not None]

    def _read_word(self, node: yaml.Node, declared: Key, key: str) -> str | None:
        word = self._read_text(node, declared, key)
        if word is not None and word not in declared.words:
            near = get_close_matches(word, declared.words, n=1)
            hint = f'; did you mean "{near[0]}"?' if near else ""
            self.fault(node, f'"{key}" is "{word}", not one of {", ".join(declared.words)}{hint}')
            return None
        return word

    def _read_words(self, node: yaml.Node, declared: Key, key: str) -> list[str]:
        if not isinstance(node, yaml.SequenceNode):
            return self._read_texts(node, declared, key)
        read = [self._read_word(item, declared, key) for item in node.value]
        return [word for word in read if word is not None]

    def _read_flag(self, node: yaml.Node, _declared: Key, key: str) -> bool | None:
        if node.tag == "tag:yaml.org,2002:bool":
            return str(node.value).lower() in {"true", "yes", "on"}
        self.fault(node, f'"{key}" must be true or false')
        return None

    def _read_count(self, node: yaml.Node, declared: Key, key: str) -> int | None:
        highest = declared.highest if declared.highest is not None else 2**31 - 1
        text = node.value if isinstance(node, yaml.ScalarNode) else ""
        if text.isascii() and text.isdigit() and len(text) <= _MOST_DIGITS and int(text) <= highest:
            return int(text)
        self.fault(node, f'"{key}" must be a whole number from 0 to {highest}')
        return None

    def _read_time(self, node: yaml.Node, _declared: Key, key: str) -> datetime | None:
        text = node.value if isinstance(node, yaml.ScalarNode) else ""
        try:
            moment = datetime.fromisoformat(text)
            in_utc = moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
        except (ValueError, OverflowError):
            self.fault(node, f'"{key}" must be a date or an RFC 3339 time, as 2026-03-02T12:00:00Z')
            return None
        if moment.tzinfo is None and len(text) > len("2026-03-02"):
            self.fault(node, f'"{key}" needs an offset from UTC, as 2026-03-02T12:00:00Z')
            return None
        return in_utc

    def _read_predicate(self, node: yaml.Node, declared: Key, key: str) -> dict[str, list[str]]:
        if not isinstance(node, yaml.MappingNode) or not node.value:
            self.fault(node, f'"{key}" must map at least one column of a finding to its values')
            return {}
        found: dict[str, list[str]] = {}
        for key_node, value_node in self._pairs(node):
            if isinstance(value_node, yaml.SequenceNode):
                found[key_node.value] = self._read_texts(value_node, declared, key_node.value)
            else:
                text = self._read_text(value_node, declared, key_node.value)
                found[key_node.value] = [] if text is None else [text]
        return found

    def _read_entries(self, node: yaml.Node, declared: Key, key: str) -> list[Entry]:
        if not isinstance(node, yaml.SequenceNode):
            self.fault(node, f'"{key}" must be a list')
            self.unread.add(key)
            return []
        read = [self.mapping(item, declared.entry or {}, "") for item in node.value]
        return [entry for entry in read if entry is not None]

    def _read_named(self, node: yaml.Node, declared: Key, key: str) -> list[Entry]:
        if not isinstance(node, yaml.MappingNode):
            self.fault(node, f'"{key}" must map names to entries')
            self.unread.add(key)
            return []
        entries = []
        for name, value in self._pairs(node):
            if _is_blank(name.value):
                self.fault(name, "a name must not be empty")
            if value.tag == _NULL:
                value = yaml.MappingNode("tag:yaml.org,2002:map", [], name.start_mark)  # noqa: PLW2901 a name alone is an entry without keys
            entry = self.mapping(value, declared.entry or {}, name.value)
            if entry is not None:
                entries.append(entry)
        return entries

    def _nearest(self, key: str, known: Mapping[str, Key]) -> str:
        if key == "<<":
            return ": keys are not merged; write them out, or put limits into a class"
        near = get_close_matches(key, list(known), n=1)
        if near:
            return f'; did you mean "{near[0]}"?'
        if len(known) <= _MOST_NAMED:
            return f"; known are {', '.join(known)}"
        return f"; for those known: delegraph registry schema {Path(self.file).name}"


def _keys(node: yaml.Node) -> set[str]:
    pairs = node.value if isinstance(node, yaml.MappingNode) else []
    return {key.value for key, _ in pairs if isinstance(key, yaml.ScalarNode)}


def _is_blank(value: Any) -> bool:
    return isinstance(value, str) and not value.strip()


def _unreadable(text: bytes, error: ReaderError) -> tuple[int, str]:
    """Return the line, and in words what no YAML file may hold."""
    if error.encoding != "unicode":
        line = text.count(b"\n", 0, error.position) + 1
        return line, f"not {error.encoding.upper()}: byte 0x{error.character:02x}"
    before = text.decode(errors="replace")[: error.position]
    return before.count("\n") + 1, f"holds the control character U+{error.character:04X}"

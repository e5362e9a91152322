"""Paths into a JSON record, as a declared adapter writes them.

A path is `$`, then any of `.name`, `["any name"]`, `[0]` (`[-1]` is the last) and,
once and only for a list, `[*]`.  Knows nothing of YAML; makes DuckDB's SQL.

`Tree` gathers all paths of a file into the one shape that `json_transform` reads a
record by.  A place of which more than one kind of thing is wanted stays JSON there,
and is looked into later.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from itertools import groupby
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

MOST_STEPS = 32
_STEP = re.compile(
    r"""\.(?P<name>[^.\[\]"'*\s$]+)|\[(?P<at>-?[0-9]{1,4})\]|\[(?P<all>\*)\]"""
    r"""|\["(?P<double>[^"\\]+)"\]|\['(?P<single>[^'\\]+)'\]"""
)
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")

Step = str | int


@dataclass(frozen=True)
class Path:
    """Where a value stands: names and list positions."""

    steps: tuple[Step, ...]
    each: tuple[Step, ...] | None = None
    """Steps within each item, where the path goes through `[*]`."""

    @property
    def last_name(self) -> str:
        """Return the name nearest to the value; empty for the record itself."""
        names = [step for step in (*self.steps, *(self.each or ())) if isinstance(step, str)]
        return names[-1] if names else ""


def is_path(text: str) -> bool:
    """Return whether a text of the file means a path."""
    return text == "$" or text.startswith(("$.", "$["))


def parse_path(text: str) -> Path:
    """Return the path; ValueError with what is wrong about it."""
    steps: list[Step] = []
    each: list[Step] | None = None
    at = 1
    if _CONTROL.search(text):
        raise ValueError("it has a control character")
    while at < len(text):
        found = _STEP.match(text, at)
        if found is None:
            raise ValueError(f'"{text[at : at + 20]}" cannot stand there')
        at = found.end()
        if found["all"]:
            if each is not None:
                raise ValueError("[*] may stand in it once")
            each = []
            continue
        name = found["name"] or found["double"] or found["single"]
        (steps if each is None else each).append(name or int(found["at"]))
    if len(steps) + len(each or ()) > MOST_STEPS:
        raise ValueError(f"it has more than {MOST_STEPS} steps")
    return Path(tuple(steps), None if each is None else tuple(each))


def quoted(text: str) -> str:
    """Return an SQL text literal."""
    return "'" + text.replace("'", "''") + "'"


def inside(json: str, steps: Sequence[Step], *, as_text: bool) -> str:
    """Return what stands at some steps within a JSON value, as SQL."""
    pointers = []
    for are_names, part in groupby(steps, key=lambda step: isinstance(step, str)):
        if are_names:
            names = (str(step).replace("~", "~0").replace("/", "~1") for step in part)
            pointers.append("".join(f"/{name}" for name in names))
        else:
            pointers += [f"$[{step}]" if int(step) >= 0 else f"$[#{step}]" for step in part]
    last = pointers.pop() if pointers else "$"
    for pointer in pointers:
        json = f"json_extract({json}, {quoted(pointer)})"
    return f"json_extract{'_string' if as_text else ''}({json}, {quoted(last)})"


@dataclass
class Tree:
    """What is read of a record."""

    names: dict[str, Tree] = field(default_factory=dict)
    items: Tree | None = None
    as_text: bool = False
    as_json: bool = False

    def add(self, path: Path, *, as_json: bool = False) -> None:
        """Note that a path will be read."""
        node = self
        for step in path.steps:
            if isinstance(step, int):
                node.items = node.items or Tree()
                node = node.items
            else:
                node = node.names.setdefault(step, Tree())
        if as_json or path.each is not None:
            node.as_json = True
        else:
            node.as_text = True

    def shape(self) -> Any:
        """Return the type of this place for `json_transform`."""
        if self._is_json:
            return "JSON"
        if self.items is not None:
            return [self.items.shape()]
        if self.names:
            return {name: node.shape() for name, node in self.names.items()}
        return "VARCHAR"

    def text(self, path: Path) -> str:
        """Return the SQL of the text at a path without `[*]`; what is no text is JSON."""
        node, sql, rest = self._walk(path.steps)
        if not rest and not node._is_json:  # noqa: SLF001 - its own kind
            return sql
        return inside(sql, rest, as_text=True)

    def json(self, path: Path) -> str:
        """Return the SQL of the JSON at a path that was added as JSON."""
        _, sql, rest = self._walk(path.steps)
        return inside(sql, rest, as_text=False) if rest else sql

    @property
    def _is_json(self) -> bool:
        wanted = (self.as_text, bool(self.names), self.items is not None)
        # DuckDB's structs know no case, JSON does.
        differ_by_case = len({name.lower() for name in self.names}) < len(self.names)
        return self.as_json or sum(wanted) > 1 or differ_by_case

    def _walk(self, steps: Sequence[Step]) -> tuple[Tree, str, Sequence[Step]]:
        node, sql = self, "r"
        for at, step in enumerate(steps):
            if node._is_json:
                return node, sql, steps[at:]
            if isinstance(step, int):
                sql += f"[{step + 1 if step >= 0 else step}]"
                node = node.items or Tree()
            else:
                sql += '."' + step.replace('"', '""') + '"'
                node = node.names[step]
        return node, sql, ()

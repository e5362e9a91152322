"""Which source a record is of, told by its content: the adapter `auto`.

Asks every source's `recognises`, record by record, so that one file or topic may
hold records of several.  A document that lists records of several sources is
parted; one of a single source stays as it is, for its adapter reads the list itself.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from pipeline.ingest.file_records import Wrapping
from pipeline.ingest.json_text import dump_json, parse_json
from pipeline.ingest.sources import adapter_names, load_adapter

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pipeline.ingest.sources import Adapter

AUTO = "auto"

_BOM = b"\xef\xbb\xbf"
_LINES = ("log", "message")
"""Under which what gathers containers' logs holds a line: Docker, Fluent Bit, Fluentd."""
_GATHERED = frozenset({"stream", "kubernetes", "container_id"})
"""One stands beside the line: a message of any other log may be what somebody typed."""
_OPENINGS = frozenset(b"{[")
_UNKNOWN = (
    "no source recognises it: `delegraph sources ls` names them, "
    "`--adapter` takes a YAML file that maps records of your own"
)


class Part(NamedTuple):
    """One value, or the records in it that are of one source."""

    row: int
    adapter: str | None
    value: bytes | None
    is_whole: bool = True
    """Whether it is the value as it came."""
    fault: tuple[str, str] = ("adapt", _UNKNOWN)
    """Stage and reason where no source takes it."""


class Recogniser:
    """Knows every source; those of the user are asked before ours."""

    def __init__(self, own: Sequence[str] = ()) -> None:
        self._own = [(name, load_adapter(name)) for name in own]
        self._ours = [(name, load_adapter(name)) for name in adapter_names()]
        self._wrappers: tuple[str | None, ...] = tuple(
            sorted({source.WRAPPER for _, source in self._all() if source.WRAPPER})
        )
        self._last = self._ours[0]

    def wrapping(self) -> Wrapping:
        """Return how a file's document lists records, whichever source it is of."""
        return Wrapping(tuple(filter(None, self._wrappers)), self.listed)

    def name_of(self, record: object) -> str | None:
        """Return the source of one parsed record, or of bytes that are no JSON."""
        # Neighbours are mostly of one source, and no record is of two of ours.
        for name, source in (*self._own, self._last, *self._ours):
            if _recognises(source, record):
                if self._last[0] != name and (name, source) in self._ours:
                    self._last = (name, source)
                return name
        return None

    def listed(self, document: object) -> list[Any] | None:
        """Return the records that a document lists, None where it is a record itself."""
        if isinstance(document, list):
            return document
        if not isinstance(document, dict):
            return None
        name = self.name_of(document)
        names = self._wrappers if name is None else (load_adapter(name).WRAPPER,)
        for wrapper in names:
            records = document.get(wrapper)
            if isinstance(records, list) and any(map(self.name_of, records)):
                return records
        return None

    def parts(self, row: int, value: bytes | None) -> list[Part]:
        """Return the sources of one value; never none."""
        bare = (value or b"").removeprefix(_BOM).lstrip()
        if value is None or not bare:
            return [Part(row, None, value, fault=("frame", "no value"))]
        try:
            # Bytes of another form than JSON would only make a long message here.
            document = orjson.loads(bare) if bare[0] in _OPENINGS else value
        except orjson.JSONDecodeError as error:
            document, fault = value, ("decode", f"not JSON: {error}")
        else:
            fault = ("adapt", _UNKNOWN)
        name = self.name_of(document)
        if name is not None:
            return [Part(row, name, value)]
        told = _line_in(value, document)
        if told is not None and (name := self.name_of(_parsed(told))) is not None:
            return [Part(row, name, told, is_whole=False)]
        if isinstance(document, bytes):
            return [Part(row, None, value, fault=fault)]
        return self._parted(row, value, document)

    def _parted(self, row: int, value: bytes, document: object) -> list[Part]:
        records = self.listed(document) or []
        names = {self.name_of(record) for record in records}
        if not names or names == {None}:
            return [Part(row, None, value)]
        (name, *more) = names
        if name and not more and isinstance(document, list | dict):
            wrapper = load_adapter(name).WRAPPER
            if isinstance(document, list) or (wrapper and document.get(wrapper) is records):
                return [Part(row, name, value)]
        # Read again: numbers of more than 64 bits must come through as they are.
        groups: dict[str | None, list[Any]] = {}
        for record in self.listed(parse_json(value)) or []:
            groups.setdefault(self.name_of(record), []).append(record)
        return [Part(row, name, dump_json(group), is_whole=False) for name, group in groups.items()]

    def _all(self) -> list[tuple[str, Adapter]]:
        return [*self._own, *self._ours]


@cache
def recogniser(own: tuple[str, ...] = ()) -> Recogniser:
    """Return the one that knows these YAML files besides our sources."""
    return Recogniser(own)


def _line_in(value: bytes, document: object) -> bytes | None:
    """Return the line behind a prefix, or the one that a container's log holds as a text."""
    if isinstance(document, dict):
        if _GATHERED.isdisjoint(document):
            return None
        held = next((document[name] for name in _LINES if name in document), None)
        return held.encode("utf-8", "replace") if isinstance(held, str) else None
    at = value.find(b"{")
    return value[at:] if at > 0 and isinstance(document, bytes) else None


def _parsed(line: bytes) -> object:
    try:
        return orjson.loads(line)
    except orjson.JSONDecodeError:
        return None


def _recognises(source: Adapter, record: object) -> bool:
    try:
        return source.recognises(record)
    except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError):
        return False  # a source's bug on one record must not stop the others

"""The records in one file, as bytes an adapter takes.

Streams JSON lines, Avro containers and exports behind their lengths; a JSON document
is read whole.  Yields the good records before a fault, then the rest as one Faulty.
"""

from __future__ import annotations

import json
import re
import zlib
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any

import fastavro
import orjson

from pipeline.errors import SourceError
from pipeline.events.schema import FAMILIES
from pipeline.ingest.file_frames import ZSTD, Broken, frames, is_export, is_framed, unpacked
from pipeline.ingest.json_text import dump_json, member, parse_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

READ_BYTES = 64 * 1024
MAX_LINE_BYTES = 64 * 1024 * 1024
MAX_DOCUMENT_BYTES = 256 * 1024 * 1024

_GZIP, _AVRO, _BOM = b"\x1f\x8b", b"Obj\x01", b"\xef\xbb\xbf"
_AVRO_FAULTS = (
    ArithmeticError,
    EOFError,
    LookupError,
    TypeError,
    ValueError,
    zlib.error,
    fastavro.schema.SchemaParseException,
)
_LINE_NAMES = (".jsonl", ".ndjson")
_BETWEEN = re.compile(r"[\s,]*")
_MEMBERS_BEFORE = r'(?:"[^"\\]*"\s*:\s*(?:"[^"\\]*"|[\w.+-]+|\{[^{}\[\]]*\})\s*,\s*)*'
"""What a list may say of itself in front of its records."""


@dataclass(frozen=True)
class Faulty:
    """What is left of a file that ends early or is damaged."""

    raw: bytes
    reason: str
    stage: str = "frame"


@dataclass(frozen=True)
class Wrapping:
    """How a document lists records."""

    names: tuple[str, ...] = ()
    """Members under which the records may stand."""
    listed: Callable[[Any], list[Any] | None] = lambda _: None
    """Returns the records of a document, None where it is one itself."""


def wrapped_in(name: str | None) -> Wrapping:
    """Return how documents list records that do it in an array or under this member."""

    def listed(document: Any) -> list[Any] | None:
        found = member(document, name) if name else None
        found = document if isinstance(document, list) else found
        return found if isinstance(found, list) else None

    return Wrapping((name,) if name else (), listed)


def read_records(path: Path, wrapper: str | Wrapping | None) -> Iterator[bytes | Faulty]:
    """Yield the records of a file in order; SourceError when it cannot be opened."""
    wrapping = wrapper if isinstance(wrapper, Wrapping) else wrapped_in(wrapper)
    try:
        with path.open("rb") as stream:
            head = stream.read(len(_AVRO))
            stream.seek(0)
            if head.startswith(_AVRO):
                yield from _avro_records(stream, path)
            else:
                yield from _records(_chunks(stream, head), path, wrapping)
    except OSError as error:
        raise SourceError(f"{path}: {error.strerror or 'cannot be read'}") from error


def _chunks(stream: IO[bytes], head: bytes) -> Iterator[bytes]:
    if head.startswith(_GZIP):
        return _unzipped(stream)
    if head.startswith(ZSTD):
        return unpacked(stream, READ_BYTES)
    return iter(lambda: stream.read(READ_BYTES), b"")


def _unzipped(stream: IO[bytes]) -> Iterator[bytes]:
    engine = zlib.decompressobj(wbits=31)
    while chunk := stream.read(READ_BYTES):
        while chunk:
            try:
                yield engine.decompress(chunk)
            except zlib.error as error:
                raise Broken("the gzip data is damaged") from error
            chunk = engine.unused_data.lstrip(b"\0") if engine.eof else b""
            if engine.eof and chunk:
                engine = zlib.decompressobj(wbits=31)
    if not engine.eof:
        raise Broken("the gzip data ends early")


def _records(chunks: Iterator[bytes], path: Path, wrapping: Wrapping) -> Iterator[bytes | Faulty]:
    head, broken = b"", ""
    try:
        while b"\n" not in head.lstrip() and (chunk := next(chunks, b"")) != b"":
            head += chunk
            if len(head) > MAX_DOCUMENT_BYTES:
                break
    except Broken as error:
        broken = str(error)
    head = head.removeprefix(_BOM)
    if is_framed(head):
        yield from _framed(_chain(head, chunks), broken)
    elif is_export(head):
        yield from _export(head, chunks, path, broken)
    elif broken:
        yield from (
            _lines(iter([head]), broken)
            if _is_lines(path, head)
            else _document(head, broken, wrapping)
        )
    elif _is_lines(path, head):
        yield from _lines(_chain(head, chunks), "")
    else:
        yield from _whole(head, chunks, path, wrapping)


def _chain(head: bytes, chunks: Iterator[bytes]) -> Iterator[bytes]:
    yield head
    yield from chunks


def _is_lines(path: Path, head: bytes) -> bool:
    if path.name.lower().removesuffix(".gz").endswith(_LINE_NAMES):
        return True
    first, newline, rest = head.strip().partition(b"\n")
    if _is_behind_prefix(first):
        return True
    if not newline or not rest.strip():
        return False
    return _is_object(first) or (
        _opens_and_closes(first) and any(map(_is_object, rest.split(b"\n")))
    )


def _is_behind_prefix(line: bytes) -> bool:
    """Return whether a log's prefix and a record make a line; an array's opening is none."""
    prefix, opening, rest = line.partition(b"{")
    return bool(prefix.strip(b"[ \t")) and _is_object(opening + rest)


def _is_object(line: bytes) -> bool:
    try:
        return isinstance(orjson.loads(line), dict)
    except orjson.JSONDecodeError:
        return False


def _opens_and_closes(line: bytes) -> bool:
    return line.lstrip().startswith(b"{") and line.rstrip().endswith(b"}")


def _lines(chunks: Iterator[bytes], broken: str) -> Iterator[bytes | Faulty]:
    rest, skipping = b"", False
    try:
        for chunk in chunks:
            *whole, rest = (rest + chunk).split(b"\n")
            if skipping and whole:
                whole, skipping = whole[1:], False
            yield from (line for line in map(bytes.strip, whole) if line)
            if len(rest) > MAX_LINE_BYTES and not skipping:
                skipping = True
                yield Faulty(rest[:READ_BYTES], f"a line is longer than {MAX_LINE_BYTES} bytes")
            rest = b"" if skipping else rest
    except Broken as error:
        broken = str(error)
    rest = rest.strip()
    # A last line that is whole is a record, even where the gzip data ends behind it.
    if rest and (not broken or _is_object(rest)):
        yield rest
        rest = b""
    if broken:
        yield Faulty(rest, broken)


def _framed(chunks: Iterator[bytes], broken: str) -> Iterator[bytes | Faulty]:
    try:
        yield from frames(chunks)
    except Broken as error:
        yield Faulty(b"", broken or str(error))


def _export(
    head: bytes, chunks: Iterator[bytes], path: Path, broken: str
) -> Iterator[bytes | Faulty]:
    raw, at_end = _read_on(head, chunks, path)
    if broken or at_end:
        yield Faulty(raw, broken or at_end)
    else:
        yield raw


def _whole(
    head: bytes, chunks: Iterator[bytes], path: Path, wrapping: Wrapping
) -> Iterator[bytes | Faulty]:
    yield from _document(*_read_on(head, chunks, path), wrapping)


def _read_on(head: bytes, chunks: Iterator[bytes], path: Path) -> tuple[bytes, str]:
    """Return all bytes there are, and what is wrong where they end early."""
    parts, size, broken = [head], len(head), ""
    try:
        for chunk in chunks:
            parts.append(chunk)
            size += len(chunk)
            if size > MAX_DOCUMENT_BYTES:
                raise SourceError(
                    f"{path}: one JSON document of more than {MAX_DOCUMENT_BYTES} bytes; "
                    "give it as JSON lines (.jsonl), which are read as a stream"
                )
    except Broken as error:
        broken = str(error)
    return b"".join(parts), broken


def _document(raw: bytes, broken: str, wrapping: Wrapping) -> Iterator[bytes | Faulty]:
    if not raw.strip():
        if broken:
            yield Faulty(b"", broken)
        return
    try:
        document = parse_json(raw)
    except ValueError as error:
        yield from _salvage(raw, wrapping, broken or f"not JSON: {error}")
        return
    listed = wrapping.listed(document)
    if listed is not None:
        yield from map(dump_json, listed)
    else:
        yield raw.strip()
    if broken:
        yield Faulty(b"", broken)


def _salvage(raw: bytes, wrapping: Wrapping, reason: str) -> Iterator[bytes | Faulty]:
    """Yield the records of an array up to the fault, then what is left as one.

    Objects one after the other, printed over several lines, have no fault at all.
    """
    text = raw.decode("utf-8", "surrogateescape")
    in_array = _array_start(text, wrapping)
    at = 0 if in_array is None and text.lstrip().startswith("{") else in_array
    decoder = json.JSONDecoder()
    while at is not None:
        begin = _BETWEEN.match(text, at).end()  # type: ignore[union-attr]
        if in_array is None and begin == len(text) and reason.startswith("not JSON"):
            return
        try:
            record, at = decoder.raw_decode(text, begin)
        except (ValueError, RecursionError):
            text = text[begin:]
            break
        if not isinstance(record, dict):
            text = text[begin:]
            break
        yield text[begin:at].encode("utf-8", "surrogateescape")
    stage = "decode" if reason.startswith("not JSON") else "frame"
    yield Faulty(text.encode("utf-8", "surrogateescape"), reason, stage)


def _array_start(text: str, wrapping: Wrapping) -> int | None:
    opening = re.compile(r"\s*\[")
    if wrapping.names:
        names = "|".join(map(re.escape, wrapping.names))
        opening = re.compile(rf'\s*(?:\[|\{{\s*{_MEMBERS_BEFORE}"(?:{names})"\s*:\s*\[)')
    found = opening.match(text)
    return found.end() if found else None


def _avro_records(stream: IO[bytes], path: Path) -> Iterator[bytes | Faulty]:
    try:
        reader = fastavro.reader(stream)
    except _AVRO_FAULTS as error:
        raise SourceError(f"{path}: an Avro container with an unreadable header") from error
    schema = reader.writer_schema
    name = str(schema.get("name") if isinstance(schema, dict) else "").rpartition(".")[2]
    family = {"family": name} if name in FAMILIES else {}
    try:
        for record in reader:
            whole = {**family, **record} if isinstance(record, dict) else record
            yield orjson.dumps(whole, default=_text)
    except _AVRO_FAULTS as error:
        yield Faulty(b"", f"the Avro container is damaged ({type(error).__name__})")


def _text(value: Any) -> str:
    return value.hex() if isinstance(value, bytes) else str(value)

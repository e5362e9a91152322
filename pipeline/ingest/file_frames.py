"""Files of exports in bytes: one alone, or each behind its length; and what zstd packed.

The OpenTelemetry Collector's file exporter writes a length of four bytes before each
export as soon as it writes protobuf or packs: each export is then packed on its own.
"""

from __future__ import annotations

import re
from typing import IO, TYPE_CHECKING

import pyarrow as pa

if TYPE_CHECKING:
    from collections.abc import Iterator

ZSTD = b"\x28\xb5\x2f\xfd"
_LENGTH = 4
_MAX_FRAME = 64 * 1024 * 1024
_PROTOBUF = b"\n"
"""Opens the first member of a message, where that holds others."""
_NO_TEXT = re.compile(rb"[\x00-\x08\x0e-\x1f]")


class Broken(Exception):  # noqa: N818 - an answer on the way, not an error of ours
    """The bytes end before they should."""


def unpacked(stream: IO[bytes], size: int) -> Iterator[bytes]:
    """Yield what zstd packed in pieces of this size; Broken where it is damaged or cut."""
    with pa.CompressedInputStream(pa.PythonFile(stream, "r"), "zstd") as plain:
        while True:
            try:
                chunk = plain.read(size)
            except (OSError, pa.ArrowException) as error:
                raise Broken("the zstd data is damaged or ends early") from error
            if not chunk:
                return
            yield chunk


def is_framed(head: bytes) -> bool:
    """Return whether bytes begin with the length of an export, and the export."""
    length, begin = head[:_LENGTH], head[_LENGTH : 2 * _LENGTH]
    is_ours = begin[:1] in {_PROTOBUF, b"{"} or begin == ZSTD
    return is_ours and 0 < int.from_bytes(length) <= _MAX_FRAME


def is_export(head: bytes) -> bool:
    """Return whether bytes are protobuf that holds messages, and no text."""
    return head.startswith(_PROTOBUF) and _NO_TEXT.search(head[:1024]) is not None


def frames(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Yield the exports in order, each unpacked; Broken where one is cut or damaged."""
    rest = b""
    for chunk in chunks:
        rest += chunk
        while len(rest) >= _LENGTH:
            size = int.from_bytes(rest[:_LENGTH])
            if size > _MAX_FRAME:
                raise Broken("a length is given that no export has")
            if len(rest) < _LENGTH + size:
                break
            frame, rest = rest[_LENGTH : _LENGTH + size], rest[_LENGTH + size :]
            if frame:
                yield _plain(frame)
    if rest:
        raise Broken("the file ends within an export")


def _plain(frame: bytes) -> bytes:
    if not frame.startswith(ZSTD):
        return frame
    return b"".join(unpacked(pa.BufferReader(frame), _MAX_FRAME))

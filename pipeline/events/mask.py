"""Blank out credentials in raw bytes, byte for byte.

Takes a record as it came, whatever it is; leaves asterisks of the same length
where a credential stood, so that an Avro frame keeps its lengths and JSON stays
JSON.  Used for dead letters, which nobody could parse.
"""

from __future__ import annotations

import base64
import binascii
import re

from pipeline.events.shapes import IN_BINARY, IN_JSON_BYTES, is_raw_name, is_secret_name

# A key, its colon, and where its value begins; quotes may be escaped, for JSON
# is often carried as a text within JSON.
_KEY = re.compile(rb"""(\\*["'])([A-Za-z0-9_.\- ]{2,64})\\*["']\s*:\s*""")
_DIGIT = re.compile(rb"[0-9]")
_NOT_STRUCTURE = re.compile(rb"""[^\s"'\\:,{}\[\]0]""")


def redact_bytes(raw: bytes) -> bytes:
    """Return the bytes, equally long, with every credential blanked; twice gives the same."""
    is_binary = raw[:1] == b"\0" or raw[:2] == b"\xc3\x01"
    masked = bytearray(raw)
    for hit in (IN_BINARY if is_binary else IN_JSON_BYTES).finditer(raw):
        group = hit.lastindex or 0
        if hit.lastgroup == "basic" and not is_basic(hit["basic"]):
            continue
        start, end = hit.span(group)
        following = _end_of_text(raw, start) if is_binary else end
        kept = raw[following : following + 1] if following < end else b""
        masked[start:end] = b"*" * (end - start)
        if kept:
            # The next text's length: the frame must still parse.
            masked[following : following + 1] = kept
    if not is_binary or b'":' in raw:
        _blank_named_values(raw, masked)
    return bytes(masked)


def is_basic(value: bytes) -> bool:
    """Return whether this is base64 of a name and a password."""
    try:
        return b":" in base64.b64decode(value + b"=" * (-len(value) % 4), altchars=b"-_")
    except (binascii.Error, ValueError):
        return False


def _end_of_text(raw: bytes, start: int) -> int:
    """Return where an Avro string that begins here ends, if the bytes before are its length."""
    low = raw[start - 1] if start else 0
    if low >= 0x80 or start < 2:  # noqa: PLR2004 - a number's last byte is below 80 hex
        return len(raw)
    if raw[start - 2] >= 0x80 and low:  # noqa: PLR2004 - and the ones before are above
        return start + ((low << 7 | raw[start - 2] & 0x7F) >> 1)
    return start + (low >> 1)


def _blank_named_values(raw: bytes, masked: bytearray) -> None:
    """Blank the values of JSON keys that name a credential, or raw arguments and results."""
    done = 0
    for hit in _KEY.finditer(raw):
        name = hit[2].decode()
        if hit.end() < done or not (is_secret_name(name) or is_raw_name(name)):
            continue
        done = _end_of_value(raw, hit.end(), hit[1])
        masked[hit.end() : done] = _blank(raw[hit.end() : done])


def _blank(value: bytes) -> bytes:
    """Blank a JSON value: digits become zeros, for a bare number must stay a number."""
    if value.strip() in (b"true", b"false", b"null"):
        return value
    return _NOT_STRUCTURE.sub(b"*", _DIGIT.sub(b"0", value))


def _end_of_value(raw: bytes, start: int, quote: bytes) -> int:
    """Return where a JSON value ends, or the end of the bytes if it never does."""
    depth, at, in_text = 0, start, False
    while at < len(raw):
        if raw.startswith(quote, at) and not (len(quote) == 1 and raw[at - 1 : at] == b"\\"):
            in_text = not in_text
            at += len(quote)
            if not in_text and not depth:
                return at
            continue
        byte = raw[at : at + 1]
        if not in_text:
            depth += (byte in (b"{", b"[")) - (byte in (b"}", b"]"))
            if depth < 0 or (not depth and byte in (b",", b"}", b"]")):
                return at
        at += 1
    return at

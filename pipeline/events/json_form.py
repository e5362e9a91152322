"""Read events that travel as one JSON object each.

Takes numbered texts; leaves the objects by family and a failure for each text
that is no event.  An object that names a key twice is refused: two readers
would not agree on what it says.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from typing import TYPE_CHECKING, Any

import orjson

from pipeline.events.conform import Failure
from pipeline.events.schema import FAMILIES

if TYPE_CHECKING:
    from collections.abc import Iterable

_KEY_BEFORE_BLANK = re.compile(rb'"\s+:')

Objects = dict[str, list[tuple[int, dict[str, Any]]]]


def read_objects(numbered: Iterable[tuple[int, bytes]]) -> tuple[Objects, list[Failure]]:
    """Return the objects of each family with their row numbers, and the failures."""
    objects: Objects = defaultdict(list)
    failures: list[Failure] = []
    for row, text in numbered:
        try:
            record = orjson.loads(text.removeprefix(b"\xef\xbb\xbf"))
        except orjson.JSONDecodeError as fault:
            reason = f"not valid JSON: {fault.msg} at character {fault.pos}"
            failures.append(Failure(row, "decode", reason))
            continue
        family = record.get("family") if isinstance(record, dict) else None
        if family not in FAMILIES:
            reason = f"the key family must be one of {', '.join(FAMILIES)}"
            failures.append(Failure(row, "validate", reason))
        elif _may_repeat_a_key(text, record) and _repeats_a_key(text):
            failures.append(Failure(row, "decode", "the object has the same key twice"))
        else:
            objects[family].append((row, record))
    return objects, failures


def _may_repeat_a_key(text: bytes, record: dict[str, Any]) -> bool:
    """Return whether there are more keys in the text than in the object; quick, sometimes wrong."""
    try:
        keys = _count_keys(record)
    except RecursionError:
        return True
    return text.count(b'":') != keys or bool(_KEY_BEFORE_BLANK.search(text))


def _count_keys(value: dict[str, Any] | list[Any]) -> int:
    count = 0
    parts: Iterable[Any] = value
    if isinstance(value, dict):
        count, parts = len(value), value.values()
    for part in parts:
        if type(part) is dict or type(part) is list:
            count += _count_keys(part)
    return count


def _repeats_a_key(text: bytes) -> bool:
    repeated = False

    def note(pairs: list[tuple[str, Any]]) -> None:
        nonlocal repeated
        repeated = repeated or len({key for key, _ in pairs}) < len(pairs)

    try:
        json.loads(text.decode("utf-8-sig"), object_pairs_hook=note)
    except (ValueError, RecursionError):
        return True
    return repeated

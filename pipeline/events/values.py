"""Read loose values, as JSON has them, into contract columns.

Takes one Python value per event and gives one Arrow column; a value of the
wrong type is a problem of its own row only.  Reasons name the field, never the
value.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import accumulate, chain
from typing import Any

import orjson
import pyarrow as pa

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_RFC_3339 = re.compile(
    r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(?:\.\d{1,18})?(?:[Zz]|[+-]\d\d:\d\d)", re.ASCII
)

Reader = Callable[[Any], Any]


def read_time(value: object) -> int:
    """Return microseconds since 1970 of an RFC 3339 text, a datetime or an integer.

    Digits below the microsecond are cut.  Raises ValueError for anything else.
    """
    if type(value) is int:
        return value
    if isinstance(value, str):
        if not _RFC_3339.fullmatch(value):
            raise ValueError("is neither an RFC 3339 time nor integer microseconds")
        value = datetime.fromisoformat(value.upper())
    if not isinstance(value, datetime) or value.tzinfo is None:
        raise ValueError("is neither an RFC 3339 time nor integer microseconds")
    count: int = (value - _EPOCH) // _MICROSECOND
    return count


def to_text(value: object) -> str:
    """Return a value as the text that `ext` keeps: nested values as compact JSON."""
    if isinstance(value, str):
        return value
    try:
        return orjson.dumps(value, default=str, option=orjson.OPT_SORT_KEYS).decode()
    except (TypeError, ValueError):
        raise ValueError("is nested too deeply") from None


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("is not a string")  # noqa: TRY004 - a bad value, not a bug
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError("is not valid Unicode") from None
    return value


def _integer(bits: int) -> Reader:
    def read(value: object) -> int:
        if type(value) is not int:
            raise ValueError("is not an integer")
        if not -(1 << bits - 1) <= value < 1 << bits - 1:
            raise ValueError(f"does not fit {bits} bits")
        return value

    return read


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError("is neither true nor false")  # noqa: TRY004 - a bad value, not a bug
    return value


def _time(value: object) -> int:
    try:
        count: int = _integer(64)(read_time(value))
    except OverflowError:
        raise ValueError("is outside the years 1 to 9999") from None
    return count


def _list_of(item: Reader, what: str) -> Reader:
    def read(value: object) -> list[Any]:
        if not isinstance(value, list):
            raise ValueError(f"is not a list of {what}")  # noqa: TRY004 - a bad value
        try:
            return [item(part) for part in value]
        except ValueError:
            raise ValueError(f"is not a list of {what}") from None

    return read


def _record_of(members: Iterable[str]) -> Reader:
    names = tuple(members)

    def read(value: object) -> dict[str, str | None]:
        if not isinstance(value, Mapping):
            raise ValueError("is not an object")  # noqa: TRY004 - a bad value, not a bug
        return {name: None if value.get(name) is None else _text(value.get(name)) for name in names}

    return read


def _map(value: object) -> list[tuple[str, str]]:
    if isinstance(value, list):  # a map that came out of Arrow
        value = dict(value)
    if not isinstance(value, Mapping):
        raise ValueError("is not an object")  # noqa: TRY004 - a bad value, not a bug
    return sorted(
        (_text(key), _text(to_text(part))) for key, part in value.items() if part is not None
    )


def reader_of(kind: pa.DataType) -> Reader:  # noqa: PLR0911 - one for each type
    """Return the function that reads one loose value for a column of this type.

    The function raises ValueError, with a text that begins behind the field's name.
    """
    if pa.types.is_string(kind):
        return _text
    if pa.types.is_boolean(kind):
        return _flag
    if pa.types.is_timestamp(kind):
        return _time
    if pa.types.is_integer(kind):
        return _integer(kind.bit_width)
    if pa.types.is_map(kind):
        return _map
    if pa.types.is_struct(kind):
        return _record_of(kind.field(i).name for i in range(kind.num_fields))
    inner = kind.value_type
    return _list_of(reader_of(inner), "strings" if pa.types.is_string(inner) else "objects")


def _is_plain(values: Sequence[Any], kind: pa.DataType) -> bool:
    """Return whether Arrow may read the values itself, for it is laxer than the contract."""
    seen = set(map(type, values)) - {type(None)}
    if pa.types.is_string(kind):
        return seen <= {str}
    if pa.types.is_boolean(kind):
        return seen <= {bool}
    if pa.types.is_integer(kind):
        return seen <= {int}
    if pa.types.is_timestamp(kind):
        return seen <= {datetime} and {v.tzinfo for v in values if v is not None} <= {UTC}
    if pa.types.is_list(kind) and pa.types.is_string(kind.value_type):
        return seen <= {list} and set(map(type, chain.from_iterable(filter(None, values)))) <= {str}
    return not seen


def _are_texts(values: Sequence[Any]) -> bool:
    """Return whether all values are objects of texts, the usual kind of `ext`."""
    return (
        set(map(type, values)) <= {dict}
        and set(map(type, chain.from_iterable(values))) <= {str}
        and set(map(type, chain.from_iterable(map(dict.values, values)))) <= {str}
    )


def _maps(values: Sequence[Any], kind: pa.DataType) -> pa.Array:
    pairs = [sorted(value.items()) for value in values]
    ends = accumulate(map(len, pairs), initial=0)
    keys, texts = zip(*chain.from_iterable(pairs), strict=True) if any(pairs) else ((), ())
    parts = pa.array(keys, kind.key_type), pa.array(texts, kind.item_type)
    return pa.MapArray.from_arrays(pa.array(ends, pa.int32()), *parts, type=kind)


def read_column(
    values: Sequence[Any], field: pa.Field, default: object
) -> tuple[pa.Array, dict[int, str]]:
    """Return the column and the reason for each row whose value could not be read.

    A missing value takes the default; a row with a problem does too, or null.
    """
    filled = values if default is None else [default if v is None else v for v in values]
    try:
        if _is_plain(filled, field.type):
            return pa.array(filled, field.type), {}
        if pa.types.is_map(field.type) and _are_texts(filled):
            return _maps(filled, field.type), {}
    except (pa.ArrowInvalid, OverflowError, UnicodeEncodeError):
        pass  # one value is out of range: find it below
    read, problems = reader_of(field.type), {}
    out: list[Any] = []
    for row, value in enumerate(filled):
        try:
            out.append(None if value is None else read(value))
        except ValueError as fault:
            problems[row] = f"{field.name} {fault}"
            out.append(None)
    return pa.array(out, field.type), problems

"""What a dead letter keeps of bytes that no parser could read, or the wrong source was given.

A source hides parts of its records by their names, where it can read them.  Where nobody
can, all from the first of those names on is left out: the record is cut or damaged, no
fix makes it whole, and its end may be arguments or an answer.
"""

from __future__ import annotations

import re
from functools import cache

from pipeline.ingest.json_text import dump_json, parse_json
from pipeline.ingest.recognise import recogniser
from pipeline.ingest.sources import adapter_names, load_adapter
from pipeline.ingest.sql_source import without


def kept_of(value: bytes | None, own: tuple[str, ...] = ()) -> bytes | None:
    """Return what stands before the first name that a source hides, of ours or of the user."""
    if value is None:
        return None
    found = _names(own).search(value)
    return value if found is None else value[: found.start()]


def kept_of_another(raw: bytes, adapter: str) -> bytes | None:
    """Return what is kept of a record that one adapter refused and that is of another source.

    None where no other source of ours recognises it: nothing more is to be hidden then.
    """
    try:
        document = parse_json(raw)
    except ValueError:
        return None
    one = document[0] if isinstance(document, list) and document else document
    name = recogniser().name_of(one)
    return None if name in {None, adapter} else dump_json(without(document, _hidden(str(name))))


def _hidden(name: str) -> tuple[tuple[str, ...], ...]:
    adapter = load_adapter(name)
    source = getattr(adapter, "SOURCE", None)
    return tuple(source.hidden if source else getattr(adapter, "HIDDEN", ()))


@cache
def _names(own: tuple[str, ...]) -> re.Pattern[bytes]:
    known = {path[-1] for name in (*adapter_names(), *own) for path in _hidden(name)}
    names = "|".join(map(re.escape, sorted(known)))
    return re.compile(rf'"(?:{names})"\s*:'.encode(), re.IGNORECASE)

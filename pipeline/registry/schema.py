"""The JSON Schema of each registry file, derived from its declared shape.

For editors: they check a file while it is written.  What needs more than one
place to see, such as names that do not exist, only `delegraph registry check` finds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pipeline.registry.shapes import DOCS, FILES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pipeline.registry.shapes import Key

Schema = dict[str, Any]

# The loader takes any scalar as the text that was written: `version: 1.10` is a text.
_TEXT: Schema = {"type": ["string", "number", "boolean"]}
_TIME: Schema = {
    "type": "string",
    "pattern": r"^\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:\d\d))?$",
}
_HIGHEST = 2**31 - 1
_NOT_BLANK: Schema = {"pattern": r"\S"}


def file_schema(file: str) -> Schema:
    """Return the JSON Schema (draft 7) of one file of the registry."""
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": f"delegraph registry: {file}",
        **_mapping(FILES[file]),
    }


def schema_name(file: str) -> str:
    """Return the name under which a file's schema is published."""
    return file.replace(".yaml", ".schema.json")


def _mapping(shape: Mapping[str, Key]) -> Schema:
    required = [name for name, key in shape.items() if key.required]
    return {
        "type": "object",
        "additionalProperties": False,
        "properties": {name: _property(name, key) for name, key in shape.items()},
    } | ({"required": required} if required else {})


def _property(name: str, key: Key) -> Schema:
    schema = _value(key)
    # A key without a value is one that is not given.
    needed = schema | _NOT_BLANK if key.kind == "text" else schema
    allowed = needed if key.required else {"anyOf": [schema, {"type": "null"}]}
    return allowed | ({"description": DOCS[name]} if name in DOCS else {})


def _value(key: Key) -> Schema:
    if key.kind in ("entries", "named"):
        entry = _mapping(key.entry or {})
        if key.kind == "entries":
            return {"type": "array", "items": entry}
        # A name alone is an entry without keys, where none is required.
        inner = entry if "required" in entry else {"anyOf": [entry, {"type": "null"}]}
        return {"type": "object", "propertyNames": _NOT_BLANK, "additionalProperties": inner}
    words: Schema = {"enum": list(key.words)}
    texts: Schema = {"type": "array", "items": _TEXT}
    return {
        "text": _TEXT,
        "texts": texts,
        "flag": {"type": "boolean"},
        "count": {
            "type": "integer",
            "minimum": 0,
            "maximum": _HIGHEST if key.highest is None else key.highest,
        },
        "time": _TIME,
        "word": words,
        "words": {"type": "array", "items": words},
        "predicate": {
            "type": "object",
            "minProperties": 1,
            "additionalProperties": {"anyOf": [_TEXT, texts]},
        },
    }[key.kind]

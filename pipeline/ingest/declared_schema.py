"""The JSON Schema of a declared adapter, derived from the contract.

For editors: they name fields and words while a file is written.  What needs the paths
to be understood, only `delegraph sources check` finds.
"""

from __future__ import annotations

from typing import Any

from pipeline.events.schema import FAMILIES, contract_schema, defaults, enum_symbols, nested_enums
from pipeline.ingest.declared_fields import UNITS, Column, column_of
from pipeline.ingest.declared_read import GIVEN, NAME

Schema = dict[str, Any]


def _ref(name: str) -> Schema:
    return {"$ref": f"#/definitions/{name}"}


_TEXT: Schema = {"type": ["string", "number", "boolean"]}
_PATH: Schema = {"type": "string", "pattern": r"^\$[.\[]"}
_REF = _ref("path")
_PATHS: Schema = {"anyOf": [_REF, {"type": "array", "minItems": 1, "items": _REF}]}
_TEXTS: Schema = {"type": "array", "items": _TEXT}


def adapter_schema() -> Schema:
    """Return the JSON Schema (draft 7) of an adapter's YAML file."""
    conditions = _ref("conditions")
    top = {
        "adapter": _TEXT | {"pattern": f"^{NAME.pattern}$"},
        "wrapper": _TEXT,
        "recognise": conditions,
        "source": {"anyOf": [_TEXT, _mapping({"name": _TEXT, "instance": _ref("text")}, ["name"])]},
        "observer": {"enum": list(enum_symbols("tool_call")["observer"])},
        "hidden": {"type": "array", "minItems": 1, "items": _REF},
        "events": {
            "type": "array",
            "minItems": 1,
            "items": {"anyOf": [_event(family, conditions) for family in FAMILIES]},
        },
        "skip": {
            "type": "array",
            "minItems": 1,
            "items": _mapping({"when": conditions, "reason": _TEXT}, ["when", "reason"]),
        },
    }
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "delegraph: an adapter of your own",
        "definitions": _definitions(),
        **_mapping(top, ["adapter", "source", "observer", "events"]),
    }


def _definitions() -> Schema:
    one = _ref("condition")
    found: Schema = {
        "path": _PATH,
        "condition": _condition(),
        "conditions": {"anyOf": [one, {"type": "array", "minItems": 1, "items": one}]},
    }
    for family in FAMILIES:
        for name in contract_schema(family).names:
            column = column_of(family, name)
            found.setdefault(_definition(family, column), _kind(column))
    return found


def _definition(family: str, column: Column) -> str:
    """Return the name under which a column's values are defined."""
    if column.kind == "structs":
        return column.name
    if column.kind == "word":
        shared = all(
            enum_symbols(other).get(column.name, column.words) == column.words for other in FAMILIES
        )
        return column.name if shared else f"{family}.{column.name}"
    return column.kind


def _mapping(properties: Schema, required: list[str] | None = None) -> Schema:
    return {"type": "object", "additionalProperties": False, "properties": properties} | (
        {"required": required} if required else {}
    )


def _condition() -> Schema:
    tests: Schema = {
        "in": _TEXTS,
        "not_in": _TEXTS,
        "exists": {"type": "boolean"},
        "matches": _TEXT,
    }
    single = [_mapping({"path": _REF, name: test}, ["path", name]) for name, test in tests.items()]
    return {
        "anyOf": [
            *single,
            _mapping(
                {"any": {"type": "array", "minItems": 1, "items": {"anyOf": single}}}, ["any"]
            ),
        ]
    }


def _event(family: str, conditions: Schema) -> Schema:
    optional = defaults(family).keys() | GIVEN
    names = contract_schema(family).names
    fields = {
        name: {
            "description": contract_schema(family).field(name).metadata[b"doc"].decode(),
            "allOf": [_ref(_definition(family, column_of(family, name)))],
        }
        for name in names
    }
    required = [name for name in names if name not in optional]
    return _mapping(
        {"family": {"const": family}, "when": conditions, "fields": _mapping(fields, required)},
        ["family", "fields"],
    )


def _kind(column: Column) -> Schema:
    if column.kind == "map":
        return {"type": "object", "additionalProperties": _ref("text")}
    if column.kind == "structs":
        return _structs(column)
    by_kind: dict[str, Schema] = {
        "word": {"enum": list(column.words)},
        "flag": {"type": "boolean"},
        "number": {"type": "integer", "minimum": 0},
        "time": {"not": {}},
        "hash": {"not": {}},
    }
    fixed = by_kind.get(column.kind, _TEXT)
    more: Schema = {
        "list": {"split": _TEXT},
        "time": {"unit": {"enum": list(UNITS)}},
        "text": {"digest": {"type": "boolean"}},
        "hash": {"digest": {"type": "boolean"}},
    }.get(column.kind, {})
    schema = _value(fixed, more, is_mapped=column.kind not in ("time", "hash"))
    return {"anyOf": [*schema["anyOf"], _TEXTS]} if column.kind == "list" else schema


def _value(fixed: Schema, more: Schema | None = None, *, is_mapped: bool = True) -> Schema:
    options = dict(more or {})
    if is_mapped:
        options |= {"map": {"type": "object", "additionalProperties": fixed}, "default": fixed}
    several = {"type": "array", "minItems": 1, "items": {"anyOf": [_REF, fixed]}}
    given = {
        "path": _PATHS,
        "value": {"anyOf": [fixed, _TEXTS]} if "split" in options else fixed,
        "join": {"type": "array", "minItems": 1, "items": _TEXT},
    }
    return {
        "anyOf": [
            _REF,
            fixed,
            several,
            *(_mapping({name: part, **options}, [name]) for name, part in given.items()),
        ]
    }


def _structs(column: Column) -> Schema:
    words = nested_enums(column.name)
    members = {
        name: _value({"enum": list(words[name])}) if name in words else _ref("text")
        for name in column.members
    }
    needed = sorted(column.needed)
    return {
        "anyOf": [
            _mapping({"list": _REF, "nested": _TEXT, **members}, ["list", *needed]),
            {"type": "array", "minItems": 1, "items": _mapping(members, needed)},
        ]
    }

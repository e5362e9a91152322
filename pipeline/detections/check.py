"""Check a rule's SQL without data: does it bind to the documented views, and fit its rule.toml?

Each rule is bound to empty views of exactly the tables that it declares, so a
table that it reads without saying so is a fault, and no query runs on rows.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from functools import cache
from typing import TYPE_CHECKING, Any

import duckdb
import pyarrow as pa

from pipeline.detections.bind import run_statement, single_select
from pipeline.detections.rule import Rule, nearest, read_rules
from pipeline.errors import RuleError, RuleErrors
from pipeline.events.schema import TABLES, TIMESTAMP
from pipeline.lake.tables import declaration, tables
from pipeline.registry import load_registry

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping
    from pathlib import Path

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
WATERMARKS = pa.schema([("tenant_id", pa.string()), ("watermark", TIMESTAMP)])
ACTIVITY = pa.schema(
    [
        ("tenant_id", pa.string()),
        ("identity_id", pa.string()),
        ("name", pa.string()),
        ("issuer", pa.string()),
        ("first_at", TIMESTAMP),
        ("last_at", TIMESTAMP),
        ("event_uids", pa.list_(pa.string())),
    ]
)
REQUIRED_COLUMNS = ("tenant_id", "entity", "first_seen", "last_seen", "event_uids")
# What the engine understands; `None` stands for any type that can be cast.
KNOWN_COLUMNS = {
    "tenant_id": pa.string(),
    "entity": pa.string(),
    "first_seen": TIMESTAMP,
    "last_seen": TIMESTAMP,
    "event_uids": pa.list_(pa.string()),
    "title": pa.string(),
    "severity": pa.int32(),
    "severity_delta": pa.int32(),
    "confidence": pa.float64(),
    "credential_key": pa.string(),
    "possible": pa.bool_(),
    "action_class": pa.string(),
    "resource_sensitivity": pa.int32(),
    "irreversible": pa.bool_(),
    "vendor_hosted": pa.bool_(),
    "cross_domain": pa.bool_(),
    "environment": pa.string(),
    "chain_confidence": pa.float64(),
    "observer": pa.string(),
    "identity_id": pa.string(),
    "coverage_note": pa.string(),
}
# Half of all columns end in `_id`: those are not yet alike.
_LIKE = 0.8
_GRAPH_VALUES = ("finding_id", "tenant_id", "credential_key", "entity")


def load_rules(more: Iterable[Path] = (), *, only: Collection[str] | None = None) -> list[Rule]:
    """Return our rules and those of more folders, checked, in order of their codes.

    `only` names rule ids or codes.

    Raises:
        RuleErrors: every fault of every rule, with file and line.
    """
    rules, errors = read_rules(more, only=only)
    errors += [error for rule in rules for error in check_rule(rule)]
    if errors:
        raise RuleErrors(errors)
    return rules


def check_rule(rule: Rule) -> list[RuleError]:
    """Return the faults of a rule's SQL."""
    known = view_schemas()
    errors = [
        _toml_fault(rule, "tables", f'there is no view "{name}"{nearest(name, known)}')
        for name in rule.tables
        if name not in known
    ]
    if errors:
        return errors
    with _views(rule, known) as con:
        for file in rule.sql:
            try:
                columns = _bind(con, rule, file)
            except RuleError as error:
                errors.append(error)
                continue
            if file == "rule.sql":
                errors += _column_faults(rule, columns)
            if file == "count.sql" and not _is_one_number(columns):
                errors.append(RuleError(rule.file(file), 1, "must return one whole number"))
        if not errors:
            errors += _unused(con, rule)
    return errors


def row_columns(rule: Rule) -> list[str]:
    """Return the columns of a rule's rows; none where its SQL does not bind."""
    known = view_schemas()
    with _views(rule, known) as con:
        try:
            return list(_bind(con, rule, "rule.sql").names)
        except RuleError:
            return []


def _views(rule: Rule, known: Mapping[str, pa.Schema]) -> duckdb.DuckDBPyConnection:
    """Return a connection that has the rule's tables, empty, and can read nothing else."""
    con = duckdb.connect()
    con.execute("SET TimeZone = 'UTC'")
    for name in rule.tables:
        if name in known:
            con.register(name, known[name].empty_table())
    con.execute("SET enable_external_access = false")
    return con


@cache
def view_schemas() -> dict[str, pa.Schema]:
    """Return the columns of everything that a rule may read."""
    found = {
        name: pa.schema([field.remove_metadata() for field in table.schema])
        for name, table in tables().items()
    }
    conflict = pa.field("id_conflict", pa.bool_())
    for name in TABLES.values():
        found[name] = found[name].append(conflict)
    added = [field.remove_metadata() for field in declaration("calls")[0].schema]
    found["calls"] = pa.schema([*found["tool_calls"], *added])
    found |= {name: table.schema for name, table in load_registry(None).tables().items()}
    return found | {"rule_watermarks": WATERMARKS, "identity_activity": ACTIVITY}


def _bind(con: duckdb.DuckDBPyConnection, rule: Rule, file: str) -> pa.Schema:
    values: dict[str, Any] = {
        name: parameter.default for name, parameter in rule.parameters.items()
    }
    values |= {"as_of": EPOCH, "from": EPOCH, "to": EPOCH}
    if file == "graph.sql":
        values |= dict.fromkeys(_GRAPH_VALUES, "")
    return run_statement(con, rule.file(file), rule.sql[file], values).schema


def _column_faults(rule: Rule, columns: pa.Schema) -> list[RuleError]:
    file, names = rule.file("rule.sql"), columns.names
    needed = [*REQUIRED_COLUMNS, *rule.identity]
    errors = [
        RuleError(file, 1, f'the column "{name}" is missing{nearest(name, names, _LIKE)}')
        for name in dict.fromkeys(needed)
        if name not in names
    ]
    doubled = sorted({name for name in names if names.count(name) > 1})
    errors += [RuleError(file, 1, f'the column "{name}" comes twice') for name in doubled]
    if errors:
        return errors
    for name in rule.identity:
        kind = columns.field(name).type
        if pa.types.is_temporal(kind) and not pa.types.is_date(kind):
            errors.append(RuleError(file, 1, f'identity "{name}" is a time: an id cannot hold it'))
        elif pa.types.is_floating(kind):
            errors.append(RuleError(file, 1, f'identity "{name}" is a fraction; cast it to text'))
    for name, kind in KNOWN_COLUMNS.items():
        if name in names and not _fits(columns.field(name).type, kind):
            have = columns.field(name).type
            errors.append(RuleError(file, 1, f'the column "{name}" is {have}, must be {kind}'))
    return errors


def _is_one_number(columns: pa.Schema) -> bool:
    kinds = columns.types
    return len(kinds) == 1 and (pa.types.is_integer(kinds[0]) or pa.types.is_decimal(kinds[0]))


def _fits(have: pa.DataType, wanted: pa.DataType) -> bool:
    if pa.types.is_null(have):
        return True
    if pa.types.is_integer(wanted):
        return bool(pa.types.is_integer(have) or pa.types.is_decimal(have))
    if pa.types.is_floating(wanted):
        return bool(pa.types.is_primitive(have) or pa.types.is_decimal(have))
    if pa.types.is_list(wanted):
        return pa.types.is_list(have) and _fits(have.value_type, wanted.value_type)
    if pa.types.is_timestamp(wanted):
        return pa.types.is_timestamp(have) and have.tz is not None
    return bool(have == wanted)


def _unused(con: duckdb.DuckDBPyConnection, rule: Rule) -> list[RuleError]:
    """Return an error for each parameter and table that rule.toml declares in vain."""
    used: set[str] = set()
    words: set[str] = set()
    for file, sql in rule.sql.items():
        used |= set(single_select(con, rule.file(file), sql).named_parameters)
        words |= set(re.findall(r"\w+", re.sub(r"--.*", "", sql)))
    return [
        *(
            _toml_fault(rule, name, f'parameter "{name}" is used by no statement')
            for name in rule.parameters
            if name not in used
        ),
        *(
            _toml_fault(rule, "tables", f'needs.tables names "{name}", which no statement reads')
            for name in rule.tables
            if name not in words
        ),
    ]


def _toml_fault(rule: Rule, key: str, message: str) -> RuleError:
    text = (rule.folder / "rule.toml").read_text(encoding="utf-8")
    mention = re.compile(rf"^\s*(\[[\w.]*\b{re.escape(key)}\]|{re.escape(key)}\s*=)")
    lines = enumerate(text.splitlines(), start=1)
    line = next((number for number, line in lines if mention.match(line)), 1)
    return RuleError(rule.file("rule.toml"), line, message)

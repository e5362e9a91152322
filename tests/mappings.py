"""Which vendor field goes into which field of the contract, read out of a source's SQL.

Follows columns through CTEs, lateral aliases, lambdas and struct members down to paths of
the vendor's record.  What stands in a condition counts only for columns that are made of
constants: there it decides which.  `WHERE` decides whether there is a row, and is left out.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import sqlglot
from sqlglot import exp

from pipeline.events.schema import FAMILIES, contract_schema
from pipeline.ingest.sources import load_adapter

WHOLE = ("(the whole record)",)
BATCH = ("(the records around it)",)
GIVEN = {"$tenant_id": "`--tenant`", "$instance": "`--instance`", "$received_at": "when it came"}

Path = tuple[str, ...]


class Mapped(NamedTuple):
    family: str
    column: str
    """A contract field, or `ext.` and a key."""
    paths: tuple[Path, ...]
    words: tuple[str, ...]
    """Constants, where nothing of the record is read."""


@dataclass(frozen=True)
class Found:
    """Where a value comes from."""

    values: frozenset[Path] = frozenset()
    """What it may be, so that a member of it is a member of these."""
    conditions: frozenset[Path] = frozenset()
    words: tuple[str, ...] = ()

    def member(self, name: str) -> Found:
        values = frozenset(
            path if path in (WHOLE, BATCH) else (*path, name) for path in self.values
        )
        return Found(values, self.conditions)

    @property
    def all(self) -> frozenset[Path]:
        return self.values | self.conditions

    def decides(self) -> Found:
        return Found(frozenset(), self.all)

    def __or__(self, other: Found) -> Found:
        words = (*self.words, *(word for word in other.words if word not in self.words))
        return Found(self.values | other.values, self.conditions | other.conditions, words)


Columns = dict[str, Found]


@dataclass
class Scope:
    columns: Columns
    tables: dict[str, Columns] = field(default_factory=dict)


def mapping_of(name: str) -> list[Mapped]:
    """Return the rows of a source's mapping, in the order of the contract."""
    source = load_adapter(name).SOURCE
    rows = []
    for family in FAMILIES:
        if family in source.statements:
            tree = sqlglot.parse_one(source.statements[family], dialect="duckdb")
            rows += _rows(family, tree, _records(source, tree))
    return rows


def _records(source, tree) -> Columns:
    named = {part.name for part in tree.find_all(exp.Identifier)}
    columns = {"part": Found(), "sha256": Found(frozenset({WHOLE})), "r": Found(frozenset({()}))}
    columns |= {name: Found(frozenset({path})) for name, path in source.digests.items()}
    if source.derive:
        columns |= {name: Found(frozenset({BATCH})) for name in source.derive([]) if name in named}
    return columns


def _rows(family, tree, records) -> list[Mapped]:
    known = contract_schema(family).names
    columns, exts = _final(tree, {"records": records})
    found = {**columns, **{f"ext.{key}": value for key, value in exts.items()}}
    if exts:
        found.pop("ext", None)
    order = {name: at for at, name in enumerate(known)}
    chosen = [name for name in found if name.partition(".")[0] in order]
    chosen.sort(key=lambda name: order[name.partition(".")[0]])
    rows = []
    for name in chosen:
        value = found[name]
        paths = tuple(sorted(filter(None, value.values or value.conditions)))
        words = () if paths else tuple(word for word in value.words if word.strip(" :/-"))
        if paths or words:
            rows.append(Mapped(family, name, paths, words))
    return rows


def _final(tree, tables) -> tuple[Columns, Columns]:
    """Return the columns of a statement, and the keys of its `ext` apart."""
    columns = _query(tree, tables)
    inner = tree
    while isinstance(inner, exp.SetOperation | exp.Subquery):
        inner = inner.this
    exts: Columns = {}
    for call in tree.find_all(exp.Anonymous):
        if call.name.lower() != "ext_of":
            continue
        names, texts = call.expressions
        if not (isinstance(names, exp.Array) and isinstance(texts, exp.Array)):
            return columns, {}
        select = call.find_ancestor(exp.Select)
        scope = _scope(select, _with_ctes(tree, tables))
        _aliases(select, scope)
        for key, text in zip(names.expressions, texts.expressions, strict=True):
            exts[key.name] = exts.get(key.name, Found()) | _of(text, scope)
    return columns, exts


def _with_ctes(tree, tables):
    tables = dict(tables)
    for cte in tree.ctes:
        tables[cte.alias] = _query(cte.this, tables)
    return tables


def _query(tree, tables) -> Columns:
    tables = _with_ctes(tree, tables)
    if isinstance(tree, exp.Subquery):
        return _query(tree.this, tables)
    if isinstance(tree, exp.SetOperation):
        left, right = _query(tree.left, tables), _query(tree.right, tables)
        names = dict.fromkeys([*left, *right])
        return {name: left.get(name, Found()) | right.get(name, Found()) for name in names}
    return _aliases(tree, _scope(tree, tables))


def _scope(select, tables) -> Scope:
    scope = Scope({})
    sources = [select.args.get("from_") or select.args.get("from")]
    sources += select.args.get("joins") or []
    sources += select.args.get("laterals") or []
    for part in sources:
        if part is not None:
            _enter(part.this if not isinstance(part, exp.Lateral) else part, tables, scope)
    return scope


def _enter(source, tables, scope) -> None:
    alias = source.alias_or_name
    if isinstance(source, exp.Table) and source.name in tables:
        columns = tables[source.name]
    elif isinstance(source, exp.Subquery):
        columns = _query(source.this, tables)
    else:
        # unnest(...) AS t(x)
        inner = Found()
        for part in source.find_all(exp.Column):
            inner |= _of(part, scope)
        names = source.alias_column_names or [alias]
        columns = dict.fromkeys(names, inner)
    scope.tables[alias] = columns
    for name, found in columns.items():
        scope.columns.setdefault(name, found)


def _aliases(select, scope) -> Columns:
    """Return what a SELECT gives; aliases may be used by those behind them."""
    given: Columns = {}
    for item in select.expressions:
        star = item if isinstance(item, exp.Star) else None
        if isinstance(item, exp.Column) and isinstance(item.this, exp.Star):
            given |= scope.tables.get(item.table, scope.columns)
        elif star is not None:
            given |= scope.columns
            for replaced in star.args.get("replace") or []:
                given[replaced.alias] = _of(replaced.this, scope)
        else:
            found = _of(item.unalias(), scope)
            given[item.alias_or_name] = found
            scope.columns.setdefault(item.alias_or_name, found)
    return given


def _of(node, scope) -> Found:
    """Return where an expression comes from."""
    handler = next((how for kind, how in _HANDLERS if isinstance(node, kind)), None)
    if handler:
        return handler(node, scope)
    found = Found()
    for child in node.iter_expressions():
        found |= _of(child, scope)
    return found


def _column(node, scope) -> Found:
    names = [part.name for part in node.parts]
    if names[0] not in scope.columns and names[0] in scope.tables:
        columns, names = scope.tables[names[0]], names[1:]
    else:
        columns = scope.columns
    found = columns.get(names[0], Found())
    for name in names[1:]:
        found = found.member(name)
    return found


def _dot(node, scope) -> Found:
    return _of(node.this, scope).member(node.expression.name)


def _bracket(node, scope) -> Found:
    found = _of(node.this, scope)
    for at in node.expressions:
        if isinstance(at, exp.Literal) and at.is_string:
            found = found.member(at.name)
        elif not isinstance(at, exp.Literal | exp.Slice | exp.Neg):
            found |= _of(at, scope).decides()
    return found


def _case(node, scope) -> Found:
    found = Found()
    if node.this is not None:
        found |= _of(node.this, scope).decides()
    for branch in node.args["ifs"]:
        found |= _of(branch.this, scope).decides() | _of(branch.args["true"], scope)
    if node.args.get("default") is not None:
        found |= _of(node.args["default"], scope)
    return found


def _condition(node, scope) -> Found:
    found = Found()
    for child in node.iter_expressions():
        found |= _of(child, scope).decides()
    return found


def _json(node, scope) -> Found:
    found = _of(node.this, scope)
    keys = [key.name for key in node.expression.find_all(exp.JSONPathKey)]
    for key in keys:
        found = found.member(key)
    return found


def _lambdas(node, scope) -> Found:
    """Return what a function over a list gives, whose function sees the list's items."""
    functions = [part for part in node.iter_expressions() if isinstance(part, exp.Lambda)]
    over, body = Found(), Found()
    for part in node.iter_expressions():
        if part not in functions:
            over |= _of(part, scope)
    for function in functions:
        inner = Scope({**scope.columns}, scope.tables)
        for parameter in function.expressions:
            inner.columns[parameter.name] = over
        body |= _of(function.this, inner)
    if "filter" in _name(node):
        return over | body.decides()
    return body | over.decides() if not body.all else body


def _name(node) -> str:
    return (node.name if isinstance(node, exp.Anonymous) else node.sql_name()).lower()


def _function(node, scope) -> Found:
    if any(isinstance(part, exp.Lambda) for part in node.iter_expressions()):
        return _lambdas(node, scope)
    found = Found()
    for child in node.iter_expressions():
        found |= _of(child, scope)
    return found


def _select(node, scope) -> Found:
    found = Found()
    for part in node.find_all(exp.Column):
        found |= _of(part, scope).decides()
    return found


_HANDLERS = (
    (exp.Column, _column),
    (exp.Dot, _dot),
    (exp.Bracket, _bracket),
    (exp.Case, _case),
    (exp.Literal, lambda node, _: Found(words=(node.name,))),
    (exp.Boolean, lambda node, _: Found(words=(str(node.this).lower(),))),
    ((exp.Parameter, exp.Placeholder), lambda node, _: Found(words=(f"${node.name}",))),
    ((exp.Select, exp.Subquery, exp.Exists), _select),
    ((exp.JSONExtract, exp.JSONExtractScalar), _json),
    ((exp.Predicate, exp.Connector, exp.Not), _condition),
    (exp.DataType, lambda *_: Found()),
    (exp.Func, _function),
)


def shown(path: Path) -> str:
    """Return a path as the README writes it."""
    if path in (WHOLE, BATCH):
        return path[0].strip("()")
    return "`" + ".".join(f'"{part}"' if "." in part else part for part in path) + "`"


def table_of(name: str) -> list[str]:
    """Return the Markdown table of a source, from its SQL or from its `MAPPING`."""
    source = load_adapter(name)
    if not hasattr(source, "SOURCE"):
        rows = [f"| {vendor} | {ours} |" for vendor, ours in getattr(source, "MAPPING", ())]
        return ["| the vendor's | becomes |", "| --- | --- |", *rows]
    families: dict[tuple[str, str], list[str]] = {}
    for row in mapping_of(name):
        families.setdefault((row.column, _origin(row)), []).append(row.family)
    rows = [
        f"| {', '.join(of)} | `{column}` | {origin} |" for (column, origin), of in families.items()
    ]
    return ["| family | field | from |", "| --- | --- | --- |", *rows]


def _origin(row: Mapped) -> str:
    if row.paths:
        return ", ".join(map(shown, row.paths))
    origin = ", ".join(GIVEN.get(word, f"`{word}`") for word in row.words).replace("\n", " ")
    return origin if any(word in GIVEN for word in row.words) else f"always {origin}"

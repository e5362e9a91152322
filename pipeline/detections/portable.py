"""Say a rule's SQL in Spark SQL, so that it means the same; or say with file and line why not.

Takes DuckDB SQL; leaves Spark SQL (4.x, ANSI mode, session in UTC).  sqlglot
translates the grammar; this module mends what it would change silently, above all
lists (members that are NULL, empty lists, places outside) and fractions of seconds.
Only functions that were compared on both engines are allowed.

    list(x)              keeps NULLs; NULL, not [], over no rows; keeps its ORDER BY
    list_contains, ...   ignore NULL members, and treat a missing list as DuckDB does
    l[1], list_slice     NULL or empty outside the list, where Spark raises
    epoch(t)             keeps the fraction
    arg_min(x, y)        passes over rows without x
    CAST(x AS BIGINT)    rounds, where Spark cuts
    CROSS JOIN unnest    stays a join in its place, so that later joins can use it
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import sqlglot
from sqlglot import exp

from pipeline.detections.portable_nodes import HANDLERS, unportable
from pipeline.errors import RuleError

if TYPE_CHECKING:
    from pipeline.detections.rule import Rule

# A statement whose CTEs, each written out wherever it is used, read more tables than this
# keeps Spark's analyser busy for minutes.
_MOST_READS = 12
# To the parser, `len` of a list and `length` of a text are one.
_LEN = re.compile(r"\blen\s*\(", re.IGNORECASE)


@dataclass(frozen=True)
class Step:
    """One SELECT whose rows are to be kept as a view of that name; the last one has no name."""

    name: str
    sql: str


def to_spark(file: str, sql: str) -> str:
    """Return the one SELECT of a rule's file in Spark SQL; `$name` becomes `:name`.

    Raises:
        RuleError: what has no equal in Spark, with its line and what to write instead.
    """
    return _render(file, _translate(file, sql))


def spark_steps(file: str, sql: str) -> list[Step]:
    """Return the same statement in steps whose results must be kept, the last its result.

    Spark writes every CTE out wherever it is used, so that some of our statements
    grow beyond what its analyser can bear.  A common part becomes a step when the
    statement would otherwise read too many tables; most statements stay in one piece.

    Raises:
        RuleError: as `to_spark` does.
    """
    tree = _translate(file, sql)
    steps = []
    with_ = tree.args.get("with_")
    common = list(with_.expressions) if with_ else []
    reads: dict[str, int] = {}
    kept: list[Any] = []
    uses = Counter(table.name for table in tree.find_all(exp.Table))
    for part in common:
        reads[part.alias] = _reads(part.this, reads)
        if uses[part.alias] > 1 and reads[part.alias] * uses[part.alias] > _MOST_READS:
            steps.append(Step(part.alias, _render(file, _with(part.this, kept))))
            reads[part.alias] = 1
        else:
            kept.append(part)
    tree.set("with_", None)
    return [*steps, Step("", _render(file, _with(tree, kept)))]


def spark_faults(rule: Rule) -> list[RuleError]:
    """Return what of a rule's SQL has no equal in Spark."""
    faults = []
    for name, sql in rule.sql.items():
        try:
            to_spark(rule.file(name), sql)
        except RuleError as fault:
            faults.append(fault)
    return faults


def _reads(tree: Any, known: dict[str, int]) -> int:
    return sum(known.get(table.name, 1) for table in tree.find_all(exp.Table))


def _with(body: Any, kept: list[Any]) -> Any:
    """Return a part as a statement of its own, with the parts before it that it may use."""
    body = body.copy()
    needed: list[Any] = []
    names = {table.name for table in body.find_all(exp.Table)}
    for part in reversed(kept):
        if part.alias in names:
            needed.insert(0, part.copy())
            names |= {table.name for table in part.find_all(exp.Table)}
    own = body.args.get("with_")
    if needed:
        body.set("with_", exp.With(expressions=needed + (own.expressions if own else [])))
    return body


def _translate(file: str, sql: str) -> Any:
    try:
        tree: Any = sqlglot.parse_one(sql, read="duckdb")
    except sqlglot.errors.SqlglotError as error:
        line = next((e["line"] for e in getattr(error, "errors", []) if e.get("line")), 1)
        message = f"Spark cannot read it: {str(error).splitlines()[0]}"
        raise RuleError(file, int(line), message) from error
    if length := _LEN.search(re.sub(r"--.*", "", sql)):
        line = 1 + re.sub(r"--.*", "", sql)[: length.start()].count("\n")
        raise RuleError(file, line, "len() is not known; write array_length(list) or length(text)")
    # Children first: what stands inside is already said in Spark when its parent is.
    for node in reversed(list(tree.dfs())):
        reason = unportable(node)
        if reason:
            raise RuleError(file, _line(sql, node), reason)
        handler = HANDLERS.get(_kind(node))
        if handler:
            handler(node)
    return tree


def _kind(node: Any) -> str:
    return node.name.lower() if isinstance(node, exp.Anonymous) else type(node).__name__


def _line(sql: str, node: Any) -> int:
    """Return where a node stands: the parser marks names and literals, so the nearest of them."""
    for place in node.walk():
        if "start" in place.meta:
            return 1 + sql[: place.meta["start"]].count("\n")
    return 1 + sql[: max(sql.lower().find(node.name.lower()), 0)].count("\n")


def _render(file: str, tree: Any) -> str:
    try:
        return cast(
            "str",
            tree.sql(dialect="spark", unsupported_level=sqlglot.ErrorLevel.RAISE, comments=False),
        )
    except sqlglot.errors.SqlglotError as error:
        raise RuleError(file, 1, f"Spark cannot read it: {str(error).splitlines()[0]}") from error

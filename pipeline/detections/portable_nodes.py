"""What each piece of DuckDB SQL becomes in Spark SQL; the parts of `portable`.

`HANDLERS` replaces a node of sqlglot's tree, whose children are done, in its
place.  `unportable` says what to write instead of a piece that has no equal.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from sqlglot import exp

if TYPE_CHECKING:
    from collections.abc import Callable

# Functions that mean the same on both engines, alone or after their handler.
_ALLOWED = frozenset(
    """
    Abs And AnyValue ArgMax ArgMin Array ArrayAgg ArrayAppend ArrayConcat ArrayContains
    ArrayDistinct ArrayFilter ArraySize ArraySort ArrayToString Case Cast Chr Coalesce Concat
    ConcatWs Contains Count DenseRank EndsWith Exists Explode Flatten Floor GenerateSeries
    Greatest If Lag Lead Least Left Length LogicalAnd LogicalOr Lower Max Median Min Nullif Or Pow
    RegexpExtract RegexpLike RegexpReplace RegexpSplit Replace RowNumber SplitPart StartsWith
    Struct Substring Sum TimeToUnix TimestampTrunc ToDays Transform Trim TryCast Unnest Upper
    """.split()  # noqa: SIM905 - a table of names
)
_ALLOWED_BY_NAME = frozenset(
    "epoch_us list_extract list_has_all list_intersect list_slice list_sum to_seconds".split()  # noqa: SIM905
)
_INSTEAD = {
    "DateDiff": "the two count differently; subtract epochs, or cast both to DATE",
    "hash": "the two hash differently; compare or sort the values themselves",
    "Hash": "the two hash differently; compare or sort the values themselves",
    "Quantile": "write median(x), or sort and count with row_number()",
    "PercentileCont": "write median(x), or sort and count with row_number()",
    "list_reduce": "write list_filter, list_transform or list_contains",
    "time_bucket": "write floor(epoch(t) / width)",
    "epoch_ms": "write epoch(t) or epoch_us(t)",
    "ApproxDistinct": "approximations differ by design; write count(DISTINCT x)",
    "list_has_any": "write array_length(list_filter(a, lambda x: list_contains(b, x))) > 0",
}
_INTEGERS = {exp.DataType.Type[name] for name in ("INT", "BIGINT", "SMALLINT", "TINYINT")}
_ZONELESS = {exp.DataType.Type[name] for name in ("TIMESTAMP", "TIMESTAMPNTZ")}
# What is an integer or text already, so that a cast has nothing to round.
_NOTHING_TO_ROUND = (
    exp.Literal, exp.Null, exp.Placeholder, exp.Floor, exp.SplitPart, exp.RegexpExtract,
    exp.Count, exp.Boolean, exp.Coalesce, exp.Bracket,
)  # fmt: skip


def unportable(node: Any) -> str:
    """Return what to write instead of a node; an empty text if it is portable."""
    kind = node.name.lower() if isinstance(node, exp.Anonymous) else type(node).__name__
    if isinstance(node, exp.Anonymous):
        is_allowed = kind in _ALLOWED_BY_NAME
    else:
        is_allowed = not isinstance(node, exp.Func) or kind in _ALLOWED
    if not is_allowed:
        instead = _INSTEAD.get(kind, "compare it on both engines first, or write it otherwise")
        return f"{kind} is not known to mean the same in Spark: {instead}"
    check = _CHECKS.get(kind)
    return check(node) if check else ""


def _call(name: str, *arguments: Any) -> exp.Anonymous:
    return exp.Anonymous(this=name, expressions=list(arguments))


def _empty() -> exp.Array:
    return exp.Array(expressions=[])


def _compact(node: Any) -> Any:
    return _call("ARRAY_COMPACT", node)


def _or_empty(node: Any) -> Any:
    return _call("COALESCE", node, _empty())


def _number(value: int) -> Any:
    return exp.Literal.number(value)


# ---------------------------------------------------------------- lists


def _element(node: Any) -> None:
    """`list_extract(l, i)`: NULL outside the list."""
    values, index = node.expressions
    node.replace(_at(values, index))


def _bracket(node: Any) -> None:
    (index,) = node.expressions
    if isinstance(index, exp.Slice):
        node.replace(_part(node.this, index.this or _number(1), index.expression))
    elif not index.is_string:
        # The parser has already taken one off a literal.
        node.replace(_at(node.this, _number(int(index.to_py()) + 1)))


def _at(values: Any, index: Any) -> Any:
    if index.is_int and int(index.to_py()) < 0:
        return _call("TRY_ELEMENT_AT", values, index)
    return _call("GET", values, exp.Sub(this=exp.paren(index), expression=_number(1)))


def _slice(node: Any) -> None:
    node.replace(_part(*node.expressions))


def _part(values: Any, first: Any, last: Any) -> Any:
    taken = exp.Sub(this=exp.paren(last.copy()), expression=exp.paren(first.copy()))
    length = _call("GREATEST", exp.Add(this=taken, expression=_number(1)), _number(0))
    return _call("SLICE", values, first, length)


def _flatten(node: Any) -> None:
    node.replace(_call("FLATTEN", _compact(node.this)))


def _distinct_members(node: Any) -> None:
    node.replace(_call("ARRAY_DISTINCT", _compact(node.this)))


def _contains(node: Any) -> None:
    node.replace(_call("ARRAY_CONTAINS", _compact(node.this), node.expression))


def _append(node: Any) -> None:
    one = exp.Array(expressions=[node.expression])
    node.replace(_call("CONCAT", _or_empty(node.this), one))


def _concat(node: Any) -> None:
    node.replace(_call("CONCAT", *map(_or_empty, (node.this, *node.expressions))))


def _sort(node: Any) -> None:
    node.replace(_call("ARRAY_SORT", node.this))


def _size(node: Any) -> None:
    node.replace(_call("ARRAY_SIZE", node.this))


def _has_all(node: Any) -> None:
    values, wanted = node.expressions
    missing = _call("ARRAY_SIZE", _call("ARRAY_EXCEPT", _compact(wanted), values))
    node.replace(exp.paren(exp.EQ(this=missing, expression=_number(0))))


def _intersect(node: Any) -> None:
    values, others = node.expressions
    node.replace(_call("ARRAY_INTERSECT", _compact(values), _or_empty(others)))


def _sum_members(node: Any) -> None:
    (values,) = node.expressions
    names = [exp.to_identifier(name) for name in ("total", "x")]
    add = exp.Lambda(
        this=exp.Add(this=exp.column("total"), expression=exp.column("x")), expressions=names
    )
    start = exp.cast(_number(0), "BIGINT")
    total = _call("AGGREGATE", _compact(values), start, add)
    is_there = exp.GT(this=_call("ARRAY_SIZE", _compact(values.copy())), expression=_number(0))
    node.replace(exp.If(this=is_there, true=total, false=exp.Null()))


def _series(node: Any) -> None:
    """`range` and `generate_series`: Spark would count down where DuckDB gives nothing."""
    start, end = node.args["start"], node.args["end"]
    if node.args.get("is_end_exclusive"):
        end = exp.Sub(this=exp.paren(end), expression=_number(1))
    is_empty = exp.LT(this=exp.paren(end.copy()), expression=exp.paren(start.copy()))
    node.replace(exp.If(this=is_empty, true=_empty(), false=_call("SEQUENCE", start, end)))


# ---------------------------------------------------------------- aggregates


def _collect(node: Any) -> None:
    """`list(x)`: a struct carries each value, because Spark drops a NULL that stands alone."""
    value, order = node.this, []
    if isinstance(value, exp.Order):
        value, order = value.this, value.expressions
    is_distinct = isinstance(value, exp.Distinct)
    if is_distinct:
        (value,) = value.expressions
    top: Any = node
    while isinstance(top.parent, (exp.Filter, exp.Window)) and top.parent.this is top:
        top = top.parent
    keys = [_named(f"k{at}", key.this.copy()) for at, key in enumerate(order)]
    carried: Any = _call("STRUCT", _named("v", value), *keys)
    if is_distinct:
        carried = exp.Distinct(expressions=[carried])
    collected = _call("COLLECT_LIST", carried)
    node.replace(collected)
    _wrap(collected if top is node else top, order)


def _named(name: str, value: Any) -> Any:
    return exp.alias_(value, name, copy=False)


def _wrap(agg: Any, order: list[Any]) -> None:
    """Put around the collected structs what takes the values out, in their order."""
    hole = exp.Null()
    agg.replace(hole)
    values = _call("ARRAY_SORT", agg, _comparison(order)) if order else agg
    member = exp.Lambda(
        this=exp.Dot(this=exp.column("e"), expression=exp.to_identifier("v")),
        expressions=[exp.to_identifier("e")],
    )
    hole.replace(_call("NULLIF", _call("TRANSFORM", values, member), _empty()))


def _comparison(order: list[Any]) -> Any:
    """Return the lambda that sorts structs by their keys, NULL last as in DuckDB."""
    cases = exp.Case()
    for at, key in enumerate(order):
        left, right = (_field(side, f"k{at}") for side in ("l", "r"))
        first, then = (1, -1) if key.args.get("desc") else (-1, 1)
        for condition, result in (
            (exp.and_(left.is_(exp.Null()), right.is_(exp.Null()).not_()), 1),
            (exp.and_(right.is_(exp.Null()), left.is_(exp.Null()).not_()), -1),
            (exp.LT(this=left, expression=right), first),
            (exp.GT(this=left, expression=right), then),
        ):
            cases = cases.when(
                condition.copy(), _number(abs(result)) if result > 0 else exp.Neg(this=_number(1))
            )
    names = [exp.to_identifier(name) for name in ("l", "r")]
    return exp.Lambda(this=cases.else_(_number(0)), expressions=names)


def _field(name: str, field: str) -> Any:
    return exp.Dot(this=exp.column(name), expression=exp.to_identifier(field))


def _by(name: str) -> Callable[[Any], None]:
    def handle(node: Any) -> None:
        is_there = node.this.copy().is_(exp.Null()).not_()
        key = exp.Case().when(is_there, node.expression)
        node.replace(_call(name, node.this, key))

    return handle


def _filtered_window(node: Any) -> None:
    """Spark has no FILTER over a window: the condition goes inside, where NULL is passed over."""
    filtered = node.this
    if not isinstance(filtered, exp.Filter):
        return
    condition = filtered.expression.this
    agg = filtered.this
    one = agg.expressions[0] if isinstance(agg, exp.Anonymous) else agg.this
    value = _number(1) if isinstance(one, exp.Star) else one.copy()
    one.replace(exp.Case().when(condition, value))
    filtered.replace(agg)


# ---------------------------------------------------------------- times, numbers, text


def _epoch(node: Any) -> None:
    micros = _call("UNIX_MICROS", node.this)
    node.replace(exp.paren(exp.Div(this=micros, expression=_number(1000000))))


def _epoch_us(node: Any) -> None:
    node.replace(_call("UNIX_MICROS", *node.expressions))


def _seconds(node: Any) -> None:
    zeros = [_number(0)] * 3
    node.replace(_call("MAKE_DT_INTERVAL", *(z.copy() for z in zeros), *node.expressions))


def _days(node: Any) -> None:
    node.replace(_call("MAKE_DT_INTERVAL", node.this))


def _round(node: Any) -> None:
    value = node.this.unnest()
    if node.to.this in _INTEGERS and not isinstance(value, _NOTHING_TO_ROUND):
        node.this.replace(_call("BROUND", node.this.copy()))


def _replace_text(node: Any) -> None:
    node.set("modifiers", None)
    text = node.args.get("replacement")
    if text is not None and text.is_string:
        said = text.this.replace("$", "\\$")
        text.set("this", re.sub(r"\\(\d)", r"$\1", said))


# ---------------------------------------------------------------- tables


def _lateral(node: Any) -> None:
    """A join with unnest: a LATERAL VIEW would come after all joins, too late for them."""
    source = node.this
    if not isinstance(source, exp.Unnest):
        return
    source.replace(
        exp.Lateral(this=_call("EXPLODE", *source.expressions), alias=source.args.get("alias"))
    )
    if not node.side and not node.kind:
        node.set("kind", "CROSS")


def _zip(node: Any) -> None:
    """Several unnest in one SELECT go side by side; Spark allows one."""
    found = [
        one
        for one in node.expressions
        if isinstance(one, exp.Alias) and isinstance(one.this, exp.Explode)
    ]
    if len(found) < 2:  # noqa: PLR2004 - several
        return
    zipped = _call("INLINE", _call("ARRAYS_ZIP", *(one.this.this.copy() for one in found)))
    names = [exp.to_identifier(one.alias) for one in found]
    found[0].replace(exp.Aliases(this=zipped, expressions=names))
    for one in found[1:]:
        one.pop()


def _bracketed(node: Any) -> None:
    """`x IN (...) IS NOT FALSE`: Spark takes one test after a value unless there are brackets."""
    if isinstance(node.parent, exp.Predicate):
        node.replace(exp.paren(node.copy()))


def _plain_cte(node: Any) -> None:
    node.set("materialized", None)


HANDLERS: dict[str, Callable[[Any], None]] = {
    "ArgMax": _by("MAX_BY"),
    "ArgMin": _by("MIN_BY"),
    "ArrayAgg": _collect,
    "ArrayAppend": _append,
    "ArrayConcat": _concat,
    "ArrayContains": _contains,
    "ArrayDistinct": _distinct_members,
    "ArraySize": _size,
    "ArraySort": _sort,
    "Between": _bracketed,
    "Bracket": _bracket,
    "CTE": _plain_cte,
    "Cast": _round,
    "Flatten": _flatten,
    "GenerateSeries": _series,
    "In": _bracketed,
    "Join": _lateral,
    "Like": _bracketed,
    "RegexpLike": _bracketed,
    "RegexpReplace": _replace_text,
    "Select": _zip,
    "TimeToUnix": _epoch,
    "ToDays": _days,
    "Window": _filtered_window,
    "epoch_us": _epoch_us,
    "list_extract": _element,
    "list_has_all": _has_all,
    "list_intersect": _intersect,
    "list_slice": _slice,
    "list_sum": _sum_members,
    "to_seconds": _seconds,
}


# ---------------------------------------------------------------- what cannot be said


def _check_bracket(node: Any) -> str:
    (index,) = node.expressions
    if isinstance(index, exp.Slice) or index.is_string or index.is_int:
        return ""
    return "an index must be a number; write list_extract(list, index)"


def _check_division(node: Any) -> str:
    by = node.expression.unnest()
    is_safe = isinstance(by, (exp.Placeholder, exp.Nullif)) or (by.is_number and by.to_py() != 0)
    if is_safe:
        return ""
    return "x / 0 is infinity in DuckDB and an error in Spark; divide by nullif(y, 0)"


def _check_replace(node: Any) -> str:
    pattern, modifiers = node.expression, node.args.get("modifiers")
    if not pattern.is_string:
        return "a pattern must be a literal, so that both engines can be known to read it alike"
    if modifiers is not None and "g" in modifiers.this:
        return _check_pattern(node)
    outside = re.sub(r"\([^()]*\)", "", pattern.this)
    if "|" in outside or not (pattern.this.startswith("^") or pattern.this.endswith("$")):
        return "Spark replaces every match; anchor the pattern with ^ or $, or give 'g'"
    return _check_pattern(node)


def _check_pattern(node: Any) -> str:
    pattern = node.expression
    if pattern.is_string and re.search(r"\[[^\]]*(?<!\\)(\[|&&)", pattern.this):
        return "Java reads [ and && inside a character class otherwise; escape them"
    return ""


def _check_join(node: Any) -> str:
    if (node.method or "").upper() == "ASOF":
        return "Spark has no ASOF join; join the range and keep row_number() = 1"
    return ""


def _check_with(node: Any) -> str:
    return (
        "no recursion in rules; the chains are worked out before"
        if node.args.get("recursive")
        else ""
    )


def _check_union(node: Any) -> str:
    return "Spark knows no UNION BY NAME; name the columns" if node.args.get("by_name") else ""


def _check_type(node: Any) -> str:
    if any(kind.this in _ZONELESS for kind in node.to.find_all(exp.DataType)):
        return "a TIMESTAMP has no zone; write TIMESTAMPTZ"
    return ""


def _check_group(node: Any) -> str:
    return "write the columns out instead of ALL" if node.args.get("all") else ""


def _check_sort(node: Any) -> str:
    has_order = node.args.get("asc") is not None or node.args.get("expression") is not None
    return "sort ascending, or with row_number()" if has_order else ""


def _check_newest(node: Any) -> str:
    return "Spark gives one value; write list(x ORDER BY y)[1:n]" if node.args.get("count") else ""


def _check_window(node: Any) -> str:
    if isinstance(node.this, exp.Count) and isinstance(node.this.this, exp.Distinct):
        return "Spark has no count(DISTINCT) OVER; group first and join"
    return ""


_CHECKS: dict[str, Callable[[Any], str]] = {
    "ArgMax": _check_newest,
    "ArgMin": _check_newest,
    "ArraySort": _check_sort,
    "Bracket": _check_bracket,
    "Cast": _check_type,
    "Div": _check_division,
    "Group": _check_group,
    "Join": _check_join,
    "RegexpExtract": _check_pattern,
    "RegexpLike": _check_pattern,
    "RegexpReplace": _check_replace,
    "TryCast": _check_type,
    "Union": _check_union,
    "Window": _check_window,
    "With": _check_with,
}

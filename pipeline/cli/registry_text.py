"""The registry for people: one name, and the changes between two folders, as lines."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from pipeline.cli.output import utc
from pipeline.log import one_line

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

Row = dict[str, Any]
_WIDTH = 30


def item_lines(item: Row) -> Iterator[str]:
    """Yield one shown name, part after part; parts without content are left out."""
    yield f"{item['type']} {one_line(item['id'])}   {item['file']}:{item['line']}"
    yield from _pairs(item["is"])
    yield from _limits(item.get("limits") or {})
    if item.get("owners"):
        yield "  owners"
        for owner in item["owners"]:
            named = owner["owner"] or "-"
            yield f"    {owner['role']:{_WIDTH - 2}}{one_line(named)} ({owner['state']})"
    if item.get("class"):
        yield from _class(item["class"])
    if item["type"] == "class":
        yield from _signoffs(item)
    if item.get("exceptions"):
        yield "  exceptions for static secrets"
        for one in item["exceptions"]:
            yield "    " + _exception(one)
    yield from _history(item.get("history") or [])
    for warning in item.get("warnings") or []:
        yield f"  warning: {warning}"


def change_lines(rows: Sequence[Row]) -> Iterator[str]:
    """Yield the changes between two registries, those that widen authority first."""
    wide = [row for row in rows if row["widens"]]
    if not rows:
        yield "no difference"
    if wide:
        yield f"widens authority ({len(wide)})"
        for row in wide:
            yield from _change(row, row["widens"])
    rest = [(row, [key for key in row["fields"] if key not in row["widens"]]) for row in rows]
    others = [(row, keys) for row, keys in rest if keys or not row["widens"]]
    if others:
        yield f"other changes ({len(others)})"
        for row, keys in others:
            yield from _change(row, keys)
    unsigned = [row["name"] for row in rows if row["needs_signoff"]]
    if unsigned:
        yield f"needs new sign-offs: {one_line(', '.join(unsigned))}"


def _change(row: Row, keys: Sequence[str]) -> Iterator[str]:
    yield f"  {row['change']} {row['section']}/{one_line(row['name'])}"
    for key in keys:
        old, new = row["fields"][key]["old"], row["fields"][key]["new"]
        shown = f"{_text(old)} -> {_text(new)}" if row["change"] == "changed" else ""
        yield f"    {key:{_WIDTH - 2}}{shown or _text(old if new is None else new)}"


def _pairs(values: Mapping[str, Any]) -> Iterator[str]:
    for key, value in values.items():
        yield f"  {key:{_WIDTH}}{_text(value)}"


def _limits(limits: Mapping[str, Row]) -> Iterator[str]:
    if limits:
        yield "  limits"
    for key, limit in limits.items():
        by = f"  ({limit['said_by']})" if "said_by" in limit else ""
        yield f"    {key:{_WIDTH - 2}}{_text(limit['value'])}{by}"


def _class(own: Row) -> Iterator[str]:
    yield f"  class {one_line(own['id'])}"
    yield from (f"  {line}" for line in _signoffs(own))


def _signoffs(own: Row) -> Iterator[str]:
    yield f"  {'scope_hash to sign':{_WIDTH}}{own['scope_hash']}"
    for one in own["signoffs"]:
        who = f"{one.get('role') or 'no role'} {one['approver']}"
        until = f"until {utc(one['expires_at'])}: {one['state']}"
        yield f"  {'signed off by':{_WIDTH}}{one_line(who)} {until}"
    for role in own["roles_missing"]:
        yield f"  {'sign-off missing':{_WIDTH}}{one_line(role)}"


def _exception(one: Row) -> str:
    since = utc(one["since"]) if one["since"] else "always"
    named = one_line(one["secret_id"] or "any secret")
    by = one_line(f", {one['reason']}, approved by {one['approved_by']}") if one["reason"] else ""
    return f"{named} from {since} until {utc(one['until'])}: {one['days_left']} days left{by}"


def _history(periods: Sequence[Row]) -> Iterator[str]:
    if len(periods) > 1 or any(period["to"] for period in periods):
        yield "  history"
        for period in periods:
            start = utc(period["from"]) if period["from"] else "always"
            until = utc(period["to"]) if period["to"] else "now"
            other = ", ".join(f"{k} {_text(v)}" for k, v in period["otherwise"].items())
            yield f"    from {start} until {until}: {other or 'as it is now'}"


def _text(value: Any) -> str:
    if isinstance(value, datetime):
        return utc(value)
    if isinstance(value, list):
        return "[" + ", ".join(map(_text, value)) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_text(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, bool):
        return str(value).lower()
    return "-" if value is None else one_line(str(value))

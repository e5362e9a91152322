"""Everything about one finding, for whoever is woken by it.

Takes a connection with the lake's views and a finding; leaves plain values for
`--json`, or text.  Whatever came with events is hostile and cleaned on its way out.
"""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.chains.show import load_chain
from pipeline.cli.output import ask, rows_of, statement
from pipeline.detections.decide import UNDECIDED
from pipeline.detections.rule import RULES, find_rules, read_rule
from pipeline.errors import RuleErrors
from pipeline.investigate.text import render_path
from pipeline.log import one_line

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import duckdb

    from pipeline.detections.rule import Rule

SHOWN_EVENTS = 20
SHORT_ID = 12
_WIDTH = 96
_CELL = 44
_SEVERITY = {1: "INFO", 2: "LOW", 3: "MEDIUM", 4: "HIGH", 5: "CRITICAL"}
_ABSENT = "-"

Row = dict[str, Any]


def gather(con: duckdb.DuckDBPyConnection, finding: Row, rule: Rule | None) -> Row:
    """Return a finding with its rule, chain, evidence, coverage and history beside it."""
    uids = finding["event_uids"] or []
    values = {"tenant_id": finding["tenant_id"], "uids": uids}
    events = list(rows_of(ask(con, statement("dossier_events"), values | {"limit": SHOWN_EVENTS})))
    stored = ask(con, statement("dossier_event_count"), values).to_pylist()[0]["events"]
    path = load_chain(con, finding["finding_id"]) if finding["credential_key"] else None
    lag = {
        "tenant_id": finding["tenant_id"],
        "last_seen": finding["last_seen"],
        "sources": list(rule.sources) if rule else [],
    }
    return finding | {
        "rule": rule and _rule(rule),
        "chain_text": render_path(path) if path else None,
        "evidence": {
            "cited": len(uids),
            "in_lake": stored,
            "shown": len(events),
            "events": events,
        },
        "coverage": {
            "note": finding["coverage_note"],
            "lagging_sources": list(rows_of(ask(con, statement("dossier_lagging_sources"), lag))),
        },
        "history": list(
            rows_of(ask(con, statement("dossier_history"), {"id": finding["finding_id"]}))
        ),
    }


def rule_of(rule_id: str, folders: Iterable[str]) -> Rule | None:
    """Return the rule of a finding if it is installed here and can be read."""
    try:
        found = [path for path in find_rules([RULES, *map(Path, folders)]) if path.name == rule_id]
        return read_rule(found[0]) if found else None
    except RuleErrors:
        return None


def _rule(rule: Rule) -> Row:
    return {
        "id": rule.id,
        "version": rule.version,
        "maturity": rule.maturity,
        "maturity_reason": rule.maturity_reason or None,
        "why": rule.why,
        "false_positives": list(rule.false_positives),
        "remediation": rule.remediation,
        "runbook": list(rule.runbook),
        "mappings": {name: list(codes) for name, codes in rule.mappings.items()},
    }


def render(told: Row) -> str:
    """Return the text of what `gather` found, without a trailing newline."""
    parts = [
        _verdict(told),
        _section("chain", _chain(told)),
        _section("why", _why(told)),
        _section("what to do", _to_do(told)),
        _section(_evidence_title(told["evidence"]), _evidence(told["evidence"])),
        _section("coverage", _coverage(told)),
        _section("history", [_change(change) for change in told["history"]]),
        _section("next", _next(told)),
    ]
    return "\n\n".join(parts)


def _verdict(told: Row) -> str:
    until = f" until {_minute(told['accepted_until'])}" if told["accepted_until"] else ""
    by = f" by {one_line(told['decided_by'])}" if told["decided_by"] else ""
    because = f" ({one_line(told['status_reason'])})" if told["status_reason"] else ""
    state = f"{told['status']}{until}{by}{because}"
    owner = one_line(told["route_owner"] or "unowned")
    since = _minute(told["first_seen"] or told["detected_at"])
    about = f"about {_cell(told['entity'], _WIDTH)}   tenant {_cell(told['tenant_id'])}"
    seen = f"last seen {_minute(told['last_seen'])}   confidence {told['confidence']:.2f}"
    lines = [
        f"{_SEVERITY[told['severity']]}  {told['rule_code']}  {one_line(told['title'])}",
        f"{state}   owner {owner}   since {since}",
        f"{about}   {seen}",
        f"finding {told['finding_id']}",
        f"rule {told['rule_id']} {told['rule_version']}   policy {told['policy_version']}",
    ]
    return "\n".join(lines)


def _chain(told: Row) -> list[str]:
    if told["chain_text"]:
        return list(told["chain_text"].split("\n"))
    if told["chain_path"]:
        return [" -> ".join(_cell(name or "unknown") for name in told["chain_path"])]
    return ["none: this finding is not about one credential"]


def _why(told: Row) -> list[str]:
    rule = told["rule"]
    if rule is None:
        return [f"the rule {one_line(told['rule_id'])} is not installed here"]
    lines = textwrap.wrap(one_line(rule["why"].strip()), _WIDTH)
    if rule["maturity"] == "experimental":
        lines += _wrapped(f"Experimental: {rule['maturity_reason']}")
    for told_wrong in rule["false_positives"]:
        lines += _wrapped(f"- may be right: {told_wrong}")
    return lines


def _to_do(told: Row) -> list[str]:
    rule = told["rule"]
    if rule is None:
        return [_ABSENT]
    lines = []
    for number, step in enumerate(rule["runbook"], start=1):
        lines += _wrapped(f"{number}. {step}")
    return [*lines, *_wrapped(f"To mend it: {rule['remediation']}")]


def _evidence_title(evidence: Mapping[str, Any]) -> str:
    lost = evidence["cited"] - evidence["in_lake"]
    gone = f", {lost} no longer in the lake" if lost > 0 else ""
    return f"evidence: {evidence['shown']} of {evidence['cited']} events{gone}"


def _evidence(evidence: Mapping[str, Any]) -> list[str]:
    names = ("time", "source", "what", "who", "outcome")
    cells = [
        [_cell(_minute(e["event_time"])), *(_cell(e[name]) for name in names[1:])]
        for e in evidence["events"]
    ]
    if not cells:
        return [_ABSENT]
    widths = [max(map(len, column)) for column in zip(names, *cells, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in (names, *cells)
    ]


def _coverage(told: Row) -> list[str]:
    lines = _wrapped(told["coverage"]["note"] or "no note")
    for source in told["coverage"]["lagging_sources"]:
        lines.append(
            f"{one_line(source['source'])} is complete only up to {_minute(source['watermark'])}:"
            " more evidence may come"
        )
    return lines


def _change(change: Row) -> str:
    by = f" by {change['changed_by']}" if change["changed_by"] else ""
    until = f" until {_minute(change['accepted_until'])}" if change["accepted_until"] else ""
    reason = f": {change['reason']}" if change["reason"] not in (None, change["change"]) else ""
    return one_line(
        f"{_minute(change['changed_at'])}  {change['change']}{by}{until}{reason}"
        f"  (severity {change['severity']}, {change['status']})"
    )


def _next(told: Row) -> list[str]:
    if told["status"] not in UNDECIDED:
        return ["nothing to decide: it has ended, and opens again when its rule finds it again"]
    name = told["finding_id"][:SHORT_ID]
    lines = [
        f"accept a risk   delegraph findings accept {name} --until DATE --reason TEXT",
        f"close it        delegraph findings close {name} --reason TEXT",
    ]
    if told["severity"] < max(_SEVERITY):
        lines.append(
            f"hide a pattern  suppressions.yaml: {{rule: {told['rule_code']},"
            " predicate: {COLUMN: VALUE}, reason, owner, created_at, expires_at}"
        )
    else:
        lines.append("hide a pattern  not possible: nothing hides what is critical")
    return lines


def _section(title: str, lines: Sequence[str]) -> str:
    return "\n".join([title.upper(), *(f"  {line}" for line in lines)])


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(one_line(text.strip()), _WIDTH, subsequent_indent="  ")


def _cell(value: Any, most: int = _CELL) -> str:
    text = one_line(str(value)) if value not in (None, "") else _ABSENT
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _minute(moment: str | None) -> str:
    """Return a JSON time to the second."""
    return f"{moment[:19].replace('T', ' ')}Z" if moment else "unknown"

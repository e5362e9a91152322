"""A chain as text, for tickets and terminals.

Takes a `Path`; gives lines in the manner of PMapper.  Text that came with
events is hostile: control and bidirectional characters are stripped.
"""

from __future__ import annotations

import unicodedata
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime

    from pipeline.chains.show import CallLine, Path, Step

_SEVERITY = {1: "INFO", 2: "LOW", 3: "MEDIUM", 4: "HIGH", 5: "CRITICAL"}
_SHOWN_SCOPES = 6
_SHOWN_CALLS = 8
_LONGEST = 80
_HOP_WORDS = {
    "exchange": "token exchange",
    "assume": "role assumed",
    "refresh": "refreshed",
    "delegate": "delegated",
    "assertion": "assertion",
    "issue": "issued",
    "rotate": "rotated",
}


def clean(text: object) -> str:
    """Return text without control, bidirectional and other invisible characters, cut at 80."""
    kept = "".join(
        char
        for char in str(text)
        if unicodedata.category(char) not in {"Cc", "Cf", "Cs", "Zl", "Zp"}
    )
    return kept if len(kept) <= _LONGEST else f"{kept[: _LONGEST - 1]}…"


def _minute(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%d %H:%MZ")


def _scopes(scopes: tuple[str, ...], *, known: bool) -> str:
    if not known:
        return "scope unknown"
    if not scopes:
        return "scope none"
    shown = " ".join(clean(scope) for scope in scopes[:_SHOWN_SCOPES])
    more = len(scopes) - _SHOWN_SCOPES
    return f"scope {shown}" + (f" (+{more} more)" if more > 0 else "")


def _verdict(step: Step) -> str:
    if step.attenuation == "not_covered":
        return f"(WIDENED by {' '.join(clean(scope) for scope in step.widened_scopes)})"
    if step.attenuation == "unknown":
        return "(cannot be compared)"
    return "(kept)" if step.scopes == step.parent_scopes else "(narrowed)"


def _label(step: Step) -> str:
    return f"{step.kind} {clean(step.id)}"


def _root_line(step: Step, path: Path, width: int) -> str:
    how = "static key" if step.is_static else path.root_kind.replace("_", " ")
    gone = "" if step.seen_issued or step.is_static else "  (issuance not seen)"
    root, acting = clean(path.root_principal or "unknown"), clean(step.acting or "?")
    return (
        f"  {root:<{width}}    {acting:<{width}}"
        f"  {how}  {_scopes(step.scopes, known=step.scope_known)}  {_label(step)}{gone}"
    )


def _hop_line(step: Step, width: int) -> str:
    word = _HOP_WORDS.get(step.hop_kind or "", step.hop_kind or "derived")
    sure = "" if (step.confidence or 0) >= 0.95 else f"  [{step.method} {step.confidence:.2f}]"  # noqa: PLR2004 - "proven" in the domain reference
    revoked = f"  revoked {_minute(step.revoked_at)}" if step.revoked_at else ""
    what = f"{word}  {_scopes(step.scopes, known=step.scope_known)}  {_verdict(step)}"
    ends = f"{clean(step.delegator or '?'):<{width}} -> {clean(step.acting or '?'):<{width}}"
    return f"  {ends}  {what}  {_label(step)}{sure}{revoked}"


def _call_line(line: CallLine, width: int) -> str:
    times = f" {line.calls}x" if line.calls > 1 else ""
    bad = (
        f"  OUTSIDE its authority: {' '.join(map(clean, line.missing_scopes))}"
        if line.missing_scopes
        else ""
    )
    denied = f"  ({line.denied} denied)" if line.denied else ""
    return (
        f"  {clean(line.agent_id):<{width}} -> {clean(line.target or '-'):<{width}}"
        f"  tool call {clean(line.tool_name)}{times}{denied}{bad}"
    )


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _headline(path: Path) -> list[str]:
    hops = len(path.steps) - 1
    seen = [line.first_seen for line in path.calls] + [line.last_seen for line in path.calls]
    span = f"  {_minute(min(seen))} .. {max(seen).strftime('%H:%MZ')}" if seen else ""
    finding = path.finding
    word = (
        f"{_SEVERITY[finding.severity]}  {finding.rule_code} {clean(finding.title)}"
        if finding
        else "CHAIN"
    )
    counted = f"{_counted(hops, 'hop')}  {_counted(path.call_count, 'call')}"
    lines = [f"{word}  path {path.path_id}  {counted}{span}"]
    via = [name for name in path.actor_path if name != path.root_principal]
    target = path.calls[0].target or path.calls[0].tool_name if path.calls else "nothing yet"
    through = f" THRU {clean(via[-1])}" if via else ""
    lines.append(f"{clean(path.root_principal or 'unknown')} reached {clean(target)}{through}")
    return lines


def _coverage(path: Path) -> str:
    words = [path.status.replace("_", " ")]
    if path.gap_kind:
        words.append(path.gap_kind.replace("_", " "))
    if path.unknown_count:
        words.append(f"{path.unknown_count} hop(s) not comparable")
    return ", ".join(words)


def render_path(path: Path) -> str:
    """Return the chain as text, without a trailing newline; the same path gives the same text."""
    names = [
        path.root_principal,
        *(step.acting for step in path.steps),
        *(call.agent_id for call in path.calls),
    ]
    width = min(40, max((len(clean(name)) for name in names if name), default=8))
    lines = _headline(path)
    lines.append(_root_line(path.steps[0], path, width))
    lines += [_hop_line(step, width) for step in path.steps[1:]]
    lines += [_call_line(call, width) for call in path.calls[:_SHOWN_CALLS]]
    more = len(path.calls) - _SHOWN_CALLS
    if more > 0:
        lines.append(f"  ... and {more} more kinds of calls")
    key = path.finding.finding_id[:12] if path.finding else path.credential_key
    lines.append(
        f"evidence: {path.event_count} events   coverage: {_coverage(path)}"
        f"   confidence {path.confidence:.2f}   next: delegraph chains show {key}"
    )
    return "\n".join(lines)

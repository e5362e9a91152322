"""Agent Audit Trail: the records of draft-sharif-agent-audit-trail, one a line.

Calls and their answers are two observations of one call, named by the record id of
the call; decisions are calls that were judged; a delegation is a credential of the
ledger's own, which the delegate holds.  Which record follows which orders a session
and delegates nothing.  Each row tells whether its record still is what the session's
hash chain says (`ext.chain_verdict`, see `pipeline.ingest.record_chain`).
Checks no signature: the records name their key and do not hold it.  Copies of what an
action was about nothing but names and digests.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING, Any

from pipeline.ingest.json_text import member
from pipeline.ingest.record_chain import Entry, Verdict, hash_of, judge
from pipeline.ingest.sql_source import SqlSource

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pipeline.ingest.sources import Adapted, Context

WRAPPER = None

_DETAIL = {
    "tool_name": "VARCHAR",
    "tool": "VARCHAR",
    "tool_server": "VARCHAR",
    "parameters_hash": "VARCHAR",
    "response_hash": "VARCHAR",
    "parent_call_id": "VARCHAR",
    "decision_type": "VARCHAR",
    "delegate_agent_id": "VARCHAR",
    "delegate_trust_level": "VARCHAR",
    "task_description_hash": "VARCHAR",
    "error_code": "VARCHAR",
    "error_category": "VARCHAR",
    "escalation_target": "VARCHAR",
    "event": "VARCHAR",
    "resource": "VARCHAR",
    "meta": {
        "tool_use_id": "VARCHAR",
        "input": {"sha256": "VARCHAR"},
        "response": {"sha256": "VARCHAR"},
    },
}
# fmt: off
_MANDATORY = (
    "record_id", "timestamp", "agent_id", "agent_version", "session_id", "action_type",
    "action_detail", "outcome", "trust_level", "parent_record_id", "prev_hash", "record_phase",
)
# fmt: on
_OWN = {"record_id", "session_id", "action_type", "action_detail", "prev_hash"}
_SIGNATURES = {"signature", "signature_classical"}
_HASH = re.compile(r"[0-9a-f]{64}")


def derive(records: Sequence[dict[str, Any]]) -> dict[str, list[str | None]]:
    """Return of each record its hash, the verdict on its place in its session, and more."""
    entries = [_entry(record, {"batch"}) for record in records]
    verdicts = _judge(records, entries)
    return {
        "record_hash": [next(iter(entry.hashes), None) for entry in entries],
        "chain_verdict": [verdict.verdict for verdict in verdicts],
        "chain_verdict_reason": [verdict.reason for verdict in verdicts],
        "absent": [
            " ".join(name for name in _MANDATORY if name not in record) or None
            for record in records
        ],
    }


SOURCE = SqlSource(
    name="aat",
    shape={
        **dict.fromkeys(_MANDATORY, "VARCHAR"),
        "action_detail": _DETAIL,
        "sig_alg": "VARCHAR",
        "signer_kid": "VARCHAR",
        "signature": "VARCHAR",
        "recording_component": "VARCHAR",
        "deny_reasons": ["VARCHAR"],
    },
    digests={"detail_hash": ("action_detail",)},
    hidden=(("action_detail",),),
    derive=derive,
)


def recognises(record: object) -> bool:
    """Return whether a record has the fields of an Agent Audit Trail.

    Not to be mistaken for the Attenuating Authorization Token, also called AAT.
    """
    # One without a member of its own is refused by name, and keeps no detail in its dead letter.
    return isinstance(record, dict) and len(record.keys() & _OWN) >= len(_OWN) - 1


def adapt(values: Sequence[bytes | None], context: Context) -> Adapted:
    """Return calls, judged calls and delegations, each with the verdict on its record."""
    return SOURCE.adapt(values, context)


def _judge(records: Sequence[dict[str, Any]], entries: Sequence[Entry]) -> list[Verdict]:
    """Judge each session by the hash that breaks it less, the draft's if both do alike.

    The draft hashes a whole record but for `batch`; some writers leave the signature out too.
    """
    verdicts = judge(entries)
    breaks = _breaks(entries, verdicts)
    if not breaks or not any(record.keys() & _SIGNATURES for record in records):
        return verdicts
    bare = [_entry(record, {"batch", *_SIGNATURES}) for record in records]
    others = judge(bare)
    fewer = _breaks(bare, others)
    return [
        _noted(other) if fewer[entry.ledger] < breaks[entry.ledger] else verdict
        for entry, verdict, other in zip(entries, verdicts, others, strict=True)
    ]


def _breaks(entries: Sequence[Entry], verdicts: Sequence[Verdict]) -> Counter[str | None]:
    found = zip(entries, verdicts, strict=True)
    return Counter(entry.ledger for entry, verdict in found if verdict.verdict == "broken")


def _noted(verdict: Verdict) -> Verdict:
    if verdict.verdict != "verified":
        return verdict
    return Verdict("verified", "by a hash that leaves signatures out")


def _entry(record: dict[str, Any], left_out: set[str]) -> Entry:
    found = hash_of(_without(record, left_out))
    previous = record.get("prev_hash")
    return Entry(
        ledger=_text(record.get("session_id")),
        hashes=(found,) if found else (),
        previous=previous if previous is None else str(previous),
        name=_text(record.get("record_id")),
        parent=_text(record.get("parent_record_id")),
        erased=_tombstone(record),
    )


def _tombstone(record: dict[str, Any]) -> str | None:
    """Return the hash that a record had before its content was erased (section 9.3)."""
    told = record.get("tombstone_hash") or member(record, "action_detail", "tombstone_hash")
    return told if isinstance(told, str) and _HASH.fullmatch(told) else None


def _without(record: dict[str, Any], left_out: set[str]) -> dict[str, Any]:
    return {name: value for name, value in record.items() if name not in left_out}


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None

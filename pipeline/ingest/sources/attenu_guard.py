"""Ledgers of attenu-guard: its hash-chained lines, its spool lines, its evidence bundles.

A root and each delegation are credentials, known by their node, with the parent node,
the scopes asked and granted, and the lifetime; checks are judged calls that present
one; what became of a call is its second observation; a kill revokes every node it
names.  Each row tells whether its entry still is what the hash chain says
(`ext.chain_verdict`, see `pipeline.ingest.record_chain`).
The package counts entries and names no time.  An entry's time is its `ts` where that
is one, else `time` beside the `entry` of a spool line, else when it was received
(`ext.time_basis`), a microsecond later for each entry.  Nodes are unique within a
process: give each chain its own id, or send spool lines, which name the process.
Checks no anchor and no receipt.  Copies no task, context, parameter or message.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pipeline.ingest.record_chain import Entry, hash_of, judge
from pipeline.ingest.sql_source import SqlSource

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pipeline.ingest.sources import Adapted, Context

WRAPPER = "entries"

_GENESIS = "0" * 64
_OWN = {"seq", "ts", "event", "prev_hash", "hash"}
# fmt: off
_TEXTS = (
    "ts", "event", "chain_id", "node", "parent", "agent", "scope", "tool", "policy", "reason",
    "disposition", "target", "mode", "hash", "prev_hash", "call_id", "capture",
    "authorized_params_hash", "invoked_params_hash", "params_hash_reason", "body_state",
    "error_code", "boot_id", "time",
)
# fmt: on
_AUTHORITY = {
    "scopes": ["VARCHAR"],
    "ttl": "DOUBLE",
    "constraints": [{"key": "VARCHAR", "max": "DOUBLE"}],
}
_NEVER_KEPT = ("task", "context", "reasons", "detail", "receipt")


def derive(records: Sequence[dict[str, Any]]) -> dict[str, list[str | None]]:
    """Return the verdict on each entry's place in its ledger."""
    verdicts = judge([_link(record) for record in records])
    return {
        "chain_verdict": [verdict.verdict for verdict in verdicts],
        "chain_verdict_reason": [verdict.reason for verdict in verdicts],
        "context_hash": [_context_hash(_entry_of(record)) for record in records],
    }


def _prepare(record: dict[str, Any]) -> dict[str, Any]:
    entry = _entry_of(record)
    if entry is record:
        return record
    return {**entry, "boot_id": record.get("boot_id"), "time": record.get("time")}


SOURCE = SqlSource(
    name="attenu_guard",
    wrapper=WRAPPER,
    shape={
        **dict.fromkeys(_TEXTS, "VARCHAR"),
        "v": "BIGINT",
        "seq": "BIGINT",
        "strikes": "BIGINT",
        "duration_ms": "BIGINT",
        "authority": _AUTHORITY,
        "requested": _AUTHORITY,
        "granted": _AUTHORITY,
        "revoked": ["VARCHAR"],
        "context": {"rows": "DOUBLE", "spend": "DOUBLE"},
        "adapter": {"module": "VARCHAR", "version": "VARCHAR"},
    },
    hidden=(
        *((name,) for name in _NEVER_KEPT),
        *(("entry", name) for name in _NEVER_KEPT),
    ),
    prepare=_prepare,
    derive=derive,
)


def recognises(record: object) -> bool:
    """Return whether a record is an entry of such a ledger, alone or in a spool line."""
    if not isinstance(record, dict):
        return False
    entry = _entry_of(record)
    # One without a member of its own is refused by name, and keeps no task in its dead letter.
    absent = _OWN - entry.keys()
    is_known = not absent or (len(absent) == 1 and "chain_id" in entry)
    return is_known and isinstance(entry.get("event", ""), str)


def adapt(values: Sequence[bytes | None], context: Context) -> Adapted:
    """Return credentials, calls and revocations, each with the verdict on its entry."""
    return SOURCE.adapt(values, context)


def _entry_of(record: dict[str, Any]) -> dict[str, Any]:
    entry = record.get("entry")
    return entry if isinstance(entry, dict) else record


def _context_hash(entry: dict[str, Any]) -> str | None:
    return hash_of(entry["context"]) if entry.get("context") else None


def _link(record: dict[str, Any]) -> Entry:
    entry = _entry_of(record)
    stored, previous, number = entry.get("hash"), entry.get("prev_hash"), _number(entry.get("seq"))
    content = {name: value for name, value in entry.items() if name != "hash"}
    computed = hash_of(content, str(previous).encode("utf-8", "surrogatepass"))
    fault = None
    if computed != stored:
        fault = "it does not hash to the hash that it bears"
    elif number is None:
        fault = "its number is none"
    begins = previous == _GENESIS
    ledger = f"{record.get('boot_id')} {entry.get('chain_id')}"
    return Entry(
        ledger=ledger,
        hashes=(stored,) if isinstance(stored, str) else (),
        previous=None if begins else str(previous),
        name=None if number is None else f"{ledger} {number}",
        parent=None if number is None or (begins and number == 0) else f"{ledger} {number - 1}",
        fault=fault,
    )


def _number(value: Any) -> int | None:
    """Return a whole number, as the package reads it: 1.0 is one, true is none."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return int(value) if value == value // 1 else None

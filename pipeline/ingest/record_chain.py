"""Check hash chains: which records of a ledger follow which, and where that breaks.

Takes the records of one batch in the order in which they came, of any number of
ledgers; leaves a verdict and its reason for each.  A record is found by the hash
that its successor names, so records of other ledgers between two, or two that
came in the wrong order, break nothing.

| verdict | what it says |
| --- | --- |
| `genesis` | the record begins its ledger |
| `verified` | the record before it is here and is unchanged |
| `unverifiable` | the record before it is not in this batch, or has no canonical form |
| `broken` | it, or a record before it in this batch, was changed, removed or put in |

Says nothing of the last record of an unsigned ledger, nor of a ledger that was
hashed anew from its first change on: only a signature or an anchor shows that.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson
import rfc8785

if TYPE_CHECKING:
    from collections.abc import Sequence

FOLLOWS_BREAK = "it follows a broken record"
_OTHER_BEFORE = "the record before it is not the one whose hash it names"
_OTHER_AFTER = "the record after it names another hash for it"

_MAX_SAFE = 2**53 - 1
_BEYOND_16_BITS = re.compile(rb"[\xf0-\xf4]")


class Verdict(NamedTuple):
    """What is known of one record's place in its ledger."""

    verdict: str
    reason: str | None = None


@dataclass(frozen=True)
class Entry:
    """One record, as far as the chain is concerned."""

    ledger: str | None
    """Which ledger it is of; None where it does not say."""
    hashes: tuple[str, ...]
    """What the next record may name it by; empty where it has no canonical form."""
    previous: str | None
    """The hash that it names; None begins the ledger."""
    name: str | None
    """Its own name, unlike that of any other record."""
    parent: str | None
    """The name of the record before it."""
    fault: str | None = None
    """What is wrong with the record taken alone."""
    erased: str | None = None
    """The hash that it says it had before its content was erased."""


def canonical(value: Any) -> bytes | None:
    """Return the JSON of RFC 8785, None for what has no such form (2**53, a lone surrogate)."""
    try:
        written = orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
    except TypeError:
        written = None
    # Many times as fast, and the same but for numbers and for names beyond 16 bits.
    ordered = written is not None and (written.isascii() or not _BEYOND_16_BITS.search(written))
    if ordered and _is_plain(value):
        return written
    try:
        return rfc8785.dumps(value)
    except (rfc8785.CanonicalizationError, RecursionError, UnicodeError):
        return None


def _is_plain(value: Any) -> bool:
    """Return whether a value has no fraction and no integer that a double cannot hold."""
    waiting = [value]
    while waiting:
        one = waiting.pop()
        kind = type(one)
        if kind is dict:
            waiting.extend(one.values())
        elif kind is list:
            waiting.extend(one)
        elif kind is float or (kind is int and not -_MAX_SAFE <= one <= _MAX_SAFE):
            return False
    return True


def hash_of(value: Any, before: bytes = b"") -> str | None:
    """Return the hex SHA-256 of `before` and the canonical form, None where there is none."""
    written = canonical(value)
    return None if written is None else hashlib.sha256(before + written).hexdigest()


def judge(entries: Sequence[Entry]) -> list[Verdict]:
    """Return a verdict for each record; copies of one record get the same."""
    known = _Batch(entries)
    verdicts: dict[int, Verdict] = {}
    for place in range(len(entries)):
        # Walk back to a record whose verdict is known, then forward: chains are long.
        way = [place]
        while way[-1] not in verdicts and (before := known.before(way[-1])) is not None:
            way.append(before)
            if len(way) > len(entries):  # forged records may name each other in a ring
                break
        for at in reversed(way):
            if at not in verdicts:
                verdicts[at] = _verdict(known, at, verdicts)
    for place, verdict in list(verdicts.items()):
        # One of the two was changed, and nothing tells which.
        if verdict.reason == _OTHER_BEFORE and (parent := known.parent(place)) is not None:
            verdicts[parent] = _worse(verdicts[parent])
    return [verdicts[place] for place in range(len(entries))]


class _Batch:
    def __init__(self, entries: Sequence[Entry]) -> None:
        self.entries = entries
        self._by_hash: dict[tuple[str | None, str], int] = {}
        self._anywhere: dict[str, int] = {}
        self._by_name: dict[str, int] = {}
        self._heads: dict[str | None, int] = {}
        self.genesis: dict[str | None, Entry] = {}
        for place, entry in enumerate(entries):
            for one in (*entry.hashes, entry.erased):
                if one is not None:
                    self._by_hash.setdefault((entry.ledger, one), place)
                    self._anywhere.setdefault(one, place)
            if entry.name is not None:
                self._by_name.setdefault(entry.name, place)
            if entry.previous is None:
                self.genesis.setdefault(entry.ledger, entry)
        for place, entry in enumerate(entries):
            if entry.previous is not None and self.before(place) is None:
                self._heads.setdefault(entry.ledger, place)

    def before(self, place: int) -> int | None:
        """Return the record that this one names by its hash."""
        entry = self.entries[place]
        if entry.previous is None:
            return None
        # Some writers chain the records of all their sessions as one.
        own = self._by_hash.get((entry.ledger, entry.previous))
        return self._anywhere.get(entry.previous) if own is None else own

    def parent(self, place: int) -> int | None:
        """Return the record that this one names by its name."""
        parent = self.entries[place].parent
        return None if parent is None else self._by_name.get(parent)

    def is_head(self, place: int) -> bool:
        """Return whether a ledger that began in another batch goes on here with this record."""
        ledger = self.entries[place].ledger
        return ledger not in self.genesis and self._heads[ledger] == place


def _verdict(known: _Batch, place: int, verdicts: dict[int, Verdict]) -> Verdict:
    entry = known.entries[place]
    if entry.ledger is None:
        return Verdict("unverifiable", "it does not say of which ledger it is")
    if entry.fault is not None:
        return Verdict("broken", entry.fault)
    if entry.previous is None:
        return _genesis(known, entry)
    before = known.before(place)
    return _unlinked(known, place) if before is None else _linked(known, entry, before, verdicts)


def _linked(known: _Batch, entry: Entry, before: int, verdicts: dict[int, Verdict]) -> Verdict:
    if known.entries[before].name != entry.parent:
        return Verdict("broken", "it names two different records as the one before it")
    if before in verdicts and verdicts[before].verdict == "broken":
        return Verdict("broken", FOLLOWS_BREAK)
    if entry.previous not in known.entries[before].hashes:
        return Verdict("unverifiable", "the content of the record before it was erased")
    return Verdict("verified")


def _worse(verdict: Verdict) -> Verdict:
    return verdict if verdict.verdict == "broken" else Verdict("broken", _OTHER_AFTER)


def _genesis(known: _Batch, entry: Entry) -> Verdict:
    if entry.parent is not None:
        return Verdict("broken", "it names a record before it but no hash")
    if known.genesis[entry.ledger].hashes != entry.hashes:
        return Verdict("broken", "its ledger begins a second time")
    return Verdict("genesis")


def _unlinked(known: _Batch, place: int) -> Verdict:
    parent = known.parent(place)
    if parent is not None and known.entries[parent].hashes:
        return Verdict("broken", _OTHER_BEFORE)
    if parent is not None:
        return Verdict("unverifiable", "the record before it has no canonical form")
    if known.is_head(place):
        return Verdict("unverifiable", "the record before it is not in this batch")
    return Verdict("broken", "a record before it is missing")

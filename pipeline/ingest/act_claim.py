"""The `act` and `may_act` claims of RFC 8693, flattened.

Pure.  Keeps `iss` and `sub` of each actor and nothing else: other members of an actor
are personal data that nobody needs here.  Walks, never recurses: depth is an attacker's.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from pipeline.events.limits import MAX_ACTORS

Principal = dict[str, str | None]
"""Issuer and subject, as the contract's lists of actors hold them."""


class ActClaim(NamedTuple):
    """What an `act` claim says; all empty where there is none."""

    actors: list[Principal]
    """Outermost (current) actor first."""
    is_asserted: bool
    omitted: int
    """Actors beyond `MAX_ACTORS`, which are left out."""
    malformed_reason: str | None
    """ToolHive's words for it, and `sub_missing`."""


_NONE = ActClaim([], False, 0, None)


def read_act(claim: Any) -> ActClaim:
    """Return the actors of an `act` claim; the first violation gives the reason.

    An actor without a readable `sub` ends the list: what lies behind it would move up
    and stand for somebody else.
    """
    if claim is None:
        return _NONE
    if not isinstance(claim, dict):
        return ActClaim([], True, 0, "act_not_object")
    actors: list[Principal] = []
    omitted, reason, is_open = 0, None, True
    level: Any = claim
    while level is not None:
        if not isinstance(level, dict):
            reason = reason or "nested_act_not_object"
            break
        fault = _fault(level)
        reason = reason or fault
        is_open = is_open and fault in {None, "iss_not_string"} and bool(_name(level))
        if is_open and len(actors) < MAX_ACTORS:
            actors.append(_principal(level))
        elif is_open:
            omitted += 1
        level = level.get("act")
    return ActClaim(actors, True, omitted, reason)


def read_may_act(claim: Any) -> tuple[list[Principal] | None, bool]:
    """Return who may become actor, and whether all of the claim could be read.

    An empty object or list restricts to nobody; None says nothing.
    """
    if claim is None:
        return None, True
    listed = claim if isinstance(claim, list) else [claim] if claim != {} else []
    if not listed:
        return [], True
    named = [_principal(one) for one in listed if isinstance(one, dict) and _fault(one) is None]
    # Nobody readable is not nobody.
    return named or None, len(named) == len(listed)


def _fault(actor: dict[str, Any]) -> str | None:
    """Return the more severe fault of one actor: without `sub` it cannot be named at all."""
    subject = _name(actor)
    if subject is not None and not isinstance(subject, str):
        return "sub_not_string"
    if not subject:
        return "sub_missing"
    issuer = actor.get("iss")
    return None if issuer is None or isinstance(issuer, str) else "iss_not_string"


def _name(actor: dict[str, Any]) -> Any:
    """Return the name of an actor: Duende's servers write a client's id in place of `sub`."""
    subject = actor.get("sub")
    return actor.get("client_id") if subject is None else subject


def _principal(actor: dict[str, Any]) -> Principal:
    issuer = actor.get("iss")
    return {"issuer": issuer if isinstance(issuer, str) else None, "subject": _name(actor)}

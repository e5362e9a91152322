"""Where a line of a token server's log tells of tokens: the members' names, and what is there.

Pure.  Names are read in any spelling (`subjectToken`, `subject-token`).  Looks into the
objects that loggers wrap around what they tell, and no deeper.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any, NamedTuple

from pipeline.events.shapes import is_secret_name
from pipeline.ingest.claims import NAMES
from pipeline.ingest.json_text import parse_json
from pipeline.ingest.raw_token import Token, is_jws, read_token

MARKS = frozenset({"iss", "sub", "jti", "uti", "act"})
"""Of these claims one must be there: the others stand in other records too."""
_IDS = frozenset({"iss", "jti", "uti"})
CLAIMS_MEMBERS = (
    "claims",
    "token_claims",
    "access_token_claims",
    "issued_token_claims",
    "issued_claims",
    "new_token_claims",
    "jwt_claims",
    "decoded_token",
    "decoded",
    "token_payload",
    "jwt_payload",
    "access_token_payload",
    "payload",
    "response",
    "issued_token",
    "issued",
    "new_token",
    "child_token",
    "child",
    "access_token",
    "token",
    "jwt",
)
RAW_MEMBERS = ("issued_token", "new_token", "access_token", "token", "jwt", "raw_token")

_WRAPPERS = ("details", "data", "event", "context", "fields", "body", "message")
_PARTS = ("payload", "auth", "oauth", "authorizer", "attributes", "extra")
"""Members that hold a line, or else the claims of a token."""
REQUESTS = ("request", "params", "parameters", "request_params", "form")
RESPONSES = ("response", "token_response", "result", "reply")
GRANTS = ("grant_type", "grant")
_BODIES = ("body", *REQUESTS[1:])
_ASK_OR_ANSWER = frozenset({*REQUESTS, *RESPONSES})
_HOLD = _ASK_OR_ANSWER | {*_WRAPPERS, *_PARTS}
_MADE = ("access_token", "refresh_token", "id_token", "issued_token_type")
"""Members of a token endpoint's answer that are no claims."""
_BEARER = re.compile(r"(?i)(?:bearer|dpop)\s")
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_FAILURES = frozenset(
    (
        *("failure", "failed", "fail", "error", "false", "deny", "denied", "rejected"),
        *("unauthorized", "forbidden", "invalid"),
    )
)
_HTTP_ERROR = 400
_DIGITS = re.compile(r"\d{1,9}", re.ASCII)
_DEEPEST = 64

Place = dict[str, Any]


class Places(NamedTuple):
    """The objects of one line, each with its members' names in snake case."""

    line: list[Place]
    """The line itself first, then what loggers put around what they tell."""
    requests: list[Place]
    responses: list[Place]


class Role(NamedTuple):
    """Where a line may tell of a token that another came from."""

    role: str
    held: tuple[str, ...]
    """Members that hold claims or a raw token."""
    short: str
    """A member that may hold claims, but as a text is somebody's name."""
    named: tuple[str, ...]
    """Members that hold an id."""
    issuer: str
    members: frozenset[str]


def _role(role: str, name: str, short: str) -> Role:
    held = (f"{name}_claims", f"{short}_claims", f"{name}_payload", name)
    named = (f"{name}_jti", f"{name}_id", f"{name}.jti", f"{short}_jti")
    members = frozenset({*held, *named, short})
    return Role(role, held, short, named, f"{name}_issuer", members)


ROLES = (
    _role("subject", "subject_token", "subject"),
    _role("actor", "actor_token", "actor"),
    _role("assertion", "assertion", "assertion"),
    _role("source", "parent_token", "parent"),
)
OF_PARENTS = frozenset().union(*(role.members for role in ROLES))
_CARRIERS = (*CLAIMS_MEMBERS, *(name for role in ROLES for name in (*role.held, role.short)))
_RAW = (*RAW_MEMBERS, *(role.held[-1] for role in ROLES))
_SECRETS = frozenset({*_RAW, "client_assertion", "refresh_token", "id_token", "code", "cookie"})


@lru_cache(maxsize=4096)
def _snake(name: str) -> str:
    return _CAMEL.sub("_", name).replace("-", "_").lower()


def spelt(place: Place) -> Place:
    """Return the same with its names in snake case; a name so written goes before others."""
    names = "".join(place)
    if "-" not in names and names.lower() == names:
        return place
    return {_snake(name): value for name, value in place.items()} | {
        name: value for name, value in place.items() if _snake(name) == name
    }


def dicts(place: Place, names: tuple[str, ...]) -> list[Place]:
    """Return the objects under these names, spelt."""
    return [spelt(found) for name in names if isinstance(found := place.get(name), dict)]


def places_of(record: dict[str, Any]) -> Places:
    """Return the objects of a line that tell of tokens."""
    top = spelt(record)
    if _HOLD.isdisjoint(top):
        return Places([top], [], [])
    parts = (one for one in dicts(top, _PARTS) if not are_claims(one))
    line = [top, *dicts(top, _WRAPPERS), *parts]
    if all(_ASK_OR_ANSWER.isdisjoint(place) for place in line):
        return Places(line, [], [])
    around = [one for place in line for one in dicts(place, REQUESTS)]
    answers = [one for place in line for one in dicts(place, RESPONSES)]
    requests = around + [one for place in around for one in dicts(place, _BODIES)]
    responses = answers + [one for place in answers for one in dicts(place, ("body", "data"))]
    return Places(line, requests, [one for one in responses if not are_claims(one)])


def are_claims(value: Any) -> bool:
    """Return whether an object is the claims of a token: one name could stand in any log."""
    return isinstance(value, dict) and bool(MARKS & value.keys()) and len(NAMES & value.keys()) > 1


def claims_in(value: Any) -> Token | None:
    """Return the token whose claims, alone, wrapped or as a text, a member holds."""
    if isinstance(value, str) and value[:1] == "{":
        value = _parsed(value)
    if not isinstance(value, dict):
        return None
    if not MARKS & value.keys():
        for name in ("claims", "payload", "body"):
            inner = value.get(name)
            if isinstance(inner, dict) and NAMES & inner.keys():
                raw = next(
                    (read_token(value.get(one)) for one in RAW_MEMBERS if one in value), None
                )
                return Token(inner, header_in(value), raw.raw if raw else None)
    if NAMES & value.keys() and not any(isinstance(value.get(name), str) for name in _MADE):
        return Token(value, {}, None)
    return None


def _parsed(text: str) -> Any:
    try:
        return parse_json(text.encode())
    except ValueError:
        return None


def joined(found: Token, raw: Token | None, header: dict[str, Any]) -> Token:
    """Return claims with the raw token beside them, unless that is another's."""
    if raw is None or not _may_be_one(found.claims, raw.claims):
        return Token(found.claims, {**header, **found.header}, found.raw)
    return Token(found.claims, {**header, **found.header, **raw.header}, found.raw or raw.raw)


def _may_be_one(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return all(one[name] == other[name] for name in ("jti", "uti") if name in one and name in other)


def introspected(line: dict[str, Any]) -> bool | None:
    """Return what introspection answered; None where nothing was introspected."""
    held = (line, *(line[name] for name in CLAIMS_MEMBERS if name in line))
    for place in held:
        if isinstance(place, dict) and isinstance(found := place.get("active"), bool):
            return found
    return None


def header_in(place: Place) -> dict[str, Any]:
    """Return the header of a token beside its claims."""
    header = place.get("header")
    return header if isinstance(header, dict) else {}


def tells_failure(place: dict[str, Any]) -> bool:
    """Return whether a line's verdict, or its HTTP status, is a failure."""
    said = (place.get(name) for name in ("outcome", "result", "success", "status"))
    if any(str(one).strip().lower() in _FAILURES for one in said if one is not None):
        return True
    return _is_error(place.get("status")) or _is_error(place.get("status_code"))


def _is_error(code: Any) -> bool:
    """Return whether an HTTP status, a number or its digits, tells of an error."""
    if isinstance(code, str) and _DIGITS.fullmatch(code.strip()):
        code = int(code)
    return type(code) is int and code >= _HTTP_ERROR


def bearer_in(place: Place) -> str | None:
    """Return the token with which a request authenticated; a password is none."""
    held = [place, *dicts(place, ("headers",))]
    found = next((one["authorization"] for one in held if "authorization" in one), None)
    return found if isinstance(found, str) and _BEARER.match(found) and is_jws(found) else None


def tells_of_a_token(record: dict[str, Any]) -> bool:
    """Return whether a line carries claims, a signed token or what introspection answered."""
    if "family" in record:
        return False  # a record of ours
    places = places_of(record)
    if any(are_claims(one) and not _IDS.isdisjoint(one) for one in places.line[1:]):
        return True
    told = [*places.line, *places.requests, *places.responses]
    if any(name in place for place in told for name in GRANTS) and any(
        isinstance(place.get(name), str) for place in told for name in (*_RAW, "refresh_token")
    ):
        return True
    for place in told:
        if any(name in place and _carries(place[name]) for name in _CARRIERS):
            return True
        if any(name in place and is_jws(place[name]) for name in _RAW):
            return True
    return any(isinstance(one.get("active"), bool) for one in places.responses) or bool(
        bearer_in(places.line[0])
    )


def _carries(value: Any) -> bool:
    if isinstance(value, str) and value[:1] != "{":
        return False
    found = claims_in(value)
    return found is not None and are_claims(found.claims)


def without_tokens(record: Any, depth: int = 0) -> Any:
    """Return a record without the members that hold raw tokens, for a dead letter."""
    if depth > _DEEPEST:
        return None
    if isinstance(record, list):
        return [without_tokens(one, depth + 1) for one in record]
    if not isinstance(record, dict):
        return record
    return {
        name: without_tokens(value, depth + 1)
        for name, value in record.items()
        if isinstance(value, dict | list) or not (_snake(name) in _SECRETS or is_secret_name(name))
    }

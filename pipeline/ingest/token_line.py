"""One line of a token server's log: which token it is of, what happened, what it came from.

Pure.  Reads named members only, so that nothing else of a line can reach a row.
"""

from __future__ import annotations

import re
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

from pipeline.ingest.claims import (
    NAMES,
    Ref,
    aliases,
    columns_of,
    instant_us,
    issuer_of,
    moment_us,
    reference,
    scopes_in,
    word,
)
from pipeline.ingest.json_text import digest, member
from pipeline.ingest.raw_token import Token, is_jws, read_token

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pipeline.ingest.sources import Context

CLAIMS_MEMBERS = (
    "claims",
    "token_claims",
    "access_token_claims",
    "issued_token_claims",
    "issued_claims",
    "jwt_claims",
    "decoded_token",
    "payload",
    "response",
    "issued_token",
    "access_token",
    "token",
    "jwt",
)
RAW_MEMBERS = ("issued_token", "access_token", "token", "jwt", "raw_token")

_INSIDE = ("details", "data", "event", "context", "fields", "body", "message")
_REQUESTS = ("request", "params", "parameters", "request_params", "form")
_TIMES = (
    "time",
    "ts",
    "timestamp",
    "@timestamp",
    "event_time",
    "eventTime",
    "logged_at",
    "loggedAt",
    "occurred_at",
    "created_at",
    "datetime",
    "date",
)
_IDS = ("event_id", "eventId", "log_id", "audit_id")
_EVENTS = ("op", "operation", "event", "event_type", "eventType", "action", "type", "@type")
_GRANTS = ("grant_type", "grantType", "grant")
_OPS = frozenset(
    (
        *("issue", "exchange", "assume", "refresh", "use", "introspect", "rotate", "revoke"),
        *("deny", "reuse_detected", "consent_grant", "consent_revoke", "delegate"),
    )
)
_STRONG = (
    (re.compile("reuse"), "reuse_detected"),
    (re.compile("revo"), "revoke"),
    (re.compile("introspect"), "introspect"),
    (re.compile("deni|deny|reject|refus"), "deny"),
    (
        re.compile(r"validat|verif|(?:^|[^a-z])(?:used?|present(?:ed)?|accept(?:ed)?)(?:$|[^a-z])"),
        "use",
    ),
)
"""What a line's event says whatever was granted."""
_REFRESH_TOKEN_MADE = re.compile("refresh_?token_?(?:issu|creat)")
_REFUSALS = frozenset({"deny", "reuse_detected"})
_FAILURES = frozenset(
    (
        *("failure", "failed", "fail", "error", "false", "deny", "denied", "rejected"),
        *("unauthorized", "forbidden", "invalid"),
    )
)


class _Role(NamedTuple):
    """Where a line may tell of a token that another came from."""

    role: str
    held: tuple[str, ...]
    """Members that hold claims or a raw token."""
    named: tuple[str, ...]
    """Members that hold an id."""
    issuer: str
    members: frozenset[str]


def _role(role: str, name: str, short: str) -> _Role:
    held = (f"{name}_claims", f"{short}_claims", name)
    named = (f"{name}_jti", f"{name}_id", f"{name}.jti", f"{short}_jti", f"{short}Jti")
    return _Role(role, held, named, f"{name}_issuer", frozenset({*held, *named}))


_PARENTS = (
    _role("subject", "subject_token", "subject"),
    _role("actor", "actor_token", "actor"),
    _role("assertion", "assertion", "assertion"),
    _role("source", "parent_token", "parent"),
)
CARRIERS = (*CLAIMS_MEMBERS, *(name for role in _PARENTS for name in role.held))
"""Members by whose claims a line is known as a token server's."""
_REFRESH = ("refresh_token_jti", "refresh_token_id", "refreshTokenJti", "refresh_jti")
_SECRETS = frozenset(
    {*RAW_MEMBERS, *(role.held[-1] for role in _PARENTS)}
    | {"client_assertion", "refresh_token", "id_token", "code", "client_secret"}
)
_HTTP_ERROR = 400
_DIGITS = re.compile(r"\d{1,9}", re.ASCII)
_TRACE = re.compile(r"[0-9a-f]{32}")
_SPAN = re.compile(r"[0-9a-f]{16}")


_NOBODY = "unknown"
"""The issuer of tokens whose issuer neither the line nor the instance names."""


class Unusable(NamedTuple):
    """Why a line gives no row."""

    reason: str
    is_skipped: bool = False
    """It says nothing the contract holds; no fault of the line."""


class Parent(NamedTuple):
    """A token that a line names as one that another came from."""

    role: str
    ref: Ref
    token: Token | None


def line_rows(record: dict[str, Any], context: Context) -> list[dict[str, Any]] | Unusable:
    """Return the token events of one line: of its token, and of the one it came from."""
    line = _Line(record, context)
    if line.active is False and line.own is None:
        return Unusable("an inactive token, of which introspection says nothing", is_skipped=True)
    if line.token is None and not line.parents:
        return Unusable("holds no claims and no token")
    if line.time is None:
        return Unusable("names no time: neither the line's own nor iat nor nbf")
    rows = [line.row()]
    if not line.failed:
        # What was presented in vain may be forged.
        rows += [row for parent in line.parents if (row := line.seen(parent))]
    return rows


def without_tokens(record: Any) -> Any:
    """Return a record without the members that hold raw tokens, for a dead letter."""
    if not isinstance(record, dict):
        return record
    inside = {*_INSIDE, *_REQUESTS}
    return {
        name: without_tokens(value) if name in inside else value
        for name, value in record.items()
        if name not in _SECRETS or isinstance(value, dict)
    }


class _Line:
    """One line with what all of its rows need."""

    def __init__(self, record: dict[str, Any], context: Context) -> None:
        self.record, self.context = record, context
        self.places = [record, *_dicts(record, _INSIDE)]
        self.requests = [one for place in self.places for one in _dicts(place, _REQUESTS)]
        self.token = self._token()
        claims = self.token.claims if self.token else {}
        self.is_bare = claims is record
        if self.is_bare:
            # What lies deeper in a token is of its claims, not of the line.
            self.places = [record]
        self.active = _active(record)
        self.words = _words([*self.places, *self.requests])
        named = issuer_of(claims) or self.text("issuer", "iss") or context.instance
        self.issuer = named or _NOBODY
        self.grant = self.text(*_GRANTS)
        self.parents = list(self._parents(claims))
        self.issuer = named or self._issuer_shown() or _NOBODY
        self.source = f"oauth.claims:{context.instance or self.issuer}"
        self.own = reference(self.token, self.issuer) if self.token else None
        self.time, self.time_basis = self._time(claims)
        self.events = [one.lower() for name in _EVENTS if (one := self.text(name))]
        self.op = self._op(claims)
        self.error = self._error()
        self.failed = self.error is not None or self.op in _REFUSALS

    def text(self, *names: str) -> str | None:
        """Return the first text of these names, in the line before what was requested."""
        for name in names:
            if name in self.words:
                return self.words[name]
        return None

    def _issuer_shown(self) -> str | None:
        """Return the issuer of the token that was presented: most are exchanged where made."""
        shown = (issuer_of(one.token.claims) for one in self.parents if one.token)
        return next((one for one in shown if one), None)

    @cached_property
    def sha256(self) -> str:
        """Return the digest of the whole line."""
        return digest(self.record)

    def row(self) -> dict[str, Any]:
        """Return the token event of the line's own token."""
        token = self.token or Token({}, {}, None)
        own, failed = self.own, self.failed
        if own is None and token.claims and not failed:
            # Any token like it has these claims: this one is known by this line alone.
            own = Ref(self.issuer, "local", self.sha256)
        columns = columns_of(token, self.text("client_id", "clientId", "client"))
        is_revoked = self.op == "revoke"
        return {
            **self._envelope(columns, ""),
            **self._asked_for(token),
            **self._granted(columns),
            "op": self.op,
            "outcome": "failure" if failed else "success",
            "error": self.error,
            **_credential(own),
            "credential_aliases": aliases(token, own) if own and not failed else [],
            "grant_type": self.grant,
            "token_type": self.text("issued_token_type") or columns["token_type"] or self._made(),
            "family_id": columns["family_id"] or self.text("family_id", *_REFRESH),
            "consent_id": self.text("consent_id", "grant_id"),
            "requested_scopes": self._requested(),
            "parents": [
                {"role": one.role, **one.ref._asdict()} for one in self.parents if one.ref != own
            ],
            "revoke_target": "token" if is_revoked else None,
            "revoke_reason": self.text("revoke_reason", "reason") if is_revoked else None,
            **self._domains(token),
        }

    def seen(self, parent: Parent) -> dict[str, Any] | None:
        """Return the event of a token that was presented, where its claims are told."""
        if parent.token is None or not {"sub", "scope", "scp"} & parent.token.claims.keys():
            return None
        columns = columns_of(parent.token)
        return {
            **self._envelope(columns, f"/{parent.role}"),
            # The server read the token's claims: what they say is its word, as of this time.
            "op": "introspect",
            "outcome": "success",
            **_credential(parent.ref),
            "credential_aliases": aliases(parent.token, parent.ref),
        }

    def _envelope(self, columns: dict[str, Any], part: str) -> dict[str, Any]:
        # `id` among claims is the user's.
        names = _IDS if self.is_bare else (*_IDS, "id")
        event_id = next((one for name in names if (one := self._id(name))), None)
        event = self.text(*_EVENTS)
        return {
            **columns,
            "event_id": f"{event_id or self.sha256}{part}",
            "source": self.source,
            "event_time": self.time,
            "observer": "resource_server" if self.op == "use" else "authz_server",
            "tenant_id": self.context.tenant_id,
            "trace_id": _hex(self.text("trace_id", "traceId"), _TRACE),
            "span_id": _hex(self.text("span_id", "spanId"), _SPAN),
            "session_id": columns["session_id"] or self.text("session_id", "sessionId"),
            "txn_id": columns["txn_id"] or self.text("txn", "txn_id"),
            "ext": {
                **{name: one for name, one in columns["ext"].items() if one},
                **({"event": event} if event else {}),
                **({"time_basis": self.time_basis} if self.time_basis else {}),
            },
            # The same line read again later is the same event.
            "uid_of": self.sha256 if self.time_basis else None,
        }

    def _id(self, name: str) -> str | None:
        found = self.record.get(name)
        return str(found) if type(found) is int else self.text(name)

    def _token(self) -> Token | None:
        held = [(place, name) for place in self.places for name in RAW_MEMBERS]
        # Introspection and revocation ask about a token by that name (RFC 7662, RFC 7009).
        held += [(place, "token") for place in self.requests]
        raw = next((one for place, name in held if (one := word(place.get(name)))), None)
        for place in self.places:
            for name in CLAIMS_MEMBERS:
                claims = place.get(name)
                if isinstance(claims, dict) and NAMES & claims.keys():
                    token = read_token(raw) or Token({}, {}, None)
                    return Token(claims, {**_header(place), **token.header}, token.raw)
        if raw and is_jws(raw):
            return read_token(raw)
        if {"iss", "sub", "jti", "uti", "act"} & self.record.keys():
            token = read_token(raw) or Token({}, {}, None)
            return Token(self.record, {}, token.raw)
        return read_token(raw)

    def _time(self, claims: dict[str, Any]) -> tuple[int | None, str | None]:
        """Return when it happened; for a line that bears no time, when at the latest and why."""
        named = [(place, name) for name in _TIMES for place in self.places if name in place]
        for place, name in [*named, (claims, "iat"), (claims, "nbf")]:
            if (found := moment_us(place.get(name))) is not None:
                return found, None
        if self.context.received_at is None:
            return None, None
        received, end = instant_us(self.context.received_at), moment_us(claims.get("exp"))
        return (end, "exp") if end is not None and end < received else (received, "received")

    def _op(self, claims: dict[str, Any]) -> str:
        if named := next((one for one in self.events if one in _OPS), None):
            return named
        if self.active is not None:
            return "introspect"
        for event in self.events:
            for pattern, op in _STRONG:
                if pattern.search(event):
                    return op
        return self._op_by_grant() if self.grant else self._op_by_signs(claims)

    def _op_by_grant(self) -> str:
        grant = (self.grant or "").lower()
        if grant.endswith(("token-exchange", "token_exchange")):
            return "exchange"
        return "refresh" if grant == "refresh_token" else "issue"

    def _op_by_signs(self, claims: dict[str, Any]) -> str:
        # An authorization code is exchanged too, and that is an issuance.
        if any("exchang" in event and "code" not in event for event in self.events):
            return "exchange"
        # Only an exchange puts an actor beside the subject (RFC 8693 section 4.1).
        if claims.get("act") is not None or any(one.role == "subject" for one in self.parents):
            return "exchange"
        told = any("refresh" in one and not _REFRESH_TOKEN_MADE.search(one) for one in self.events)
        return "refresh" if told else "issue"

    def _made(self) -> str | None:
        made = any(_REFRESH_TOKEN_MADE.search(event) for event in self.events)
        return "urn:ietf:params:oauth:token-type:refresh_token" if made else None

    def _error(self) -> str | None:
        """Return why it failed; None where it did not."""
        if self.active is False:
            return "inactive_token"
        for place in self.places:
            found = place.get("error") or place.get("error_code")
            if found:
                return word(found) or word(member(found, "error")) or "unspecified"
        for place in self.places:
            said = {
                str(place.get(name)).strip().lower()
                for name in ("outcome", "result", "success", "status")
            }
            codes = (place.get("status"), place.get("status_code"))
            if said & _FAILURES or any(_is_error(one) for one in codes):
                return "unspecified"
        return None

    def _asked_for(self, token: Token) -> dict[str, Any]:
        """Return the subject of a token that was refused: that of the one presented."""
        if token.claims:
            return {}
        shown = next((one.token for one in self.parents if one.token and one.role != "actor"), None)
        columns = columns_of(shown) if shown else {}
        return {name: one for name, one in columns.items() if name.startswith("subject_")}

    def _granted(self, columns: dict[str, Any]) -> dict[str, Any]:
        """Return what was granted, from the line where the claims do not say it."""
        names = ("granted_scopes", "granted_scope", "issued_scope", "scopes")
        for place in [] if columns["scope_known"] else self.places:
            for name in names:
                found = scopes_in(place.get(name))
                if found is not None:
                    return {"scopes": found, "scope_known": True}
        return {}

    def _requested(self) -> list[str]:
        named = [(place, name) for place in self.requests for name in ("scope", "scopes")]
        # Beside the claims `scope` is what was asked for; among them it is what was granted.
        own = ("requested_scopes", "requested_scope") + (() if self.is_bare else ("scope",))
        named += [(place, name) for place in self.places for name in own]
        return next((one for place, name in named if (one := scopes_in(place.get(name)))), [])

    def _domains(self, token: Token) -> dict[str, str | None]:
        """Return both sides of a hop between issuers."""
        own = issuer_of(token.claims)
        for parent in self.parents:
            given = issuer_of(parent.token.claims) if parent.token else None
            if parent.role != "actor" and own and given and given != own:
                return {"from_trust_domain": given, "to_trust_domain": own}
        return {}

    def _parents(self, claims: dict[str, Any]) -> Iterator[Parent]:
        for place in (*self.requests, *self.places):
            for role in _PARENTS:
                if not role.members.isdisjoint(place) and (found := self._parent(place, role)):
                    yield Parent(role.role, *found)
        refresh = self.text(*_REFRESH)
        if refresh and self._op_by_grant() == "refresh":
            yield Parent("refresh", Ref(self.issuer, "jti", refresh), None)
        for name, kind in (("parent_jti", "jti"), ("par_hash", "par_hash")):
            # On the line, `parent_jti` was read above.
            if own := word(claims.get(name) if not self.is_bare or kind != "jti" else None):
                yield Parent("source", Ref(self.issuer, kind, own), None)

    def _parent(self, place: dict[str, Any], role: _Role) -> tuple[Ref, Token | None] | None:
        issuer = word(place.get(role.issuer)) or self.issuer
        for name in role.held:
            token = read_token(place.get(name))
            if token and (ref := reference(token, issuer)):
                return ref, token
        for name in role.named:
            if own := word(place.get(name)):
                return Ref(issuer, "jti", own), None
        return None


def _is_error(code: Any) -> bool:
    """Return whether an HTTP status, a number or its digits, tells of an error."""
    if isinstance(code, str) and _DIGITS.fullmatch(code.strip()):
        code = int(code)
    return type(code) is int and code >= _HTTP_ERROR


def _active(record: dict[str, Any]) -> bool | None:
    """Return what introspection answered; None where nothing was introspected."""
    for place in (record, *_dicts(record, CLAIMS_MEMBERS)):
        if isinstance(found := place.get("active"), bool):
            return found
    return None


def _words(places: list[dict[str, Any]]) -> dict[str, str]:
    """Return every text of these places by its name; the first place wins."""
    return {
        name: found
        for place in reversed(places)
        for name, value in place.items()
        if (found := word(value))
    }


def _credential(ref: Ref | None) -> dict[str, str | None]:
    return {f"credential_{name}": getattr(ref, name, None) for name in Ref._fields}


def _dicts(place: dict[str, Any], names: tuple[str, ...]) -> list[dict[str, Any]]:
    return [found for name in names if isinstance(found := place.get(name), dict)]


def _header(place: dict[str, Any]) -> dict[str, Any]:
    header = place.get("header")
    return header if isinstance(header, dict) else {}


def _hex(value: str | None, form: re.Pattern[str]) -> str | None:
    lower = (value or "").lower()
    return lower if form.fullmatch(lower) else None

"""One line of a token server's log: which token it is of, what happened, what it came from.

Pure.  Reads named members only, so that nothing else of a line can reach a row.
"""

from __future__ import annotations

import re
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

from pipeline.ingest.claims import (
    CLIENTS_OWN,
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
from pipeline.ingest.line_places import (
    CLAIMS_MEMBERS,
    GRANTS,
    MARKS,
    OF_PARENTS,
    RAW_MEMBERS,
    ROLES,
    Role,
    are_claims,
    bearer_in,
    claims_in,
    header_in,
    introspected,
    joined,
    places_of,
    tells_failure,
)
from pipeline.ingest.raw_token import Token, read_token

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pipeline.ingest.sources import Context

_TIMES = (
    *("time", "ts", "timestamp", "@timestamp", "event_time", "logged_at"),
    *("occurred_at", "created_at", "datetime", "date"),
)
_ADDRESSES = ("src_ip", "client_ip", "ip", "ip_address", "source_ip", "remote_addr", "remote_ip")
_IDS = ("event_id", "log_id", "audit_id")
_EVENTS = ("op", "operation", "event", "event_type", "event_name", "action", "type", "@type")
_OPS = frozenset(
    (
        *("issue", "exchange", "assume", "refresh", "use", "introspect", "rotate", "revoke"),
        *("deny", "reuse_detected", "consent_grant", "consent_revoke", "delegate"),
    )
)
_STRONG = (
    (re.compile("reuse"), "reuse_detected"),
    (re.compile("consent.{0,9}(?:revo|withdr)"), "consent_revoke"),
    (re.compile("consent.{0,9}(?:grant|given|accept|approv)"), "consent_grant"),
    (re.compile("revo"), "revoke"),
    (re.compile("introspect"), "introspect"),
    (re.compile("deni|deny|reject|refus"), "deny"),
    (
        re.compile(r"validat|verif|(?:^|[^a-z])(?:used?|present(?:ed)?|accept(?:ed)?)(?:$|[^a-z])"),
        "use",
    ),
)
"""What a line's event says whatever was granted."""
_MAKES = re.compile("issu|mint|grant|creat|exchang|generat|refresh|renew|rotat|login")
_FRESH_US = 60_000_000
"""A line this long after the token was made tells of it, and does not make it."""
_REFRESH_TOKEN_MADE = re.compile("refresh_?token_?(?:issu|creat)")
_REFUSALS = frozenset({"deny", "reuse_detected"})
_HOLD_CLAIMS, _HOLD_RAW = frozenset(CLAIMS_MEMBERS), frozenset(RAW_MEMBERS)
_VERDICTS = frozenset(
    ("error", "error_code", "outcome", "result", "success", "status", "status_code")
)
_GRANTED = ("granted_scopes", "granted_scope", "issued_scope", "scopes")
_ASKED = frozenset({"scope", "scopes", "requested_scopes", "requested_scope"})
_MAKING = frozenset({"issue", "exchange", "refresh"})


_REFRESH = ("refresh_token_jti", "refresh_token_id", "refresh_jti")
_OLD_REFRESH = ("refresh_token_claims", "old_refresh_token", "presented_refresh_token")
_REFRESH_URN = "urn:ietf:params:oauth:token-type:refresh_token"
_LONGEST_S = 1 << 32
_TRACE = re.compile(r"[0-9a-f]{32}")
_SPAN = re.compile(r"[0-9a-f]{16}")
_ADDRESS = re.compile(r"(?:\d{1,3}\.){3}\d{1,3}|[0-9a-f:]{2,39}", re.ASCII)


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
    """Return the token events of one line: of its token, and of those it came with and from."""
    line = _Line(record, context)
    if line.active is False and line.own is None:
        return Unusable("an inactive token, of which introspection says nothing", is_skipped=True)
    if line.token is None and not line.parents:
        return Unusable("holds no claims and no token")
    if line.time is None:
        return Unusable("names no time: neither the line's own nor iat nor nbf")
    row = line.row()
    if line.failed:
        # What was presented in vain may be forged.
        return [row]
    beside = line.refresh_token(row)
    seen = (line.seen(parent) for parent in line.parents)
    return [row, *([beside] if beside else []), *(one for one in seen if one)]


class _Line:
    """One line with what all of its rows need."""

    def __init__(self, record: dict[str, Any], context: Context) -> None:
        self.record, self.context = record, context
        self.places, self.requests, self.responses = places_of(record)
        self.token = self._token()
        claims = self.token.claims if self.token else {}
        self.is_bare = claims is record
        if self.is_bare:
            # What lies deeper in a token is of its claims, not of the line.
            self.places, self.responses = self.places[:1], []
        self.told = [*self.places, *self.responses, *self.requests]
        # All members by name, those of the line before others: most names are nowhere.
        self.members: dict[str, Any] = {}
        for place in reversed(self.told):
            self.members.update(place)
        self.active = introspected(self.places[0])
        named = issuer_of(claims) or self.text("issuer", "iss") or context.instance
        self.issuer = named or _NOBODY
        self.grant = self.text(*GRANTS)
        found = self._parents(claims)
        self.parents = list({one[:2]: one for one in reversed([*found])}.values())[::-1]
        self.issuer = named or self._issuer_shown() or _NOBODY
        self.source = f"oauth.claims:{context.instance or self.issuer}"
        self.own = reference(self.token, self.issuer) if self.token else None
        self.events = [one.lower() for name in _EVENTS if (one := self.text(name))]
        self.time, self.time_basis = self._time(claims)
        self.op = self._op(claims)
        self.error = self._error()
        self.failed = self.error is not None or self.op in _REFUSALS

    def text(self, *names: str) -> str | None:
        """Return the first text of these names, in the line before what was requested."""
        for name in names:
            if name in self.members:
                for place in self.told:
                    if one := word(place.get(name)):
                        return one
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
        columns = columns_of(token, self.text("client_id", "client"), self.grant)
        is_revoked = self.op == "revoke"
        return {
            **self._envelope(columns, ""),
            **self._asked_for(token, columns["client_id"]),
            **self._granted(columns),
            "op": self.op,
            "outcome": "failure" if failed else "success",
            "error": self.error,
            **_credential(own),
            "credential_aliases": aliases(token, own) if own and not failed else [],
            "grant_type": self.grant,
            "token_type": self.text("issued_token_type") or columns["token_type"] or self._made(),
            "expires_at": columns["expires_at"] or self._end(),
            "family_id": columns["family_id"] or self.text("family_id", *_REFRESH),
            "consent_id": self.text("consent_id", "grant_id"),
            "requested_scopes": self._requested(),
            "parents": [
                {"role": role, "issuer": ref.issuer, "kind": ref.kind, "id": ref.id}
                for role, ref, _ in self.parents
                if ref != own
            ],
            "revoke_target": "token" if is_revoked else None,
            "revoke_reason": self.text("revoke_reason", "reason") if is_revoked else None,
            **self._domains(token),
        }

    def refresh_token(self, row: dict[str, Any]) -> dict[str, Any] | None:
        """Return the event of a refresh token that was made beside the line's own token."""
        held = [place.get("refresh_token") for place in self.responses]
        for place in self.places if self.op in _MAKING else []:
            # Beside an access token it was made, alone it was presented.
            made = "refresh_token" if word(place.get("access_token")) else None
            held += [place.get("new_refresh_token"), place.get(made) if made else None]
        token = next((one for value in held if (one := read_token(value))), None)
        ref = reference(token, self.issuer) if token else None
        if token is None or ref is None or ref == self.own or self.op not in _MAKING:
            return None
        return {
            **row,
            "event_id": f"{row['event_id']}/refresh_token",
            **_credential(ref),
            "credential_aliases": aliases(token, ref),
            "token_type": _REFRESH_URN,
            "audience": [],
            "expires_at": moment_us(token.claims.get("exp")) or None,
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
        address = None if self.is_bare else _matching(self.text(*_ADDRESSES), _ADDRESS)
        return {
            **columns,
            "event_id": f"{event_id or self.sha256}{part}",
            "source": self.source,
            "event_time": self.time,
            "observer": "resource_server" if self.op == "use" else "authz_server",
            "tenant_id": self.context.tenant_id,
            "trace_id": _matching(self.text("trace_id"), _TRACE),
            "span_id": _matching(self.text("span_id"), _SPAN),
            "session_id": columns["session_id"] or self.text("session_id"),
            "txn_id": columns["txn_id"] or self.text("txn", "txn_id"),
            "ext": {
                **{name: one for name, one in columns["ext"].items() if one},
                **({"event": event} if event else {}),
                **({"src_ip": address} if address else {}),
                **({"time_basis": self.time_basis} if self.time_basis else {}),
            },
            # The same line read again later is the same event.
            "uid_of": self.sha256 if self.time_basis else None,
        }

    def _id(self, name: str) -> str | None:
        found = self.places[0].get(name)
        return str(found) if type(found) is int else self.text(name)

    def _token(self) -> Token | None:
        raw = self._raw()
        for place in (*self.places, *self.responses):
            if _HOLD_CLAIMS.isdisjoint(place):
                continue
            for name in CLAIMS_MEMBERS:
                if name in place and (found := claims_in(place[name])):
                    return joined(found, raw, header_in(place))
        if raw and raw.claims:
            return raw
        if MARKS & self.record.keys():
            return Token(self.record, {}, raw.raw if raw else None)
        held = next((place for place in self.places[1:] if are_claims(place)), None)
        if held:
            return joined(Token(held, {}, None), raw, {})
        return raw or (None if self.requests else read_token(bearer_in(self.places[0])))

    def _raw(self) -> Token | None:
        """Return the raw token that the line is about."""
        places = [one for one in (*self.places, *self.responses) if not _HOLD_RAW.isdisjoint(one)]
        held = [(place, name) for place in places for name in RAW_MEMBERS]
        # Introspection and revocation ask about a token by that name (RFC 7662, RFC 7009).
        held += [(place, "token") for place in self.requests]
        raw = (word(place[name]) for place, name in held if name in place)
        return next((read_token(one) for one in raw if one and one[0] != "{"), None)

    def _time(self, claims: dict[str, Any]) -> tuple[int | None, str | None]:
        """Return when it happened; for a line that bears no time, when at the latest and why."""
        for name in _TIMES:
            if name in self.members:
                for place in self.places:
                    if (found := moment_us(place.get(name))) is not None:
                        return found, None
        for name in ("iat", "nbf"):
            if (found := moment_us(claims.get(name))) is not None:
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
        said = next((op for event in self.events if (op := _op_of(event))), None)
        if said:
            return said
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
        if any(one.role == "subject" for one in self.parents):
            return "exchange"
        told = any("refresh" in one and not _REFRESH_TOKEN_MADE.search(one) for one in self.events)
        if told:
            return "refresh"
        if self._is_old(claims):
            return "use"
        # Only an exchange puts an actor beside the subject (RFC 8693 section 4.1).
        return "exchange" if claims.get("act") is not None else "issue"

    def _is_old(self, claims: dict[str, Any]) -> bool:
        """Return whether the token was made well before, by a line that does not say it makes."""
        made = moment_us(claims.get("iat"))
        if made is None or self.time is None or self.time - made <= _FRESH_US:
            return False
        return not any(_MAKES.search(event) for event in self.events)

    def _made(self) -> str | None:
        return _REFRESH_URN if any(map(_REFRESH_TOKEN_MADE.search, self.events)) else None

    def _end(self) -> int | None:
        """Return when the token ends by the answer that carried it."""
        for place in self.responses:
            lasts = place.get("expires_in")
            if self.time is not None and type(lasts) is int and 0 < lasts < _LONGEST_S:
                return self.time + lasts * 1_000_000
        return None

    def _error(self) -> str | None:
        """Return why it failed; None where it did not."""
        if self.active is False:
            return "inactive_token"
        places = [one for one in (*self.places, *self.responses) if not _VERDICTS.isdisjoint(one)]
        for place in places:
            found = place.get("error") or place.get("error_code")
            if found:
                return word(found) or word(member(found, "error")) or "unspecified"
        return "unspecified" if any(map(tells_failure, places)) else None

    def _asked_for(self, token: Token, client: str | None) -> dict[str, Any]:
        """Return the subject of a token without claims: that of the one shown, or the client."""
        if token.claims:
            return {}
        shown = next((one.token for one in self.parents if one.token and one.role != "actor"), None)
        if shown is None and client and self.grant in CLIENTS_OWN:
            issuer = None if self.issuer == _NOBODY else self.issuer
            return {"subject_id": client, "subject_issuer": issuer, "subject_kind": "client"}
        columns = columns_of(shown) if shown else {}
        return {name: one for name, one in columns.items() if name.startswith("subject_")}

    def _granted(self, columns: dict[str, Any]) -> dict[str, Any]:
        """Return what was granted, from the line where the claims do not say it."""
        if columns["scope_known"]:
            return {}
        held = [(place, "scope") for place in self.responses]
        names = [name for name in _GRANTED if name in self.members]
        held += [(place, name) for place in (*self.responses, *self.places) for name in names]
        found = next(
            (one for at, name in held if (one := scopes_in(at.get(name))) is not None), None
        )
        if (
            found is None
            and not self.failed
            and any("access_token" in one for one in self.responses)
        ):
            # RFC 6749 section 5.1: an answer leaves the scope out where it is as requested.
            found = self._requested() or None
        return {} if found is None else {"scopes": found, "scope_known": True}

    def _requested(self) -> list[str]:
        if _ASKED.isdisjoint(self.members):
            return []
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
            if OF_PARENTS.isdisjoint(place):
                continue
            for role in ROLES:
                if not role.members.isdisjoint(place) and (found := self._parent(place, role)):
                    yield Parent(role.role, *found)
        yield from self._refreshed()
        for name, kind in (("parent_jti", "jti"), ("par_hash", "par_hash")):
            # On the line, `parent_jti` was read above.
            if own := word(claims.get(name) if not self.is_bare or kind != "jti" else None):
                yield Parent("source", Ref(self.issuer, kind, own), None)

    def _refreshed(self) -> Iterator[Parent]:
        """Yield the refresh token that was presented, by its id or as it is."""
        if self._op_by_grant() != "refresh":
            return
        if named := self.text(*_REFRESH):
            yield Parent("refresh", Ref(self.issuer, "jti", named), None)
            return
        held = [place.get("refresh_token") for place in self.requests]
        held += [place.get(name) for place in self.places for name in _OLD_REFRESH]
        held += [one.get("refresh_token") for one in self.places if "access_token" not in one]
        token = next((one for value in held if (one := read_token(value))), None)
        if token and (ref := reference(token, self.issuer)):
            yield Parent("refresh", ref, token)

    def _parent(self, place: dict[str, Any], role: Role) -> tuple[Ref, Token | None] | None:
        issuer = word(place.get(role.issuer)) or self.issuer
        held = [place[name] for name in role.held if name in place]
        if are_claims(place.get(role.short)):
            held.append(place[role.short])
        for value in held:
            token = claims_in(value) or read_token(value)
            if token and (ref := reference(token, issuer)):
                return ref, token
        for name in role.named:
            if own := word(place.get(name)):
                return Ref(issuer, "jti", own), None
        return None


@lru_cache(maxsize=1024)
def _op_of(event: str) -> str | None:
    """Return what an event says whatever was granted; a log has few kinds of them."""
    return next((op for pattern, op in _STRONG if pattern.search(event)), None)


def _credential(ref: Ref | None) -> dict[str, str | None]:
    issuer, kind, own = ref or (None, None, None)
    return {"credential_issuer": issuer, "credential_kind": kind, "credential_id": own}


def _matching(value: str | None, form: re.Pattern[str]) -> str | None:
    lower = (value or "").lower()
    return lower if form.fullmatch(lower) else None

"""What the claims of a token say, in the contract's columns.

Pure.  Copies named claims only: names, addresses and whatever else a token says of a
person stay out.  Anything of the wrong type is unknown, and the row is partial.
"""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, NamedTuple

from pipeline.events.limits import MAX_TIME_US, MIN_TIME_US
from pipeline.ingest.act_claim import ActClaim, read_act, read_may_act
from pipeline.ingest.json_text import digest, dump_json
from pipeline.ingest.raw_token import Token, digests_of, jwk_thumbprint

CLIENT_CLAIMS = ("client_id", "azp", "cid", "appid")
NAMES = frozenset(
    (
        *("iss", "sub", "aud", "exp", "iat", "nbf", "jti", "uti", "act", "may_act"),
        *("scope", "scp", "cnf", "authorization_details", "txn", *CLIENT_CLAIMS),
    )
)
"""Claims by which an object is known as the claims of a token."""

CLIENTS_OWN = frozenset({"client_credentials", "client-credentials"})
"""Grants by which a client asks for a token of its own, also as Auth0 writes it (`gty`)."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NUMBER = re.compile(r"-?\d{1,20}(?:\.\d*)?", re.ASCII)
_DATE = re.compile(r"\d{4}-\d\d-\d\d[Tt ]", re.ASCII)
# From each of these on, a number of seconds is one of milli-, micro- or nanoseconds.
_UNITS = ((1e11, 1_000_000), (1e14, 1_000), (1e17, 1))
_ENTRA = re.compile(r"https://(?:sts\.windows\.net|login\.microsoftonline\.com)/([^/]+)")
_AGENT_USER, _AGENT = "13", "11"
_TYPES = {
    "at+jwt": "access_token",
    "bearer": "access_token",
    "id": "id_token",
    "refresh": "refresh_token",
    "offline": "refresh_token",
    "txntoken+jwt": "txn_token",
    "oauth-id-jag+jwt": "id-jag",
}
_FACETS = ("xms_act_fct", "xms_sub_fct")
_KEPT = ("typ", "idtyp", "acr", "tid", "ver", "xms_par_app_azp")


class Ref(NamedTuple):
    """A credential's key."""

    issuer: str | None
    kind: str
    id: str


def word(value: Any) -> str | None:
    """Return a text without blanks around it; None for nothing and for anything else."""
    return value.strip() or None if isinstance(value, str) else None


def name_of(value: Any) -> str | None:
    """Return a name or an id, which some servers write as a number."""
    return str(value) if type(value) is int else word(value)


def moment_us(value: Any) -> int | None:
    """Return microseconds since 1970 of a time as logs and tokens write it; None for no time.

    Read are ISO 8601 (no zone means UTC) and seconds, milli-, micro- or nanoseconds
    since 1970, by their size.
    """
    if isinstance(value, str):
        written = value.strip()
        if _DATE.match(written):
            return _written_us(written)
        if not _NUMBER.fullmatch(written):
            return None
        value = float(written) if "." in written else int(written)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if isinstance(value, float) and not math.isfinite(value):
        return None
    size = abs(value)
    for limit, factor in _UNITS:
        if size < limit:
            count = round(value * factor)
            break
    else:
        count = int(value) // 1_000
    return _in_range(count)


def _written_us(written: str) -> int | None:
    try:
        found = datetime.fromisoformat(written.upper())
    except ValueError:
        return None
    # A zone may push the first day of the calendar out of it.
    return _in_range(instant_us(found if found.tzinfo else found.replace(tzinfo=UTC)))


def _in_range(count: int) -> int | None:
    return count if MIN_TIME_US <= count <= MAX_TIME_US else None


def instant_us(instant: datetime) -> int:
    """Return microseconds since 1970."""
    return (instant - _EPOCH) // timedelta(microseconds=1)


def texts(value: Any) -> list[str] | None:
    """Return a text or a list of texts as a list; None for anything else."""
    if isinstance(value, str):
        return [value] if value else []
    if isinstance(value, list):
        return list(dict.fromkeys(one for one in value if isinstance(one, str) and one))
    return None


def scopes_in(value: Any) -> list[str] | None:
    """Return scopes from a list, or from one text with blanks between them; None is unknown."""
    return list(dict.fromkeys(value.split())) if isinstance(value, str) else texts(value)


def issuer_of(claims: dict[str, Any]) -> str | None:
    """Return who issued a token: `iss`, one name for all of an Entra tenant's issuers."""
    issuer = word(claims.get("iss"))
    return _one_name(issuer) if issuer else None


@lru_cache(maxsize=1024)
def _one_name(issuer: str) -> str:
    entra = _ENTRA.match(issuer)
    return f"entra:{entra[1].lower()}" if entra else issuer


def reference(token: Token, issuer: str | None) -> Ref | None:
    """Return the key of a token; None where nothing tells it from others.

    Its own id goes before digests.  Without one the claims themselves are the id, but
    only where they hold a time: else another token would be the same one.
    """
    issuer = issuer_of(token.claims) or issuer
    for kind in ("uti", "jti"):
        own = name_of(token.claims.get(kind))
        if own:
            return Ref(issuer, kind, own)
    if token.raw:
        return Ref(issuer, "token_sha256", digests_of(token.raw)["token_sha256"])
    if any(moment_us(token.claims.get(name)) is not None for name in ("iat", "exp", "nbf")):
        return Ref(issuer, "local", digest(token.claims))
    return None


def aliases(token: Token, own: Ref) -> list[dict[str, str | None]]:
    """Return the other ids of a token that other logs may know it by."""
    jti, issuer = name_of(token.claims.get("jti")), word(token.claims.get("iss"))
    named = [Ref(own.issuer, "jti", jti)] if jti else []
    if issuer and own.kind in {"uti", "jti"}:
        # Another log may know an Entra token by the issuer it bears.
        named.append(own._replace(issuer=issuer))
    made = digests_of(token.raw) if token.raw else {}
    named += [Ref(own.issuer, kind, one) for kind, one in made.items()]
    return [
        {"issuer": at, "kind": kind, "id": one} for at, kind, one in named if (at, kind, one) != own
    ]


def client_of(claims: dict[str, Any]) -> str | None:
    """Return the client that a token was issued to; of a transaction token, who asked for it."""
    names = (*CLIENT_CLAIMS, "req_wl")
    return next((one for name in names if (one := name_of(claims.get(name)))), None)


def columns_of(token: Token, client: str | None = None, grant: str | None = None) -> dict[str, Any]:
    """Return the columns that the claims fill, with `ext` and `is_partial` among them.

    `client` is the authenticated client of the request, for claims that name none, and
    `grant` what it asked by.
    """
    claims = token.claims
    act = read_act(claims.get("act"))
    may_act, is_whole = read_may_act(claims.get("may_act"))
    times = {name: moment_us(claims.get(name)) for name in ("iat", "nbf", "exp", "auth_time")}
    unread = [name for name, time in times.items() if time is None and claims.get(name) is not None]
    client, issuer = client_of(claims) or client, issuer_of(claims)
    is_entra = issuer is not None and issuer.startswith("entra:")
    partial = bool(unread or act.malformed_reason or act.omitted) or not is_whole
    return {
        **_subject(claims, client, grant, issuer, is_entra=is_entra),
        **_actor(claims, client, act, issuer),
        **_authority(claims, is_entra=is_entra),
        "act_chain": act.actors,
        "act_truncated": bool(act.omitted),
        "act_malformed_reason": act.malformed_reason,
        "may_act": may_act,
        "client_id": client,
        "audience": texts(claims.get("aud")) or [],
        "issued_at": times["iat"],
        "not_before": times["nbf"],
        # Keycloak writes 0 for a token that lives as long as its session.
        "expires_at": times["exp"] or None,
        "auth_time": times["auth_time"],
        "cnf_thumbprint": _thumbprint(claims.get("cnf")),
        "token_type": _token_type(token),
        "txn_id": word(claims.get("txn")),
        "session_id": word(claims.get("sid")),
        "family_id": word(claims.get("origin_jti")),
        "max_depth": _depth(claims.get("del_max_depth")),
        "ext": _ext(token, act.omitted),
        "is_partial": partial,
    }


def _subject(
    claims: dict[str, Any],
    client: str | None,
    grant: str | None,
    issuer: str | None,
    *,
    is_entra: bool,
) -> dict[str, Any]:
    # Entra's `sub` differs between applications; `oid` is the user or service itself.
    subject = word(claims.get("oid")) if is_entra else None
    if "cid" in claims:
        # Okta's `sub` is the name to sign in with; its log knows users by `uid`.
        subject = word(claims.get("uid"))
    subject = subject or name_of(claims.get("sub"))
    if subject is None:
        return {}
    kind = _kind(claims, subject, is_entra=is_entra)
    if kind is None and _is_client(claims, subject, client, grant):
        kind = "client"
    return {"subject_id": subject, "subject_issuer": issuer, "subject_kind": kind}


def _kind(claims: dict[str, Any], subject: str, *, is_entra: bool) -> str | None:
    told = claims.get("xms_sub_fct")
    facets = re.findall(r"\d+", _written(told) or "") if told else []
    if _AGENT_USER in facets:
        return "agent_user"
    if _AGENT in facets:
        return "agent"
    if subject.startswith(("spiffe://", "wimse://")):
        return "workload"
    if subject.startswith("system:serviceaccount:"):
        return "service_account"
    return "service_account" if is_entra and claims.get("idtyp") == "app" else None


def _is_client(claims: dict[str, Any], subject: str, client: str | None, grant: str | None) -> bool:
    """Return whether a token is a client's own: its `sub` may be another name of the client's."""
    if client is not None and subject in {client, f"{client}@clients"}:
        return True
    if (grant or word(claims.get("gty"))) in CLIENTS_OWN:
        return True
    # Keycloak gives each client that has tokens of its own an account.
    return (word(claims.get("preferred_username")) or "").startswith("service-account-")


def _actor(
    claims: dict[str, Any], client: str | None, act: ActClaim, issuer: str | None
) -> dict[str, Any]:
    """Return who holds the token: the outermost actor, else the client where it is another."""
    if act.is_asserted:
        first = act.actors[0] if act.actors else {}
        return {
            "actor_id": first.get("subject"),
            "actor_issuer": first.get("issuer"),
            "actor_convention": "act",
        }
    if client is None or name_of(claims.get("sub")) in {client, f"{client}@clients"}:
        return {}
    return {
        "actor_id": client,
        "actor_issuer": issuer,
        "actor_convention": "client_id",
    }


def _authority(claims: dict[str, Any], *, is_entra: bool) -> dict[str, Any]:
    """Return the scopes; of rich authorization only what is a scope by another name."""
    for name in ("scope", "scp", "scopes"):
        found = scopes_in(claims.get(name))
        if found is not None:
            return {"scopes": found, "scope_known": True}
    roles = texts(claims.get("roles")) if is_entra else None
    if roles is not None:
        return {"scopes": roles, "scope_known": True}
    for detail in _details(claims):
        # draft-asor-wimse-agent-delegation-chain: exactly one, and its wildcards end in a dot.
        scopes = texts(detail.get("scopes"))
        if detail.get("type") == "agent_delegation" and scopes is not None:
            return {"scopes": scopes, "scope_known": True, "scope_dialect": "dot"}
    return {"scopes": [], "scope_known": False}


def _details(claims: dict[str, Any]) -> list[dict[str, Any]]:
    found = claims.get("authorization_details")
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []


def _thumbprint(cnf: Any) -> str | None:
    if not isinstance(cnf, dict):
        return None
    return word(cnf.get("jkt")) or word(cnf.get("x5t#S256")) or jwk_thumbprint(cnf.get("jwk"))


def _token_type(token: Token) -> str | None:
    for written in (token.header.get("typ"), token.claims.get("typ")):
        name = _TYPES.get((word(written) or "").lower().removeprefix("application/"))
        if name:
            return f"urn:ietf:params:oauth:token-type:{name}"
    return None


def _depth(value: Any) -> int | None:
    return value if type(value) is int and 0 <= value < 1 << 31 else None


def _written(facets: Any) -> str | None:
    """Return numbers as they are written, in one text or as a list."""
    return word(facets) or (dump_json(facets).decode() if facets else None)


def _ext(token: Token, omitted: int) -> dict[str, str | None]:
    claims = token.claims
    types = {one for detail in _details(claims) if (one := word(detail.get("type")))}
    found = {name: word(claims[name]) for name in _KEPT if name in claims}
    found |= {name: _written(claims[name]) for name in _FACETS if name in claims}
    if "kid" in token.header:
        found["kid"] = word(token.header["kid"])
    if types:
        found["authorization_details_types"] = " ".join(sorted(types))
    if omitted:
        found["act_omitted"] = str(omitted)
    return found

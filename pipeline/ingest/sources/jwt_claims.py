"""Token servers' logs that carry claims: the claims alone, or a line around them.

One token event per line, of the token whose claims it carries; unless the line failed,
one more for the token that it was exchanged for, where the line tells that token's
claims too, and one for a refresh token that came with it.  Known by `jti`
or `uti` and issuer, else by the digest of the token or of its claims.  The `act` claim
is read outermost actor first, each with its issuer as received.  A line without a time
of its own happened when its token was issued (`iat`, `nbf`), or before it ended and came
to us, which `ext.time_basis` tells.
Keycloak's and INDIGO IAM's events are read as well, and of shared signals (CAEP, RISC) the
end of a session or an account, which revokes.  A raw token in a line is read for
its claims and digests, and never stored.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.events.conform import build_batch
from pipeline.events.identity import digests, event_uids
from pipeline.events.wire import Decoded
from pipeline.ingest.json_text import dump_json, parse_json
from pipeline.ingest.keycloak_event import is_keycloak_event, keycloak_rows
from pipeline.ingest.line_places import are_claims, tells_of_a_token, without_tokens
from pipeline.ingest.security_event import is_security_event, security_rows
from pipeline.ingest.sources import Adapted, Refusal
from pipeline.ingest.token_line import Unusable, line_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from pipeline.events.conform import Conformed
    from pipeline.ingest.sources import Context

WRAPPER = None
MAPPING: tuple[tuple[str, str], ...] = (
    ("jti | uti | the digest of the token or of its claims", "credential_id, credential_kind"),
    ("iss", "credential_issuer, subject_issuer"),
    ("sha256 of a raw token in the line", "credential_aliases (token_sha256, ath, par_hash)"),
    ("time | ts | timestamp | ... | claims.iat | claims.nbf", "event_time"),
    ("event | type | op | grant_type | active | act | subject_token", "op"),
    ("error | outcome | status", "outcome, error"),
    ("sub | oid (Entra) | uid (Okta)", "subject_id"),
    ("xms_sub_fct, idtyp, client_id, grant_type, gty", "subject_kind"),
    ("act", "act_chain, act_truncated, act_malformed_reason, actor_id, actor_issuer"),
    ("client_id | azp | cid | appid | req_wl", "client_id, actor_id where no act is"),
    ("may_act", "may_act"),
    ("scope | scp | scopes | roles (Entra) | authorization_details.scopes", "scopes, scope_known"),
    ("request scope | requested_scope", "requested_scopes"),
    ("aud", "audience"),
    ("iat, nbf, exp, auth_time", "issued_at, not_before, expires_at, auth_time"),
    ("cnf.jkt | cnf.x5t#S256 | cnf.jwk", "cnf_thumbprint"),
    ("subject_token | actor_token | assertion | refresh_token: claims, jti or raw", "parents"),
    ("response.scope, response.expires_in", "scopes, expires_at where the claims tell none"),
    ("response.refresh_token | new_refresh_token", "credential_id of a refresh token of its own"),
    ("parent_jti, par_hash", "parents"),
    ("typ, issued_token_type", "token_type"),
    ("events: the subject and the session of a shared signal", "subject_id, credential_id"),
    ("txn, sid, origin_jti, trace_id", "txn_id, session_id, family_id, trace_id"),
    ("del_max_depth", "max_depth"),
    ("authorization_details.type, acr, tid, idtyp, typ, kid, ip", "ext"),
)

_Found = tuple[int, dict[str, Any], dict[str, Any]]
_Rows = list[dict[str, Any]] | Unusable


def recognises(record: object) -> bool:
    """Return whether a record is claims, carries claims or a token, or is Keycloak's."""
    return isinstance(record, dict) and (
        are_claims(record) or is_keycloak_event(record) or tells_of_a_token(record)
    )


def adapt(values: Sequence[bytes | None], context: Context) -> Adapted:
    """Return one token event per token that a line describes."""
    found: list[_Found] = []
    adapted = Adapted()
    for index, value in enumerate(values):
        for record in _records(value):
            if isinstance(record, Refusal):
                adapted.refusals.append(replace(record, row=index))
            else:
                found += _read(index, record, context, adapted)
    if found:
        _take(found, adapted)
    return adapted


def _read(index: int, record: dict[str, Any], context: Context, adapted: Adapted) -> list[_Found]:
    rows = _reader(record)(record, context)
    if not isinstance(rows, Unusable):
        return [(index, record, row) for row in rows]
    if rows.is_skipped:
        adapted.skipped[rows.reason] += 1
    else:
        adapted.refusals.append(_refusal(index, "adapt", rows.reason, record))
    return []


def _reader(record: dict[str, Any]) -> Callable[[dict[str, Any], Context], _Rows]:
    if is_keycloak_event(record):
        return keycloak_rows
    return security_rows if is_security_event(record) else line_rows


def _take(found: list[_Found], adapted: Adapted) -> None:
    partial = np.array([row.pop("is_partial") for _, _, row in found], dtype=bool)
    bases = [row.pop("uid_of", None) for _, _, row in found]
    # A column that no row fills costs nothing.
    told = [{name: one for name, one in row.items() if one is not None} for _, _, row in found]
    built = build_batch("token_event", told)
    kept = replace(built, partial=built.partial | partial[built.rows], failures=[])
    decoded = Decoded(adapted.batches)
    rows = np.array([index for index, _, _ in found], dtype=np.int64)
    decoded.take(kept, rows, _uids(kept, bases))
    for row, stage, reason in built.failures:
        index, record, _ = found[row]
        adapted.refusals.append(_refusal(index, stage, reason, record))


def _uids(kept: Conformed, bases: list[str | None]) -> list[str] | None:
    """Return ids made of the line itself where its time depends on when it came."""
    if not any(bases):
        return None
    uids: list[str] = event_uids(kept.family, kept.batch).to_pylist()
    names = (kept.batch.column(name).to_pylist() for name in ("tenant_id", "source", "event_id"))
    for at, told in enumerate(zip(*names, strict=True)):
        base = bases[kept.rows[at]]
        if base:
            (uids[at],) = digests(kept.family, ["\0".join((*told, base)).encode()])
    return uids


def _refusal(index: int, stage: str, reason: str, record: dict[str, Any]) -> Refusal:
    return Refusal(index, stage, reason, dump_json(without_tokens(record)))


def _records(value: bytes | None) -> Iterator[dict[str, Any] | Refusal]:
    if value is None or not value.strip():
        yield Refusal(0, "frame", "no value")
        return
    try:
        document = parse_json(value)
    except ValueError as error:
        yield Refusal(0, "decode", f"not JSON: {error}")
        return
    listed = document if isinstance(document, list) else [document]
    if not listed:
        yield Refusal(0, "decode", "an empty list of records")
    seen = set()
    for record in listed:
        if not isinstance(record, dict):
            yield Refusal(0, "decode", "a record is no JSON object")
        # Repeats inside one value share their offset: keep the first.
        elif (text := dump_json(record) if len(listed) > 1 else b"") not in seen:
            seen.add(text)
            yield record

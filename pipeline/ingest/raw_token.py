"""A token as a log may hold it: claims, or the token itself, which is never stored.

Pure.  Of a raw token only digests leave this module: the sha256 that other logs write,
the `ath` of RFC 9449 and the `par_hash` of delegation chains.
"""

from __future__ import annotations

import hashlib
from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Any, NamedTuple

from pipeline.ingest.json_text import parse_json

_JWS_PARTS = 3
_SCHEMES = ("bearer ", "dpop ")
_GUESSABLE_CHARS = 16
"""The digest of anything shorter could be turned back by trying."""


class Token(NamedTuple):
    """One token of a log line."""

    claims: dict[str, Any]
    header: dict[str, Any]
    raw: str | None
    """Must not leave the adapter."""


def read_token(value: Any) -> Token | None:
    """Return a token from claims or from a raw token; None where there is neither.

    An encrypted or opaque token has no claims.
    """
    if isinstance(value, dict):
        return Token(value, {}, None) if value else None
    if not isinstance(value, str) or not value.strip():
        return None
    raw = _bare(value)
    header, claims = _parts(raw)
    return Token(claims, header, raw) if len(raw) >= _GUESSABLE_CHARS else None


def is_jws(value: Any) -> bool:
    """Return whether a text is a signed JWT whose payload can be read."""
    return isinstance(value, str) and bool(_parts(_bare(value))[1])


def digests_of(raw: str) -> dict[str, str]:
    """Return the ids that are digests of a raw token, by kind."""
    whole = hashlib.sha256(raw.encode("utf-8", "surrogatepass"))
    found = {"token_sha256": whole.hexdigest(), "ath": _text(whole.digest())}
    if _parts(raw)[1]:
        signed = raw.rpartition(".")[0]
        found["par_hash"] = _text(hashlib.sha256(signed.encode()).digest())
    return found


def jwk_thumbprint(jwk: Any) -> str | None:
    """Return the RFC 7638 thumbprint of a public key; None for anything else."""
    members = {"EC": "crv kty x y", "RSA": "e kty n", "OKP": "crv kty x"}
    kind = jwk.get("kty") if isinstance(jwk, dict) else None
    names = members.get(kind, "").split() if isinstance(kind, str) else []
    if not names or not all(isinstance(jwk.get(name), str) for name in names):
        return None
    # Members in the order of their names, without blanks: the values are base64url and names.
    inner = ",".join(f'"{name}":"{jwk[name]}"' for name in names)
    return _text(hashlib.sha256(f"{{{inner}}}".encode()).digest())


def _bare(value: str) -> str:
    raw = value.strip()
    for scheme in _SCHEMES:
        if raw[: len(scheme)].lower() == scheme:
            raw = raw[len(scheme) :].strip()
    return raw


def _parts(raw: str) -> tuple[dict[str, Any], dict[str, Any]]:
    parts = raw.split(".")
    if len(parts) != _JWS_PARTS:
        return {}, {}
    header, claims = (_document(part) for part in parts[:2])
    return (header, claims) if header and claims else ({}, {})


def _document(part: str) -> dict[str, Any]:
    try:
        found = parse_json(urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _text(digest: bytes) -> str:
    return urlsafe_b64encode(digest).rstrip(b"=").decode()

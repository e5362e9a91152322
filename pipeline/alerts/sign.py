"""Standard Webhooks 1.0.0 signatures, symmetric: HMAC-SHA256, `v1,<base64>`.

Pure: the clock and the secret are arguments.  Written on the standard library
because the reference library signs aware times wrongly; the tests verify against
that library.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pipeline.config import Secret

PREFIX = "whsec_"
MIN_KEY_BYTES, MAX_KEY_BYTES = 24, 64
TOLERANCE_S = 300


def keys_of(secret: Secret) -> list[bytes]:
    """Return the keys of a secret; several, parted by spaces, let a receiver rotate.

    Raises:
        ValueError: A key is not `whsec_` and base64 of 24 to 64 bytes.
    """
    keys = []
    for part in secret.reveal().split():
        try:
            key = base64.b64decode(part.removeprefix(PREFIX), validate=True)
        except binascii.Error:
            key = b""
        if not part.startswith(PREFIX) or not MIN_KEY_BYTES <= len(key) <= MAX_KEY_BYTES:
            # The wrong value must not show: it may be the right one of something else.
            raise ValueError("must be whsec_ and the base64 of 24 to 64 random bytes")
        keys.append(key)
    if not keys:
        raise ValueError("must not be empty")
    return keys


def signature(keys: list[bytes], message_id: str, timestamp_s: int, body: bytes) -> str:
    """Return the `webhook-signature` header: one signature per key."""
    signed = b".".join((message_id.encode(), str(timestamp_s).encode(), body))
    digests = [hmac.digest(key, signed, hashlib.sha256) for key in keys]
    return " ".join("v1," + base64.b64encode(digest).decode() for digest in digests)


def headers(keys: list[bytes], message_id: str, timestamp_s: int, body: bytes) -> dict[str, str]:
    """Return the three headers of one attempt."""
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp_s),
        "webhook-signature": signature(keys, message_id, timestamp_s, body),
    }


def verifies(keys: list[bytes], sent: Mapping[str, str], body: bytes, now_s: float) -> bool:
    """Return whether a request is from a holder of one of the keys, and recent.

    A receiver must besides drop a `webhook-id` that it has seen.
    """
    stamp = sent.get("webhook-timestamp", "")
    if not stamp.isascii() or not stamp.isdigit() or abs(now_s - int(stamp)) > TOLERANCE_S:
        return False
    expected = signature(keys, sent.get("webhook-id", ""), int(stamp), body).split()
    given = sent.get("webhook-signature", "").split()
    pairs = [(mine.encode(), theirs.encode()) for mine in expected for theirs in given]
    return any(hmac.compare_digest(mine, theirs) for mine, theirs in pairs)

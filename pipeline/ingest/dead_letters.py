"""Records that could not be taken, as rows of `dead_letters`.

The raw bytes are kept so that they can be read again after a fix; whatever is
shaped like a credential is masked first, at the same length.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pyarrow as pa

from pipeline.events.redact import redact_bytes, redact_text
from pipeline.events.schema import DEAD_LETTER_SCHEMA
from pipeline.ingest.otel_words import KEPT_UNREAD
from pipeline.log import one_line

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from pipeline.ingest.batch import Slice
    from pipeline.ingest.sources import Refusal

MAX_RAW_BYTES = 1024 * 1024
"""Raw bytes that are kept; `raw_bytes` tells how long the record was."""
MAX_REASON = 500

# Members that hold a usable secret, whatever its shape.  Documents that are no
# JSON come here too, so this looks at bytes.
_SECRET_MEMBER = re.compile(
    rb'(?i)("(?:session_?token|secret_?access_?key|password|client_?secret|refresh_?token|'
    rb'access_?token|id_?token|private_?key|assertion)"\s*:\s*")((?:[^"\\]|\\.)*)'
)
# An attribute of OTLP JSON stands beside its name, not under it.
_OTLP_TEXT = re.compile(
    rb'(?:"key"\s*:\s*"([^"\\]*)"\s*,\s*"value"\s*:\s*\{\s*)?'
    rb'"(?:string_?[Vv]alue|bytes_?[Vv]alue|message)"\s*:\s*"((?:[^"\\]|\\.)*)'
)
_KEPT_UNREAD = frozenset(name.encode() for name in KEPT_UNREAD)
_OTLP_BYTES = re.compile(rb"\n[\x80-\xff]{0,4}[\x00-\x7f][\n\x12]")
_NO_TEXT = re.compile(rb"[\x00-\x08\x0e-\x1f]")


def dead_letter_batch(
    records: Slice, refusals: Sequence[Refusal], now: datetime, tenant_id: str, adapter: str
) -> pa.RecordBatch:
    """Return one row per refusal of an adapter, in the order of their offsets."""
    rows = [
        _row(records, refusal)
        | {"tenant_id": tenant_id, "adapter": adapter}
        | {"ingest_time": now, "event_date": now.date()}
        for refusal in sorted(refusals, key=lambda refusal: refusal.row)
    ]
    return pa.RecordBatch.from_pylist(rows, schema=DEAD_LETTER_SCHEMA)


def _row(records: Slice, refusal: Refusal) -> dict[str, object]:
    value = records.values[refusal.row]
    raw = value if refusal.raw is None else refusal.raw
    return {
        "kafka_topic": records.place.topic,
        "kafka_partition": records.place.partition,
        "kafka_offset": records.offsets[refusal.row],
        "stage": refusal.stage,
        "reason": one_line(redact_text(refusal.reason))[:MAX_REASON],
        "raw": None if raw is None else mask_raw(raw[:MAX_RAW_BYTES]),
        "raw_bytes": 0 if value is None else len(value),
    }


def mask_raw(raw: bytes) -> bytes:
    """Return the bytes with credentials masked, at the same length."""
    if _OTLP_BYTES.match(raw) and _NO_TEXT.search(raw):
        return b"*" * len(raw)  # nothing tells names from prompts where it cannot be read
    if b'Value"' in raw or b'_value"' in raw:
        raw = _OTLP_TEXT.sub(_without_content, raw)
    masked = redact_bytes(raw)
    return _SECRET_MEMBER.sub(lambda match: match[1] + b"*" * len(match[2]), masked)


def _without_content(found: re.Match[bytes]) -> bytes:
    if found[1] in _KEPT_UNREAD:
        return found[0]
    return found[0][: found.start(2) - found.start()] + b"*" * len(found[2])

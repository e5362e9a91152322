"""Our own contract: Avro in both framings, and JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.events.schema import FAMILIES
from pipeline.events.wire import decode_batch
from pipeline.ingest.sources import Adapted, Refusal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pipeline.ingest.sources import Context

WRAPPER = None
MAPPING = (("any other field than the contract's own", "ext"),)


def recognises(record: object) -> bool:
    """Return whether a record names a family of the contract, or is one of its Avro forms."""
    if isinstance(record, bytes):
        return record[:1] == b"\0" or record[:2] == b"\xc3\x01"
    return isinstance(record, dict) and record.get("family") in FAMILIES


def adapt(values: Sequence[bytes | None], context: Context) -> Adapted:
    """Return the events in these values; each names its own tenant."""
    decoded = decode_batch(values, registry=context.registry)
    return Adapted(decoded.batches, [Refusal(*failure) for failure in decoded.failures])

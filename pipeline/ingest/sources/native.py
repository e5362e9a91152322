"""Our own contract: Avro in both framings, and JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.events.wire import decode_batch
from pipeline.ingest.sources import Adapted, Refusal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pipeline.ingest.sources import Context

WRAPPER = None


def adapt(values: Sequence[bytes | None], context: Context) -> Adapted:
    """Return the events in these values; each names its own tenant."""
    decoded = decode_batch(values, registry=context.registry)
    return Adapted(decoded.batches, [Refusal(*failure) for failure in decoded.failures])

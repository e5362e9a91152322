"""Give every event the id by which its copies are known.

`event_uid` is the sha256 of the event as our own Avro schema writes it, which
holds tenant, source, event_id and every other contract field.  It does not
depend on the wire form, on the writer's schema version, on defaults written out
or left out, or on the order of `ext`.  It is taken before redaction, of the
event as sent.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import pyarrow as pa
import pyruhvro

from pipeline.events.maps import order_map
from pipeline.events.schema import avro_text, contract_schema

if TYPE_CHECKING:
    from collections.abc import Iterable


def event_uids(family: str, batch: pa.RecordBatch) -> pa.StringArray:
    """Return the event_uid of each row of a batch in contract shape."""
    schema = contract_schema(family)
    columns = dict(zip(batch.schema.names, batch.columns, strict=True))
    columns["ext"], _, _ = order_map(columns["ext"])
    ordered = pa.RecordBatch.from_arrays([columns[name] for name in schema.names], schema=schema)
    bodies = pyruhvro.serialize_record_batch(ordered, avro_text(family), 1)
    return pa.array(digests(family, (body for part in bodies for body in part.to_pylist())))


def digests(family: str, bodies: Iterable[bytes]) -> list[str]:
    """Return the event_uid of events that are already in our own schema's shortest form."""
    # Two families may not meet, even if their bytes did.
    prefix = family.encode() + b"\0"
    sha256 = hashlib.sha256
    return [sha256(prefix + body).hexdigest() for body in bodies]

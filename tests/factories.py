"""Events with a default for everything, so that a test names only what matters.

`tool_call`, `token_event` and `secret_event` return the contract's JSON form.
`contract_table` turns such rows into a family's table; `write_events` puts
them into a lake.
"""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from pipeline.events.identity import event_uids
from pipeline.events.schema import (
    TABLES,
    TIMESTAMP,
    contract_schema,
    defaults,
    table_schema,
)
from pipeline.ingest.batch import TopicPartition

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pipeline.lake import Lake

NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
TOPICS = {family: f"agent.{table}" for family, table in TABLES.items()}

_serial = itertools.count(1)


def _event(family: str, over: dict[str, Any], **usual: Any) -> dict[str, Any]:
    event = {
        "family": family,
        "event_id": f"{family}-{next(_serial)}",
        "source": f"test://{family}",
        "event_time": (NOW - timedelta(hours=1)).isoformat(),
        **usual,
    }
    return event | over


def tool_call(**over: Any) -> dict[str, Any]:
    """Return a successful read by `agent-a`, seen by a gateway an hour before `NOW`."""
    return _event(
        "tool_call",
        over,
        observer="gateway",
        tool_name="crm.search",
        outcome="success",
        agent_id="agent-a",
    )


def token_event(**over: Any) -> dict[str, Any]:
    """Return the issue of a token of its own to `alice` by `https://idp.test`."""
    return _event(
        "token_event",
        over,
        observer="authz_server",
        op="issue",
        outcome="success",
        credential_issuer="https://idp.test",
        credential_kind="jti",
        credential_id=f"jti-{next(_serial)}",
        subject_id="alice",
        subject_issuer="https://idp.test",
        subject_kind="human",
    )


def secret_event(**over: Any) -> dict[str, Any]:
    """Return the inventory of an API key."""
    return _event(
        "secret_event",
        over,
        observer="secret_store",
        op="inventory",
        secret_id=f"secret-{next(_serial)}",
        secret_kind="api_key",
    )


def _time(value: Any) -> Any:
    if isinstance(value, str):
        value = datetime.fromisoformat(value)
    if isinstance(value, datetime):
        value = value if value.tzinfo else value.replace(tzinfo=UTC)
    return value


def _complete(family: str, row: dict[str, Any], offset: int) -> dict[str, Any]:
    schema = contract_schema(family)
    unknown = set(row) - set(table_schema(family).names)
    if unknown:
        raise KeyError(f"{family} has no field {sorted(unknown)}")
    missing = set(schema.names) - set(defaults(family)) - set(row)
    if missing:
        raise KeyError(f"{family} needs {sorted(missing)}")
    full = defaults(family) | row
    for field in table_schema(family):
        if field.type == TIMESTAMP and full.get(field.name) is not None:
            full[field.name] = _time(full[field.name])
    full["ext"] = list(dict(full["ext"]).items())
    moment = full["event_time"]
    if isinstance(moment, int):
        moment = datetime.fromtimestamp(moment / 1e6, UTC)
    return {
        "event_uid": None,
        "family": family,
        "adapter": "native",
        "ingest_time": NOW,
        "event_date": moment.astimezone(UTC).date(),
        "kafka_topic": TOPICS[family],
        "kafka_partition": 0,
        "kafka_offset": offset,
        "parse_status": "ok",
    } | full


def contract_table(
    family: str, rows: Iterable[dict[str, Any]], *, first_offset: int = 0
) -> pa.Table:
    """Return rows in the form in which a table stores them.

    Offsets count up from `first_offset`; a row may name any of the pipeline's
    own columns (`ingest_time`, `kafka_partition`, `event_uid`, ...) to set it.
    """
    full = [_complete(family, row, first_offset + i) for i, row in enumerate(rows)]
    sent = pa.RecordBatch.from_pylist(
        [{name: row[name] for name in contract_schema(family).names} for row in full],
        schema=contract_schema(family),
    )
    for row, uid in zip(full, event_uids(family, sent).to_pylist(), strict=True):
        row["event_uid"] = row["event_uid"] or uid
    return pa.Table.from_pylist(full, schema=table_schema(family))


def write_events(lake: Lake, rows: Sequence[dict[str, Any]]) -> int:
    """Append events to their tables behind what is there; return how many were written.

    Each family travels on its own topic, partition 0, in the order given.
    """
    written = 0
    for family, table in TABLES.items():
        mine = [row for row in rows if row["family"] == family]
        if not mine:
            continue
        place = TopicPartition(TOPICS[family], 0)
        first = lake.offsets(table, [place])[place] + 1
        batch = contract_table(family, mine, first_offset=first)
        written += lake.append(table, batch, {place: first + len(mine) - 1})
    return written

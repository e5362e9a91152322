"""Sample records of every source, broken in every way: nothing raises, nothing is lost."""

from __future__ import annotations

import copy
from functools import cache

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.ingest.batch import ANCHOR, Slice, TopicPartition
from pipeline.ingest.file_records import read_records
from pipeline.ingest.samples import sample_path
from pipeline.ingest.sources import Context, adapter_names, load_adapter
from pipeline.ingest.take import take_slice
from tests.factories import NOW

SAMPLED = [name for name in adapter_names() if sample_path(name)]
COMPARES_RECORDS = {"aat", "attenu_guard"}
"""Their rows say what stands around a record: a broken neighbour is the point of them."""

PLACEHOLDER = "placeholder of the fuzzer"
RAW = [
    b"null",
    b"[]",
    b"{}",
    b'""',
    b'" "',
    b"true",
    b"0",
    b"-1",
    b"1e308",
    b"1e400",
    b"NaN",
    b"-Infinity",
    b"9" * 30,
    b"-" + b"9" * 400,
    b"-62135596800000000",
    b"253402300800000",
    b'"9999-12-31T23:59:59.999999999+14:00"',
    b'"0000-00-00T00:00:00Z"',
    b'"no time"',
    b'"\\u0000\\u001b[31m\\u202e\\n"',
    b'"\\ud800"',
    b'"\xff"',
    b'"' + b"x" * 70_000 + b'"',
    b"[" * 300 + b"]" * 300,
    b'{"a":' * 300 + b"1" + b"}" * 300,
    b'[{"a": [null, {"b": []}]}, 1, "x", null]',
    b'{"": {"": null}, "key": ["value"], "sub": {"act": 1}}',
    b'"{\\"not\\": \\"parsed\\""',
    b'"[1, 2"',
]
VALUES = [None, b"", b" \t", b"\n", b"\x00", b"{}", b"null", b"0", b'"x"', b"\xef\xbb\xbf{}"]

mutation = st.tuples(
    st.sampled_from(["drop", "replace", "truncate", "double", "value", "other"]),
    st.integers(0, 10_000),  # which record
    st.integers(0, 10_000),  # where in it
    st.integers(0, 10_000),  # what instead
)


@cache
def sample(name):
    return list(read_records(sample_path(name), load_adapter(name).WRAPPER))


@cache
def others(name):
    return [value for other in SAMPLED if other != name for value in sample(other)]


def paths(value, at=()):
    """Return every place in a JSON value, the deepest last."""
    found = [at] if at else []
    items = value.items() if isinstance(value, dict) else ()
    if isinstance(value, list):
        items = enumerate(value)
    return found + [path for key, part in items for path in paths(part, (*at, key))]


def broken(name, kind, record, place, instead):
    values = sample(name)
    value = values[record % len(values)]
    if kind == "value":
        return VALUES[instead % len(VALUES)]
    if kind == "other":
        return others(name)[instead % len(others(name))]
    if kind == "truncate":
        return value[: place % len(value)]
    if kind == "double":
        first = next(iter(orjson.loads(value)), "x")
        return b"{" + orjson.dumps(first) + b":" + RAW[instead % len(RAW)] + b"," + value[1:]
    document = copy.deepcopy(orjson.loads(value))
    places = paths(document)
    *above, last = places[place % len(places)]
    holder = document
    for key in above:
        holder = holder[key]
    if kind == "drop":
        del holder[last]
        return orjson.dumps(document)
    holder[last] = PLACEHOLDER
    return orjson.dumps(document).replace(orjson.dumps(PLACEHOLDER), RAW[instead % len(RAW)])


def taken(name, values):
    place = TopicPartition(f"file:{name}", 0)
    return take_slice(Slice(place, name, values, range(len(values))), Context(), NOW)


def uids(rows, most):
    """Return (offset, uid) of the events of the first values."""
    found = [
        (row["kafka_offset"], row["event_uid"])
        for table, batches in rows.tables.items()
        if table != ANCHOR
        for batch in batches
        for row in batch.select(["kafka_offset", "event_uid"]).to_pylist()
    ]
    return sorted(item for item in found if item[0] < most)


@cache
def sound(name):
    return uids(taken(name, sample(name)), len(sample(name)))


@pytest.mark.parametrize("name", SAMPLED)
@settings(max_examples=2, deadline=None, suppress_health_check=list(HealthCheck), print_blob=True)
@given(mutations=st.lists(mutation, min_size=60, max_size=120))
def test_broken_records_are_told_and_harm_no_other(name, mutations):
    good = sample(name)
    values = [*good, *(broken(name, *how) for how in mutations)]

    rows = taken(name, values)

    offsets = {
        offset
        for batches in rows.tables.values()
        for batch in batches
        for offset in batch.column("kafka_offset").to_pylist()
    }
    silent = set(range(len(values))) - offsets
    assert len(silent) <= rows.tally.skipped.total()
    if name not in COMPARES_RECORDS:
        assert uids(rows, len(good)) == sound(name)

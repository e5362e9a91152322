"""What every event source promises, run over all that are found."""

import inspect
import json

import pytest

from pipeline.events.schema import FAMILIES, contract_schema
from pipeline.ingest.sources import Adapted, Context, adapter_names, load_adapter
from tests.factories import tool_call

BAD = [
    None,
    b"",
    b" ",
    b"\x00",
    b"\x00\x00\x00\x00\x01x",
    b"\xc3\x01",
    b"\xc3\x01" + bytes(8),
    b"{",
    b"[",
    b"null",
    b"[[]]",
    b'"text"',
    b"{}",
    b'{"a": NaN}',
    b'{"family": "tool_call"}',
    b"\xff" * 50,
    b"[" * 100_000,
    b'{"a":' * 5_000,
]
sources = pytest.mark.parametrize("name", adapter_names())


def test_the_file_names_are_the_sources():
    assert {"cloudtrail", "native"} <= set(adapter_names())


@sources
def test_a_source_says_what_it_reads_and_has_the_two_names_of_the_contract(name):
    source = load_adapter(name)

    assert source.__doc__
    assert source.WRAPPER is None or source.WRAPPER
    assert list(inspect.signature(source.adapt).parameters) == ["values", "context"]


@sources
def test_bad_values_are_refused_with_stage_and_reason_and_never_raised(name):
    adapted = load_adapter(name).adapt(BAD, Context())

    taken = {int(row) for batch in adapted.batches for row in batch.rows}
    refused = {refusal.row for refusal in adapted.refusals}
    assert refused | taken == set(range(len(BAD)))
    assert all(refusal.stage and refusal.reason for refusal in adapted.refusals)
    assert all("\n" not in refusal.reason for refusal in adapted.refusals)


@sources
def test_the_same_values_again_give_the_same(name):
    values = [json.dumps(tool_call(event_id="same")).encode(), *BAD]
    source = load_adapter(name)

    first, second = source.adapt(values, Context()), source.adapt(values, Context())

    assert first.refusals == second.refusals
    assert [b.event_uids for b in first.batches] == [b.event_uids for b in second.batches]


@sources
def test_no_values_give_nothing(name):
    assert load_adapter(name).adapt([], Context()) == Adapted()


@sources
def test_rows_are_in_contract_shape(name):
    event = json.dumps(tool_call() | {"eventTime": "2026-01-01T00:00:00Z"}).encode()

    adapted = load_adapter(name).adapt([event], Context())

    for batch in adapted.batches:
        assert batch.family in FAMILIES
        assert batch.batch.schema.equals(contract_schema(batch.family))
        assert len(batch.rows) == batch.batch.num_rows

"""The kit of the sources whose mapping is SQL."""

import json
from dataclasses import replace

import pytest

from pipeline.errors import SourceError
from pipeline.ingest.json_text import dump_json, parse_json
from pipeline.ingest.sources import Context, load_adapter
from pipeline.ingest.take import adapt_values


def source_with(**statements):
    source = replace(load_adapter("vault_audit").SOURCE)
    source.__dict__["statements"] = statements
    return source


@pytest.mark.parametrize("wrong", ["SELECT part, nothing AS event_id FROM records", "SELECT FROM"])
def test_a_statement_that_is_wrong_stops_ingest_and_makes_no_dead_letter_of_good_records(wrong):
    with pytest.raises(SourceError, match="source vault_audit"):
        source_with(tool_call=wrong).adapt([b'{"type": "request"}'], Context())


def test_a_value_that_a_statement_cannot_take_is_isolated():
    class Own:
        adapt = source_with(
            refused="SELECT part, error('no') AS reason FROM records WHERE r.type = 'bad'"
        ).adapt

    values = [json.dumps({"type": kind}).encode() for kind in ("a", "bad", "b")]

    adapted = adapt_values(Own(), values, Context())

    reasons = {refusal.row: refusal.reason for refusal in adapted.refusals}
    assert reasons[1] == "the source failed on it: InvalidInputException"
    assert reasons[0] == reasons[2] == "holds no event of this source"


def test_what_is_skipped_is_counted_once_when_a_batch_is_halved():
    class Own:
        adapt = source_with(
            skipped="SELECT part, 'small talk' AS reason FROM records WHERE r.type = 'talk'",
            refused="SELECT part, error('no') AS reason FROM records WHERE r.type = 'bad'",
        ).adapt

    kinds = ["talk", "talk", "bad", "talk", "talk", "talk"]
    values = [json.dumps({"type": kind, "n": n}).encode() for n, kind in enumerate(kinds)]

    adapted = adapt_values(Own(), values, Context())

    assert adapted.skipped == {"small talk": 5}
    assert [refusal.row for refusal in adapted.refusals] == [2]


@pytest.mark.parametrize(
    "number", [2**63, -(2**63) - 1, 2**64, 2**127, 10**18, 1234567890123456789]
)
def test_a_long_number_comes_through_json_unchanged(number):
    for raw in (b'{"a": %d}' % number, b"[%d]" % number, b'{"a":\n %d, "b": 1}' % number):
        assert parse_json(dump_json(parse_json(raw))) == json.loads(raw)


@pytest.mark.parametrize(
    "value",
    [
        b'{"type": "bad", "request": {"path": "kv/a", "data": {"pin": "do-not-store"}}}',
        b'{"type": "bad", "request": "{\\"data\\": \\"do-not-store\\"}"}',
        b'{"type": "bad", "request": {"path": "kv/a", "data": {"pin": "do-not-store"',
        b'{"type": "bad", "REQUEST": {"Data": ["do-not-store"',
    ],
)
def test_no_dead_letter_keeps_what_a_source_hides_however_it_failed(value):
    source = source_with(
        refused="SELECT part, error('no') AS reason FROM records WHERE r.type = 'bad'"
    )

    (refusal,) = source.adapt([value], Context()).refusals

    assert refusal.raw is not None
    assert b"do-not-store" not in refusal.raw
    assert b"bad" in refusal.raw


def test_a_batch_after_one_that_failed_sees_nothing_of_it():
    source = source_with(
        skipped="SELECT part, r.type AS reason FROM records",
        refused="SELECT part, error('no') AS reason FROM records WHERE r.type = 'bad'",
    )
    source.adapt([b'{"type": "a"}'], Context())

    with pytest.raises(ValueError, match="DuckDB"):
        source.adapt([b'{"type": "bad"}', b'{"type": "b"}'], Context())

    assert source.adapt([b'{"type": "c"}'], Context()).skipped == {"c": 1}

import json

import numpy as np
import pyarrow as pa
import pytest

from pipeline.demo.encode import JSON, REGISTRY, SINGLE_OBJECT, Wire, encode, json_lines
from pipeline.demo.generate import Stream, generate
from pipeline.events.schema import FAMILIES, avro_text
from pipeline.events.wire import decode_batch
from tests.factories import NOW

IDS = {family: number for number, family in enumerate(FAMILIES, 7)}


class Registry:
    def schema_text(self, schema_id):
        return {number: avro_text(family) for family, number in IDS.items()}[schema_id]


@pytest.fixture(scope="module")
def arrived():
    return next(generate(Stream(1_500, 2, NOW)))


@pytest.mark.parametrize("wire", [Wire(), Wire(json_share=1.0), Wire(IDS, json_share=0.3)])
def test_what_is_written_in_any_form_reads_back_equal(arrived, wire):
    for arrivals in arrived:
        values = encode(arrivals, wire).to_pylist()

        decoded = decode_batch(values, registry=Registry())

        rows = np.concatenate([batch.rows for batch in decoded.batches])
        read = pa.Table.from_batches([batch.batch for batch in decoded.batches])
        assert decoded.failures == []
        assert read.take(pa.array(np.argsort(rows))).equals(pa.Table.from_batches([arrivals.batch]))


def test_forms_are_mixed_in_the_asked_shares():
    forms = Wire(IDS, json_share=0.2).forms("tool_call", 10_000, 0)

    shares = {form: np.mean(forms == form) for form in (SINGLE_OBJECT, REGISTRY, JSON)}
    assert shares[JSON] == pytest.approx(0.2, abs=0.01)
    assert shares[REGISTRY] > shares[SINGLE_OBJECT] > 0.1


def test_without_schema_ids_nothing_is_framed_for_a_registry():
    assert REGISTRY not in Wire().forms("tool_call", 1_000, 0)


def test_json_lines_leave_nulls_out_and_keep_texts_that_look_like_nulls(arrived):
    batch = arrived[0].batch.slice(0, 1)
    hostile = '","resource":null,"x":"'
    place = batch.schema.get_field_index("tool_name")
    batch = batch.set_column(place, batch.schema.field(place), pa.array([hostile]))

    event = json.loads(json_lines("tool_call", batch)[0].as_py())

    assert event["tool_name"] == hostile
    assert None not in event.values()

"""Spans of real agent runs in four frameworks, against the truth that came with them."""

import gzip
import json
from collections import Counter
from pathlib import Path

import pytest

from pipeline.chains import build_chains
from pipeline.ingest.run import ingest_files
from pipeline.ingest.sources import Context, otel_genai
from pipeline.lake import open_lake
from pipeline.registry import load_registry
from tests.factories import NOW

DATA = Path(__file__).parents[2].parent / "shared" / "data"
FOLDER = DATA / "anyagent-otel-public"
pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason="the sample data is not here")

CONTENT = ("gen_ai.tool.args", "gen_ai.output", "gen_ai.input.messages")


def truth():
    packed = (DATA / "truth" / "anyagent-otel-public.json.gz").read_bytes()
    return json.loads(gzip.decompress(packed))


def files():
    return sorted(FOLDER.glob("*.json.gz"))


def spans():
    for path in files():
        yield from json.loads(gzip.decompress(path.read_bytes()))["spans"]


@pytest.fixture(scope="module")
def ingested(tmp_path_factory):
    folder = tmp_path_factory.mktemp("anyagent") / "lake"
    lake = open_lake(str(folder), create=True)
    report = ingest_files(files(), adapter="auto", sink=lake, now=NOW)
    build_chains(lake, load_registry(None), NOW)
    return lake.connect(), report


def test_every_tool_call_of_the_truth_is_one_call_and_nothing_is_refused(ingested):
    con, report = ingested
    totals = truth()["totals"]

    assert report.rows["dead_letters"] == 0
    assert report.rows["tool_calls"] == totals["tool_calls"]
    (calls,) = con.execute("SELECT count(*) FROM calls").fetchone()
    assert calls == totals["tool_calls"]


@pytest.mark.parametrize("name", sorted(truth()["traces"]) if FOLDER.is_dir() else [])
def test_each_trace_has_the_tools_and_the_agent_of_the_truth(ingested, name):
    con, _ = ingested
    known = truth()["traces"][name]
    (number,) = known["trace_ids"]

    found = con.execute(
        "SELECT tool_name, agent_id FROM calls WHERE trace_id = $trace ORDER BY event_time",
        {"trace": f"{int(number):032x}"},
    ).fetchall()

    assert found == [(tool, known["agent"]) for tool in known["tools"]]


@pytest.mark.parametrize("name", sorted(truth()["traces"]) if FOLDER.is_dir() else [])
def test_every_span_is_a_row_or_counted_by_what_it_is(name):
    known = truth()["traces"][name]["by_operation"]

    adapted = otel_genai.adapt([gzip.decompress((FOLDER / f"{name}.gz").read_bytes())], Context())

    assert sum(batch.batch.num_rows for batch in adapted.batches) == known["execute_tool"]
    assert Counter(adapted.skipped) == {
        "a call of a model": known["call_llm"],
        "an agent's run whose caller is not shown, or is the tool call above it": (
            known["invoke_agent"]
        ),
    }


def test_ids_above_two_to_the_53_keep_every_digit(ingested):
    con, _ = ingested
    known = {
        (f"{span['context']['trace_id']:032x}", f"{span['context']['span_id']:016x}")
        for span in spans()
        if span["attributes"]["gen_ai.operation.name"] == "execute_tool"
    }

    found = con.execute("SELECT trace_id, span_id FROM tool_calls").fetchall()

    assert set(found) == known


def test_no_content_of_a_span_is_stored(ingested):
    con, _ = ingested
    contents = {span["attributes"].get(name) for span in spans() for name in CONTENT}
    stored = repr(con.execute("SELECT * FROM tool_calls").fetchall())

    assert not [text for text in contents if text and len(text) > 4 and text in stored]
    assert "America/New_York" not in stored

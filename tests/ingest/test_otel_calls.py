"""One call told by several spans, and what keeps different calls apart."""

import pytest

from pipeline.chains import build_chains
from pipeline.detections.check import load_rules
from pipeline.detections.ledger import Window
from pipeline.detections.run import run_detections
from pipeline.ingest.run import ingest_files
from pipeline.ingest.samples import sample_path
from pipeline.lake import open_lake
from pipeline.registry import load_registry
from tests.factories import NOW
from tests.ingest.otlp import MCP, RUN, TOOL, TRACE, adapt, export, row, rows, span


def call_ids(found):
    return {
        one["span_id"].lstrip("0"): one["call_id"].rpartition("/")[2].lstrip("0") for one in found
    }


def client(number, parent, **over):
    return span(number, parent, kind="client", attributes=MCP, **over)


def server(number, parent, **over):
    return span(number, parent, kind="server", attributes=MCP, **over)


def test_tool_client_and_server_are_three_views_of_one_call():
    found = rows(
        export(span(2, 1), span(1, attributes=RUN)),
        export(client(3, 2), library="mcp"),
        export(server(4, 3), library="mcp", service_name="tools"),
    )

    assert call_ids(found) == {"2": "3", "3": "3", "4": "3"}
    assert len({one["source"] for one in found}) == 3
    assert {one["agent_id"] for one in found} == {"planner"}


def test_a_client_s_and_a_server_s_span_agree_also_in_batches_of_their_own():
    alone = [
        row(export(client(3, 2), library="mcp")),
        row(export(server(4, 3), service_name="tools")),
    ]

    assert {one["call_id"] for one in alone} == {f"{TRACE}/{3:016x}"}


def test_spans_of_other_libraries_between_client_and_server_part_nothing():
    http = [span(n, n - 1, kind="client", attributes={"http.method": "POST"}) for n in (4, 5)]

    found = rows(export(span(2, 1), client(3, 2), *http), export(server(6, 5), service_name="s"))

    assert call_ids(found) == {"2": "3", "3": "3", "6": "3"}


def test_a_server_right_below_a_tool_span_is_of_its_call():
    found = rows(export(span(2, 1), server(3, 2), service_name="both"))

    assert call_ids(found) == {"2": "2", "3": "2"}


def test_what_the_tool_span_does_not_say_of_the_place_the_client_s_says():
    place = MCP | {"network.transport": "tcp", "server.address": "t.example", "server.port": 443}
    found = rows(
        export(
            span(2, 1, attributes=TOOL | {"gen_ai.tool.type": "function"}),
            span(3, 2, kind="client", attributes=place),
        )
    )

    assert {(one["tool_protocol"], one["tool_server"]) for one in found} == {
        ("mcp_http", "t.example:443")
    }


def test_two_attempts_are_two_calls_and_the_tool_span_goes_with_the_last():
    found = rows(
        export(span(2, 1), client(3, 2), client(5, 2)),
        export(server(4, 3), server(6, 5), service_name="tools"),
    )

    assert call_ids(found) == {"2": "5", "3": "3", "4": "3", "5": "5", "6": "5"}


def test_client_spans_of_two_libraries_are_views_of_one_call_named_by_the_one_at_the_wire():
    found = rows(
        export(span(2, 1)),
        export(client(3, 2), library="fastmcp"),
        export(client(4, 3), library="mcp-python-sdk"),
        export(server(5, 4), library="mcp-python-sdk"),
    )

    assert set(call_ids(found).values()) == {"4"}
    assert len({one["source"] for one in found}) == 4


def test_a_client_span_in_another_of_the_same_library_is_counted_not_stored():
    adapted = adapt(export(client(3, 2), client(4, 3)))

    assert [batch.batch.num_rows for batch in adapted.batches] == [1]
    assert adapted.skipped == {"an inner span of the same call by the same library": 1}


def test_a_gateway_s_call_to_the_real_server_is_a_call_of_its_own():
    found = rows(
        export(client(2, 1)),
        export(server(3, 2), client(4, 3), service_name="gateway"),
        export(server(5, 4), service_name="tools"),
    )
    observers = {one["span_id"][-1]: one["observer"] for one in found}

    assert call_ids(found) == {"2": "2", "3": "2", "4": "4", "5": "4"}
    assert (observers["3"], observers["5"]) == ("gateway", "resource_server")


def test_a_client_span_beside_the_tool_span_joins_it_by_the_tool_call_s_id():
    tool_call = {"gen_ai.tool.call.id": "call_1"}
    beside = span(4, 1, kind="client", attributes=MCP | tool_call)
    stranger = span(5, 1, kind="client", attributes=MCP | {"gen_ai.tool.call.id": "call_2"})

    found = rows(
        export(
            span(1, attributes=RUN),
            span(2, 1, attributes=TOOL | tool_call),
            beside,
            stranger,
        )
    )

    assert call_ids(found) == {"2": "4", "4": "4", "5": "5"}


@pytest.mark.parametrize("tool", ["search", "other"])
def test_a_tool_that_calls_a_tool_makes_two_calls(tool):
    inner = TOOL | {"gen_ai.tool.name": tool}

    assert call_ids(rows(export(span(2, 1), span(3, 2, attributes=inner)))) == {"2": "2", "3": "3"}


def test_a_span_within_another_of_the_same_tool_call_s_id_is_counted_not_stored():
    same = TOOL | {"gen_ai.tool.call.id": "call_1"}

    adapted = adapt(export(span(2, 1, attributes=same), span(3, 2, attributes=same)))

    assert [batch.batch.num_rows for batch in adapted.batches] == [1]


def test_a_server_that_runs_the_tool_in_a_span_of_its_own_is_one_view_more():
    found = rows(
        export(client(2, 1)),
        export(server(3, 2), library="mcp", service_name="tools"),
        export(span(4, 3), library="own", service_name="tools"),
    )

    assert call_ids(found) == {"2": "2", "3": "2", "4": "2"}


def test_a_tool_s_span_of_a_server_whose_own_span_is_missing_is_of_the_client_s_call():
    found = rows(export(client(2, 1)), export(span(4, 2), service_name="tools"))

    assert call_ids(found) == {"2": "2", "4": "2"}


@pytest.mark.parametrize("back", [False, True])
def test_a_gateway_that_calls_on_from_a_tool_s_span_makes_a_call_of_its_own(back):
    values = [
        export(client(2, 1)),
        export(server(3, 2), library="mcp", service_name="gateway"),
        export(span(4, 3), library="own", service_name="gateway"),
        export(client(5, 4), library="mcp", service_name="gateway"),
        export(server(6, 5), service_name="tools"),
    ]

    found = rows(*(values[::-1] if back else values))

    assert call_ids(found) == {"2": "2", "3": "2", "4": "2", "5": "5", "6": "5"}


def test_one_tool_call_written_by_two_libraries_is_one_call():
    found = rows(
        export(span(2, 1), library="pydantic-ai"),
        export(
            span(3, 2, attributes={"openinference.span.kind": "TOOL", "tool.name": "search"}),
            library="openinference",
        ),
    )

    assert call_ids(found) == {"2": "2", "3": "2"}


def test_an_agent_asked_below_a_tool_keeps_that_tool_s_calls_apart():
    found = rows(export(span(2, 1), span(3, 2, attributes=RUN), span(4, 3)))

    assert call_ids(found) == {"2": "2", "4": "4"}


LATER = "0af7651916cd43dd8448eb211c80319c"
APART = "1bf7651916cd43dd8448eb211c80319c"
CALLS = """
SELECT tool_name, agent_id, subject_id, outcome, observer, observations FROM calls
WHERE trace_id = $trace ORDER BY event_time
"""


@pytest.fixture(scope="module")
def con(tmp_path_factory):
    """Return a lake with the sample's story and, in two batches, with one call more."""
    folder = tmp_path_factory.mktemp("spans")
    lake = open_lake(str(folder / "lake"), create=True)
    at_server = folder / "server.jsonl"
    at_server.write_bytes(export(server(4, 3, traceId=LATER), service_name="tools"))
    ingest_files([sample_path("otel_genai"), at_server], adapter="auto", sink=lake, now=NOW)
    build_chains(lake, load_registry(None), NOW)
    at_agent = folder / "agent.jsonl"
    at_agent.write_bytes(
        export(
            span(2, 1, traceId=LATER),
            client(3, 2, traceId=LATER),
            span(1, attributes=RUN, traceId=LATER),
        )
    )
    ingest_files([at_agent], adapter="auto", sink=lake, now=NOW)
    for name, part in (
        ("client", export(client(3, 2, traceId=APART), library="mcp")),
        ("tool", export(span(2, 1, traceId=APART))),
    ):
        (folder / name).write_bytes(part)
        ingest_files([folder / name], adapter="auto", sink=lake, now=NOW)
        build_chains(lake, load_registry(None), NOW)
    return lake.connect()


def test_the_sample_s_story_is_told_by_the_calls_of_the_chains(con):
    planner, booker = "agt_planner_1", "agt_booker_4"

    assert con.execute(CALLS, {"trace": TRACE}).fetchall() == [
        ("search_fares", planner, "mara.lind", "success", "resource_server", 3),
        ("resources/read", planner, "mara.lind", "success", "agent_runtime", 1),
        ("invoke_agent", planner, "mara.lind", "success", "agent_runtime", 1),
        ("book_seat", booker, "mara.lind", "denied", "agent_runtime", 1),
        ("pay", booker, "mara.lind", "failure", "agent_runtime", 1),
    ]


def test_a_call_that_comes_in_two_batches_is_one_and_its_agent_is_known(con):
    assert con.execute(CALLS, {"trace": LATER}).fetchall() == [
        ("search", "planner", None, "success", "agent_runtime", 3)
    ]


def test_a_tool_s_span_that_comes_after_its_client_s_batch_is_of_the_same_call(con):
    assert con.execute(CALLS, {"trace": APART}).fetchall() == [
        ("search", "desk", None, "success", "agent_runtime", 2)
    ]


def test_spans_cannot_say_what_was_presented_and_no_single_call_is_to_blame(tmp_path):
    place = MCP | {"server.address": "t.example"}
    (tmp_path / "spans.jsonl").write_bytes(export(span(2, 1, kind="client", attributes=place)))
    lake, registry = open_lake(str(tmp_path / "lake"), create=True), load_registry(None)
    ingest_files([tmp_path / "spans.jsonl"], adapter="auto", sink=lake, now=NOW)
    build_chains(lake, registry, NOW)

    report = run_detections(
        lake, registry, rules=load_rules(only={"BT-01"}), window=Window(), now=NOW
    )

    assert report.findings["title"].to_pylist() == [
        "The source otel.mcp_client.lib:desk never says which credential a call presented"
    ]

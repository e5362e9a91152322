"""Cases: what a story must say, and that a wrong story is told apart from a right one."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from pipeline.detections.testing import read_case, read_cases, run_case, run_cases
from pipeline.errors import RuleError
from tests.detections.folders import SQL, make_rule
from tests.factories import tool_call


def case(tmp_path, head, *events, **over):
    rule = make_rule(tmp_path, **over)
    folder = rule.folder / "cases"
    folder.mkdir(exist_ok=True)
    lines = [json.dumps(line) for line in (head, *events)]
    (folder / "story.jsonl").write_text("\n".join(lines) + "\n")
    return read_case(rule, folder / "story.jsonl")


def denied(agent="a", **over):
    return tool_call(outcome="denied", agent_id=agent, **over)


def test_a_case_passes_when_exactly_the_expected_is_found(tmp_path):
    head = {
        "expect": [{"agent_id": "b"}, {"severity": 3, "tenant_id": "default", "status": "open"}]
    }

    outcome = run_case(case(tmp_path, head, denied("a"), denied("b"), tool_call(agent_id="c")))

    assert outcome.problems == []
    assert [len(found) for found in outcome.findings.values()] == [2, 2, 2]


@pytest.mark.parametrize(
    ("expect", "problem"),
    [
        ([], "in order: not expected: a: Something was denied, severity 3"),
        (
            [{"agent_id": "a"}, {"agent_id": "b"}],
            'in order: not found: {"agent_id": "b"}',
        ),
        ([{"entity": "a", "severity": 4}], 'in order: not found: {"entity": "a", "severity": 4}'),
        ([{"entity": "a"}, {"entity": "a"}], 'in order: not found: {"entity": "a"}'),
    ],
)
def test_a_wrong_expectation_is_a_problem_in_words(tmp_path, expect, problem):
    outcome = run_case(case(tmp_path, {"expect": expect}, denied()))

    assert problem in outcome.problems


def test_a_rule_that_depends_on_the_order_of_events_is_a_problem(tmp_path):
    sql = SQL.replace("agent_id AS entity", "arg_max(tool_name, kafka_offset) AS entity")
    events = [denied(tool_name=f"tool-{number}") for number in range(9)]

    outcome = run_case(case(tmp_path, {"expect": [{"agent_id": "a"}]}, *events, sql=sql))

    assert outcome.problems == ["shuffled: not the same findings as in order"]


def test_a_rule_whose_rows_share_an_identity_is_a_problem(tmp_path):
    sql = SQL.replace("GROUP BY tenant_id, agent_id", "GROUP BY tenant_id, agent_id, event_uid")

    outcome = run_case(case(tmp_path, {"expect": [{}]}, denied(), denied(), sql=sql))

    assert outcome.problems == ["3 row(s) share the identity of another row"]


def test_an_event_that_breaks_the_contract_is_a_problem(tmp_path):
    outcome = run_case(case(tmp_path, {"expect": []}, tool_call(outcome="perhaps")))

    (problem,) = outcome.problems
    assert problem.startswith("story.jsonl:2: outcome")


def test_cases_that_share_a_lake_do_not_meet(tmp_path):
    quiet = case(tmp_path, {"expect": []}, tool_call())
    firing = replace(quiet, expect=[{"agent_id": "a"}], events=[denied()])
    wrong = replace(firing, expect=[])

    outcomes = run_cases([quiet, firing, wrong])

    assert [bool(outcome.problems) for outcome in outcomes] == [False, False, True]


def test_a_case_may_bring_its_registry(tmp_path):
    head = {
        "expect": [{"route_owner": "team-a"}],
        "registry": {"agents.yaml": {"agents": {"a": {"owner_application": "team-a"}}}},
    }

    assert run_case(case(tmp_path, head, denied())).problems == []


def test_a_fault_in_the_registry_of_a_case_is_shown_and_the_other_cases_run(tmp_path):
    head = {"expect": [], "registry": {"agents.yaml": {"agent": {}}}}
    faulty = case(tmp_path, head, denied())
    sound = replace(faulty, registry={}, expect=[{"agent_id": "a"}])

    told, passed = run_cases([faulty, sound])

    assert told.problems == ['agents.yaml: unknown key "agent"; did you mean "agents"?']
    assert passed.problems == []


@pytest.mark.parametrize(
    ("head", "message"),
    [
        ({}, "must be an object with a list expect, then events"),
        ({"expect": [], "asof": 1}, 'unknown key "asof"; did you mean "as_of"?'),
        ({"expect": ["a"]}, '"expect" must be a list of objects'),
        ({"expect": [], "as_of": "noon"}, "no time to judge it at"),
        ({"expect": [], "as_of": 5}, "no time to judge it at"),
        ({"expect": [], "registry": {"agent.yaml": {}}}, 'did you mean "agents.yaml"?'),
        ({"expect": [], "registry": ["agents.yaml"]}, '"registry" has no file'),
    ],
)
def test_the_first_line_must_say_what_is_expected(tmp_path, head, message):
    with pytest.raises(RuleError) as caught:
        case(tmp_path, head, denied())

    assert (caught.value.file, caught.value.line) == ("denied/cases/story.jsonl", 1)
    assert message in caught.value.message


@pytest.mark.parametrize("line", [b"{broken", b"[1]", b"5", b"", b'"\xff"'])
def test_a_line_that_is_no_json_object_is_named(tmp_path, line):
    rule = make_rule(tmp_path)
    (rule.folder / "cases").mkdir()
    (rule.folder / "cases" / "story.jsonl").write_bytes(b'{"expect": []}\n' + line + b"\n")

    with pytest.raises(RuleError) as caught:
        read_cases(rule)

    assert caught.value.line == 2

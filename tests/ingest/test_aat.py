"""What Agent Audit Trail records become, and what is said of the chain they form."""

import json
from datetime import UTC, datetime
from functools import cache

import pytest
from aat import core
from aat.mcp import MCPRecorder
from homestead_memory.adapters import aat as homestead
from homestead_memory.core import capture
from homestead_memory.core import ledger as memory

from pipeline.chains import build_chains
from pipeline.ingest.run import ingest_files
from pipeline.ingest.sources import Context, aat
from pipeline.lake import open_lake
from pipeline.registry import load_registry

SECRET = "do-not-store"


def recorder():
    found = MCPRecorder(
        agent_id="urn:agent:desk", agent_version="1.2.0", private_key=core.gen_key()
    )
    found.open_session()
    return found


def worked():
    """Return the records of a session: a call that went well, and one that was refused."""
    found = recorder()
    safe = found.wrap(lambda name, args: {"answer": SECRET}, policy=lambda name, _: name != "drop")
    safe("look_up", {"q": SECRET})
    with pytest.raises(PermissionError):
        safe("drop", {"table": SECRET})
    found.close_session()
    return found.records


@cache
def taken():
    """Return what a whole session becomes."""
    return adapted(*worked())


def record(action_type="tool_call", **over):
    return {
        "record_id": "11111111-1111-4111-8111-111111111111",
        "timestamp": "2026-10-01T10:00:00Z",
        "agent_id": "urn:agent:desk",
        "agent_version": "1.0.0",
        "session_id": "22222222-2222-4222-8222-222222222222",
        "action_type": action_type,
        "action_detail": {"tool_name": "look_up"},
        "outcome": "success",
        "trust_level": "L2",
        "parent_record_id": None,
        "prev_hash": None,
        "record_phase": "pre_execution",
    } | over


def adapted(*records, **context):
    values = [json.dumps(one).encode() for one in records]
    return aat.adapt(values, Context(**context))


def rows(found):
    return [
        row | {"ext": dict(row["ext"]), "place": int(place), "status": status}
        for batch in found.batches
        for row, place, status in zip(
            batch.batch.to_pylist(maps_as_pydicts="strict"),
            batch.rows,
            batch.parse_status.to_pylist(),
            strict=True,
        )
    ]


def one(*records, **context):
    (row,) = rows(adapted(*records, **context))
    return row


def test_a_call_and_its_answer_are_two_observations_of_one_call():
    found = worked()
    before, after, _ = rows(adapted(*found))

    assert (before["phase"], after["phase"]) == ("pre", "post")
    assert before["call_id"] == after["call_id"] == found[1]["record_id"]
    assert before["tool_name"] == after["tool_name"] == "look_up"
    assert (before["decision_effect"], before["outcome"]) == ("allow", "unknown")
    assert (after["decision_effect"], after["outcome"]) == (None, "success")
    assert before["args_hash"] == found[1]["action_detail"]["parameters_hash"]
    assert after["result_hash"] == found[2]["action_detail"]["response_hash"]


def test_a_refused_call_was_denied():
    denied = rows(taken())[2]

    assert (denied["tool_name"], denied["decision_effect"]) == ("drop", "deny")
    assert (denied["outcome"], denied["phase"]) == ("denied", "pre")


def test_the_course_of_a_session_is_counted():
    assert taken().skipped == {"lifecycle of a session": 2}


def test_who_and_when_are_the_record_s():
    row = one(record())

    assert row["event_time"] == datetime(2026, 10, 1, 10, tzinfo=UTC)
    assert (row["agent_id"], row["actor_id"]) == ("urn:agent:desk", "urn:agent:desk")
    assert (row["agent_version"], row["session_id"]) == ("1.0.0", record()["session_id"])
    assert row["ext"]["trust_level"] == "L2"


def test_an_instance_is_part_of_the_source():
    assert one(record(), instance="east")["source"] == "aat:east"


@pytest.mark.parametrize(
    ("outcome", "phase", "stored", "effect"),
    [
        ("success", "post_execution", "success", None),
        ("success", "concurrent", "success", None),
        ("failure", "post_execution", "failure", None),
        ("timeout", "post_execution", "timeout", None),
        ("denied", "pre_execution", "denied", "deny"),
        ("escalated", "pre_execution", "unknown", None),
        ("strange", "post_execution", "unknown", None),
    ],
)
def test_outcomes(outcome, phase, stored, effect):
    row = one(record(outcome=outcome, record_phase=phase))

    assert (row["outcome"], row["decision_effect"]) == (stored, effect)
    assert row["ext"]["outcome"] == outcome


def test_a_decision_is_a_call_that_was_judged():
    row = one(record("decision", action_detail={"decision_type": "payout"}, outcome="denied"))

    assert (row["tool_name"], row["operation"]) == ("decision payout", "payout")
    assert row["decision_effect"] == "deny"


def test_a_delegation_is_a_credential_that_the_delegate_holds():
    row = one(record("delegation", action_detail={"delegate_agent_id": "urn:agent:reader"}))

    assert (row["op"], row["outcome"]) == ("delegate", "success")
    assert (row["subject_id"], row["subject_kind"]) == ("urn:agent:desk", "agent")
    assert row["actor_id"] == "urn:agent:reader"
    assert row["credential_id"] == record()["record_id"]
    assert row["credential_kind"] == "local"
    assert not row["scope_known"]


def test_the_order_of_records_is_no_delegation():
    first = record()
    second = record(
        "delegation",
        record_id="33333333-3333-4333-8333-333333333333",
        action_detail={"delegate_agent_id": "urn:agent:reader"},
        parent_record_id=first["record_id"],
        prev_hash=core.chain_hash(first),
    )
    delegation = next(row for row in rows(adapted(first, second)) if "op" in row)

    assert delegation["ext"]["chain_verdict"] == "verified"
    assert delegation["parents"] == []


@pytest.mark.parametrize("outcome", ["denied", "failure", "escalated"])
def test_a_delegation_that_did_not_happen_makes_no_credential(outcome):
    detail = {"delegate_agent_id": "urn:agent:reader"}
    row = one(record("delegation", action_detail=detail, outcome=outcome))

    assert (row["op"], row["outcome"], row["error"]) == ("deny", "failure", outcome)
    assert row["credential_id"] is None


def test_an_error_that_names_its_call_is_the_call_s_end():
    call = record()
    detail = {"error_code": "E_TIME", "error_message": SECRET, "parent_call_id": call["record_id"]}
    failed = record(
        "error",
        record_id="33333333-3333-4333-8333-333333333333",
        action_detail=detail,
        outcome="timeout",
        record_phase="post_execution",
        parent_record_id=call["record_id"],
        prev_hash=core.chain_hash(call),
    )
    before, after = rows(adapted(call, failed))

    assert after["call_id"] == before["call_id"]
    assert (after["tool_name"], after["outcome"]) == ("look_up", "timeout")
    assert after["ext"]["error_code"] == "E_TIME"


@pytest.mark.parametrize(
    ("action_type", "reason"),
    [
        ("error", "error that names no call"),
        ("escalation", "escalation that names no call"),
        ("lifecycle", "lifecycle of a session"),
    ],
)
def test_what_says_of_no_call_is_counted(action_type, reason):
    found = adapted(record(action_type, action_detail={"event": "pause"}))

    assert (rows(found), found.refusals) == ([], [])
    assert found.skipped == {reason: 1}


@pytest.mark.parametrize(
    ("over", "reason"),
    [
        ({"record_id": ""}, "record_id is missing"),
        ({"timestamp": "yesterday"}, "timestamp is missing or is no time"),
        ({"timestamp": None}, "timestamp is missing or is no time"),
        ({"agent_id": {"id": SECRET}}, "agent_id is missing"),
        ({"action_type": "guess"}, "action_type is none of the draft's"),
        ({"action_type": ["tool_call"]}, "action_type is none of the draft's"),
    ],
)
def test_what_cannot_be_taken_is_refused_by_the_field_s_name(over, reason):
    found = adapted(record(**over))

    assert rows(found) == []
    assert [(item.stage, item.reason) for item in found.refusals] == [("adapt", reason)]


def test_a_delegation_to_nobody_is_refused():
    (refusal,) = adapted(record("delegation", action_detail={})).refusals

    assert refusal.reason == "action_detail.delegate_agent_id is missing"


def test_a_record_without_all_mandatory_fields_is_partial():
    bare = record()
    del bare["record_phase"]
    row = one(bare)

    assert row["status"] == "partial"
    assert row["ext"]["missing_fields"] == "record_phase"
    assert row["phase"] == "single"


def test_nothing_of_what_an_action_was_about_is_stored():
    detail = {
        "tool_name": "pay",
        "parameters_hash": SECRET,
        "parameters": {"card": SECRET},
        "error_code": f"{SECRET} 1",
        "tool_server": {"password": SECRET},
        "resource": [SECRET],
    }
    found = adapted(record(action_detail=detail, deny_reasons=[f"because {SECRET}"]))
    refused = adapted(record(action_detail=detail, timestamp=None))

    assert SECRET not in str(rows(found))
    assert rows(found)[0]["args_hash"]
    assert SECRET not in str(refused.refusals)


# The chain


def verdicts(found):
    return {row["place"]: row["ext"]["chain_verdict"] for row in rows(found)}


def test_a_session_as_it_was_written_is_verified():
    assert verdicts(taken()) == {1: "verified", 2: "verified", 3: "verified"}
    assert verdicts(adapted(record())) == {0: "genesis"}


def test_a_changed_record_is_broken_with_all_behind_it_and_none_is_lost():
    found = json.loads(json.dumps(worked()))
    found[1]["action_detail"]["tool_name"] = "look_away"
    taken = rows(adapted(*found))

    assert [row["ext"]["chain_verdict"] for row in taken] == ["broken"] * 3
    assert [row["status"] for row in taken] == ["partial"] * 3


def test_a_changed_record_that_gives_no_row_is_a_dead_letter():
    found = json.loads(json.dumps(worked()))
    found[0]["action_detail"]["event"] = "session_resumed"
    (refusal,) = adapted(*found).refusals

    assert refusal.row == 0
    assert "gives no row" in refusal.reason


def test_a_session_that_began_elsewhere_is_unverifiable_at_first():
    assert verdicts(adapted(*worked()[2:])) == {0: "unverifiable", 1: "verified"}


def test_a_removed_record_breaks_the_session():
    found = worked()
    del found[2]

    assert verdicts(adapted(*found)) == {1: "verified", 2: "broken"}


def test_sessions_are_judged_apart():
    one_session, other = worked(), json.loads(json.dumps(worked()))
    other[1]["outcome"] = "failure"
    mixed = [item for pair in zip(one_session, other, strict=True) for item in pair]

    found = verdicts(adapted(*mixed))
    assert [found[place] for place in (2, 4, 6)] == ["verified"] * 3
    assert [found[place] for place in (3, 5, 7)] == ["broken"] * 3


def bare(found):
    """Return the records chained by hashes that leave the signature out."""
    chained = []
    for item in found:
        chained.append(item | {"prev_hash": None})
        if len(chained) > 1:
            before = {name: part for name, part in chained[-2].items() if name != "signature"}
            chained[-1]["prev_hash"] = core.chain_hash(before)
    return chained


def test_a_ledger_that_hashes_records_without_signatures_is_verified_and_says_so():
    found = rows(adapted(*bare(worked())))

    assert {row["ext"]["chain_verdict"] for row in found} == {"verified"}
    assert {row["ext"]["chain_verdict_reason"] for row in found} == {
        "by a hash that leaves signatures out"
    }


def test_such_a_ledger_is_broken_where_it_was_changed():
    found = bare(worked())
    found[1] |= {"outcome": "failure"}

    assert verdicts(adapted(*found)) == {1: "broken", 2: "broken", 3: "broken"}


def test_a_batch_of_merkle_proofs_is_no_part_of_the_hash():
    found = worked()
    found[1]["batch"] = {"merkle_root": "00", "inclusion_proof": []}

    assert set(verdicts(adapted(*found)).values()) == {"verified"}


def test_what_follows_an_erased_record_is_unverifiable():
    found = worked()
    erased = {"tombstone_hash": core.chain_hash(found[1]), "tool_name": "erased"}
    found[1] = found[1] | {"action_detail": erased}

    assert verdicts(adapted(*found))[2] == "unverifiable"


def test_a_signature_is_said_to_be_unchecked():
    assert {row["ext"]["signature"] for row in rows(taken())} == {"unchecked"}
    assert one(record())["ext"]["signature"] == "none"


def test_a_number_that_no_double_holds_breaks_no_other_record():
    first = record(action_detail={"tool_name": "count", "rows": 2**60})
    second = record(
        record_id="33333333-3333-4333-8333-333333333333",
        parent_record_id=first["record_id"],
        prev_hash="ab" * 32,
    )

    assert verdicts(adapted(first, second)) == {0: "genesis", 1: "unverifiable"}


def test_a_record_keeps_its_id_whatever_else_is_in_the_batch():
    found = worked()
    together = adapted(*found).batches[0].event_uids.to_pylist()
    alone = [adapted(item).batches[0].event_uids.to_pylist()[0] for item in found[1:4]]

    assert together == alone


def test_a_changed_record_has_an_id_of_its_own():
    found = record()
    (was,) = adapted(found).batches[0].event_uids.to_pylist()
    (now,) = adapted(found | {"outcome": "failure"}).batches[0].event_uids.to_pylist()

    assert was != now


def test_copies_of_a_record_are_one_event():
    found = adapted(record(), record())
    uids = found.batches[0].event_uids.to_pylist()

    assert len(uids) == 2
    assert len(set(uids)) == 1


def exported(folder, *hooks):
    """Return what homestead-memory exports of what a coding agent's hooks told it."""
    for name, tool, session, use in hooks:
        told = {"hook_event_name": name, "tool_name": tool, "session_id": session}
        content = {"tool_input": {"command": SECRET}, "tool_use_id": use}
        if name == "PostToolUse":
            content["tool_response"] = {"out": SECRET}
        memory.append(vault=folder, **capture.from_hook_payload(told | content))
    homestead.aat_export(folder, out_dir=folder / "trail.jsonl")
    return [json.loads(line) for line in (folder / "trail.jsonl").read_text().splitlines()]


HOOKS = (
    ("PreToolUse", "Bash", "s1", "use-1"),
    ("PreToolUse", "Read", "s2", "use-2"),
    ("PostToolUse", "Bash", "s1", "use-1"),
    ("PostToolUse", "Read", "s2", "use-2"),
)


def test_another_writer_s_records_are_paired_by_the_use_of_a_tool(tmp_path):
    before, _, after, _ = rows(adapted(*exported(tmp_path, *HOOKS)))

    assert (before["tool_name"], before["phase"], before["call_id"]) == ("Bash", "pre", "use-1")
    assert (after["tool_name"], after["phase"], after["call_id"]) == ("Bash", "post", "use-1")
    assert before["args_hash"] == after["args_hash"]
    assert (before["result_hash"], bool(after["result_hash"])) == (None, True)


def test_another_writer_s_chain_over_all_sessions_is_verified(tmp_path):
    found = exported(tmp_path, *HOOKS)

    assert list(verdicts(adapted(*found)).values()) == ["genesis", *["verified"] * 3]
    found[1]["outcome"] = "failure"
    assert list(verdicts(adapted(*found)).values()) == ["genesis", *["broken"] * 3]


def test_the_summaries_that_another_writer_keeps_are_not_stored(tmp_path):
    found = exported(tmp_path, *HOOKS)

    assert SECRET in str(found)
    assert SECRET not in str(rows(adapted(*found)))


def test_only_its_own_records_are_recognised():
    assert all(aat.recognises(item) for item in worked())
    # draft-niyikiza's Attenuating Authorization Token, as claims and as a log line.
    token = {"jti": "1", "del_depth": 1, "par_hash": "x", "aat": "eyJ", "cnf": {"jkt": "x"}}
    assert not aat.recognises(token)
    assert not aat.recognises({"aat_id": "1", "parent_hash": "x", "session_id": "s"})
    assert not any(aat.recognises(item) for item in (None, [], "aat", 1, {}))


def test_the_halves_of_a_call_in_two_files_are_one_call_and_a_delegation_is_a_chain(tmp_path):
    found = recorder()
    call = found.tool_call("look_up", {"q": 1})
    delegation = {"delegate_agent_id": "urn:agent:reader", "delegate_trust_level": "L1"}
    found.record(
        action_type="delegation",
        action_detail=delegation,
        outcome="success",
        record_phase="pre_execution",
    )
    found.tool_response("look_up", {"a": 1}, parent_call_id=call["record_id"])
    for name, part in (("one", found.records[:3]), ("two", found.records[3:])):
        lines = [json.dumps(item) + "\n" for item in part]
        (tmp_path / f"{name}.jsonl").write_text("".join(lines))
    lake = open_lake(str(tmp_path / "lake"), create=True)
    ingest_files([tmp_path / "one.jsonl", tmp_path / "two.jsonl"], adapter="aat", sink=lake)
    build_chains(lake, load_registry(None), datetime.now(UTC))
    con = lake.connect()

    assert con.execute("SELECT tool_name, outcome, observations FROM calls").fetchall() == [
        ("look_up", "success", 2)
    ]
    assert con.execute("SELECT actor_path FROM chains").fetchall() == [
        (["urn:agent:desk", "urn:agent:reader"],)
    ]
    assert con.execute(
        "SELECT ext['chain_verdict'] FROM tool_calls ORDER BY event_time, phase DESC"
    ).fetchall() == [("verified",), ("unverifiable",)]

"""What ledgers that attenu-guard writes become, on their own and on the whole road to chains."""

import json
import os
from datetime import UTC, datetime, timedelta
from functools import cache

import pytest
from attenu_guard import AuditLog, Authority, Guard, RowLimit, evidence
from attenu_guard.authority import AuthorityError
from attenu_guard.sinks import SpoolSink

from pipeline.chains import build_chains
from pipeline.detections.check import load_rules
from pipeline.detections.ledger import Window
from pipeline.detections.run import run_detections
from pipeline.ingest.run import ingest_files
from pipeline.ingest.sources import Context, attenu_guard
from pipeline.lake import open_lake
from pipeline.registry import load_registry

SECRET = "do-not-store"
RECEIVED = datetime(2026, 10, 1, 12, tzinfo=UTC)
WATCHED = {
    "capture": "wrapper_sync",
    "adapter": {"module": "ours", "version": "1", "hook_path": "wrap"},
}


def story(version=2, **options):
    """Return the root guard of a chain with three agents, four calls and two refusals."""
    held = Authority(scopes={"crm.*", "mail.send"}, ceilings=[RowLimit(1_000)], ttl=3_600)
    root = Guard.issue(
        "lead", held, chain_id="case-9", max_depth=2, schema_version=version, **options
    )
    wide = Authority(scopes={"crm.read", "crm.write", "pay.send"}, ttl=900)
    child = root.delegate("summarizer", wide, task=SECRET)
    leaf = child.delegate("fetcher", Authority(scopes={"crm.read"}, ttl=300), task=SECRET)
    with pytest.raises(AuthorityError):
        leaf.delegate("helper", Authority(scopes={"crm.read"}), task=SECRET)
    if version == 2:
        decision = leaf.check(
            "crm.read", tool="search", context={"rows": 7, "q": SECRET}, **WATCHED
        )
        leaf.record_outcome(decision.call_id, "returned", duration_ms=5)
    leaf.check("crm.read", tool="fetch", context={"rows": 7, "q": SECRET})
    leaf.check("mail.send", tool="send", context={"to": SECRET})
    leaf.record_passthrough("draw")
    leaf.complete()
    child.revoke()
    return root


def entries(version=2):
    return story(version).audit_log().entries


@cache
def taken(version=2):
    """Return what a whole ledger becomes."""
    return adapted(*entries(version))


def adapted(*records, received=RECEIVED, **context):
    values = [json.dumps(one).encode() for one in records]
    return attenu_guard.adapt(values, Context(received_at=received, **context))


def rows(found):
    return [
        row | {"place": int(place), "status": status}
        for batch in found.batches
        for row, place, status in zip(
            batch.batch.to_pylist(maps_as_pydicts="strict"),
            batch.rows,
            batch.parse_status.to_pylist(),
            strict=True,
        )
    ]


def tools(found):
    return {(row["tool_name"], row["phase"]): row for row in rows(found) if "tool_name" in row}


def grants(found):
    return {(row["op"], row["actor_id"]): row for row in rows(found) if "op" in row}


def verdicts(found):
    return {row["place"]: row["ext"]["chain_verdict"] for row in rows(found)}


def test_a_root_is_a_credential_without_a_parent():
    root = grants(taken())["issue", "lead"]

    assert (root["credential_kind"], root["credential_id"]) == ("local", "case-9:n0")
    assert (root["scopes"], root["parents"]) == (["crm.*", "mail.send"], [])
    assert root["expires_at"] - root["issued_at"] == timedelta(seconds=3_600)
    assert root["ext"]["constraints"] == "max_rows<=1000.0"


def test_a_delegation_names_its_parent_what_was_asked_and_what_was_granted():
    child = grants(taken())["delegate", "summarizer"]

    assert child["requested_scopes"] == ["crm.read", "crm.write", "pay.send"]
    assert child["scopes"] == ["crm.read", "crm.write"]
    assert [(one["role"], one["id"]) for one in child["parents"]] == [("delegation", "case-9:n0")]
    assert child["expires_at"] - child["issued_at"] == timedelta(seconds=900)


def test_a_delegation_that_was_refused_makes_no_credential():
    denied = grants(taken())["deny", "helper"]

    assert (denied["outcome"], denied["error"]) == ("failure", "max_depth")
    assert denied["credential_id"] is None
    assert denied["parents"][0]["id"] == "case-9:n2"


def test_a_kill_revokes_each_node_that_it_names():
    found = grants(taken())

    assert found["revoke", "summarizer"]["credential_id"] == "case-9:n1"
    assert found["revoke", "fetcher"]["credential_id"] == "case-9:n2"
    assert {row["revoke_target"] for (op, _), row in found.items() if op == "revoke"} == {"token"}


def test_a_check_and_its_outcome_are_two_observations_of_one_call():
    found = tools(taken())
    before, after = found["search", "pre"], found["search", "post"]

    assert before["call_id"] == after["call_id"]
    assert (before["decision_effect"], before["outcome"]) == ("allow", "unknown")
    assert (after["decision_effect"], after["outcome"]) == (None, "success")
    assert after["agent_id"] == "fetcher"


def test_a_call_presents_the_node_of_the_agent_that_makes_it():
    row = tools(taken())["fetch", "single"]

    assert (row["agent_id"], row["agent_instance"]) == ("fetcher", "case-9:n2")
    assert row["parent_agent_id"] == "summarizer"
    assert (row["credential_kind"], row["credential_id"]) == ("local", "case-9:n2")
    assert (row["operation"], row["required_scopes"]) == ("crm.read", ["crm.read"])
    assert (row["decision_effect"], row["ext"]["rows"]) == ("allow", "7.0")


def test_a_denied_call_tells_why():
    row = tools(taken())["send", "single"]

    assert (row["decision_effect"], row["outcome"]) == ("deny", "denied")
    assert (row["ext"]["reason"], row["ext"]["disposition"]) == (
        "scope_not_granted",
        "out_of_authority",
    )


def test_a_call_that_nobody_judged_was_not_allowed():
    row = tools(taken())["draw", "single"]

    assert (row["decision_effect"], row["ext"]["policy"]) == ("none", "unlisted")
    assert row["required_scopes"] == []


@pytest.mark.parametrize(
    ("state", "outcome"),
    [
        ("returned", "success"),
        ("raised", "failure"),
        ("abandoned", "unknown"),
        ("deferred", "unknown"),
    ],
)
def test_what_became_of_a_call(state, outcome):
    root = Guard.issue("lead", Authority(scopes={"a.b"}), schema_version=2)
    call = root.check("a.b", tool="t", **WATCHED).call_id
    error = "ValueError" if state == "raised" else None
    root.record_outcome(call, state, duration_ms=1, error_code=error)

    row = tools(adapted(*root.audit_log().entries))["t", "post"]
    assert (row["outcome"], row["ext"].get("error_code")) == (outcome, error)


def test_version_1_entries_have_no_call_id():
    found = tools(taken(version=1))

    assert {name for name, _ in found} == {"fetch", "send", "draw"}
    assert {row["call_id"] for row in found.values()} == {None}


def test_the_end_of_a_node_s_work_is_counted():
    assert taken().skipped == {"end of a node's work": 1}


def test_a_kill_that_reached_nobody_is_counted():
    root = Guard.issue("lead", Authority(scopes={"a.b"}))
    root.revoke_agent("nobody")

    assert adapted(*root.audit_log().entries).skipped == {"kill that reached no node": 1}


def test_no_task_context_parameter_or_message_is_stored():
    unknown = {**entries()[1], "event": "unheard"}

    assert SECRET not in str(rows(taken()))
    assert SECRET not in str(adapted(unknown).refusals)
    assert SECRET not in str(adapted({"boot_id": "b", "entry": unknown}).refusals)


def test_an_agent_whose_delegation_is_in_another_batch_is_unknown_but_for_its_node():
    (row,) = rows(adapted(entries(version=1)[5]))

    assert (row["agent_id"], row["status"]) == ("unknown", "partial")
    assert (row["agent_instance"], row["credential_id"]) == ("case-9:n2", "case-9:n2")


# Time


def test_a_count_is_no_time_so_an_entry_is_of_when_it_was_received():
    found = rows(taken())

    assert {row["ext"]["time_basis"] for row in found} == {"received"}
    assert [row["event_time"] for row in found if "op" in row][:2] == [
        RECEIVED,
        RECEIVED + timedelta(microseconds=1),
    ]


def test_an_entry_s_own_time_comes_first():
    log = AuditLog()
    log.append("root", "2026-09-09T08:00:00Z", chain_id="c", node="c:n0", agent="a", authority={})
    (row,) = rows(adapted(*log.entries))

    assert row["event_time"] == datetime(2026, 9, 9, 8, tzinfo=UTC)
    assert row["ext"] | {"time_basis": "ts", "chain_verdict": "genesis"} == row["ext"]


def test_a_spool_line_names_the_process_and_may_say_when(tmp_path):
    sink = SpoolSink(tmp_path / "spool", boot="b00t")
    story(audit_sinks=[sink])
    sink.close()
    lines = [json.loads(line) for line in (tmp_path / "spool").read_text().splitlines()]
    found = rows(adapted(*lines))
    (dated,) = rows(adapted(lines[0] | {"time": "2026-09-09T08:00:00Z"}))

    assert {row["source"] for row in found} == {"attenu_guard:b00t"}
    assert {row["credential_issuer"] for row in found} == {"attenu_guard:b00t", None}
    assert {row["ext"]["chain_verdict"] for row in found} == {"genesis", "verified"}
    assert dated["event_time"] == datetime(2026, 9, 9, 8, tzinfo=UTC)
    assert dated["ext"]["time_basis"] == "spool"


def test_an_entry_that_nobody_dates_is_refused():
    found = adapted(*entries(), received=None)

    assert rows(found) == []
    assert {item.reason for item in found.refusals} == {
        "ts is a count or no time, and nothing says when the entry was received"
    }


@pytest.mark.parametrize(
    ("over", "reason"),
    [
        ({"event": "unheard"}, "event is none that we know"),
        ({"event": None}, "event is none that we know"),
        ({"node": None}, "node is missing"),
        ({"node": {"id": SECRET}}, "node is missing"),
    ],
)
def test_what_cannot_be_taken_is_refused_by_the_field_s_name(over, reason):
    found = adapted(entries()[0] | over)

    assert [item.reason for item in found.refusals] == [reason]


# The chain


@pytest.mark.parametrize("version", [1, 2])
def test_a_ledger_as_it_was_written_is_verified(version):
    written = entries(version)
    found = verdicts(adapted(*written))

    assert AuditLog.verify(written) == (True, None)
    assert found.pop(0) == "genesis"
    assert set(found.values()) == {"verified"}


def test_a_bundle_without_tasks_is_verified_too():
    class Signer:
        kid = "k"

        def sign(self, message):
            return b"signed"

        def verify(self, message, signature, kid):
            return True

    bundle = evidence.export_bundle(story().audit_log(), Signer(), redact_task=True)
    found = attenu_guard.adapt([json.dumps(bundle).encode()], Context(received_at=RECEIVED))

    assert {row["ext"]["chain_verdict"] for row in rows(found)} == {"genesis", "verified"}


def test_a_changed_line_is_broken_with_all_behind_it_and_none_is_lost():
    written = entries()
    written[5] = written[5] | {"body_state": "raised"}
    found = adapted(*written)

    assert not AuditLog.verify(written)[0]
    assert {place for place, said in verdicts(found).items() if said == "broken"} == {
        place for place in verdicts(found) if place >= 5
    }
    assert len(rows(found)) == len(rows(taken()))
    assert {row["status"] for row in rows(found) if row["place"] >= 5} == {"partial"}


def rehashed(entry):
    """Return an entry with the hash that its content has now."""
    probe = AuditLog(_prev=entry["prev_hash"], _seq=entry["seq"], schema_version=entry["v"])
    kept = {
        name: value
        for name, value in entry.items()
        if name not in {"v", "c14n", "seq", "ts", "event", "prev_hash", "hash"}
    }
    return probe.append(entry["event"], entry["ts"], **kept)


def test_a_changed_line_that_was_hashed_anew_is_broken_with_the_next_one():
    written = entries()
    written[5] = rehashed(written[5] | {"body_state": "raised"})
    found = {
        row["place"]: row["ext"].get("chain_verdict_reason") for row in rows(adapted(*written))
    }

    assert found[5] == "the record after it names another hash for it"
    assert found[6] == "the record before it is not the one whose hash it names"


def test_a_removed_line_breaks_the_ledger():
    written = entries()
    del written[5]

    assert verdicts(adapted(*written))[4] == "verified"
    assert verdicts(adapted(*written))[5] == "broken"


def test_a_ledger_that_began_elsewhere_is_unverifiable_at_first():
    assert verdicts(adapted(*entries()[4:]))[0] == "unverifiable"
    assert verdicts(adapted(*entries()[4:]))[1] == "verified"


def test_a_break_where_no_row_is_given_is_a_dead_letter():
    written = entries()
    (done,) = [place for place, entry in enumerate(written) if entry["event"] == "done"]
    written[done] = written[done] | {"agent": "somebody"}
    (refusal,) = adapted(*written).refusals

    assert refusal.row == done
    assert "gives no row" in refusal.reason


def test_two_ledgers_may_be_mixed():
    one, two = (Guard.issue("a", Authority(scopes={"x.y"}), chain_id=name) for name in "pq")
    for _ in range(3):
        one.check("x.y")
        two.check("x.y")
    mixed = zip(one.audit_log().entries, two.audit_log().entries, strict=True)

    found = verdicts(adapted(*(entry for pair in mixed for entry in pair)))
    assert list(found.values()).count("genesis") == 2
    assert set(found.values()) == {"genesis", "verified"}


@pytest.mark.parametrize("number", [True, "5", 5.5, None, 2**70, -1])
def test_a_strange_number_is_no_crash(number):
    written = entries()
    written[5] = written[5] | {"seq": number}

    assert verdicts(adapted(*written))[5] == "broken"


@pytest.mark.parametrize("number", [2**63 - 1, 2**62, 2**53, -(2**63)])
def test_a_number_that_no_ledger_reaches_moves_no_time(number):
    (row,) = rows(adapted(entries()[0] | {"seq": number}))

    assert row["event_time"] == RECEIVED


def test_an_entry_that_was_put_in_names_nobody_s_agent():
    written = entries()
    forged = [
        written[2] | {"agent": "a-forger", "parent": "case-9:n0"},
        written[4] | {"tool": "a-forgery"},
    ]
    found = tools(adapted(*written, *forged))

    assert found["fetch", "single"]["agent_id"] == "fetcher"
    assert found["fetch", "single"]["parent_agent_id"] == "summarizer"
    assert found["search", "post"]["agent_id"] == "fetcher"
    assert ("revoke", "fetcher") in grants(adapted(*written, *forged))


def test_a_node_of_one_chain_names_no_agent_of_another():
    def ledger(chain, agent):
        log = AuditLog(schema_version=2)
        log.append("root", 1, chain_id=chain, node="n0", agent=agent, authority={})
        log.append("allow", 2, chain_id=chain, node="n0", scope="a.b", tool=chain, call_id="c")
        log.append("outcome", 3, chain_id=chain, node="n0", body_state="returned", call_id="c")
        log.append("kill", 4, chain_id=chain, target="n0", revoked=["n0"])
        return log.entries

    found = rows(adapted(*ledger("p", "alice"), *ledger("q", "bob")))

    who = {"p": "alice", "q": "bob"}
    made = [row for row in found if "tool_name" in row]
    killed = [row for row in found if row.get("op") == "revoke"]
    assert {(row["tool_name"], row["agent_id"], row["phase"]) for row in made} == {
        (chain, agent, phase) for chain, agent in who.items() for phase in ("single", "post")
    }
    assert {(row["session_id"], row["actor_id"]) for row in killed} == set(who.items())


def test_an_entry_keeps_its_id_when_its_ledger_grows_and_comes_again():
    written = entries()
    later = RECEIVED + timedelta(days=1)
    first = adapted(*written[:6])
    again = adapted(*written, received=later)

    known = {uid for batch in first.batches for uid in batch.event_uids.to_pylist()}
    now = {uid for batch in again.batches for uid in batch.event_uids.to_pylist()}
    assert known < now


def test_only_its_own_entries_are_recognised():
    assert all(attenu_guard.recognises(entry) for entry in entries())
    assert attenu_guard.recognises({"boot_id": "b", "entry": entries()[0]})
    others = [None, [], {}, {"event": "root"}, {"entry": {}}, entries()[0] | {"event": ["root"]}]
    assert not any(attenu_guard.recognises(other) for other in others)


# The whole road


@pytest.fixture(scope="module")
def lake(tmp_path_factory):
    folder = tmp_path_factory.mktemp("attenu")
    story(audit_path=folder / "ledger.jsonl")
    os.utime(folder / "ledger.jsonl", (RECEIVED.timestamp(), RECEIVED.timestamp()))
    registry = folder / "registry"
    registry.mkdir()
    (registry / "agents.yaml").write_text("agents: {lead: {owner_application: crew}}\n")
    made = open_lake(str(folder / "lake"), create=True)
    now = RECEIVED + timedelta(hours=1)
    ingest_files([folder / "ledger.jsonl"], adapter="attenu_guard", sink=made, now=now)
    build_chains(made, load_registry(registry), now)
    return made.connect()


def test_a_ledger_becomes_the_chain_of_its_delegations(lake):
    found = lake.execute(
        "SELECT actor_path, effective_scopes, root_principal, status FROM chains ORDER BY depth"
    ).fetchall()

    assert found == [
        (["lead"], ["crm.*", "mail.send"], "lead", "complete"),
        (["lead", "summarizer"], ["crm.read", "crm.write"], "lead", "complete_probable"),
        (["lead", "summarizer", "fetcher"], ["crm.read"], "lead", "complete_probable"),
    ]


def test_each_hop_narrows(lake):
    found = lake.execute(
        "SELECT delegator, delegate, attenuation, widened_scopes FROM hops ORDER BY hop_time"
    ).fetchall()

    assert found == [
        ("lead", "summarizer", "covered", []),
        ("summarizer", "fetcher", "covered", []),
    ]


def test_each_call_hangs_on_its_chain_and_the_denied_one_is_seen(lake):
    found = lake.execute(
        "SELECT tool_name, observations, decision_effect, depth FROM calls ORDER BY tool_name"
    ).fetchall()

    assert [(name, seen, depth) for name, seen, _, depth in found] == [
        ("draw", 1, 2),
        ("fetch", 1, 2),
        ("search", 2, 2),
        ("send", 1, 2),
    ]
    assert {name: effect for name, _, effect, _ in found}["send"] == "deny"


def test_a_file_s_last_change_is_when_its_entries_were_received(lake):
    found = lake.execute("SELECT min(event_time), count(*) FROM token_events").fetchone()

    assert found == (RECEIVED, 6)


def test_a_widening_that_hashes_right_is_seen_where_scopes_are_compared(tmp_path):
    log = AuditLog()
    narrow, wide = {"scopes": ["crm.read"], "ttl": 60}, {"scopes": ["crm.*"], "ttl": 60}
    log.append("root", 1, chain_id="c", node="c:n0", agent="a", authority=narrow)
    log.append(
        "spawn",
        2,
        chain_id="c",
        node="c:n1",
        parent="c:n0",
        agent="b",
        requested=wide,
        granted=wide,
    )
    path = tmp_path / "ledger.jsonl"
    path.write_text("".join(json.dumps(entry) + "\n" for entry in log.entries))
    made = open_lake(str(tmp_path / "lake"), create=True)
    ingest_files([path], adapter="attenu_guard", sink=made)
    build_chains(made, load_registry(None), datetime.now(UTC))
    con = made.connect()

    assert con.execute("SELECT attenuation, widened_scopes FROM hops").fetchall() == [
        ("not_covered", ["crm.*"])
    ]
    assert con.execute(
        "SELECT DISTINCT ext['chain_verdict'] FROM token_events ORDER BY 1"
    ).fetchall() == [("genesis",), ("verified",)]


def test_a_changed_ledger_is_a_finding(tmp_path):
    written = entries()
    written[5] = written[5] | {"body_state": "raised"}
    path = tmp_path / "ledger.jsonl"
    path.write_text("".join(json.dumps(entry) + "\n" for entry in written))
    made = open_lake(str(tmp_path / "lake"), create=True)
    now = datetime.now(UTC) + timedelta(hours=1)
    ingest_files([path], adapter="attenu_guard", sink=made, now=now)
    registry = load_registry(None)
    build_chains(made, registry, now)
    rules = load_rules(only={"BT-07"})

    report = run_detections(made, registry, rules=rules, window=Window(), now=now)

    assert report.findings["title"].to_pylist() == [
        "The log of attenu_guard failed its own integrity check"
    ]


def test_a_ledger_that_comes_in_two_files_has_no_finding(tmp_path):
    written = [entry for entry in entries() if entry["event"] not in {"deny", "kill"}]
    log = AuditLog()
    for seq, entry in enumerate(written):
        kept = {
            k: v for k, v in entry.items() if k not in {"seq", "ts", "event", "hash", "prev_hash"}
        }
        log.append(entry["event"], seq + 1, **kept)
    made = open_lake(str(tmp_path / "lake"), create=True)
    now = datetime.now(UTC) + timedelta(hours=1)
    for name, part in (("a", log.entries[:4]), ("b", log.entries[4:])):
        path = tmp_path / f"{name}.jsonl"
        path.write_text("".join(json.dumps(entry) + "\n" for entry in part))
        ingest_files([path], adapter="attenu_guard", sink=made, now=now)
    registry = load_registry(None)
    build_chains(made, registry, now)
    rules = load_rules(only={"TR-10", "SP-03", "BT-07", "PC-01"})

    report = run_detections(made, registry, rules=rules, window=Window(), now=now)

    assert report.findings["title"].to_pylist() == []


def test_a_grant_of_nothing_is_no_answer_that_leaves_out_what_was_asked_for():
    guard = Guard.issue("lead", Authority(scopes={"crm.*"}, ttl=60), chain_id="c")
    guard.delegate("helper", Authority(scopes={"admin.*"}, ttl=60), task=SECRET)

    root, child = rows(adapted(*guard.audit_log().entries))

    assert (root["scopes"], child["scopes"]) == (["crm.*"], [])
    assert (child["scope_known"], child["requested_scopes"]) == (True, [])
    assert child["ext"]["refused_scopes"] == "admin.*"

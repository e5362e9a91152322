"""What OCSF events become."""

import json
from datetime import UTC, datetime

from pipeline.alerts.alert import trial_alert
from pipeline.chains import build_chains
from pipeline.ingest.run import ingest_files
from pipeline.ingest.samples import sample_path
from pipeline.ingest.sources import load_adapter
from pipeline.lake import open_lake
from pipeline.registry import load_registry
from tests.factories import NOW
from tests.ingest.adapted import Told, pick

ISSUER = "https://login.example"
TIME = 1772442001250
META = {"uid": "m-1", "version": "1.9.0", "product": {"name": "Tool Gate", "vendor_name": "Acme"}}
ANN = {"uid": "ann", "type_id": 1}
BOT = {"uid": "agent:bot", "instance_uid": "bot-1", "version": "2"}
GRANT = {"uid": "d-1", "issuer_uid": ISSUER, "created_time": TIME - 1000, "scopes": ["a", "b"]}


def api(**over):
    return {
        "class_uid": 6003,
        "activity_id": 2,
        "time": TIME,
        "metadata": META,
        "actor": {"user": ANN},
        "api": {"operation": "search", "request": {"uid": "req-1"}},
        "src_endpoint": {"ip": "192.0.2.1"},
    } | over


def logon(**over):
    return {
        "class_uid": 3002,
        "activity_id": 1,
        "time": TIME,
        "status_id": 1,
        "metadata": META,
        "user": ANN,
        "service": {"uid": "https://api.example"},
        "session": {"uid": "s-1", "issuer": ISSUER},
    } | over


def told(*records, **context):
    return Told("ocsf", records, **context)


def call(**over):
    [row] = told(api(**over)).calls
    return row


def calls(*cases):
    """Return the call of each case, adapted at once."""
    records = [api(metadata=META | {"uid": str(at)}, **case) for at, case in enumerate(cases)]
    rows = {row["event_id"]: row for row in told(*records).calls}
    return [rows[str(at)] for at in range(len(cases))]


def token(record, op=None):
    [row] = [row for row in told(record).tokens if op in (None, row["op"])]
    return row


def test_a_call_names_who_acts_and_what_was_asked():
    row = call(activity_id=4)

    assert pick(row, "agent_id", "tool_name", "action_class", "call_id", "src_ip") == (
        "ann",
        "search",
        "delete",
        "req-1",
        "192.0.2.1",
    )
    assert pick(row, "event_id", "source", "outcome") == ("m-1", "ocsf.acme.tool_gate", "unknown")
    assert pick(row, "subject_id", "actor_id", "credential_id") == (None, None, None)
    assert row["event_time"] == datetime(2026, 3, 2, 9, 0, 1, 250000, UTC)


def test_the_actor_is_the_application_or_else_the_user():
    actors = [
        ({"user": {"name": "ann"}}, ("ann", None)),
        ({"user": {"email_addr": "ann@example.com"}}, ("ann@example.com", None)),
        ({"iam_role": {"uid": "role-1"}}, ("role-1", None)),
        ({"app_uid": "app-1", "app_name": "App"}, ("app-1", None)),
        ({"app_name": "App", "user": ANN}, ("App", "ann")),
        ({"invoked_by": "scheduler"}, ("scheduler", None)),
        ({"process": {"name": "cron"}}, ("cron", None)),
        ({"session": {"uid": "s-1"}}, ("s-1", None)),
    ]

    rows = calls(*({"actor": actor} for actor, _ in actors))

    assert [pick(row, "agent_id", "subject_id") for row in rows] == [who for _, who in actors]


def test_an_agent_acts_for_the_user_under_its_delegation():
    profile = {"ai_agent": BOT, "delegation": GRANT}
    row, nested = calls(profile, {"ai_operation": profile})

    assert row | {"event_id": "", "ext": {}} == nested | {"event_id": "", "ext": {}}
    assert pick(row, "agent_id", "agent_instance", "agent_version") == ("agent:bot", "bot-1", "2")
    assert pick(row, "subject_id", "subject_kind", "actor_id") == ("ann", "human", "agent:bot")
    key = ("credential_issuer", "credential_kind", "credential_id", "delegation_record_id")
    assert pick(row, *key) == (ISSUER, "local", "d-1", "d-1")
    assert row["presented_scopes"] == ["a", "b"]


def test_a_delegation_is_told_once_by_many_records_under_it():
    first = api(ai_agent=BOT, delegation=GRANT)
    second = api(ai_agent=BOT, delegation=GRANT, time=TIME + 5, metadata=META | {"uid": "m-2"})

    one, other = told(first, second).tokens

    assert one == other
    assert pick(one, "op", "subject_id", "actor_id", "credential_id", "scopes") == (
        "delegate",
        "ann",
        "agent:bot",
        "d-1",
        ["a", "b"],
    )
    assert one["event_time"] == one["issued_at"]


def test_records_that_tell_a_delegation_otherwise_do_not_share_its_id():
    ways = ({}, {"scopes": ["a"]}, {"parent_uid": "d-0"}, {"expiration_time": TIME})

    rows = told(*(api(ai_agent=BOT, delegation=GRANT | over) for over in ways)).tokens

    assert len({row["event_id"] for row in rows}) == len(ways)


def test_a_delegation_without_parent_names_none_and_without_scopes_knows_none():
    alone, child = told(
        api(delegation={"uid": "d-1"}), api(delegation=GRANT | {"parent_uid": "d-0"})
    ).tokens

    expected = (None, False, "ocsf.acme.tool_gate")
    assert pick(alone, "parents", "scope_known", "credential_issuer") == expected
    [parent] = child["parents"]
    assert pick(parent, "role", "issuer", "kind", "id") == ("delegation", ISSUER, "local", "d-0")


def test_the_outcome_is_what_the_record_says():
    cases = [
        ({"status_id": 1}, "success", None),
        ({"status_id": 2}, "failure", None),
        ({"status_id": 99}, "unknown", None),
        ({"status_id": 2, "status_code": "AccessDenied"}, "denied", "deny"),
        ({"status_id": 2, "action_id": 2}, "denied", "deny"),
        ({"action_id": 1, "status_id": 1}, "success", "allow"),
        ({"disposition_id": 2}, "denied", "deny"),
        ({"http_response": {"code": 403}}, "denied", "deny"),
        ({"http_response": {"code": 200}}, "success", None),
        ({"http_response": {"code": 500}}, "failure", None),
        ({"http_response": {"code": 504}}, "timeout", None),
        ({"api": {"operation": "x", "response": {"error": "Throttled"}}}, "failure", None),
        ({"actor": {"user": ANN, "authorizations": [{"decision": "Denied"}]}}, "denied", "deny"),
    ]

    rows = calls(*(over for over, _, _ in cases))

    found = [pick(row, "outcome", "decision_effect") for row in rows]
    assert found == [(outcome, effect) for _, outcome, effect in cases]


def test_an_api_token_is_the_credential_unless_there_is_a_delegation():
    keyed = {"operation": "x", "token": {"uid": "key-1", "type_id": 7}}

    alone = told(api(api=keyed))
    both = told(api(api=keyed, delegation=GRANT))

    assert pick(alone.calls[0], "credential_kind", "credential_id") == ("api_key_id", "key-1")
    assert alone.tokens == []
    assert pick(both.calls[0], "credential_id") == ("d-1",)
    assert {(row["op"], row["credential_id"]) for row in both.tokens} == {
        ("use", "key-1"),
        ("delegate", "d-1"),
    }


def test_cloudtrail_in_ocsf_names_key_and_role_as_cloudtrail_does():
    row = call(
        cloud={"provider": "AWS", "account": {"uid": "111122223333"}},
        actor={
            "user": {
                "type": "AssumedRole",
                "uid": "arn:aws:sts::111122223333:assumed-role/deploy/run-1",
                "credential_uid": "ASIAEXAMPLE1",
            },
            "session": {"issuer": "arn:aws:iam::111122223333:role/deploy"},
            "invoked_by": "cloudformation.amazonaws.com",
        },
        api={"operation": "GetObject", "service": {"name": "s3.amazonaws.com"}},
    )

    assert pick(row, "credential_issuer", "credential_kind", "credential_id") == (
        "aws",
        "access_key_id",
        "ASIAEXAMPLE1",
    )
    assert pick(row, "agent_id", "agent_issuer", "actor_convention") == (
        "arn:aws:iam::111122223333:role/deploy",
        "aws:111122223333",
        "role_session",
    )
    assert pick(row, "operation", "observer", "source") == (
        "s3:GetObject",
        "cloud_audit",
        "ocsf.acme.tool_gate:111122223333",
    )


def test_an_authentication_is_the_token_event_its_activity_says():
    cases = [
        ({"activity_id": 1}, "issue"),
        ({"activity_id": 2}, "revoke"),
        ({"activity_id": 3}, "issue"),
        ({"activity_id": 4}, "exchange"),
        ({"activity_id": 5}, "refresh"),
        ({"activity_id": 7}, "assume"),
        ({"activity_id": 99, "activity_name": "Token Exchange"}, "exchange"),
        ({"activity_id": 99, "activity_name": "refresh token reuse"}, "reuse_detected"),
        ({"activity_id": 99, "activity_name": "Refresh"}, "refresh"),
        ({"activity_id": 99, "activity_name": "Revoke token"}, "revoke"),
        ({"activity_id": 99, "activity_name": "Introspection"}, "introspect"),
        ({"activity_id": 99, "activity_name": "Something"}, "use"),
        ({"activity_id": 1, "status_id": 2}, "deny"),
    ]

    rows = told(*(logon(**over) for over, _ in cases)).tokens

    assert [row["op"] for row in rows] == [op for _, op in cases]
    assert {pick(row, "credential_issuer", "credential_id") for row in rows} == {(ISSUER, "s-1")}


def test_a_logon_of_a_person_is_an_authentication_and_that_of_a_service_is_not():
    person, service, batch = told(
        logon(), logon(user={"uid": "svc", "type_id": 4}), logon(logon_type_id=4)
    ).tokens

    assert person["auth_time"] == person["event_time"]
    assert pick(service, "auth_time", "subject_kind") == (None, "service_account")
    assert pick(batch, "auth_time") == (None,)


def test_an_exchange_names_the_token_it_was_made_of_and_its_delegation():
    row = token(
        logon(
            activity_id=99,
            activity_name="Token Exchange",
            auth_protocol_id=6,
            authentication_token={"uid": "t-2", "expiration_time": TIME + 900_000},
            actor={"user": ANN, "session": {"credential_uid": "t-1"}, "app_uid": "app-1"},
            delegation=GRANT,
        ),
        "exchange",
    )

    assert pick(row, "credential_kind", "credential_id", "client_id") == ("jti", "t-2", "app-1")
    assert [(parent["role"], parent["id"]) for parent in row["parents"]] == [
        ("subject", "t-1"),
        ("delegation", "d-1"),
    ]


def test_programmatic_credentials_are_secrets_that_come_and_go():
    user = {"uid": "svc", "programmatic_credentials": [{"uid": "k-1", "type": "API Key"}, {}]}
    change = {"class_uid": 3007, "metadata": META, "time": TIME, "actor": {"user": ANN}}

    made = told(change | {"activity_id": 18, "activity_name": "Add", "user": user})
    gone = told(change | {"activity_id": 19, "activity_name": "Remove", "user": user})
    failed = told(change | {"activity_id": 18, "activity_name": "A", "user": user, "status_id": 2})

    columns = ("op", "secret_id", "secret_kind", "bound_identity_id", "accessed_by_id")
    assert [pick(row, *columns) for row in made.secrets] == [
        ("create", "k-1", "api_key", "svc", "ann")
    ]
    assert [pick(row, *columns)[:2] for row in gone.secrets] == [("delete", "k-1")]
    assert failed.secrets == []
    assert pick(made.calls[0], "action_class", "resource", "tool_name") == (
        "admin_iam",
        "svc",
        "Add",
    )


def test_what_lacks_a_needed_part_is_refused_with_its_name():
    cases = [
        ({}, "class_uid is missing"),
        ({"class_uid": "6003a", "time": TIME}, "class_uid is missing"),
        (api(time=None), "time is missing or is no time"),
        (api(time="soon"), "time is missing or is no time"),
        (api(api=None), "api.operation is missing"),
        (api(api={"operation": {"a": "b"}}), "api.operation is missing"),
        (api(actor={}), "actor names nobody"),
        (api(actor="ann"), "actor names nobody"),
        (logon(user=None), "user is missing"),
    ]

    refusals = told(*(record for record, _ in cases)).refusals

    found = [item.reason for item in sorted(refusals, key=lambda item: item.row)]
    assert found == [reason for _, reason in cases]


def test_the_class_may_stand_in_the_type_and_the_time_in_another_form():
    record = api(type_uid=600302, time_dt="2026-03-02T09:00:01.250Z")
    del record["class_uid"], record["time"]

    assert told(record).calls[0]["event_time"] == datetime(2026, 3, 2, 9, 0, 1, 250000, UTC)


def test_a_time_in_another_unit_is_read_by_its_size():
    found = calls(
        *({"time": TIME * factor // 1000} for factor in (1, 1_000, 1_000_000, 1_000_000_000))
    )

    whole, *exact = [row["event_time"] for row in found]
    assert whole == datetime(2026, 3, 2, 9, 0, 1, tzinfo=UTC)
    assert set(exact) == {datetime(2026, 3, 2, 9, 0, 1, 250000, UTC)}


def test_the_key_that_aws_answered_with_leads_back_to_the_key_that_asked():
    role = "arn:aws:iam::111122223333:role/worker"
    answer = {
        "credentials": {
            "accessKeyId": "ASIATAKENTAKENTAKEN1",
            "secretAccessKey": "do-not-store",
            "sessionToken": "do-not-store",
            "expiration": "Mar 2, 2026, 10:00:00 AM",
        },
        "assumedRoleUser": {"arn": "arn:aws:sts::111122223333:assumed-role/worker/run-1"},
    }
    record = api(
        cloud={"provider": "AWS", "account": {"uid": "111122223333"}},
        actor={"user": {"uid": "AIDA1", "credential_uid": "AKIAASKEDASKEDASKED1"}},
        api={
            "operation": "AssumeRole",
            "service": {"name": "sts.amazonaws.com"},
            "request": {"data": json.dumps({"roleArn": role, "sourceIdentity": "ann"})},
            "response": {"data": json.dumps(answer)},
        },
    )

    found = told(record)
    failed = told(record | {"status_id": 2})
    (key,) = found.tokens

    assert pick(key, "op", "credential_issuer", "credential_kind", "credential_id") == (
        "assume",
        "aws",
        "access_key_id",
        "ASIATAKENTAKENTAKEN1",
    )
    assert [(one["role"], one["id"]) for one in key["parents"]] == [
        ("source", "AKIAASKEDASKEDASKED1")
    ]
    assert pick(key, "subject_id", "actor_id", "actor_issuer", "actor_convention") == (
        "ann",
        role,
        "aws:111122223333",
        "role_session",
    )
    assert key["expires_at"] == datetime(2026, 3, 2, 10, tzinfo=UTC)
    assert "do-not-store" not in str(found.rows)
    assert failed.tokens == []


def test_other_classes_are_skipped_by_number():
    skipped = told(
        api(class_uid=2004, finding_info={"uid": "f"}), api(class_uid=4001), logon(session={})
    ).skipped

    assert skipped == {
        "OCSF class 2004 (Detection Finding) is not read": 1,
        "OCSF class 4001 is not read": 1,
        "an authentication that names no credential": 1,
    }


def test_only_ocsf_is_recognised_and_our_own_alerts_are_not():
    recognises = load_adapter("ocsf").recognises

    assert recognises(api())
    assert recognises(api(class_uid=2004))
    assert not any(map(recognises, [None, [], b"x", {}, {"class_uid": 6003}, {"metadata": {}}]))
    assert not recognises(json.loads(trial_alert("hook", NOW).body))


def test_parts_of_another_type_say_nothing():
    cases = [
        {"ai_agent": [], "delegation": "d-1", "cloud": 7, "actor": {"user": {"uid": 12}}},
        {"resources": {"uid": "x"}, "api": {"operation": 5, "token": [1], "response": "no"}},
        {"delegation": {"uid": {"a": 1}}, "metadata": [], "trace": {"uid": True}},
        {"status_id": "two", "action_id": 1e99, "activity_id": -1, "http_response": {"code": "x"}},
    ]

    result = told(*(api(**over) for over in cases))

    assert len(result.calls) == len(cases)
    assert result.refusals == []


def test_a_dead_letter_keeps_no_message():
    answer = {"code": 500, "message": "s3cr3t", "error_message": "s3cr3t"}
    timeless = api(time=None, status_detail="s3cr3t", api={"operation": "x", "response": answer})

    [refusal] = told(timeless).refusals

    assert b"s3cr3t" not in refusal.raw
    assert b"500" in refusal.raw


def test_the_sample_s_delegations_are_a_chain_without_a_known_root(tmp_path):
    lake = open_lake(str(tmp_path / "lake"), create=True)
    ingest_files([sample_path("ocsf")], adapter="ocsf", sink=lake, now=NOW)
    build_chains(lake, load_registry(None), NOW)
    con = lake.connect()

    found = con.execute(
        "SELECT tool_name, actor_path, depth, status, gap_kind FROM calls"
        " WHERE delegation_record_id = 'dlg-2' AND tool_name = 'read_ticket'"
    ).fetchall()
    hops = con.execute(
        "SELECT method, attenuation, widened_scopes FROM hops JOIN credentials AS child"
        " ON child.credential_key = child_key WHERE child.id = 'dlg-2'"
    ).fetchall()

    path = ["ann@acme.example", "agent:desk", "agent:triage"]
    assert found == [("read_ticket", path, 1, "unknown_root", None)]
    assert hops == [("P5", "covered", [])]
    assert con.execute("SELECT count(*) FROM token_events WHERE id_conflict").fetchone() == (0,)

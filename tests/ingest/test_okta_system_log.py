"""What one event of Okta's System Log becomes."""

import json

import pytest

from pipeline.ingest.sources import Context
from pipeline.ingest.sources.okta_system_log import adapt, recognises

ORG = Context(instance="acme.okta.example")
PORTAL = {"id": "0oaPortal", "type": "PublicClientApp", "alternateId": "0oaPortal"}
AGENT = {"id": "wlpTriage", "type": "WorkloadIdentityPrincipal"}
ALICE = {"id": "00uAlice", "type": "User", "alternateId": "alice@acme.example"}
CRM = {"id": "ausCrm", "type": "AuthorizationServer"}
EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
ASSERTION = "urn:ietf:params:oauth:grant-type:jwt-bearer"
GRANT = "app.oauth2.as.token.grant.access_token"


def token(kind, name, **details):
    return {"id": name, "type": kind, "detailEntry": {"hash": "h", **details}}


def event(kind="user.session.start", actor=ALICE, target=(), *, data=None, **more):
    client = {"ipAddress": "198.51.100.1"}
    if actor["type"] != "User":
        client["id"] = actor["id"]
    return {
        "uuid": "u-1",
        "published": "2026-11-20T09:00:00.123Z",
        "eventType": kind,
        "actor": actor,
        "client": client,
        "outcome": {"result": "SUCCESS"},
        "target": list(target),
        "debugContext": {"debugData": data or {}},
        **more,
    }


def grant(grant_type, *target, actor=PORTAL, kind=GRANT, **data):
    return event(kind, actor, target, data={"grantType": grant_type, **data})


def rows(*records, context=ORG, family="token_event"):
    adapted = adapt([json.dumps(record).encode() for record in records], context)
    assert adapted.refusals == []
    return [
        row
        for batch in adapted.batches
        if batch.family == family
        for row in batch.batch.to_pylist(maps_as_pydicts="strict")
    ]


def refused(*records):
    return [
        item.reason for item in adapt([json.dumps(item).encode() for item in records], ORG).refusals
    ]


def test_a_grant_is_the_issue_of_the_token_among_its_targets():
    (row,) = rows(
        grant(
            "authorization_code",
            ALICE,
            CRM,
            token("access_token", "AT.1", expires="2026-11-20T10:00:00.000Z"),
            requestedScopes="openid, crm.read, crm.write",
            grantedScopes="openid, crm.read",
            authorizationServerAudience="https://crm.example",
            requestUri="/oauth2/ausCrm/v1/token",
        )
    )

    assert (row["op"], row["grant_type"], row["token_type"]) == (
        "issue",
        "authorization_code",
        "access_token",
    )
    assert (row["credential_issuer"], row["credential_kind"], row["credential_id"]) == (
        "https://acme.okta.example/oauth2/ausCrm",
        "jti",
        "AT.1",
    )
    assert (row["subject_id"], row["subject_kind"], row["actor_id"]) == (
        "00uAlice",
        "human",
        "0oaPortal",
    )
    assert (row["scopes"], row["requested_scopes"], row["audience"]) == (
        ["openid", "crm.read"],
        ["openid", "crm.read", "crm.write"],
        ["https://crm.example"],
    )
    assert row["expires_at"].isoformat() == "2026-11-20T10:00:00+00:00"


def test_a_plain_exchange_names_the_app_and_leaves_the_subject_open():
    (row,) = rows(grant(EXCHANGE, CRM, token("access_token", "AT.1")))

    assert (row["op"], row["actor_id"], row["client_id"], row["subject_id"], row["parents"]) == (
        "exchange",
        "0oaPortal",
        "0oaPortal",
        None,
        [],
    )


@pytest.mark.parametrize(
    ("grant_type", "role"),
    [(EXCHANGE, "subject"), (ASSERTION, "assertion"), ("refresh_token", None)],
)
def test_a_token_of_another_kind_among_the_targets_is_the_one_presented(grant_type, role):
    (row,) = rows(grant(grant_type, token("id_jag", "IDJAG.1"), token("access_token", "AT.1")))

    assert [(parent["role"], parent["id"]) for parent in row["parents"]] == (
        [(role, "IDJAG.1")] if role else []
    )


def test_the_act_claim_that_okta_writes_as_text_is_the_chain_outermost_first():
    claim = json.dumps({"sub": "wlpTriage", "act": {"sub": "wlpPlanner", "iss": "https://x"}})

    (row,) = rows(grant(ASSERTION, token("access_token", "AT.1", actor=claim), actor=AGENT))

    assert row["act_chain"] == [
        {"issuer": None, "subject": "wlpTriage"},
        {"issuer": "https://x", "subject": "wlpPlanner"},
    ]
    assert (row["actor_convention"], row["act_truncated"]) == ("act", False)


def test_an_actor_that_is_no_act_claim_gives_no_crash():
    odd = ["wlpTriage", "{", "[]", "{}", '{"sub": 7}', '{"act": 1}', ""]

    found = rows(
        *[grant(ASSERTION, token("access_token", "AT.1", actor=one), actor=AGENT) for one in odd]
    )

    assert [row["actor_id"] for row in found] == ["wlpTriage"] * len(odd)


def test_an_app_with_a_grant_of_its_own_is_its_own_subject():
    (row,) = rows(grant("client_credentials", token("access_token", "AT.1", subject="0oaPortal")))

    assert (row["subject_id"], row["subject_kind"], row["actor_id"]) == (
        "0oaPortal",
        "client",
        "0oaPortal",
    )


def test_a_refresh_says_so_and_guesses_no_parent():
    (row,) = rows(grant("refresh_token", ALICE, token("access_token", "AT.2")))

    assert (row["op"], row["parents"], row["family_id"]) == ("refresh", [], None)


def test_a_refresh_goes_on_with_the_same_grant_of_its_session():
    def told(grant_type, scopes, session):
        record = grant(grant_type, ALICE, CRM, token("access_token", "AT.1"), grantedScopes=scopes)
        return record | {"authenticationContext": {"externalSessionId": session}}

    found = rows(
        told("authorization_code", "crm.read, offline_access", "102x"),
        told("refresh_token", "offline_access crm.read", "102x"),
        told("refresh_token", "crm.read", "102x"),
        told("refresh_token", "offline_access crm.read", "102y"),
        told("refresh_token", "offline_access crm.read", "unknown"),
        told("refresh_token", "offline_access crm.read", "trs1"),
        told("client_credentials", "crm.read", "102x"),
    )

    first, again, narrower, elsewhere, *none = [row["family_id"] for row in found]
    assert first == again
    assert len({first, narrower, elsewhere}) == 3
    assert none == [None] * 3


def test_an_id_token_allows_nothing():
    kind = "app.oauth2.token.grant.id_token"

    (row,) = rows(
        grant("authorization_code", token("id_token", "ID.1"), kind=kind, grantedScopes="openid a")
    )

    assert (row["token_type"], row["scopes"], row["scope_known"]) == ("id_token", [], False)


def test_a_refused_grant_is_a_failure_with_okta_s_reason_and_without_a_token():
    denied = grant(ASSERTION, ALICE, CRM, kind="app.oauth2.as.token.grant", requestedScopes="a")
    denied["outcome"] = {"result": "FAILURE", "reason": "no_matching_policy"}

    (row,) = rows(denied)

    assert (row["outcome"], row["error"], row["credential_id"], row["scopes"]) == (
        "failure",
        "no_matching_policy",
        None,
        [],
    )


@pytest.mark.parametrize(
    ("kind", "issuer"),
    [
        ("app.oauth2.token.detect_reuse", "https://acme.okta.example"),
        ("app.oauth2.as.token.detect_reuse", "https://acme.okta.example/oauth2/ausCrm"),
    ],
)
def test_reuse_is_told_by_both_servers_of_the_refresh_token(kind, issuer):
    found = event(kind, PORTAL, [ALICE, CRM, token("refresh_token", "oar1")])
    found["outcome"] = {"result": "FAILURE"}

    (row,) = rows(found)

    assert (row["op"], row["outcome"], row["credential_issuer"], row["credential_id"]) == (
        "reuse_detected",
        "success",
        issuer,
        "oar1",
    )


def test_one_revocation_of_two_tokens_is_two_rows():
    tokens = [token("access_token", "AT.1"), token("refresh_token", "oar1")]

    found = rows(event("app.oauth2.as.token.revoke", PORTAL, [CRM, *tokens]))

    assert sorted((row["op"], row["credential_id"], row["event_id"]) for row in found) == [
        ("revoke", "AT.1", "u-1/AT.1"),
        ("revoke", "oar1", "u-1/oar1"),
    ]


@pytest.mark.parametrize(
    ("kind", "target"),
    [
        ("app.oauth2.as.token.revoke.implicit.client", "client"),
        ("app.oauth2.as.token.revoke.implicit.user", "subject"),
        ("app.oauth2.token.revoke", "token"),
    ],
)
def test_a_revocation_says_what_it_takes_away(kind, target):
    assert [row["revoke_target"] for row in rows(event(kind, PORTAL, [ALICE]))] == [target]


def test_a_consent_names_its_scopes():
    scope = {"id": "scp1", "type": "SCOPE", "displayName": "crm.read"}

    (row,) = rows(event("app.oauth2.as.consent.grant", ALICE, [scope, CRM]))

    assert (row["op"], row["scopes"], row["subject_id"]) == (
        "consent_grant",
        ["crm.read"],
        "00uAlice",
    )


def test_the_default_server_is_named_as_tokens_name_it():
    default = {"id": "ausDefault", "type": "AuthorizationServer"}

    (row,) = rows(
        grant("x", default, token("access_token", "AT.1"), requestUri="/oauth2/default/v1/token")
    )

    assert row["credential_issuer"] == "https://acme.okta.example/oauth2/default"


@pytest.mark.parametrize(
    ("target", "issuer"), [([CRM], "okta:ausCrm"), ([], "")], ids=["server known", "unknown"]
)
def test_without_its_domain_an_issuer_is_not_made_up(target, issuer):
    (row,) = rows(grant("x", *target, token("access_token", "AT.1")), context=Context())

    assert (row["credential_issuer"], row["source"]) == (issuer, "okta.system_log")


def test_a_call_by_an_api_token_bears_its_id():
    (row,) = rows(
        event("user.lifecycle.deactivate", transaction={"detail": {"requestApiTokenId": "00T1"}}),
        family="tool_call",
    )

    assert (row["credential_issuer"], row["credential_kind"], row["credential_id"]) == (
        "okta:acme.okta.example",
        "api_key_id",
        "00T1",
    )
    assert (row["action_class"], row["operation"]) == ("admin_iam", "user.lifecycle.deactivate")


def test_an_api_token_comes_and_goes_as_a_secret():
    made = event("system.api_token.create", target=[{"id": "00T1", "type": "Token"}])
    gone = event("system.api_token.revoke", target=[{"id": "00T1", "type": "Token"}])

    secrets = rows(made, gone, family="secret_event")
    (revoked,) = rows(made, gone)

    assert [(row["op"], row["secret_id"], row["bound_identity_id"]) for row in secrets] == [
        ("create", "00T1", "00uAlice"),
        ("revoke", "00T1", None),
    ]
    assert (revoked["op"], revoked["credential_kind"], revoked["subject_id"]) == (
        "revoke",
        "api_key_id",
        None,
    )
    assert len(rows(made, gone, family="tool_call")) == 2


def test_a_failed_attempt_on_an_api_token_changes_no_secret():
    failed = event("system.api_token.create", target=[{"id": "00T1", "type": "Token"}])
    failed["outcome"] = {"result": "FAILURE"}

    assert rows(failed, family="secret_event") == []


def test_the_outcome_is_okta_s():
    meant = {
        "SUCCESS": ("success", None),
        "ALLOW": ("success", "allow"),
        "DENY": ("denied", "deny"),
        "FAILURE": ("failure", None),
        "CHALLENGE": ("unknown", None),
        "SKIPPED": ("unknown", None),
        None: ("unknown", None),
    }

    found = rows(*[event(outcome={"result": word}) for word in meant], family="tool_call")

    assert [(row["outcome"], row["decision_effect"]) for row in found] == list(meant.values())


def test_envelopes_are_opened_and_a_hook_brings_the_domain():
    hook = {
        "eventType": "com.okta.event_hook",
        "source": "https://other.okta.example/api/v1/eventhooks/who1",
        "data": {"events": [event(), event(uuid="u-2")]},
    }
    bridge = {"detail-type": "SystemLog", "detail": event(uuid="u-3")}

    splunk = {"sourcetype": "OktaIM2:log", "time": 1, "event": event(uuid="u-5")}
    found = rows(hook, [bridge, event(uuid="u-4")], splunk, context=Context(), family="tool_call")

    assert [(row["event_id"], row["source"]) for row in found] == [
        ("u-1", "okta.system_log:other.okta.example"),
        ("u-2", "okta.system_log:other.okta.example"),
        ("u-3", "okta.system_log"),
        ("u-4", "okta.system_log"),
        ("u-5", "okta.system_log"),
    ]
    assert recognises(splunk)


def test_names_in_lower_case_are_read():
    lowered = {name.lower(): part for name, part in event().items()}
    lowered["authenticationcontext"] = {"externalSessionId": "s-1"}

    (row,) = rows(lowered, family="tool_call")

    assert (row["tool_name"], row["session_id"]) == ("user.session.start", "s-1")


def test_what_is_no_event_is_refused_with_the_field_that_is_missing():
    nameless = event(" ")

    found = refused(
        event(published="yesterday"), {"uuid": "u-1"}, {"data": {"events": []}}, nameless
    )

    assert found == [
        "an empty list of records",
        "published is missing or is no time",
        "eventType is missing",
        "eventType is missing",
    ]


def test_a_dead_letter_keeps_nothing_of_the_debug_data():
    broken = event(published=None, data={"url": "/x?stateToken=s3cr3t"})

    (refusal,) = adapt([json.dumps({"detail": broken}).encode()], ORG).refusals

    assert b"s3cr3t" not in refusal.raw
    assert b"user.session.start" in refusal.raw


def test_odd_parts_lose_no_event():
    odd = [
        {"actor": None},
        {"actor": "alice"},
        {"target": "user"},
        {"target": [None, 3, {"type": None}]},
        {"debugContext": {"debugData": ""}},
        {"outcome": []},
        {"client": {"id": {"a": 1}}},
        {"transaction": 17},
    ]
    kinds = ["user.session.start", GRANT, "app.oauth2.as.consent.grant"]
    records = [{**event(kind), **part} for kind in kinds for part in odd]

    adapted = adapt([json.dumps(record).encode() for record in records], ORG)

    rows = sorted(int(row) for batch in adapted.batches for row in batch.rows)
    assert (rows, adapted.refusals) == (list(range(len(records))), [])


@pytest.mark.parametrize(
    "other",
    [
        None,
        [],
        "user.session.start",
        {"eventType": "x"},
        {"eventName": "AssumeRole", "userIdentity": {}},
        {"detail": {"eventName": "x"}},
        {"data": {"events": []}},
    ],
)
def test_other_records_are_not_recognised(other):
    assert not recognises(other)


def test_a_person_s_session_is_a_credential_from_its_start_to_its_end():
    context = {"authenticationContext": {"externalSessionId": "idx1"}}
    start, end = (event(f"user.session.{word}", **context) for word in ("start", "end"))
    act = event("group.privilege.grant", **context)

    issued, ended = rows(start, end)
    calls = rows(start, end, act, family="tool_call")

    assert [
        (row["op"], row["credential_kind"], row["credential_id"]) for row in (issued, ended)
    ] == [
        ("issue", "local", "idx1"),
        ("revoke", "local", "idx1"),
    ]
    assert (issued["subject_id"], issued["grant_type"], issued["auth_time"]) == (
        "00uAlice",
        "interactive",
        issued["event_time"],
    )
    assert {(row["credential_issuer"], row["credential_id"]) for row in calls} == {
        ("okta:acme.okta.example", "idx1")
    }


def test_a_session_of_one_request_or_of_an_app_or_none_is_no_credential():
    def within(session, actor=ALICE, **more):
        return event("user.session.start", actor, authenticationContext=session, **more)

    failed = within({"externalSessionId": "idx1"}, outcome={"result": "FAILURE"})
    records = [
        within({"externalSessionId": "trs1"}),
        within({"externalSessionId": "unknown"}),
        within(None),
        failed,
    ]

    assert rows(*records) == []
    app = rows(within({"externalSessionId": "idx1"}, PORTAL), family="tool_call")
    found = rows(*records[:3], family="tool_call")
    assert [row["credential_id"] for row in [*found, *app]] == [None] * 4

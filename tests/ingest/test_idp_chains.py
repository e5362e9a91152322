"""The chains behind the three identity providers' samples, in one lake."""

from datetime import timedelta

import pytest

from pipeline.chains import build_chains
from pipeline.ingest.run import ingest_files
from pipeline.ingest.samples import sample_path
from pipeline.lake import open_lake
from pipeline.registry import load_registry
from tests.factories import NOW

LATER = NOW + timedelta(hours=6)
ALICE, PORTAL, AGENT = "00u1alice0example0001", "0oa1portal0example001", "wlp1triage0example001"
PLANNER = "planner@acme-agents.iam.gserviceaccount.com"
DEPLOYER = "deployer@acme-agents.iam.gserviceaccount.com"
CRAWLER = "crawler@acme-agents.iam.gserviceaccount.com"


@pytest.fixture(scope="module")
def con(tmp_path_factory):
    lake = open_lake(str(tmp_path_factory.mktemp("idp") / "lake"), create=True)
    for name in ("okta_system_log", "entra_signin", "gcp_audit"):
        report = ingest_files([sample_path(name)], adapter=name, sink=lake, now=LATER)
        assert report.rows["dead_letters"] == 0
    build_chains(lake, load_registry(None), LATER)
    return lake.connect()


def chain_of(con, credential):
    return con.execute(
        """
        SELECT chains.root_kind, chains.actor_path, chains.status, chains.gap_kind
        FROM chains JOIN credentials USING (credential_key) WHERE credentials.id = ?
        """,
        [credential],
    ).fetchone()


def calls_of(con, tool_name):
    return con.execute(
        "SELECT root_principal, actor_path, observations FROM calls WHERE tool_name = ?",
        [tool_name],
    ).fetchall()


def test_okta_s_cross_app_grant_leads_back_to_the_user_s_sign_in(con):
    assert chain_of(con, "AT.triage-1") == (
        "human_interactive",
        [ALICE, PORTAL, AGENT],
        "complete",
        None,
    )


def test_okta_s_plain_exchange_is_a_chain_with_its_parent_missing(con):
    assert chain_of(con, "AT.portal-exchange-1") == (
        "unknown",
        [PORTAL],
        "broken",
        "missing_parent_id",
    )


def test_no_hop_of_the_samples_widens_scope(con):
    found = con.execute("SELECT DISTINCT attenuation FROM hops ORDER BY 1").fetchall()

    assert [word for (word,) in found] == ["covered", "unknown"]


def test_a_graph_request_leads_back_to_the_sign_in_of_its_user(con):
    assert calls_of(con, "GET /v1.0/users/{id}/messages") == [
        (
            "a1a1a1a1-1111-4111-8111-111111111111",
            ["a1a1a1a1-1111-4111-8111-111111111111", "c3c3c3c3-3333-4333-8333-333333333333"],
            1,
        )
    ]


def test_an_agent_s_own_user_is_no_human_root(con):
    root_kind, path, status, _ = chain_of(con, "uti2AgentUser000000BB")

    assert (root_kind, status) == ("unknown", "unknown_root")
    assert path == ["b2b2b2b2-2222-4222-8222-222222222222", "d4d4d4d4-4444-4444-8444-444444444444"]


def test_an_app_that_signs_in_with_a_secret_is_rooted_in_it(con):
    root_kind, _, _, _ = chain_of(con, "uti4Sync00000000000DD")

    assert root_kind == "static_secret"


def test_google_s_second_impersonation_continues_the_first(con):
    assert chain_of(con, "1exampleentry02") == (
        "unknown",
        ["alice@acme.example", PLANNER, DEPLOYER],
        "broken",
        "source_not_onboarded",
    )
    assert con.execute(
        "SELECT method FROM hops WHERE delegator = ? AND delegate = ?", [PLANNER, DEPLOYER]
    ).fetchall() == [("P6",)]


def test_both_records_of_google_s_long_operation_are_one_call_of_the_impersonated_account(con):
    assert calls_of(con, "google.cloud.run.v2.Services.UpdateService") == [
        ("alice@acme.example", ["alice@acme.example", PLANNER, DEPLOYER], 2)
    ]


def test_a_google_key_is_the_root_of_what_is_done_and_made_with_it(con):
    assert calls_of(con, "google.cloud.bigquery.v2.JobService.InsertJob") == [
        (CRAWLER, [CRAWLER], 1)
    ]
    assert chain_of(con, "1exampleentry13")[:2] == ("static_secret", [CRAWLER, PLANNER])


def test_secrets_fold_from_making_to_end(con):
    found = con.execute("SELECT secret_id, store, status FROM secrets ORDER BY store, 1").fetchall()

    assert found == [
        ("00000258-0000-4000-8000-00000000e57a", "entra", "active"),
        ("12345678-aaaa-4bbb-8ccc-1234567890ab", "entra", "deleted"),
        ("1f0c2d3e4b5a69788796a5b4c3d2e1f001122334", "gcp.iam", "deleted"),
        ("projects/acme-agents/secrets/db-password", "gcp.secretmanager", "active"),
        ("00T1terraform0ex0001", "okta", "revoked"),
    ]


def test_what_a_person_does_in_okta_leads_back_to_the_start_of_the_session(con):
    assert calls_of(con, "application.user_membership.show_password") == [(ALICE, [ALICE], 1)]
    assert chain_of(con, "idx1session0example01") == (
        "human_interactive",
        [ALICE],
        "complete",
        None,
    )
    assert chain_of(con, "idx2session0example02")[2:] == ("broken", "missing_issue_event")

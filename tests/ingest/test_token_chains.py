"""Chains over a token server's log and a gateway's audit: the gateway names no token."""

from datetime import UTC, datetime

import pytest

from pipeline.chains import build_chains
from pipeline.ingest.run import ingest_files
from pipeline.ingest.samples import sample_path
from pipeline.lake import open_lake
from pipeline.registry import load_registry

NOW = datetime(2026, 4, 14, 12, 0, tzinfo=UTC)


@pytest.fixture(scope="module")
def con(tmp_path_factory):
    lake = open_lake(str(tmp_path_factory.mktemp("tokens") / "lake"), create=True)
    for name in ("toolhive", "jwt_claims"):
        ingest_files([sample_path(name)], adapter=name, sink=lake, now=NOW)
    build_chains(lake, load_registry(None), NOW)
    return lake.connect()


def test_each_exchange_is_one_hop_that_narrows(con):
    hops = con.sql(
        "SELECT delegator, delegate, method, attenuation FROM hops WHERE hop_kind = 'exchange'"
    ).fetchall()

    assert set(hops) == {
        ("orchid-web", "research-agent", "P2", "covered"),
        ("research-agent", "mail-agent", "P2", "covered"),
    }


def test_the_gateway_s_calls_hang_from_the_only_token_of_their_actor_and_subject(con):
    calls = con.sql(
        """
        SELECT DISTINCT agent_id, link_method, status, root_principal, actor_path
        FROM calls WHERE credential_key IS NOT NULL
        """
    ).fetchall()

    person = ["usr-7f21", "orchid-web", "research-agent"]
    assert {(*row[:4], tuple(row[4])) for row in calls} == {
        ("research-agent", "T6", "complete_probable", "usr-7f21", tuple(person)),
        ("mail-agent", "T6", "complete_probable", "usr-7f21", (*person, "mail-agent")),
    }


def test_calls_of_nobody_or_of_actors_without_a_token_hang_from_none(con):
    agents = con.sql("SELECT DISTINCT agent_id FROM calls WHERE credential_key IS NULL").fetchall()

    assert {agent for (agent,) in agents} == {"anonymous", "desk-client", "relay-agent", "unknown"}


def test_a_step_s_beginning_and_end_are_one_call_that_ended(con):
    steps = con.sql("SELECT outcome FROM calls WHERE tool_name = 'fetch'").fetchall()

    assert steps == [("success",)]


def test_a_delegation_that_was_asserted_and_not_read_is_a_gap_with_its_name(con):
    gaps = con.sql(
        """
        SELECT id, status, gap_kind FROM chains JOIN credentials USING (credential_key)
        WHERE id IN ('at-odd-1', 'kc-at-3', 'ntrtte:kc-at-2')
        """
    ).fetchall()

    assert set(gaps) == {
        ("at-odd-1", "broken", "malformed_act"),
        # Keycloak names the old refresh token, whose issue is not in the log, ...
        ("kc-at-3", "broken", "missing_issue_event"),
        # ... and of a token exchange never the token that was exchanged.
        ("ntrtte:kc-at-2", "broken", "missing_parent_id"),
    }

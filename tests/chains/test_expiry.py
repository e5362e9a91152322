"""How long a chain lives: what bounds its end and what starts a life of its own."""

from __future__ import annotations

from datetime import timedelta

import pytest

from pipeline.chains import build_chains
from pipeline.registry import load_registry
from tests.factories import NOW, token_event, write_events

ISSUER = "https://idp.test"
START = NOW - timedelta(hours=5)


def minutes(count):
    return (START + timedelta(minutes=count)).isoformat()


@pytest.mark.parametrize(
    ("op", "role", "over", "lives"),
    [
        ("exchange", "subject", {}, 10),
        ("exchange", "subject", {"token_type": "urn:ietf:params:oauth:token-type:txn_token"}, 60),
        ("refresh", "refresh", {}, 60),
        ("assume", "source", {}, 60),
        ("issue", "assertion", {}, 60),
    ],
)
def test_the_end_of_a_chain_is_bounded_by_what_it_was_derived_from(lake, op, role, over, lives):
    parent = {"role": role, "issuer": ISSUER, "kind": "jti", "id": "root"}
    root = token_event(credential_id="root", event_time=minutes(0), expires_at=minutes(10))
    child = token_event(
        op=op,
        credential_id="child",
        event_time=minutes(1),
        expires_at=minutes(60),
        parents=[parent],
        **over,
    )
    write_events(lake, [root, child])

    build_chains(lake, load_registry(None), NOW)

    query = (
        "SELECT effective_expires_at FROM chains JOIN credentials USING (credential_key)"
        " WHERE id = 'child'"
    )
    with lake.connect() as con:
        assert con.execute(query).fetchall() == [(START + timedelta(minutes=lives),)]


def test_the_first_build_with_events_after_an_empty_one_is_not_blamed_on_the_registry(lake):
    build_chains(lake, load_registry(None), NOW)
    write_events(lake, [token_event()])

    report = build_chains(lake, load_registry(None), NOW)

    assert report.reason == "most events are new"

"""What must hold of the chains for any events: order, repeats, batches and strangers."""

from __future__ import annotations

import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.chains import build_chains, scope
from pipeline.lake import open_lake
from pipeline.registry import load_registry
from tests.chains.stories import Dice
from tests.chains.worlds import DERIVED, World, built
from tests.factories import NOW, contract_table, token_event, tool_call, write_events

pytestmark = pytest.mark.slow

few = settings(
    max_examples=4,
    deadline=None,
    # A build is some hundred statements; the clock says nothing about the strategy.
    suppress_health_check=list(HealthCheck),
)
seeds = st.integers(0, 2**32 - 1)


@pytest.fixture(autouse=True)
def _always_in_part(monkeypatch):
    # Small histories would always be built whole.
    monkeypatch.setattr(scope, "_FULL_ABOVE", 100)


def _batches(events, dice, about):
    """Cut a shuffled copy into batches of random sizes."""
    rest = dice.sample(events, len(events))
    while rest:
        size = dice.randrange(1, 2 * about)
        yield rest[:size]
        rest = rest[size:]


@given(seeds)
@few
def test_order_and_repeats_of_events_change_nothing(seed):
    events, dice = Dice(seed, 25).events(40), random.Random(seed)
    again = events + dice.sample(events, 15)

    shuffled = built(dice.sample(again, len(again)))

    assert shuffled.rows() == built(events).rows()


@given(seeds)
@few
def test_builds_in_batches_give_what_one_build_gives(seed):
    events, dice = Dice(seed, 40).events(50), random.Random(seed)
    world = World()

    for batch in _batches(events, dice, 15):
        world.feed(batch)

    assert world.rows() == built(events).rows()


@pytest.mark.parametrize(("seed", "ids"), [(1, 60), (2, 250), (3, 1000)])
def test_a_longer_history_in_batches_gives_what_one_build_gives(seed, ids):
    events, dice = Dice(seed, ids).events(300), random.Random(seed)
    world = World()

    reasons = [world.feed(batch) for batch in _batches(events, dice, 45)]

    assert set(reasons) == {"first build", "new events"}
    assert world.rows() == built(events).rows()


def test_a_lake_built_in_batches_holds_what_one_built_at_once_holds(tmp_path):
    events, dice = Dice(11, 80).events(80), random.Random(11)
    parts = open_lake(str(tmp_path / "parts"), create=True)
    whole = open_lake(str(tmp_path / "whole"), create=True)
    registry = load_registry(None)

    for batch in _batches(events, dice, 25):
        write_events(parts, batch)
        build_chains(parts, registry, NOW)
    write_events(whole, events)
    build_chains(whole, registry, NOW)

    shown = [
        {name: sorted(con.execute(f"FROM {name}").fetchall(), key=repr) for name in DERIVED}
        for con in (parts.connect(), whole.connect())
    ]
    assert shown[0] == shown[1]


@given(seeds)
@few
def test_a_new_tenant_changes_no_row_of_another(seed):
    mine, theirs = Dice(seed, 20).events(30), Dice(seed, 20, "other").events(30)
    world = built(mine)
    before = world.rows()

    world.feed(theirs)

    assert world.rows(tenant="default") == before
    assert built([*mine, *theirs]).rows(tenant="default") == before


@given(seeds)
@few
def test_strangers_of_the_same_tenant_change_no_row(seed):
    mine = Dice(seed, 20).events(30)
    world = built(mine)
    before = world.rows()
    stranger = {"credential_issuer": "https://elsewhere.test", "source": "test://elsewhere"}

    world.feed(
        [
            token_event(**stranger, credential_id="x0", subject_id="zoe", client_id="zoe-app"),
            tool_call(**stranger, credential_kind="jti", credential_id="x0", agent_id="zoe-app"),
        ]
    )

    after = world.rows()
    assert all(set(before[name]) <= set(after[name]) for name in DERIVED)
    assert len(after["credentials"]) == len(before["credentials"]) + 1


def test_hostile_ids_and_very_long_chains_are_data_like_any_other():
    odd = ["a\x1fb", "it's", 'say "hi"', "", " ", "\N{RIGHT-TO-LEFT OVERRIDE}x", "名前", "x" * 5000]
    events = [
        token_event(credential_id=name, credential_issuer=issuer, subject_id=name, client_id=name)
        for name in odd
        for issuer in ("", None, "https://idp.test", "1:x")
    ]
    events += [
        token_event(
            op="exchange",
            credential_id=f"c{n}",
            client_id=f"agent-{n}",
            parents=[_parent(f"c{n - 1}")] if n else [],
            act_chain=[{"issuer": None, "subject": f"nested-{i}"} for i in range(200)]
            if n == 0
            else [],
        )
        for n in range(200)
    ]
    events.append(token_event(op="deny", credential_id=None, credential_kind=None))
    events.append(token_event(act_chain=[{"issuer": None, "subject": None}]))
    events.append(tool_call(call_id="", credential_kind="jti", credential_id=""))

    world = built(events)

    chains = {row["credential_key"]: row for row in world.table("chains")}
    last = next(row for row in world.table("credentials") if row["id"] == "c199")
    assert chains[last["credential_key"]]["links"] == 199
    assert chains[last["credential_key"]]["depth"] == 399
    # An empty issuer names none; every other pair of issuer and id is a credential of its own.
    assert len({row["credential_key"] for row in world.table("credentials")}) >= 3 * len(odd)


def _parent(name):
    return {"role": "subject", "issuer": "https://idp.test", "kind": "jti", "id": name}


@pytest.mark.parametrize("family", ["tool_call", "token_event"])
def test_an_event_with_nothing_but_what_is_required_builds(family):
    row = tool_call() if family == "tool_call" else token_event()
    table = contract_table(family, [row])

    world = built([row])

    assert table.num_rows == 1
    assert len(world.table("call_links")) == (family == "tool_call")
    assert len(world.table("chains")) == (family == "token_event")

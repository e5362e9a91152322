import numpy as np
import pyarrow as pa
import pytest

from pipeline.demo.company import AGENTS, PEOPLE
from pipeline.demo.generate import LEAST_EVENTS, Stream, generate
from pipeline.demo.policy import REGISTRY
from pipeline.errors import ConfigError
from pipeline.events.schema import contract_schema
from pipeline.registry import load_registry
from tests.factories import NOW


def tables(stream):
    found = {}
    for arrived in generate(stream):
        for arrivals in arrived:
            found.setdefault(arrivals.family, []).append(arrivals.batch)
    return {family: pa.Table.from_batches(batches) for family, batches in found.items()}


@pytest.fixture(scope="module")
def events():
    return tables(Stream(20_000, 3, NOW))


def credentials(events):
    tokens = events["token_event"]
    issued = tokens.filter(pa.compute.is_in(tokens["op"], pa.array(["issue", "exchange"])))
    return {row["credential_id"]: row for row in issued.to_pylist()}


def is_planted(row):
    return row["event_id"].startswith(("story-", "twin-"))


def test_the_same_seed_gives_the_same_events():
    assert tables(Stream(2_000, 3, NOW)) == tables(Stream(2_000, 3, NOW))


def test_another_seed_gives_other_events_and_the_same_stories():
    one, other = (tables(Stream(2_000, seed, NOW)) for seed in (3, 4))

    assert one["tool_call"] != other["tool_call"]
    assert {i for i in ids(one) if i.startswith("story-")} == {
        i for i in ids(other) if i.startswith("story-")
    }


def ids(events):
    return [i for table in events.values() for i in table["event_id"].to_pylist()]


@pytest.mark.parametrize("count", [LEAST_EVENTS, 1_000, 17_001, 40_000])
def test_a_stream_has_exactly_as_many_events_as_asked_for(count):
    assert sum(table.num_rows for table in tables(Stream(count, 1, NOW)).values()) == count


def test_too_few_events_for_the_stories_are_refused():
    with pytest.raises(ConfigError, match="600"):
        Stream(100, 1, NOW)


def test_batches_are_in_contract_shape(events):
    for family, table in events.items():
        assert table.schema.equals(contract_schema(family))
        for batch in table.to_batches():
            batch.validate(full=True)


def test_all_events_end_before_now_and_some_come_twice(events):
    latest = max(pa.compute.max(table["event_time"]).as_py() for table in events.values())
    calls = events["tool_call"]["event_id"].to_pylist()

    assert latest < NOW
    assert 0 < len(calls) - len(set(calls)) < 200


def test_ordinary_tokens_narrow_live_short_and_keep_their_person(events):
    held = credentials(events)
    exchanged = [t for t in held.values() if t["op"] == "exchange" and not is_planted(t)]

    assert len(exchanged) > 1_000
    for token in exchanged:
        parent = held[next(p["id"] for p in token["parents"] if p["role"] == "subject")]
        assert set(token["scopes"]) <= set(parent["scopes"])
        assert set(token["audience"]) <= set(parent["audience"])
        assert token["issued_at"] < token["expires_at"] <= parent["expires_at"]
        assert (token["expires_at"] - token["issued_at"]).total_seconds() <= 900
        assert token["subject_id"] == parent["subject_id"]
        assert token["client_id"] in [None, token["actor_id"]]
        assert token["act_chain"][0]["subject"] == token["actor_id"]


def test_ordinary_calls_are_made_by_the_token_s_actor_within_its_life_and_scopes(events):
    held = credentials(events)
    calls = [c for c in events["tool_call"].to_pylist() if not is_planted(c)]
    linked = [c for c in calls if c["credential_id"] in held]

    assert len(linked) > 0.8 * len(calls)
    for call in linked:
        token = held[call["credential_id"]]
        assert call["agent_id"] == token["client_id"]
        assert call["subject_id"] == token["subject_id"]
        assert token["issued_at"] <= call["event_time"] < token["expires_at"]
        allowed = set(call["required_scopes"]) <= set(token["scopes"])
        assert allowed or call["outcome"] == "denied"


def test_exchanges_are_two_to_four_deep(events):
    depths = {}
    for token in credentials(events).values():
        if token["op"] == "exchange":
            parent = next(p["id"] for p in token["parents"] if p["role"] == "subject")
            depths[token["credential_id"]] = depths.get(parent, 0) + 1

    assert set(np.unique(list(depths.values()))) >= {1, 2, 3, 4}


def test_a_single_use_id_is_used_once_but_in_the_replay(events):
    seen = {}
    for call in events["tool_call"].to_pylist():
        if call["single_use_id"]:
            seen.setdefault(call["single_use_id"], set()).add(call["event_id"])

    assert {i: len(found) for i, found in seen.items() if len(found) > 1} == {"dpop-story-5": 2}


def test_the_demo_s_registry_knows_every_agent_and_person(events):
    registry = load_registry(REGISTRY).tables()
    agents = set(registry["reg_identities"]["identity_id"].to_pylist())
    acting = set(events["tool_call"]["agent_id"].to_pylist())

    assert set(AGENTS) <= agents
    assert acting <= agents
    assert set(PEOPLE) == set(registry["reg_people"]["principal"].to_pylist())


def test_every_story_has_a_twin_and_events_of_its_own():
    planted = Stream(5_000, 1, NOW).truth()

    assert [(p.number, p.twin) for p in planted] == [
        (number, twin) for number in range(1, 6) for twin in (False, True)
    ]
    assert all(bool(p.rules) is not p.twin for p in planted)
    assert len(frozenset().union(*(p.event_ids for p in planted))) == sum(
        len(p.event_ids) for p in planted
    )

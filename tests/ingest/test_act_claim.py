"""The `act` and `may_act` claims of RFC 8693, flattened."""

import pytest

from pipeline.events.limits import MAX_ACTORS
from pipeline.ingest.act_claim import read_act, read_may_act


def nested(*subjects):
    claim = None
    for subject in reversed(subjects):
        claim = {"sub": subject} | ({"act": claim} if claim else {})
    return claim


def names(claim):
    return [actor["subject"] for actor in claim.actors]


def test_no_claim_asserts_nothing():
    assert read_act(None) == ([], False, 0, None)


def test_the_outermost_actor_comes_first_each_with_its_own_issuer():
    claim = {"sub": "b", "iss": "i2", "email": "x", "act": {"sub": "a", "act": None}}

    found = read_act(claim)

    assert found.actors == [{"issuer": "i2", "subject": "b"}, {"issuer": None, "subject": "a"}]
    assert (found.is_asserted, found.malformed_reason) == (True, None)


@pytest.mark.parametrize(
    ("claim", "kept", "reason"),
    [
        ("text", [], "act_not_object"),
        ([], [], "act_not_object"),
        (0, [], "act_not_object"),
        ({"sub": "b", "act": "a"}, ["b"], "nested_act_not_object"),
        ({"sub": "b", "iss": 7, "act": {"sub": "a"}}, ["b", "a"], "iss_not_string"),
        ({"sub": "b", "act": {"sub": 7, "act": {"sub": "a"}}}, ["b"], "sub_not_string"),
        ({"sub": 7, "act": "a"}, [], "sub_not_string"),
        ({}, [], "sub_missing"),
        ({"sub": ""}, [], "sub_missing"),
        ({"act": {"sub": "a"}}, [], "sub_missing"),
    ],
)
def test_the_first_violation_is_the_reason_and_nobody_moves_up(claim, kept, reason):
    found = read_act(claim)

    assert (names(found), found.malformed_reason) == (kept, reason)
    assert found.is_asserted


def test_actors_beyond_the_limit_are_counted_and_the_current_one_is_kept():
    found = read_act(nested(*(f"a{i}" for i in range(MAX_ACTORS + 3))))

    assert len(found.actors) == MAX_ACTORS
    assert names(found)[0] == "a0"
    assert found.omitted == 3
    assert found.malformed_reason is None


def test_a_malformed_end_beyond_the_limit_is_still_told():
    claim = {"sub": "x", "act": 3}
    for _ in range(MAX_ACTORS):
        claim = {"sub": "y", "act": claim}

    found = read_act(claim)

    assert (found.omitted, found.malformed_reason) == (1, "nested_act_not_object")


@pytest.mark.parametrize(
    ("claim", "named", "is_whole"),
    [
        (None, None, True),
        ({}, [], True),
        ([], [], True),
        ({"sub": "a"}, [{"issuer": None, "subject": "a"}], True),
        ([{"sub": "a", "iss": "i"}], [{"issuer": "i", "subject": "a"}], True),
        ([{"sub": "a"}, {"sub": 3}], [{"issuer": None, "subject": "a"}], False),
        ("a", None, False),
        ({"email": "a"}, None, False),
    ],
)
def test_only_an_empty_may_act_restricts_to_nobody(claim, named, is_whole):
    assert read_may_act(claim) == (named, is_whole)

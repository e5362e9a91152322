"""Hash chains: what is said of a record whose neighbours are here, gone or changed."""

import hashlib

import pytest
import rfc8785

from pipeline.ingest.record_chain import FOLLOWS_BREAK, Entry, canonical, hash_of, judge


def ledger(length, name="one"):
    """Return records that name each other by hashes that are plain words."""
    return [
        Entry(
            ledger=name,
            hashes=(f"{name}-{at}",),
            previous=f"{name}-{at - 1}" if at else None,
            name=f"{name} {at}",
            parent=f"{name} {at - 1}" if at else None,
        )
        for at in range(length)
    ]


def changed(entry):
    """Return a record as it looks after a change: it hashes to something else."""
    return Entry(entry.ledger, ("other",), entry.previous, entry.name, entry.parent)


def said(entries):
    return [verdict.verdict for verdict in judge(entries)]


def test_a_whole_ledger_begins_and_is_verified():
    assert said(ledger(4)) == ["genesis", "verified", "verified", "verified"]


def test_no_records_get_no_verdicts():
    assert judge([]) == []


def test_a_batch_that_begins_in_the_middle_is_unverifiable_at_its_first_record_only():
    assert said(ledger(5)[2:]) == ["unverifiable", "verified", "verified"]


def test_a_changed_record_and_everything_behind_it_is_broken():
    entries = ledger(5)
    entries[2] = changed(entries[2])

    assert said(entries) == ["genesis", "verified", "broken", "broken", "broken"]
    assert [verdict.reason for verdict in judge(entries)][2:] == [
        "the record after it names another hash for it",
        "the record before it is not the one whose hash it names",
        FOLLOWS_BREAK,
    ]


def test_a_changed_last_record_shows_in_nothing():
    entries = ledger(3)
    entries[2] = changed(entries[2])

    assert said(entries) == ["genesis", "verified", "verified"]


def test_a_removed_record_breaks_what_is_behind_it():
    entries = ledger(5)
    del entries[2]

    assert said(entries) == ["genesis", "verified", "broken", "broken"]
    assert judge(entries)[2].reason == "a record before it is missing"


def test_a_record_removed_from_a_ledger_that_began_elsewhere_is_missing_too():
    entries = ledger(7)[2:]
    del entries[2]

    assert said(entries) == ["unverifiable", "verified", "broken", "broken"]


def test_ledgers_may_be_mixed_as_a_topic_mixes_them():
    one, two = ledger(3, "one"), ledger(3, "two")
    mixed = [record for pair in zip(one, two, strict=True) for record in pair]

    assert said(mixed) == ["genesis", "genesis", *["verified"] * 4]


def test_a_break_in_one_ledger_says_nothing_of_another():
    one, two = ledger(3, "one"), ledger(3, "two")
    one[1] = changed(one[1])

    assert said([*one, *two])[3:] == ["genesis", "verified", "verified"]


@pytest.mark.parametrize("first", [0, 2])
def test_the_order_in_which_records_come_does_not_matter(first):
    entries = ledger(5)[first:]

    assert sorted(said(entries[::-1])) == sorted(said(entries))


def test_the_same_record_twice_breaks_nothing():
    entries = ledger(3)

    assert said([*entries, *entries]) == ["genesis", "verified", "verified"] * 2


def test_a_ledger_that_begins_twice_is_broken_where_it_does_so():
    again = Entry("one", ("new",), None, "one 0", None)

    assert said([*ledger(2), again]) == ["genesis", "verified", "broken"]


def test_a_first_record_that_names_one_before_it_is_broken():
    assert said([Entry("one", ("a",), None, "one 1", "one 0")]) == ["broken"]


def test_a_record_that_names_one_by_hash_and_another_by_name_is_broken():
    entries = ledger(2)
    entries.append(Entry("one", ("c",), "one-1", "one 2", "one 0"))

    assert said(entries) == ["genesis", "verified", "broken"]


def test_a_record_with_a_fault_of_its_own_is_broken():
    entries = ledger(3)
    entries[1] = Entry("one", ("one-1",), "one-0", "one 1", "one 0", fault="it is forged")

    assert judge(entries)[1] == ("broken", "it is forged")
    assert judge(entries)[2] == ("broken", FOLLOWS_BREAK)


def test_what_follows_a_record_without_a_canonical_form_cannot_be_verified():
    entries = ledger(3)
    entries[1] = Entry("one", (), "one-0", "one 1", "one 0")

    assert said(entries) == ["genesis", "verified", "unverifiable"]


def test_what_follows_an_erased_record_is_not_verified():
    entries = ledger(3)
    entries[1] = Entry("one", ("tombstone",), "one-0", "one 1", "one 0", erased="one-1")

    assert said(entries) == ["genesis", "verified", "unverifiable"]


def test_a_ledger_may_go_on_from_another_one():
    one = ledger(3)
    two = Entry("two", ("two-0",), "one-2", "two 0", "one 2")
    back = Entry("one", ("one-3",), "two-0", "one 3", "two 0")

    assert said([*one, two, back]) == ["genesis", *["verified"] * 4]


def test_a_record_of_no_ledger_is_unverifiable():
    assert said([Entry(None, ("a",), None, "1", None)]) == ["unverifiable"]


def test_forged_records_that_name_each_other_in_a_ring_come_to_an_end():
    ring = [Entry("one", (f"h{at}",), f"h{(at + 1) % 3}", str(at), None) for at in range(3)]

    assert said(ring) == ["broken"] * 3


def test_a_long_ledger_is_walked_without_recursion():
    assert said(ledger(5_000)[::-1])[0] == "verified"


@pytest.mark.parametrize(
    "value",
    [
        {"b": 1, "a": "ü", "c": [True, None, -5]},
        {"half": 0.5, "whole": 3.0, "huge": 1e21, "tiny": 1e-7, "nothing": -0.0},
        {"\U0001f600": 1, "\ufb33": 2},
        {"a": '\x7f\u2028\x1b"\\/'},
        {"a": 2**53 - 1},
        {"a": '":12.5', "b": ["[1.5", ",7e3"]},
        [],
        "",
    ],
)
def test_the_canonical_form_is_that_of_rfc_8785(value):
    assert canonical(value) == rfc8785.dumps(value)


@pytest.mark.parametrize("value", [2**53, -(2**80), [1, {"a": 2**60}], "\ud800", {"\udfff": 1}])
def test_what_has_no_canonical_form_has_no_hash(value):
    assert canonical(value) is None
    assert hash_of({"a": value}) is None


def test_a_hash_may_begin_with_the_one_before_it():
    assert hash_of({"a": 1}, b"seed") == hashlib.sha256(b'seed{"a":1}').hexdigest()

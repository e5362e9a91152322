"""Records whose names are spelt in other letter cases than their source's shape."""

from pipeline.ingest.json_text import speller
from pipeline.ingest.sql_source import without


def test_names_are_taken_in_the_shape_s_spelling_at_every_depth():
    respelt = speller({"callerIp": "VARCHAR", "who": {"Id": "VARCHAR"}, "list": [{"a": "VARCHAR"}]})

    found = respelt({"CALLERIP": "x", "Who": {"ID": 1, "other": 2}, "list": [{"A": 1}, None, 3]})

    assert found == {"callerIp": "x", "who": {"Id": 1}, "list": [{"a": 1}, None, 3]}


def test_the_exact_name_comes_before_others_in_any_order():
    respelt = speller({"callerIp": "VARCHAR"})

    assert respelt({"callerIP": "other", "callerIp": "own"}) == {"callerIp": "own"}
    assert respelt({"callerIp": "own", "callerIP": "other"}) == {"callerIp": "own"}


def test_a_value_of_another_type_stays_as_it_is():
    respelt = speller(
        {"who": {"id": "VARCHAR"}, "list": ["VARCHAR"], "map": "MAP(VARCHAR, VARCHAR)"}
    )

    odd = {"who": "x", "list": "x", "map": {"Key": "v"}}

    assert respelt(odd) == odd
    assert respelt(None) is None
    assert respelt({"who": None}) == {"who": None}


def test_what_is_hidden_is_hidden_in_every_spelling():
    record = {"Payload": {"REQUEST": "s3cr3t", "kept": 1}, "payload": {"request": "s3cr3t"}, "b": 2}

    assert without(record, [("payload", "request")]) == {
        "Payload": {"kept": 1},
        "payload": {},
        "b": 2,
    }
    assert record["payload"] == {"request": "s3cr3t"}

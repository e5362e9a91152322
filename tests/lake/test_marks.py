"""Copies are hidden and placeholder ids flagged, whenever they arrive."""

from datetime import timedelta

import pytest

from pipeline.ingest.batch import TopicPartition
from tests.factories import NOW, TOPICS, contract_table, token_event, tool_call, write_events


def shown(lake, columns="event_id"):
    with lake.connect(comments=False) as con:
        return con.execute(f"SELECT {columns} FROM tool_calls ORDER BY ALL").fetchall()


@pytest.mark.parametrize("examine", [False, True], ids=["at once", "examined between"])
def test_copy_is_shown_once_however_late(lake, examine):
    event = tool_call(event_id="twin")
    for _ in range(3):
        write_events(lake, [event, tool_call()])
        if examine:
            lake.mark_events()

    assert [row for row in shown(lake) if row == ("twin",)] == [("twin",)]
    assert len(shown(lake)) == 4


def test_copy_that_was_ingested_first_is_the_one_that_stays(lake):
    event = tool_call()
    write_events(lake, [event])
    lake.mark_events()
    early = contract_table(
        "tool_call", [event | {"ingest_time": NOW - timedelta(days=1)}], first_offset=7
    )
    lake.append("tool_calls", early, {TopicPartition(TOPICS["tool_call"], 0): 7})

    lake.mark_events()

    assert shown(lake, "kafka_offset") == [(7,)]


def test_other_events_under_one_id_are_kept_and_flagged_on_any_day(lake):
    write_events(lake, [tool_call(event_id="same", tool_name="a"), tool_call(event_id="own")])
    lake.mark_events()
    write_events(
        lake, [tool_call(event_id="same", tool_name="b", event_time="2026-01-01T00:00:00Z")]
    )
    lake.mark_events()

    assert shown(lake, "event_id, tool_name, id_conflict") == [
        ("own", "crm.search", False),
        ("same", "a", True),
        ("same", "b", True),
    ]


def test_one_id_in_two_tenants_or_sources_is_no_conflict(lake):
    write_events(
        lake,
        [
            tool_call(event_id="same"),
            tool_call(event_id="same", tenant_id="other"),
            tool_call(event_id="same", source="test://else"),
        ],
    )

    assert shown(lake, "DISTINCT id_conflict") == [(False,)]


def test_nothing_new_marks_nothing(lake):
    event = tool_call()
    write_events(lake, [event, event])

    assert lake.mark_events() == 1
    assert lake.mark_events() == 0


def test_compaction_brings_no_copy_back(lake):
    event = tool_call()
    for _ in range(5):
        write_events(lake, [event])
    lake.mark_events()

    lake.compact()

    assert len(shown(lake)) == 1
    assert lake.mark_events() == 0


def test_families_do_not_mark_each_other(lake):
    write_events(lake, [tool_call(event_id="x", source="s"), token_event(event_id="x", source="s")])

    assert lake.mark_events() == 0

"""Compaction, retention, vacuum and the check of what is stored."""

from datetime import date
from pathlib import Path

import pyarrow as pa
import pytest

from pipeline.errors import LakeError
from pipeline.ingest.batch import TopicPartition
from pipeline.lake import Change
from pipeline.lake.delta import DeltaFolder
from pipeline.lake.lock import acquire
from pipeline.lake.tables import tables
from tests.factories import NOW, TOPICS, contract_table, tool_call, write_events

OLD = "2026-01-01T00:00:00Z"


def shown(lake, query="SELECT count(*) FROM tool_calls"):
    with lake.connect(comments=False) as con:
        return con.execute(query).fetchall()


def fill(lake, batches=5):
    for _ in range(batches):
        write_events(lake, [tool_call(), tool_call(event_time=OLD)])


def data_files(lake, table="tool_calls"):
    return sorted(Path(lake.uri, table).rglob("*.parquet"))


def test_compaction_keeps_rows_and_leaves_one_file_a_day(lake):
    fill(lake)

    (done,) = lake.compact()

    assert (done.table, done.files_before, done.files_after) == ("tool_calls", 10, 2)
    assert shown(lake) == [(10,)]
    assert lake.compact() == []


def test_a_second_compaction_at_once_is_refused_and_keeps_each_row_once(lake):
    """Two that began on one version would both commit, each with all the rows."""
    row = {"attempt_id": "a", "attempt": 1}
    for _ in range(4):
        lake.append_rows(
            "deliveries", pa.Table.from_pylist([row], schema=tables()["deliveries"].schema)
        )
    first = acquire(lake.uri, "compact")

    with pytest.raises(LakeError, match="compact is held by"):
        lake.compact()

    first.release()
    lake.compact()
    assert shown(lake, "SELECT count(*) FROM deliveries") == [(4,)]


def test_expiry_goes_on_where_a_compaction_was_faster(lake, monkeypatch):
    fill(lake)
    delete_rows = DeltaFolder.delete_rows
    left = [lake.compact]

    def after_a_compaction(folder, predicate):
        while left:
            left.pop()()
        return delete_rows(folder, predicate)

    monkeypatch.setattr(DeltaFolder, "delete_rows", after_a_compaction)

    lake.expire(date(2026, 6, 1))

    assert shown(lake) == [(5,)]


def test_ingest_goes_on_through_a_compaction_with_its_open_handle(lake):
    fill(lake)
    lake.compact()

    fill(lake, 1)

    assert shown(lake) == [(12,)]


def test_compacted_published_table_is_published_anew(lake):
    schema = tables()["call_links"].schema
    for step in range(5):
        row = {"event_uid": str(step), "event_date": NOW.date()}
        rows = schema.empty_table().from_pylist([row], schema=schema)
        with lake.connect_build() as build:
            build.publish({"call_links": Change(rows, rows.select([]).slice(0, 0))}, NOW)

    assert [done.table for done in lake.compact()] == ["publications", "call_links"]

    assert shown(lake, "SELECT count(*) FROM call_links") == [(5,)]
    with lake.connect_build() as build:
        assert build.con.execute("SELECT count(*) FROM prev_call_links").fetchone() == (5,)


def test_expired_days_are_gone_and_are_not_read_again(lake):
    fill(lake)

    assert lake.expire(date(2026, 6, 1)) == 5

    assert shown(lake, "SELECT DISTINCT event_date FROM tool_calls") == [(NOW.date(),)]
    place = TopicPartition(TOPICS["tool_call"], 0)
    assert lake.append("tool_calls", contract_table("tool_call", [tool_call()]), {place: 0}) == 0


def test_raw_tables_take_no_delete_after_an_expiry(lake):
    fill(lake)
    lake.expire(date(2026, 6, 1))

    settings = lake.folders()["tool_calls"].handle().metadata().configuration
    assert settings["delta.appendOnly"] == "true"


def test_vacuum_keeps_what_readers_of_the_last_day_may_need(lake):
    fill(lake)
    lake.compact()
    before = data_files(lake)

    assert lake.vacuum() == 0
    assert data_files(lake) == before


def test_sound_lake_has_no_problems(lake):
    fill(lake)

    found = lake.verify()

    assert found.problems == []
    assert [(held.records, held.gaps) for held in found.held] == [(10, 0)]


def test_gap_in_the_offsets_is_counted(lake):
    place = TopicPartition(TOPICS["tool_call"], 0)
    rows = contract_table("tool_call", [tool_call(kafka_offset=offset) for offset in (3, 4, 9)])
    lake.append("tool_calls", rows, {place: 9})

    assert [held.gaps for held in lake.verify().held] == [4]


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda file: file.unlink(), "missing"),
        (lambda file: file.write_bytes(file.read_bytes()[:-10]), "bytes on disk"),
        (lambda file: file.write_bytes(bytes(file.stat().st_size)), "not a readable Parquet"),
    ],
    ids=["missing", "cut short", "zeroed"],
)
def test_damaged_file_is_found(lake, damage, said):
    fill(lake)
    damage(data_files(lake)[0])

    (problem,) = lake.verify().problems

    assert said in problem


def test_row_that_went_round_the_check_is_found(lake):
    fill(lake)
    lake.folders()["tool_calls"].append(contract_table("tool_call", [tool_call(kafka_offset=99)]))

    assert ["beyond" in p or "up to offset 99" in p for p in lake.verify().problems] == [True]


def test_doubled_row_is_found(lake):
    row = contract_table("tool_call", [tool_call()])
    place = TopicPartition(TOPICS["tool_call"], 0)
    lake.append("tool_calls", row, {place: 0})
    lake.folders()["tool_calls"].append(row)

    (problem,) = lake.verify().problems

    assert "stored more than once" in problem

"""Each offset once: replays, overlaps, second writers, crashes."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.errors import FencedError, LakeError
from pipeline.ingest.batch import TopicPartition
from pipeline.lake import open_lake
from tests.factories import TOPICS, contract_table, tool_call

PLACE = TopicPartition(TOPICS["tool_call"], 0)


def batch(first, last, place=PLACE):
    rows = [
        tool_call(
            event_id=f"{place.partition}-{offset}",
            kafka_offset=offset,
            kafka_partition=place.partition,
        )
        for offset in range(first, last + 1)
    ]
    return contract_table("tool_call", rows)


def stored_offsets(lake):
    con = lake.connect(comments=False)
    found = con.execute(
        "SELECT kafka_partition, kafka_offset FROM internal.tool_calls ORDER BY ALL"
    ).fetchall()
    con.close()
    return found


def put(lake, first, last):
    return lake.append("tool_calls", batch(first, last), {PLACE: last})


def test_batch_again_writes_nothing(lake):
    assert put(lake, 0, 9) == 10

    assert put(lake, 0, 9) == 0

    assert len(stored_offsets(lake)) == 10


def test_overlapping_batch_writes_only_the_rest(lake):
    put(lake, 0, 9)

    assert put(lake, 5, 14) == 5

    assert stored_offsets(lake) == [(0, offset) for offset in range(15)]


def test_offset_moves_without_rows(lake):
    put(lake, 0, 9)

    lake.append("tool_calls", batch(0, -1), {PLACE: 20})

    assert lake.offsets("tool_calls", [PLACE]) == {PLACE: 20}
    assert put(lake, 15, 20) == 0


def test_partition_never_seen_stands_before_its_first_offset(lake):
    assert lake.offsets("tool_calls", [PLACE]) == {PLACE: -1}


def test_tables_keep_their_own_offsets(lake):
    put(lake, 0, 9)

    assert lake.offsets("dead_letters", [PLACE]) == {PLACE: -1}


def test_row_beyond_its_batch_is_refused(lake):
    with pytest.raises(LakeError, match="offset 9, beyond"):
        lake.append("tool_calls", batch(0, 9), {PLACE: 5})

    assert stored_offsets(lake) == []


def test_writer_that_lost_its_partition_is_refused_by_the_table(lake):
    lake.offsets("tool_calls", [PLACE])
    other = open_lake(lake.uri)
    other.offsets("tool_calls", [PLACE])
    put(other, 0, 9)

    with pytest.raises(FencedError, match="another writer"):
        put(lake, 0, 4)

    assert stored_offsets(lake) == [(0, offset) for offset in range(10)]


def test_writer_with_a_stale_handle_is_refused_even_for_new_offsets(lake):
    put(lake, 0, 4)
    other = open_lake(lake.uri)
    put(other, 5, 9)

    with pytest.raises(FencedError):
        put(lake, 5, 12)

    assert len(stored_offsets(lake)) == 10


def test_partition_that_comes_back_is_taken_where_the_other_left_it(lake):
    put(lake, 0, 4)
    other = open_lake(lake.uri)
    other.offsets("dead_letters", [PLACE])
    put(other, 5, 9)

    # Ownership is asked for once, at one table, and holds for all of them.
    lake.offsets("dead_letters", [PLACE])

    assert put(lake, 5, 12) == 3


def test_writers_of_different_partitions_do_not_disturb_each_other(lake):
    second = TopicPartition(PLACE.topic, 1)
    other = open_lake(lake.uri)
    lake.offsets("tool_calls", [PLACE])
    other.offsets("tool_calls", [second])

    for step in range(3):
        lake.append("tool_calls", batch(step, step), {PLACE: step})
        other.append("tool_calls", batch(step, step, second), {second: step})

    assert stored_offsets(lake) == [(p, o) for p in (0, 1) for o in range(3)]


def test_handle_is_reopened_without_losing_its_place(lake, monkeypatch):
    monkeypatch.setattr("pipeline.lake.delta.COMMITS_PER_HANDLE", 2)

    for step in range(5):
        put(lake, step, step)

    assert len(stored_offsets(lake)) == 5


class CrashError(Exception):
    """The process ends here."""


STEPS = ("pipeline.lake.delta.write_deltalake", "pipeline.lake.delta.sync_commit")


@settings(
    max_examples=12,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    replays=st.lists(st.tuples(st.integers(0, 12), st.integers(1, 8)), min_size=1, max_size=6),
    crashes=st.lists(st.sampled_from([None, *STEPS]), min_size=6, max_size=6),
)
def test_any_replay_with_any_crash_keeps_each_offset_once(tmp_path_factory, replays, crashes):
    path = str(tmp_path_factory.mktemp("lake") / "lake")
    lake = open_lake(path, create=True)
    for (back, size), crash in zip(replays, crashes, strict=False):
        resume = lake.offsets("tool_calls", [PLACE])[PLACE]
        first = max(0, resume + 1 - back)
        with pytest.MonkeyPatch.context() as patch:
            if crash:
                patch.setattr(crash, raise_crash)
            try:
                put(lake, first, first + size)
            except CrashError:
                lake = open_lake(path)

    last = lake.offsets("tool_calls", [PLACE])[PLACE]
    assert stored_offsets(lake) == [(0, offset) for offset in range(last + 1)]


def raise_crash(*_args, **_kwargs):
    raise CrashError

"""Buffers and slices."""

import signal
from datetime import timedelta

import pyarrow as pa
import pytest

from pipeline.ingest.batch import Buffers, Limits, Slice, TopicPartition
from pipeline.ingest.run import stop_on_signals
from tests.factories import NOW

A, B = TopicPartition("t", 0), TopicPartition("t", 1)


def part(place, *offsets, size=10):
    return Slice(place, "native", [b"x" * size] * len(offsets), offsets)


def batch(*numbers):
    return {"tool_calls": [pa.record_batch({"n": list(numbers)})]}


def test_what_is_taken_holds_all_rows_and_the_last_offset_of_each_partition():
    buffers = Buffers(Limits())
    buffers.add(part(A, 0, 1), batch(0, 1), NOW)
    buffers.add(part(B, 7), batch(7), NOW)
    buffers.add(part(A, 2, 5), {}, NOW)

    flush = buffers.take()

    assert flush.offsets == {A: 5, B: 7}
    assert sorted(flush.tables["tool_calls"]["n"].to_pylist()) == [0, 1, 7]
    assert flush.records == 5
    assert buffers.take() is None


def test_a_dropped_partition_leaves_the_others():
    buffers = Buffers(Limits())
    buffers.add(part(A, 0), batch(0), NOW)
    buffers.add(part(B, 7), batch(7), NOW)

    buffers.drop([A])

    assert buffers.take().offsets == {B: 7}


@pytest.mark.parametrize(
    ("limits", "after_s", "is_due"),
    [
        (Limits(max_rows=2), 0, True),
        (Limits(max_rows=3), 0, False),
        (Limits(max_bytes=20), 0, True),
        (Limits(max_bytes=21), 0, False),
        (Limits(max_age_s=5), 4.9, False),
        (Limits(max_age_s=5), 5, True),
        (Limits(max_age_s=5), -3600, True),
    ],
)
def test_buffers_are_due_by_rows_bytes_age_or_a_clock_set_back(limits, after_s, is_due):
    buffers = Buffers(limits)
    buffers.add(part(A, 0, 1), {}, NOW)

    assert buffers.is_due(NOW + timedelta(seconds=after_s)) == is_due


def test_nothing_is_never_due():
    assert not Buffers(Limits(max_age_s=0)).is_due(NOW)


def test_the_part_behind_an_offset_keeps_its_faults():
    whole = Slice(A, "native", [b"a", b"b", b"c"], [3, 5, 9], {0: ("x", "y"), 2: ("s", "r")})

    assert whole.behind(3) is whole
    assert whole.behind(4).offsets == [5, 9]
    assert whole.behind(4).faults == {1: ("s", "r")}
    assert whole.behind(10).offsets == []


def test_sigterm_asks_to_stop_and_the_handlers_come_back():
    before = signal.getsignal(signal.SIGTERM)

    with stop_on_signals() as stop:
        signal.raise_signal(signal.SIGTERM)
        asked = stop.is_set()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)

    assert asked
    assert signal.getsignal(signal.SIGTERM) is before

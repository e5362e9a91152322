"""The loop over a scripted source and a real lake."""

import json
import threading
from datetime import timedelta
from itertools import count

import pytest

from pipeline.errors import FencedError, LakeError, SourceError
from pipeline.ingest.batch import Limits, Slice, TopicPartition
from pipeline.ingest.run import Control, Loop
from pipeline.ingest.sources import Context
from pipeline.lake import open_lake
from tests.factories import NOW, secret_event, token_event, tool_call
from tests.scripted import CRASH, LOST, POLL, REBALANCE, Crashed, Log, Scripted, Sent

CALLS = TopicPartition("agent.tool_calls", 0)
OTHER = TopicPartition("agent.tool_calls", 1)


def value(event):
    return json.dumps(event).encode()


def call(name, place=CALLS):
    return Sent(value(tool_call(event_id=name)), place)


@pytest.fixture
def lake(tmp_path):
    return open_lake(str(tmp_path / "lake"), create=True)


def run(source, sink, *, limits=None, registry=None, **control):
    limits = limits or Limits(max_age_s=3600)
    control = Control(**{"once": True, "clock": lambda: NOW} | control)
    return Loop(source, sink, limits, Context(registry=registry), control).run()


def rows(lake, columns="event_id", table="tool_calls"):
    found = lake.connect().execute(f"SELECT {columns} FROM {table} ORDER BY ALL").fetchall()
    return [row[0] if len(row) == 1 else row for row in found]


def test_records_of_any_family_reach_their_tables_from_one_topic(lake):
    script = [
        call("call"),
        Sent(value(token_event(event_id="token"))),
        Sent(value(secret_event(event_id="secret"))),
    ]

    report = run(Scripted(script), lake)

    assert report.records == 3
    assert rows(lake) == ["call"]
    assert rows(lake, table="token_events") == ["token"]
    assert rows(lake, table="secret_events") == ["secret"]


def test_a_poisoned_record_becomes_a_dead_letter_and_its_neighbours_rows(lake):
    bad = [b"\x07 what is this", b"[1, 2]", b'{"family": "tool_call"}', b"", None, b"{\xff}"]
    script = [call("before"), *map(Sent, bad), call("after")]

    report = run(Scripted(script), lake)

    assert rows(lake) == ["after", "before"]
    assert report.dead_letters == len(bad)
    letters = rows(lake, "kafka_offset, stage, raw_bytes", "dead_letters")
    assert [letter[0] for letter in letters] == [1, 2, 3, 4, 5, 6]
    assert [letter[2] for letter in letters] == [len(value or b"") for value in bad]


def test_a_record_of_five_megabytes_is_a_dead_letter_of_stage_limit(lake):
    huge = value(tool_call(resource="x" * 5_000_000))

    run(Scripted([Sent(huge), call("small")]), lake)

    assert rows(lake) == ["small"]
    assert rows(lake, "stage, raw_bytes", "dead_letters") == [("limit", len(huge))]
    [raw] = rows(lake, "octet_length(raw)", "dead_letters")
    assert raw == 1024 * 1024


def test_a_dead_letter_keeps_no_usable_credential(lake):
    token = "IQoJb3JpZ2luX2VjEGYaCXVzLWVhc3QtMSJGMEQCIGWKgbykBmpvw3C2tHFJG2Z2" * 4
    short = "hunter2hunter2"
    raw = b'{"sessionToken": "' + token.encode() + b'", "password": "' + short.encode() + b'" oops'

    run(Scripted([Sent(raw)]), lake)

    [kept] = rows(lake, "raw", "dead_letters")
    assert token[:40].encode() not in kept
    assert short.encode() not in kept
    assert len(kept) == len(raw)


def test_a_record_that_breaks_its_adapter_is_isolated(lake, monkeypatch):
    from pipeline.ingest.sources import native  # noqa: PLC0415

    honest = native.adapt

    def adapt(values, context):
        if any(b"poison" in item for item in values):
            raise ZeroDivisionError
        return honest(values, context)

    monkeypatch.setattr(native, "adapt", adapt)
    script = [call("a"), call("b"), Sent(b'{"poison": 1}'), call("c")]

    run(Scripted(script), lake)

    assert rows(lake) == ["a", "b", "c"]
    assert rows(lake, "kafka_offset, stage, reason", "dead_letters") == [
        (2, "adapt", "the adapter failed on it: ZeroDivisionError")
    ]


def test_a_second_run_resumes_behind_what_is_stored(lake):
    log = Log()
    run(Scripted([call("a"), call("b")], log=log), lake)

    report = run(Scripted([call("c")], log=log), lake)

    assert report.records == 1
    assert rows(lake) == ["a", "b", "c"]


def test_a_crash_before_the_flush_loses_and_doubles_nothing(lake):
    log = Log()
    script = [call("a"), POLL, call("b"), CRASH]
    with pytest.raises(Crashed):
        run(Scripted(script, log=log), lake, limits=Limits(max_rows=1))

    run(Scripted([call("c")], log=log), lake)

    assert rows(lake) == ["a", "b", "c"]


def test_a_crash_between_the_tables_of_one_flush_doubles_nothing(tmp_path, lake):
    log = Log()
    script = [call("a"), Sent(value(token_event(event_id="t"))), Sent(b"bad"), call("b")]
    with pytest.raises(Crashed):
        run(Scripted(script, log=log), FailingSink(lake, at=1, after=True))
    again = open_lake(str(tmp_path / "lake"))

    report = run(Scripted([], log=log), again)

    assert rows(again) == ["a", "b"]
    assert rows(again, table="token_events") == ["t"]
    assert rows(again, "kafka_offset", "dead_letters") == [2]
    assert report.rows == {"tool_calls": 2, "dead_letters": 1, "token_events": 0}


class FailingSink:
    """A lake behind which the process ends at one append."""

    def __init__(self, lake, at, *, after, error=Crashed):
        self.lake, self.left, self.after, self.error = lake, at, after, error
        self.offsets = lake.offsets

    def append(self, table, rows, offsets):
        self.left -= 1
        if self.left < 0 or (self.left == 0 and not self.after):
            raise self.error
        written = self.lake.append(table, rows, offsets)
        if self.left == 0:
            raise self.error
        return written


def test_a_rebalance_stores_what_is_held_before_the_partition_goes(lake):
    script = [call("a"), call("b", OTHER), POLL, REBALANCE, call("c"), POLL, call("d", OTHER)]

    report = run(Scripted(script), lake, limits=Limits(max_rows=1000, max_age_s=3600))

    assert rows(lake) == ["a", "b", "c", "d"]
    assert report.flushes == 2


def test_two_rebalances_in_a_row_keep_each_offset_once(lake):
    script = [call("a"), REBALANCE, call("b"), REBALANCE, call("c")]

    run(Scripted(script), lake)

    assert rows(lake, "event_id, kafka_offset") == [("a", 0), ("b", 1), ("c", 2)]


def test_lost_partitions_are_dropped_and_read_again_from_the_table(lake):
    script = [call("a"), POLL, call("b"), LOST, call("c")]

    run(Scripted(script), lake)

    assert rows(lake, "event_id, kafka_offset") == [("a", 0), ("b", 1), ("c", 2)]


def test_kafka_is_told_the_offsets_only_after_the_commit(lake):
    source = Scripted([call("a"), call("b")])
    seen = []

    run(source, lake, on_progress=lambda report: seen.append((report.records, dict(source.hints))))

    assert seen == [(2, {CALLS: 1})]


def test_the_report_counts_the_lag_of_each_partition(lake):
    source = Scripted([call("a"), call("b", OTHER)])

    report = run(source, lake)

    assert report.lag == {CALLS: 0, OTHER: 0}


def test_a_full_buffer_is_flushed_without_waiting_for_its_age(lake):
    script = [item for n in range(6) for item in (call(f"c{n}"), POLL)]

    report = run(Scripted(script), lake, limits=Limits(max_rows=2, max_age_s=3600))

    assert report.flushes >= 2
    assert len(rows(lake)) == 6


def test_an_old_buffer_is_flushed_however_small_it_is(lake):
    times = iter([NOW + timedelta(seconds=5 * n) for n in range(100)])
    script = [call("a"), POLL, POLL, POLL, call("b")]

    report = run(Scripted(script), lake, limits=Limits(max_age_s=1), clock=lambda: next(times))

    assert report.flushes == 2


def test_reading_pauses_while_the_writer_is_behind_and_nothing_is_lost(lake, monkeypatch):
    monkeypatch.setattr("pipeline.ingest.run.PATIENCE_S", 0.01)
    release = threading.Event()

    class SlowSink(FailingSink):
        def append(self, table, rows, offsets):
            release.wait(10)
            return self.lake.append(table, rows, offsets)

    class Watched(Scripted):
        def poll(self, timeout_s):
            if self.pauses:
                release.set()
            return super().poll(timeout_s)

    source = Watched([item for n in range(12) for item in (call(f"c{n:02}"), POLL)])

    run(source, SlowSink(lake, 0, after=True), limits=Limits(max_rows=1))

    assert source.pauses >= 1
    assert len(rows(lake)) == 12


class DownRegistry:
    """A schema registry that answers from the third time on."""

    def __init__(self, schema, failures):
        self.schema, self.failures = schema, failures

    def schema_text(self, schema_id):
        self.failures -= 1
        if self.failures >= 0:
            raise SourceError("the schema registry does not answer")
        if schema_id == 404:
            raise KeyError(schema_id)
        return self.schema


def framed(schema_id, body=b""):
    return Sent(b"\x00" + schema_id.to_bytes(4) + body)


def test_a_registry_that_is_down_pauses_the_loop_and_loses_nothing(lake):
    stop = threading.Event()
    ticks = count()
    source = Scripted([call("a"), POLL, framed(404), POLL, call("b")])
    seen = []

    def progress(report):
        seen.append(report.records)
        if report.records == 3:
            stop.set()

    report = run(
        source,
        lake,
        once=False,
        stop=stop,
        clock=lambda: NOW + timedelta(seconds=next(ticks)),
        limits=Limits(max_age_s=0),
        registry=DownRegistry("", failures=2),
        on_progress=progress,
    )

    assert source.pauses >= 1
    assert report.records == 3
    assert rows(lake) == ["a", "b"]
    assert rows(lake, "kafka_offset", "dead_letters") == [1]


def test_reading_once_fails_when_the_registry_is_down_and_stores_nothing_of_it(lake):
    source = Scripted([framed(404)])

    with pytest.raises(SourceError, match="does not answer"):
        run(source, lake, registry=DownRegistry("", failures=99))

    assert lake.offsets("dead_letters", [CALLS]) == {CALLS: -1}


def test_a_second_owner_ends_the_run_with_a_message(tmp_path, lake):
    log = Log()
    second = open_lake(str(tmp_path / "lake"))

    class Intruded(Scripted):
        def poll(self, timeout_s):
            slices = super().poll(timeout_s)
            if slices:
                run(Scripted([], log=self.log), second)
            return slices

    with pytest.raises(FencedError, match=r"agent\.tool_calls/0"):
        run(Intruded([call("a")], log=log), lake)

    assert rows(lake) == ["a"]


def test_a_sink_that_fails_ends_the_run_and_the_next_one_repairs_it(lake):
    log = Log()
    with pytest.raises(LakeError):
        run(Scripted([call("a")], log=log), FailingSink(lake, 0, after=False, error=LakeError))

    run(Scripted([call("b")], log=log), lake)

    assert rows(lake) == ["a", "b"]


def test_a_topic_made_anew_is_an_error_that_names_it(lake):
    run(Scripted([call("a"), call("b")]), lake)

    class Anew(Scripted):
        def _fetch(self):
            return [Slice(CALLS, "native", [value(tool_call())], [0])]

    with pytest.raises(SourceError, match=r"agent\.tool_calls/0: offset 0 came where 2 is next"):
        run(Anew([call("c")]), lake)


def test_the_stop_signal_stores_what_was_read(lake):
    stop = threading.Event()

    class Stopped(Scripted):
        def poll(self, timeout_s):
            if not self._script:
                stop.set()
            return super().poll(timeout_s)

    report = run(Stopped([call("a"), POLL]), lake, once=False, stop=stop)

    assert report.stopped
    assert rows(lake) == ["a"]

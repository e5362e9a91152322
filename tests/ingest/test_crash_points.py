"""Crash at any point, replay, and the tables are the same."""

import contextlib
import json
import tempfile

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.ingest.batch import Limits, TopicPartition
from pipeline.ingest.run import Control, Loop
from pipeline.ingest.sources import Context
from pipeline.lake import open_lake
from tests.factories import NOW, secret_event, token_event, tool_call
from tests.scripted import CRASH, LOST, POLL, REBALANCE, Crashed, Log, Scripted, Sent

PLACES = [TopicPartition("agent.tool_calls", 0), TopicPartition("agent.token_events", 3)]
KINDS = [tool_call, token_event, secret_event, None]


class FailingSink:
    def __init__(self, lake, at, *, after):
        self.lake, self.left, self.after, self.offsets = lake, at, after, lake.offsets

    def append(self, table, rows, offsets):
        self.left -= 1
        if self.left < 0 or (self.left == 0 and not self.after):
            raise Crashed
        written = self.lake.append(table, rows, offsets)
        if self.left == 0:
            raise Crashed
        return written


def sent(kind, place, number):
    event = kind and kind(event_id=f"e{number}", source="s", event_time="2026-11-20T10:00:00Z")
    return Sent(json.dumps(event).encode() if event else b"poison", PLACES[place])


@st.composite
def scripts(draw):
    records = draw(
        st.lists(st.tuples(st.sampled_from(KINDS), st.integers(0, 1)), min_size=1, max_size=8)
    )
    marks = [POLL, POLL, REBALANCE, LOST, CRASH]
    script = []
    for number, (kind, place) in enumerate(records):
        script.append(sent(kind, place, number))
        script += draw(st.lists(st.sampled_from(marks), max_size=2))
    crashes = draw(st.lists(st.tuples(st.integers(1, 4), st.booleans()), max_size=3))
    return script, crashes


@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(scripts())
def test_a_crash_at_any_point_and_a_replay_give_every_offset_once(drawn):
    script, crashes = drawn
    log, left = Log(), list(script)
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/lake"
        open_lake(path, create=True)
        while left or crashes:
            lake = open_lake(path)
            at, after = crashes.pop() if crashes else (10**9, True)
            source = Scripted(left, log=log)
            with contextlib.suppress(Crashed):
                play(source, FailingSink(lake, at, after=after))
            left = source.left()
        play(Scripted([], log=log), open_lake(path))

        found = offsets_in(open_lake(path))

    assert found == sorted(
        (place.topic, place.partition, offset)
        for place, values in log.records.items()
        for offset in range(len(values))
    )


def play(source, sink):
    limits = Limits(max_rows=2, max_age_s=3600)
    Loop(source, sink, limits, Context(), Control(once=True, clock=lambda: NOW)).run()


def offsets_in(lake):
    tables = ("tool_calls", "token_events", "secret_events", "dead_letters")
    con = lake.connect(comments=False)
    found = []
    for table in tables:
        found += con.execute(
            f"SELECT kafka_topic, kafka_partition, kafka_offset FROM {table}"  # fixed names
        ).fetchall()
    return sorted(found)

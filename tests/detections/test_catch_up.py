"""What a scheduler that was away has to do, and that one look does it all."""

from __future__ import annotations

from datetime import timedelta

import pytest

from pipeline.detections.catch_up import plan, windows
from pipeline.detections.ledger import Window
from pipeline.detections.run import catch_up, run_detections
from pipeline.lake import open_lake
from pipeline.registry import load_registry
from tests.detections.folders import SQL, make_rule
from tests.factories import NOW, tool_call, write_events

HOUR = timedelta(hours=1)
HALF = timedelta(minutes=30)
BOUND_SQL = SQL.replace(
    "WHERE outcome = 'denied'",
    "WHERE outcome = 'denied' AND event_time >= $from AND event_time < $to",
)


def denied(agent, ago):
    return tool_call(outcome="denied", agent_id=agent, event_time=(NOW - ago).isoformat())


EVENTS = [
    denied("a", 4 * HOUR + HALF),
    denied("b", 3 * HOUR + HALF),
    denied("b", 2 * HOUR + HALF),
    denied("c", HALF),
    denied("d", -timedelta(minutes=10)),
    denied("a", 3 * HOUR + HALF),
]
AT = NOW + HALF


@pytest.fixture
def make_lake(tmp_path):
    def make(name):
        lake = open_lake(str(tmp_path / name), create=True)
        write_events(lake, EVENTS)
        return lake

    return make


def rows(lake, query):
    with lake.connect(comments=False) as con:
        return con.execute(query).fetchall()


def tables(lake):
    return (
        rows(lake, "SELECT * FROM findings ORDER BY finding_id"),
        rows(lake, "SELECT * EXCLUDE (change_id) FROM finding_history ORDER BY ALL"),
        rows(
            lake,
            "SELECT run_id, rule_id, window_from, window_to, state, findings, watermark,"
            " rule_version, policy_version, error FROM runs ORDER BY ALL",
        ),
    )


def caught_up(lake, *rules, since=None, now=AT, **over):
    return catch_up(lake, load_registry(None), rules=rules, now=now, since=since, **over)


def one_by_one(lake, rule, since, now=AT):
    for window in [*windows(rule, since, now), Window(since)]:
        run_detections(lake, load_registry(None), rules=[rule], window=window, now=now, again=False)


def test_one_wide_look_gives_what_one_look_per_window_gives(make_lake, tmp_path):
    rule, since = make_rule(tmp_path / "rules"), NOW - 5 * HOUR
    wide, narrow = make_lake("wide"), make_lake("narrow")

    caught_up(wide, rule, since=since)
    one_by_one(narrow, rule, since)

    assert tables(wide) == tables(narrow)
    found, history, runs = tables(wide)
    assert (len(found), len(history), len(runs)) == (4, 4, 6)
    by_window = "SELECT findings FROM runs ORDER BY window_from, window_to"
    assert rows(wide, by_window) == [(0,), (4,), (1,), (1,), (0,), (1,)]


def test_a_rule_that_asks_for_its_window_gets_one_look_per_window(make_lake, tmp_path):
    """One wide look would count over all of it; the evidence of the last window is kept."""
    rule = make_rule(tmp_path / "rules", sql=BOUND_SQL)
    wide, narrow = make_lake("wide"), make_lake("narrow")

    caught_up(wide, rule, since=NOW - 5 * HOUR)
    for window in [*windows(rule, NOW - 5 * HOUR, AT), Window(NOW)]:
        run_detections(narrow, load_registry(None), rules=[rule], window=window, now=AT)

    assert tables(wide)[:2] == tables(narrow)[:2]
    assert rows(wide, "SELECT change FROM finding_history ORDER BY change") == [
        ("created",),
        ("created",),
        ("created",),
        ("created",),
        ("updated",),
        ("updated",),
    ]


def test_what_was_missed_and_what_failed_is_caught_up_and_the_rest_left_alone(make_lake, tmp_path):
    lake = make_lake("lake")
    rule = make_rule(tmp_path / "good")
    caught_up(lake, rule, since=NOW - 3 * HOUR, now=NOW - 2 * HOUR)
    broken = SQL.replace("agent_id AS entity", "CAST(agent_id AS INTEGER)::VARCHAR AS entity")
    bad = make_rule(tmp_path / "bad", sql=broken)
    failed = caught_up(lake, bad, now=NOW - HOUR)
    attempts = rows(lake, "SELECT state, attempts FROM runs WHERE window_to <= now() ORDER BY ALL")

    report = caught_up(lake, rule, now=NOW)

    assert len(failed.failed) == 1
    assert attempts.count(("failed", 1)) == 1
    closed = "SELECT state, attempts FROM runs WHERE window_from IS NOT NULL ORDER BY window_from"
    # The open one of the first run; then one done at once, one failed first, one missed.
    assert rows(lake, closed + ", window_to")[1:] == [("done", 2), ("done", 1)]
    assert report.failed == []


def test_a_lake_that_was_never_looked_at_begins_with_its_first_event(make_lake, tmp_path):
    lake = make_lake("lake")
    rule = make_rule(tmp_path / "rules")

    caught_up(lake, rule, now=AT)

    # Nothing was built: no source is known, so only the open window is left.
    assert rows(lake, "SELECT window_from, state, findings FROM runs") == [(None, "done", 4)]


def test_a_run_does_a_bounded_number_of_windows_oldest_first(make_lake, tmp_path):
    lake = make_lake("lake")
    rule = make_rule(tmp_path / "rules")

    caught_up(lake, rule, since=NOW - 5 * HOUR, most=2)

    query = "SELECT window_from FROM runs WHERE window_to <= $1::TIMESTAMPTZ ORDER BY 1"
    with lake.connect(comments=False) as con:
        done = [row[0] for row in con.execute(query, [NOW]).fetchall()]
    assert done == [NOW - 5 * HOUR, NOW - 4 * HOUR]


def test_catching_up_twice_changes_nothing_and_does_no_closed_window_again(make_lake, tmp_path):
    lake = make_lake("lake")
    rule = make_rule(tmp_path / "rules")
    caught_up(lake, rule, since=NOW - 5 * HOUR)
    before = tables(lake)

    again = caught_up(lake, rule)

    assert again.changes.num_rows == 0
    assert again.runs["window_from"].to_pylist() == [None]
    assert tables(lake)[:2] == before[:2]


def test_windows_begin_at_whole_multiples_whoever_counts_them(tmp_path):
    rule = make_rule(tmp_path, extra="[window]\nevery_s = 900")

    one = windows(rule, NOW - timedelta(minutes=31), NOW)
    other = windows(rule, NOW - timedelta(minutes=44), NOW + timedelta(minutes=14))

    quarter = timedelta(minutes=15)
    assert (
        one
        == other
        == [
            Window(NOW - 3 * quarter, NOW - 2 * quarter),
            Window(NOW - 2 * quarter, NOW - quarter),
            Window(NOW - quarter, NOW),
        ]
    )


def test_a_new_version_of_a_rule_does_its_windows_anew(make_lake, tmp_path):
    lake = make_lake("lake")
    caught_up(lake, make_rule(tmp_path / "old"), since=NOW - 3 * HOUR)

    with lake.connect(comments=False) as con:
        same = plan(con, [make_rule(tmp_path / "old")], since=None, now=AT)
        new = plan(con, [make_rule(tmp_path / "new", version='"1.1.0"')], since=None, now=AT)

    assert len(same[0].windows) == 1
    assert len(new[0].windows) == 4

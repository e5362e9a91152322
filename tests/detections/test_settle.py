"""The view `calls`, worked out once for all rules of a run, says what it said before."""

from __future__ import annotations

import duckdb
import pytest

from pipeline.chains import build_chains
from pipeline.detections import settle
from pipeline.detections.ledger import Window
from pipeline.detections.run import run_detections
from pipeline.lake import halve_memory, open_lake
from pipeline.registry import load_registry
from tests.detections.folders import SQL, make_rule
from tests.factories import NOW, token_event, tool_call, write_events

READS_CALLS = SQL.replace("tool_calls", "calls")


@pytest.fixture(scope="module")
def lake(tmp_path_factory):
    lake = open_lake(str(tmp_path_factory.mktemp("settle") / "lake"), create=True)
    issued = token_event(credential_id="t1", subject_id="alice", scopes=["a"])
    denied = [tool_call(outcome="denied", agent_id=agent, credential_id="t1") for agent in "ab"]
    write_events(lake, [issued, *denied, tool_call()])
    build_chains(lake, load_registry(None), NOW)
    return lake


@pytest.fixture
def readers(tmp_path, monkeypatch):
    monkeypatch.setattr(settle, "LEAST_CALLS", 1)
    return [
        make_rule(
            tmp_path / str(n), name=f"denied_{n}", sql=f"{READS_CALLS}-- {n}\n", tables='["calls"]'
        )
        for n in range(settle.LEAST_READERS)
    ]


def test_a_settled_view_has_the_same_rows_in_the_columns_that_rules_name(lake, readers, tmp_path):
    shown = "SELECT tenant_id, agent_id, event_time, event_uid, outcome FROM calls ORDER BY ALL"
    with lake.connect(comments=False, scratch=tmp_path) as con:
        before = con.execute(shown).fetchall()
        assert settle.settle_calls(con, readers, tmp_path)
        assert con.execute(shown).fetchall() == before
        columns = {row[0] for row in con.execute("DESCRIBE calls").fetchall()}

    assert len(before) == 3
    assert {"tenant_id", "agent_id", "event_uid"} <= columns
    assert "credential_path" not in columns


@pytest.mark.parametrize(
    ("select", "is_every"),
    [
        ("SELECT * FROM calls", True),
        ("SELECT c.* FROM tool_calls AS t JOIN calls AS c ON t.event_uid = c.event_uid", True),
        ("SELECT list(c) FROM calls AS c", True),
        ("WITH a AS (SELECT * FROM (SELECT * FROM calls)) SELECT agent_id FROM a", True),
        ("WITH a AS (SELECT agent_id FROM calls) SELECT * FROM a", False),
        ("SELECT count(*) AS calls FROM calls WHERE agent_id = $a", False),
        ("SELECT t.* FROM tool_calls AS t WHERE agent_id IN (SELECT agent_id FROM calls)", False),
    ],
)
def test_a_star_over_calls_asks_for_every_column(lake, select, is_every):
    with lake.connect(comments=False) as con:
        every = [row[0] for row in con.execute("DESCRIBE calls").fetchall()]
        read = settle.columns_read(con, [select])

    assert (read == every) is is_every
    assert is_every or "agent_id" in read


def test_few_calls_or_few_readers_are_not_worth_a_file(lake, readers, tmp_path, monkeypatch):
    with lake.connect(comments=False, scratch=tmp_path) as con:
        assert not settle.settle_calls(con, readers[1:], tmp_path)
        monkeypatch.setattr(settle, "LEAST_CALLS", 4)
        assert not settle.settle_calls(con, readers, tmp_path)

    assert not list(tmp_path.glob("*.parquet"))


def test_a_run_over_a_settled_view_finds_the_same_and_leaves_no_file(
    lake, readers, tmp_path, monkeypatch
):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    settled = []
    monkeypatch.setattr(
        "pipeline.detections.run.settle_calls",
        lambda *given: settled.append(settle.settle_calls(*given)),
    )

    report = run_detections(lake, load_registry(None), rules=readers, window=Window(), now=NOW)

    assert settled == [True]
    assert not report.failed
    assert sorted(report.findings["entity"].to_pylist()) == sorted("ab" * len(readers))
    assert not list(tmp_path.rglob("*.parquet"))


def test_a_connection_with_scratch_reaches_no_other_folder(lake, tmp_path):
    inside, outside = tmp_path / "scratch", tmp_path / "elsewhere"
    inside.mkdir()
    outside.mkdir()
    with lake.connect(comments=False, scratch=inside) as con:
        con.execute(f"COPY (SELECT 1) TO '{inside}/x.parquet'")
        with pytest.raises(duckdb.PermissionException):
            con.execute(f"COPY (SELECT 1) TO '{outside}/x.parquet'")


def test_detections_and_builds_take_less_memory_than_the_default(lake):
    with lake.connect(comments=False) as con:
        before = _memory_limit(con)
        halve_memory(con)
        after = _memory_limit(con)

    assert after[1] == before[1]
    assert after[0] == pytest.approx(before[0] * 5 / 8, rel=0.02)


def _memory_limit(con):
    (limit,) = con.execute("SELECT current_setting('memory_limit')").fetchall()[0]
    size, unit = limit.split()
    return float(size), unit


def test_a_small_lake_is_held_in_memory_with_the_same_rows(lake, readers):
    shown = "SELECT tenant_id, agent_id, event_time, event_uid, outcome FROM calls ORDER BY ALL"
    is_held = "SELECT count(*) FROM duckdb_tables() WHERE table_name = 'calls'"
    with lake.connect(comments=False) as con:
        before = con.execute(shown).fetchall()
        assert con.execute(is_held).fetchall() == [(0,)]
        assert settle.hold_few(con, readers)
        assert con.execute(is_held).fetchall() == [(1,)]
        assert con.execute(shown).fetchall() == before


def test_a_lake_with_one_larger_table_and_a_run_of_few_rules_are_left_alone(
    lake, readers, monkeypatch
):
    with lake.connect(comments=False) as con:
        assert not settle.hold_few(con, readers[1:])
        monkeypatch.setattr(settle, "FEW_ROWS", 2)
        assert not settle.hold_few(con, readers)
        tables = con.execute("SELECT count(*) FROM duckdb_tables() WHERE temporary").fetchall()
    assert tables == [(0,)]

"""The init script shows what `Lake.connect` shows, in a client that knows nothing of us."""

import duckdb
import pytest

from pipeline.errors import LakeError
from pipeline.lake import Change, open_lake
from pipeline.lake.connect import write_script
from pipeline.lake.tables import tables
from tests.factories import NOW, secret_event, token_event, tool_call, write_events


def chains(*keys):
    schema = tables()["chains"].schema
    return schema.empty_table().from_pylist([{"credential_key": k} for k in keys], schema=schema)


QUESTIONS = [
    "SELECT event_uid, id_conflict, event_date FROM tool_calls ORDER BY ALL",
    "SELECT count(*) FROM token_events",
    "SELECT credential_key FROM chains ORDER BY ALL",
    "DESCRIBE calls",
    "DESCRIBE findings",
    'SELECT view, "column", type, doc FROM help() ORDER BY ALL',
]


def answers(con):
    return [con.execute(question).fetchall() for question in QUESTIONS]


def opened(script):
    con = duckdb.connect()
    con.execute(script.read_text())
    return con


def test_script_answers_as_the_lake_does(lake):
    twin = tool_call()
    write_events(
        lake, [twin, twin, tool_call(event_id="x"), tool_call(event_id="x", tool_name="b")]
    )
    write_events(lake, [token_event(), secret_event()])
    lake.mark_events()
    with lake.connect_build() as build:
        build.publish({"chains": Change(chains("a", "b"))}, NOW)

    script = opened(lake.connect_script())

    with script, lake.connect() as con:
        assert answers(script) == answers(con)


def test_script_opens_an_empty_lake(lake):
    with opened(lake.connect_script()) as script, lake.connect() as con:
        assert answers(script) == answers(con)


def test_script_follows_the_lake_past_checkpoints_and_compaction(lake):
    path = lake.connect_script()
    for _ in range(6):
        write_events(lake, [tool_call()])
    lake.compact()
    write_events(lake, [tool_call()])
    with lake.connect_build() as build:
        build.publish({"chains": Change(chains("a"))}, NOW)

    with opened(path) as script, lake.connect() as con:
        assert answers(script) == answers(con)


def test_script_does_not_show_a_half_written_build(lake, monkeypatch):
    path = lake.connect_script()
    with lake.connect_build() as build:
        build.publish({"chains": Change(chains("a"))}, NOW)
    with monkeypatch.context() as patch, lake.connect_build() as build:
        patch.setattr("pipeline.lake.publication.announce", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            build.publish({"chains": Change(chains("half"))}, NOW)

    with opened(path) as script:
        assert script.execute("SELECT credential_key FROM chains").fetchall() == [("a",)]


def test_lake_whose_path_holds_a_quote_opens(tmp_path):
    home = tmp_path / "o'brien"
    home.mkdir()
    lake = open_lake(str(home / "lake"), create=True)
    write_events(lake, [tool_call()])

    with opened(lake.connect_script()) as script:
        assert script.execute("SELECT count(*) FROM tool_calls").fetchone() == (1,)


def test_lake_in_an_object_store_has_no_script():
    with pytest.raises(LakeError, match="local lakes only"):
        write_script("s3://bucket/lake", {}, "marker")

"""Derived tables appear together or not at all."""

import pyarrow as pa
import pytest

from pipeline.errors import FencedError, LakeError
from pipeline.lake import Change, open_lake
from pipeline.lake.tables import published_tables, tables
from tests.factories import NOW, token_event, tool_call, write_events


def rows(table, *found):
    return pa.Table.from_pylist(list(found), schema=tables()[table].schema)


def chains(*keys):
    return rows("chains", *({"credential_key": key} for key in keys))


def links(*pairs):
    found = ({"event_uid": uid, "event_date": day} for uid, day in pairs)
    return rows("call_links", *found)


def keys(lake, table="chains", column="credential_key"):
    with lake.connect(comments=False) as con:
        return [
            key for (key,) in con.execute(f"SELECT {column} FROM {table} ORDER BY 1").fetchall()
        ]


def publish(lake, **changes):
    with lake.connect_build() as build:
        return build.publish(changes, NOW)


def counts(build):
    return [
        build.con.execute(f"SELECT count(*) FROM {v}").fetchone()[0] for v in build.fresh.values()
    ]


def test_first_build_sees_everything_and_later_ones_what_is_new(lake):
    write_events(lake, [tool_call(), tool_call(), token_event()])
    with lake.connect_build() as build:
        assert build.previous is None
        assert counts(build) == [2, 1, 0]
        build.publish({"chains": Change(chains("a"))}, NOW)
    write_events(lake, [tool_call()])

    with lake.connect_build() as build:
        assert build.previous is not None
        assert counts(build) == [1, 0, 0]
        assert build.con.execute("SELECT count(*) FROM tool_calls").fetchone() == (3,)
        assert build.con.execute("SELECT credential_key FROM prev_chains").fetchall() == [("a",)]


def test_compaction_between_builds_makes_nothing_new(lake):
    for _ in range(5):
        write_events(lake, [tool_call()])
    publish(lake)
    write_events(lake, [tool_call()])
    lake.compact()

    with lake.connect_build() as build:
        assert counts(build) == [1, 0, 0]


def test_change_removes_its_keys_before_its_rows_come_in(lake):
    publish(lake, chains=Change(chains("a", "b", "c")))

    publish(lake, chains=Change(chains("b", "d"), pa.table({"credential_key": ["b", "c"]})))

    assert keys(lake) == ["a", "b", "d"]


def test_change_of_a_partitioned_table_touches_its_days_only(lake):
    day, other = NOW.date(), NOW.date().replace(day=1)
    publish(lake, call_links=Change(links(("a", day), ("b", day), ("c", other))))

    gone = rows("call_links", {"event_uid": "a", "event_date": day}).select(
        ["event_uid", "event_date"]
    )
    publish(lake, call_links=Change(links(("d", other), ("e", day)), gone))

    assert keys(lake, "call_links", "event_uid") == ["b", "c", "d", "e"]


def test_empty_replacement_empties_the_table(lake):
    publish(lake, chains=Change(chains("a")))

    publish(lake, chains=Change(chains()))

    assert keys(lake) == []


def test_crash_before_the_publication_shows_nothing_and_the_next_build_starts_clean(
    lake, monkeypatch
):
    publish(lake, chains=Change(chains("a")))
    with monkeypatch.context() as patch:
        patch.setattr("pipeline.lake.publication.announce", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            publish(lake, chains=Change(chains("half")))

    assert keys(lake) == ["a"]
    with lake.connect_build() as build:
        assert build.con.execute("SELECT credential_key FROM prev_chains").fetchall() == [("a",)]
        build.publish(
            {"chains": Change(chains("b"), pa.table({"credential_key": ["nothing"]}))}, NOW
        )
    assert keys(lake) == ["a", "b"]


def test_second_build_is_refused_while_one_runs(lake):
    with lake.connect_build(), pytest.raises(LakeError, match="build is held by process"):
        open_lake(lake.uri).connect_build()

    lake.connect_build().close()


def test_build_without_the_lock_cannot_publish_over_another(lake, monkeypatch):
    # As on an object store, where there is no lock.
    monkeypatch.setattr("pipeline.lake.lock.fcntl.flock", lambda *_: None)
    first, second = lake.connect_build(), open_lake(lake.uri).connect_build()
    first.publish({"chains": Change(chains("first"))}, NOW)

    with pytest.raises(FencedError), second:
        second.publish({"chains": Change(chains("second"))}, NOW)

    assert keys(lake) == ["first"]


def test_open_connection_keeps_its_version(lake):
    write_events(lake, [tool_call()])
    publish(lake, chains=Change(chains("a")))
    with lake.connect(comments=False) as con:
        write_events(lake, [tool_call()])
        publish(lake, chains=Change(chains("b")))
        lake.compact()

        assert con.execute("SELECT credential_key FROM chains").fetchall() == [("a",)]
        assert con.execute("SELECT count(*) FROM tool_calls").fetchone() == (1,)


def test_only_tables_of_the_chains_are_published(lake):
    with pytest.raises(LakeError, match="findings"):
        publish(lake, findings=Change(rows("findings")))


def test_rows_that_lack_a_column_are_refused(lake):
    with pytest.raises(LakeError, match="root_key"):
        publish(lake, chains=Change(chains("a").drop_columns(["root_key"])))


@pytest.mark.parametrize("table", published_tables())
def test_every_published_table_takes_a_row_and_gives_it_back(lake, table):
    publish(lake, **{table: Change(rows(table, {"tenant_id": "t"} | day_of(table)))})

    with lake.connect(comments=False) as con:
        assert con.execute(f"SELECT tenant_id FROM {table}").fetchall() == [("t",)]


def day_of(table):
    return {"event_date": NOW.date()} if tables()[table].partition else {}

"""Opening, views, help, merge; a lake that is not ours, damaged, or full."""

import shutil
import subprocess
from pathlib import Path

import pyarrow as pa
import pytest

from pipeline.errors import LakeError
from pipeline.events.schema import FAMILIES, TABLES, table_schema
from pipeline.lake import open_lake
from pipeline.lake.tables import declaration, duck_type, tables
from tests.factories import NOW, tool_call, write_events


def rows(table, *found):
    return pa.Table.from_pylist(list(found), schema=tables()[table].schema)


def test_folder_with_other_things_is_not_taken(tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")

    with pytest.raises(LakeError, match="other things"):
        open_lake(str(tmp_path), create=True)

    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_absent_lake_is_made_only_on_request(tmp_path):
    with pytest.raises(LakeError, match="no lake there"):
        open_lake(str(tmp_path / "lake"))

    assert not (tmp_path / "lake").exists()


def test_file_is_no_lake(tmp_path):
    (tmp_path / "lake").write_text("")

    with pytest.raises(LakeError, match="is a file"):
        open_lake(str(tmp_path / "lake"), create=True)


def test_path_that_a_client_would_take_for_a_pattern_is_refused(tmp_path):
    with pytest.raises(LakeError, match="cannot hold"):
        open_lake(str(tmp_path / "lake*"), create=True)


@pytest.mark.parametrize("family", FAMILIES)
def test_event_view_has_the_contract_s_columns_in_order_before_any_event(lake, family):
    with lake.connect() as con:
        described = con.execute(f"DESCRIBE {TABLES[family]}").fetchall()

    columns = [row[0] for row in described if row[0] != "id_conflict"]
    assert columns == table_schema(family).names
    types = {row[0]: row[1].replace("TIMESTAMP WITH TIME ZONE", "TIMESTAMPTZ") for row in described}
    declared = {field.name: duck_type(field.type) for field in table_schema(family)}
    assert {name: types[name].replace('"', "") for name in declared} == {
        name: kind.replace('"', "") for name, kind in declared.items()
    }


def test_event_comes_back_as_it_went_in(lake):
    event = tool_call(
        ext={"a": "b"}, act_chain=[{"issuer": "i", "subject": "s"}], required_scopes=["x", "y"]
    )
    write_events(lake, [event])

    with lake.connect() as con:
        found = con.execute(
            "SELECT ext['a'], act_chain[1].subject, required_scopes, event_date FROM tool_calls"
        ).fetchall()
    assert found == [("b", "s", ["x", "y"], NOW.date())]


def test_every_view_and_column_is_documented(lake):
    with lake.connect() as con:
        found = con.execute('SELECT view, "column", doc FROM help()').fetchall()

    assert [(view, column) for view, column, doc in found if not doc] == []
    views = {view for view, column, _ in found if not column}
    assert {"calls", "tool_calls", "chains", "findings", "dead_letters", "watermarks"} <= views


def test_calls_has_the_declared_columns_behind_those_of_tool_calls(lake):
    declared, _ = declaration("calls")
    with lake.connect() as con:
        described = {row[0]: row[1] for row in con.execute("DESCRIBE calls").fetchall()}
        shown = [row[0] for row in con.execute("DESCRIBE tool_calls").fetchall()]

    assert list(described) == shown + declared.schema.names
    expected = {field.name: duck_type(field.type) for field in declared.schema}
    assert {
        n: described[n].replace("TIMESTAMP WITH TIME ZONE", "TIMESTAMPTZ") for n in expected
    } == expected


def test_older_files_show_null_in_a_column_that_came_later(tmp_path, monkeypatch):
    declared = tables()["findings"]
    narrow = declared.schema.remove(declared.schema.get_field_index("route_owner"))
    with monkeypatch.context() as patch:
        patch.setitem(tables(), "findings", type(declared)(**{**vars(declared), "schema": narrow}))
        lake = open_lake(str(tmp_path / "lake"), create=True)
        lake.merge("findings", pa.Table.from_pylist([{"finding_id": "old"}], schema=narrow))
    with lake.connect() as con:
        assert con.execute("SELECT route_owner FROM findings").fetchall() == [(None,)]
    lake.append_rows("findings", rows("findings", {"finding_id": "new", "route_owner": "me"}))

    with lake.connect() as con:
        found = con.execute("SELECT finding_id, route_owner FROM findings ORDER BY 1").fetchall()
    assert found == [("new", "me"), ("old", None)]


def test_merge_twice_is_merge_once(lake):
    for severity in (1, 1, 2):
        lake.merge(
            "findings",
            rows("findings", {"finding_id": "a", "severity": severity}, {"finding_id": "b"}),
        )

    with lake.connect() as con:
        found = con.execute("SELECT finding_id, severity FROM findings ORDER BY 1").fetchall()
    assert found == [("a", 2), ("b", None)]


def test_merge_refuses_two_rows_with_one_key(lake):
    with pytest.raises(LakeError, match="share the key"):
        lake.merge("findings", rows("findings", {"finding_id": "a"}, {"finding_id": "a"}))


def test_replaced_table_holds_the_new_rows_only(lake):
    lake.replace_table("identities", rows("identities", {"identity_id": "a"}))
    lake.replace_table("identities", rows("identities", {"identity_id": "b"}))

    with lake.connect() as con:
        assert con.execute("SELECT identity_id FROM identities").fetchall() == [("b",)]


def test_connection_reads_the_lake_and_nothing_else(lake, tmp_path):
    (tmp_path / "secret.txt").write_text("x")

    with lake.connect() as con, pytest.raises(Exception, match="Cannot access file"):
        con.execute("SELECT * FROM read_text($1)", [str(tmp_path / "secret.txt")])


def test_log_that_is_not_json_is_a_clear_error(lake):
    write_events(lake, [tool_call()])
    entry = max(Path(lake.uri, "tool_calls", "_delta_log").glob("*.json"))
    entry.write_text("not json\n")

    with pytest.raises(LakeError, match="tool_calls"):
        lake.connect()


def test_log_that_is_gone_is_a_clear_error(lake):
    write_events(lake, [tool_call()])
    shutil.rmtree(Path(lake.uri, "tool_calls", "_delta_log"))

    with pytest.raises(LakeError, match="tool_calls"):
        lake.connect()
    # An empty table made anew would hide that the events are lost.
    with pytest.raises(LakeError, match="tool_calls"):
        open_lake(lake.uri, create=True)


def mount(folder):
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(folder)],
        capture_output=True,
        check=False,
    )
    return made.returncode == 0


def test_full_disk_stores_nothing_of_the_batch_and_says_so(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    if not mount(disk):
        pytest.skip("a small file system can be mounted by root only")
    try:
        lake = open_lake(str(disk / "lake"), create=True)
        write_events(lake, [tool_call(event_id="before")])
        filler = disk / "filler"
        fill(filler)

        with pytest.raises(LakeError, match="disk is full"):
            write_events(lake, [tool_call(resource=f"{i:0999}") for i in range(200)])

        filler.unlink()
        write_events(lake, [tool_call(event_id="after")])
        with lake.connect() as con:
            found = con.execute(
                "SELECT event_id, kafka_offset FROM tool_calls ORDER BY 2"
            ).fetchall()
        assert found == [("before", 0), ("after", 1)]
    finally:
        subprocess.run(["umount", str(disk)], check=True, capture_output=True)


def fill(path):
    with path.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            return

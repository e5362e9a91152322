"""`delegraph coverage`: what is listed, and what its exit code says of the sources."""

import pytest

from pipeline.chains import build_chains
from pipeline.cli import run
from pipeline.lake import open_lake
from pipeline.registry import load_registry
from tests.factories import NOW, tool_call, write_events

AS_OF = NOW.isoformat()


@pytest.fixture(scope="module")
def streamed(tmp_path_factory):
    """A lake fed by streams: `loud` speaks until now, `mute` stopped an hour ago."""
    path = tmp_path_factory.mktemp("streamed") / "lake"
    lake = open_lake(str(path), create=True)
    write_events(
        lake,
        [
            tool_call(source="loud", event_time=NOW.replace(hour=11, minute=59), resource="a"),
            tool_call(source="mute", event_time=NOW.replace(hour=11, minute=0), resource="a"),
            tool_call(source="mute", event_time=NOW.replace(hour=10, minute=58)),
        ],
    )
    build_chains(lake, load_registry(None), NOW)
    return path


def registry(folder, *lines):
    (folder / "sources.yaml").write_text("sources:\n" + "".join(f"  {line}\n" for line in lines))
    return folder


def test_coverage_lists_each_source_and_day_with_its_worst_share(cli, streamed):
    listed = cli("--lake", streamed, "coverage", "--as-of", AS_OF, "--json").json["items"]

    assert {row["source"]: row["with_resource"] for row in listed} == {"loud": 1.0, "mute": 0.5}
    assert {(row["worst"], row["worst_share"]) for row in listed} == {("complete", 0.0)}
    assert all(row["lag_s"] <= 60 or row["source"] == "mute" for row in listed)


def test_coverage_of_one_source_and_of_other_days(cli, streamed):
    one = cli("--lake", streamed, "coverage", "--source", "mute")
    none = cli("--lake", streamed, "coverage", "--to", "2026-11-20", "--json")

    assert "mute" in one.out
    assert "loud" not in one.out
    assert none.json["items"] == []


def test_a_source_that_nobody_expects_is_not_silent(cli, streamed):
    result = cli("--lake", streamed, "coverage", "check", "--as-of", AS_OF, "--json")

    assert result.code == 0
    assert {row["source"]: row["state"] for row in result.json["items"]} == {
        "loud": "ok",
        "mute": "lagging",
    }


def test_a_registered_source_that_stopped_is_unreachable(cli, streamed, tmp_path):
    policy = registry(tmp_path, "mute: {expected_interval_s: 60, owner: logs}")

    result = cli(
        "--lake", streamed, "coverage", "check", "--as-of", AS_OF, "--registry", policy, "--json"
    )

    assert result.code == 4
    assert "mute of default is silent since" in result.err
    assert {row["source"]: row["state"] for row in result.json["items"]} == {
        "loud": "unregistered",
        "mute": "silent",
    }


def test_a_registered_source_within_its_grace_is_not_silent(cli, streamed, tmp_path):
    policy = registry(
        tmp_path,
        "mute: {expected_interval_s: 60, grace_s: 3600}",
        "loud: {expected_interval_s: 60}",
    )

    result = cli("--lake", streamed, "coverage", "check", "--as-of", AS_OF, "--registry", policy)

    assert result.code == 0


def test_a_registered_source_that_never_spoke_is_named(cli, streamed, tmp_path):
    policy = registry(tmp_path, "nobody: {expected_interval_s: 60}")

    result = cli("--lake", streamed, "coverage", "check", "--as-of", AS_OF, "--registry", policy)

    assert result.code == 4
    assert "nobody of any tenant is registered, but was never seen" in result.err


def test_a_detection_says_how_complete_its_data_is_and_which_sources_it_lacks(
    cli, streamed, tmp_path
):
    policy = registry(
        tmp_path, "mute: {expected_interval_s: 60}", "nobody: {expected_interval_s: 60}"
    )

    result = cli(
        *("--lake", streamed, "detect", "--only", "PC-02", "--as-of", AS_OF),
        *("--registry", policy, "--json"),
    )

    assert result.code == 0
    assert "of all calls 0.0% are linked to a credential, 0.0% to a complete chain" in result.err
    assert "mute of default is silent since 2026-11-20T11:00:00Z" in result.err
    assert "nobody of any tenant is registered, but was never seen" in result.err
    assert {row["source"]: row["state"] for row in result.json["incomplete_sources"]} == {
        "mute": "silent",
        "nobody": "never_seen",
    }


@pytest.mark.parametrize(("share", "code"), [("0", 0), ("0.5", 5)])
def test_partial_coverage_has_an_exit_code_of_its_own(cli, streamed, share, code):
    result = cli(
        "--lake", streamed, "coverage", "check", "--as-of", AS_OF, "--require-coverage", share
    )

    assert result.code == code


def test_a_source_read_from_files_ends_where_its_file_ends(cli, story):
    result = cli("coverage", "check", "--as-of", "2027-01-01")

    assert result.code == 0
    assert run(["coverage", "check", "--as-of", "not a time"]) == 2


@pytest.mark.parametrize(("share", "code"), [("0", 0), ("0.5", 5)])
def test_detection_can_ask_for_coverage(cli, streamed, share, code):
    args = ("detect", "--only", "BT-07", "--as-of", AS_OF, "--require-coverage", share)

    assert cli("--lake", streamed, *args).code == code

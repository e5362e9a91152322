import pytest

from pipeline.demo.run import MARKER, Demo, fresh_lake, run_demo
from pipeline.errors import LakeError
from pipeline.lake import open_lake
from tests.factories import NOW


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    lines = []
    folder = tmp_path_factory.mktemp("demo") / "lake"
    return run_demo(Demo(1_500, 9, folder, NOW), lines.append), lines


def test_every_story_is_found_and_nobody_else_is_accused(shown):
    report, _ = shown

    for story in report.stories:
        wanted = set() if story["twin"] else set(story["rules"])
        assert wanted <= set(story["found"]) <= wanted | set(story["may_also_fire"]), story["title"]
    assert report.strangers == []
    assert report.is_right


def test_every_event_is_taken_and_alerts_are_verified(shown):
    report, _ = shown

    assert (report.events, report.dead_letters) == (1_500, 0)
    alerting = [finding for finding in report.findings if finding["severity"] >= 3]
    assert report.verified_alerts == len(alerting) > 10


def test_the_summary_shows_a_chain_and_four_commands(shown):
    _, lines = shown

    text = "\n".join(lines)
    assert "WIDENED by deploy.prod" in text
    assert text.count("  delegraph ") == 3
    assert "duckdb -init" in text


def test_a_rerun_starts_clean(shown):
    report, _ = shown

    lake = fresh_lake(Demo(1_500, 9, report.lake, NOW))

    with lake.connect() as con:
        assert con.execute("SELECT count(*) FROM tool_calls").fetchone() == (0,)


def test_a_lake_that_is_not_a_demo_s_is_left_alone(tmp_path):
    open_lake(str(tmp_path / "lake"), create=True)

    with pytest.raises(LakeError, match="left alone"):
        fresh_lake(Demo(1_500, 9, tmp_path / "lake", NOW))

    assert not (tmp_path / "lake" / MARKER).exists()
    assert open_lake(str(tmp_path / "lake"))

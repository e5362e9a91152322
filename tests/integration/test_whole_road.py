"""A million events through a real broker, with consumers that join and leave."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.chains import build_chains
from pipeline.demo.generate import Stream
from pipeline.demo.policy import write_policy
from pipeline.demo.produce import Outlet
from pipeline.demo.run import judge
from pipeline.detections.check import load_rules
from pipeline.detections.ledger import Window
from pipeline.detections.run import run_detections
from pipeline.lake import open_lake
from pipeline.registry import load_registry
from tests.factories import NOW
from tests.integration.members import (
    Producing,
    Road,
    lost_and_doubled,
    members,
    stored_count,
    topics_of,
    wait_for,
)

if TYPE_CHECKING:
    from pathlib import Path

EVENTS = 1_000_000


def test_a_million_events_arrive_once_while_consumers_join_leave_and_die(
    kafka, lake_path: Path, tmp_path: Path
):
    topics = topics_of("road")
    kafka.create_topics(dict.fromkeys(topics.values(), 6))
    road = Road(kafka, dict.fromkeys(topics.values(), "native"), lake_path, group="road")
    stream = Stream(EVENTS, 11, NOW)
    producing = Producing(stream, Outlet(kafka.bootstrap, topics=topics))
    open_lake(str(lake_path), create=True)

    with members(road, tmp_path / "members") as group:
        group.start()
        producing.start()
        for share, change in (
            (0.1, group.start),
            (0.3, group.leave),
            (0.35, group.start),
            (0.5, group.kill),
            (0.55, group.start),
        ):
            wait_for(
                f"{share:.0%} of the events stored",
                lambda share=share: stored_count(lake_path) >= share * EVENTS,
                600,
                group,
            )
            change()
        producing.join(600)
        wait_for("all events stored", road.has_all, 600, group)
        while group.running:
            group.leave()

    assert producing.failure is None
    highs = road.highs()
    assert sum(highs.values()) == EVENTS
    assert lost_and_doubled(lake_path, highs) == (0, 0)
    _check_findings(lake_path, stream)


def _check_findings(lake_path: Path, stream: Stream):
    lake = open_lake(str(lake_path))
    registry = load_registry(write_policy(lake_path.parent / "registry", stream.now))
    build_chains(lake, registry, stream.now)
    report = run_detections(lake, registry, rules=load_rules(), window=Window(), now=stream.now)
    report.raise_failed()
    with lake.connect() as con:
        stories, strangers = judge(con, stream)
    for story in stories:
        expected = set() if story["twin"] else set(story["rules"])
        assert expected <= set(story["found"]) <= expected | set(story["may_also_fire"]), story
    assert strangers == []

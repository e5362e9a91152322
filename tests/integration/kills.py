"""Kill consumers at random while events flow, and count what is lost or doubled."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.demo.generate import Stream
from pipeline.demo.produce import Outlet
from pipeline.lake import open_lake
from tests.factories import NOW
from tests.integration.members import (
    Members,
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

    from tests.integration.kafka import KafkaNode

# Long enough to start, join and commit a few times; a good part dies within a commit.
LEAST_LIFE_S, MOST_LIFE_S = 0.2, 3.0
PARTITIONS = 6


@dataclass(frozen=True)
class Killing:
    """How much to send and how often to kill."""

    events: int
    kills: int
    seed: int


@dataclass(frozen=True)
class Killed:
    """What a run of kills came to."""

    kills: int
    lost: int
    doubled: int
    progressed: int
    """Kills that hit a member after the lake had grown since the kill before."""
    seconds: float


def kill_at_random(kafka: KafkaNode, folder: Path, plan: Killing) -> Killed:
    """Kill one of two `delegraph ingest` processes again and again while events are produced."""
    began = time.monotonic()
    dice = random.Random(plan.seed)
    topics = topics_of(f"kills-{plan.seed}")
    kafka.create_topics(dict.fromkeys(topics.values(), PARTITIONS))
    lake = folder / "lake"
    places = dict.fromkeys(topics.values(), "native")
    road = Road(kafka, places, lake, f"kills-{plan.seed}", batch_rows=2_000, batch_age_s=0.1)
    open_lake(str(lake), create=True)
    # Events must still flow when the last kill comes.
    rate = plan.events / (plan.kills * MOST_LIFE_S * 0.75)
    stream = Stream(plan.events, plan.seed, NOW)
    producing = Producing(stream, Outlet(kafka.bootstrap, topics=topics), rate)
    with members(road, folder / "members") as group:
        producing.start()
        group.start()
        group.start()
        progressed = _kill_all(group, lake, plan, dice)
        producing.join(600)
        assert producing.failure is None, producing.failure
        wait_for("all events stored", road.has_all, 180, group)
        while group.running:
            group.leave()
    highs = road.highs()
    assert sum(highs.values()) == plan.events
    lost, doubled = lost_and_doubled(lake, highs)
    return Killed(group.killed, lost, doubled, progressed, time.monotonic() - began)


def _kill_all(group: Members, lake: Path, plan: Killing, dice: random.Random) -> int:
    before = progressed = 0
    while group.killed < plan.kills:
        time.sleep(dice.uniform(LEAST_LIFE_S, MOST_LIFE_S))
        group.kill(dice.randrange(len(group.running)))
        group.start()
        stored = stored_count(lake)
        progressed += stored > before
        before = stored
    return progressed

"""The short form of the kill test; `make bench` runs the full one."""

from __future__ import annotations

from tests.integration.kills import Killing, kill_at_random


def test_consumers_killed_at_random_lose_and_double_nothing(kafka, tmp_path):
    killed = kill_at_random(kafka, tmp_path, Killing(events=60_000, kills=20, seed=23))

    assert (killed.lost, killed.doubled) == (0, 0)
    assert killed.kills == 20
    # The kills must have hit a pipeline that was at work.
    assert killed.progressed >= 3

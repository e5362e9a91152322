"""Each job twice, killed in the middle, and two at once: the tables of one clean run."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from pipeline.alerts.receive import Receiver
from pipeline.lake import open_lake
from tests.factories import NOW, token_event, tool_call, write_events

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
SECRET = "whsec_" + base64.b64encode(b"s" * 32).decode()
AS_OF = (NOW + timedelta(days=1)).isoformat()
RULES = ["PC-01", "PC-02", "LS-09", "BT-03"]
KILLED = -9
REFUSED = 2

SINCE = (NOW - timedelta(hours=2)).isoformat()

JOBS = [
    ["lake", "expire", "--before", (NOW - timedelta(days=30)).isoformat()],
    ["chains", "build", "--as-of", AS_OF],
    ["detect", "--catch-up", "--as-of", AS_OF, "--since", SINCE, "--only", *RULES],
    ["alerts", "send"],
    ["lake", "compact"],
]
# Commits after which each is killed: events gone and tables not yet republished; half of
# the tables published; findings written and the ledger not; sent and not yet recorded; one
# table compacted.
DEATHS = [1, 2, 3, 2, 1]
# What is left out: times of the clock, who ran it, how often.
TABLES = {
    "credentials": "*",
    "hops": "*",
    "chains": "*",
    "call_links": "*",
    "watermarks": "*",
    "coverage": "*",
    "findings": "*",
    "finding_history": "*",
    "identities": "*",
    "runs": "* EXCLUDE (lease_owner, lease_until, attempts, started_at, finished_at, duration_s)",
    "outbox": "finding_id, sink, body ->> '$.type' AS type, state",
    "tool_calls": "event_uid, event_time",
}


def story():
    """Return a widened exchange with calls, and a call of two months ago, which expires."""
    root = token_event(credential_id="root", scopes=["repo.read"], client_id="planner")
    child = token_event(
        op="exchange",
        credential_id="child",
        scopes=["repo.read", "deploy.prod"],
        actor_id="coder",
        actor_issuer="https://idp.test",
        parents=[{"role": "subject", "issuer": "https://idp.test", "kind": "jti", "id": "root"}],
    )
    used = {
        "agent_id": "coder",
        "credential_issuer": "https://idp.test",
        "credential_kind": "jti",
        "credential_id": "child",
    }
    old = (NOW - timedelta(days=60)).isoformat()
    # One commit each: enough small files of one day for a compaction.
    return [root, child, *(tool_call(**used) for _ in range(4)), tool_call(event_time=old)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a lake of events, not built; copied by each test."""
    folder = tmp_path_factory.mktemp("jobs")
    lake = open_lake(str(folder / "lake"), create=True)
    for event in story():
        write_events(lake, [event])
    return folder


@pytest.fixture(scope="module")
def run(folder):
    """Run commands in processes of their own; return their exit codes."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.jobs.crashing"],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT), "SOC_SECRET": SECRET, "DELEGRAPH_LOG": "ERROR"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as server:

        def call(place, *runs):
            common = ["--lake", str(place / "lake"), "--config", str(place / "delegraph.toml")]
            requests = [{"args": [*common, *args], "dies_after": dies} for args, dies in runs]
            server.stdin.write(json.dumps(requests) + "\n")
            server.stdin.flush()
            return json.loads(server.stdout.readline())

        yield call
        server.stdin.close()


@pytest.fixture
def place(folder, tmp_path, receiver):
    """A copy of the lake with a sink of its own."""
    shutil.copytree(folder / "lake", tmp_path / "lake")
    (tmp_path / "delegraph.toml").write_text(
        f'[[alerts.sinks]]\nname = "soc"\nurl = "{receiver.url}"\n'
        'secret_env = "SOC_SECRET"\nallow_private = true\n'
    )
    return tmp_path


@pytest.fixture
def receiver():
    with Receiver(SECRET) as running:
        yield running


def told(receiver):
    return sorted((body["type"], body["data"]["finding_id"]) for body in receiver.received.values())


def contents(place):
    """Return the rows of every table, as text in a fixed order."""
    with open_lake(str(place / "lake")).connect(comments=False) as con:
        return {
            name: sorted(map(repr, con.execute(f"SELECT {columns} FROM {name}").fetchall()))
            for name, columns in TABLES.items()
        }


@pytest.fixture(scope="module")
def clean(folder, run, tmp_path_factory):
    """What each job leaves that runs once and is left alone."""
    place = tmp_path_factory.mktemp("clean")
    shutil.copytree(folder / "lake", place / "lake")
    with Receiver(SECRET) as receiver:
        (place / "delegraph.toml").write_text(
            f'[[alerts.sinks]]\nname = "soc"\nurl = "{receiver.url}"\n'
            'secret_env = "SOC_SECRET"\nallow_private = true\n'
        )
        for job in JOBS:
            assert run(place, (job, None)) == [0]
        found = contents(place)
        # Twice: everything again, on what is there.
        for job in JOBS:
            assert run(place, (job, None)) == [0]
        return found, contents(place), told(receiver)


def test_the_jobs_do_something(clean):
    """Otherwise the tests below would compare nothing with nothing."""
    found, _, sent = clean

    assert {name for name, rows in found.items() if not rows} <= {"identities"}
    assert len(found["findings"]) == len(found["finding_history"]) >= 2
    assert len(found["runs"]) == len(RULES) * 27
    assert len(found["tool_calls"]) == 4
    assert sent


def test_every_job_twice_changes_nothing(clean):
    once, twice, _ = clean

    assert twice == once


def test_jobs_that_are_killed_in_the_middle_and_then_started_twice_at_once_leave_the_same(
    clean, run, place, receiver
):
    killed = []
    for job, dies_after in zip(JOBS, DEATHS, strict=True):
        killed += run(place, (job, dies_after))
        codes = run(place, (job, None), (job, None))
        # A second one waits, or is refused because the first is at work.
        assert 0 in codes
        assert set(codes) <= {0, REFUSED}

    assert killed == [KILLED] * len(JOBS)
    assert contents(place) == clean[0]
    assert told(receiver) == clean[2]

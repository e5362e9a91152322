"""One act told by four systems is one chain; without one of them, exactly its part is missing."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest

from pipeline.chains import build_chains
from pipeline.cli import run
from pipeline.ingest.run import ingest_files
from pipeline.lake import open_lake
from pipeline.registry import load_registry
from tests.chains.four_systems import ALICE, DEPLOYER, PLANNER, ROLE, SERVER, SYSTEMS, lines_of

NOW = datetime(2026, 3, 2, 15, tzinfo=UTC)
SOURCES = {
    "jwt_claims": "oauth.claims:https://auth.acme.example",
    "otel_genai": "otel.tool.acme.agents:deployer",
    "toolhive": "stacklok.toolhive:site-mcp",
    "cloudtrail": "aws.cloudtrail:111122223333",
}
WHOLE = [ALICE, PLANNER, DEPLOYER, SERVER, ROLE]
SHOWN = """
SELECT tool_name, source, observer, root_principal, root_kind, actor_path, status, gap_kind
FROM calls ORDER BY event_time, source
"""


@dataclass(frozen=True)
class Told:
    """What is known after some of the systems have told their part."""

    lake: str
    policy: str
    calls: list[dict[str, Any]]
    adapters: set[str]

    def call(self, tool: str, system: str) -> dict[str, Any]:
        """Return the one call of a tool that a system saw."""
        (found,) = [
            call
            for call in self.calls
            if call["tool_name"] == tool and call["source"] == SOURCES[system]
        ]
        return found


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """Return a function that tells the story without one of the systems."""
    known: dict[str | None, Told] = {}

    def tell(missing: str | None) -> Told:
        if missing not in known:
            known[missing] = _tell(tmp_path_factory.mktemp("systems"), missing)
        return known[missing]

    return tell


def _tell(folder, missing):
    policy = folder / "policy"
    policy.mkdir()
    listed = "\n".join(
        f'  "{source}": {{expected_interval_s: 86400}}' for source in SOURCES.values()
    )
    (policy / "sources.yaml").write_text(f"sources:\n{listed}\n", encoding="utf-8")
    for system in SYSTEMS.keys() - {missing}:
        (folder / f"{system}.log").write_bytes(lines_of(system))
    lake = open_lake(str(folder / "lake"), create=True)
    report = ingest_files(sorted(folder.glob("*.log")), adapter="auto", sink=lake, now=NOW)
    assert report.dead_letters == 0
    lake.mark_events()
    build_chains(lake, load_registry(policy), NOW)
    with lake.connect(comments=False) as con:
        calls = con.sql(SHOWN).to_arrow_table().to_pylist()
    return Told(
        str(folder / "lake"), str(policy), calls, {taken.adapter for taken in report.tally.taken}
    )


def test_each_system_is_recognised_by_its_content(told):
    assert told(None).adapters == set(SYSTEMS)


def test_what_happened_in_the_cloud_is_traced_to_the_person_through_every_agent(told):
    written = told(None).call("PutObject", "cloudtrail")

    assert written["actor_path"] == WHOLE
    assert (written["root_principal"], written["root_kind"]) == (ALICE, "human_interactive")
    # AWS does not log which token it was given: that link is inferred.
    assert (written["status"], written["gap_kind"]) == ("complete_probable", None)


@pytest.mark.parametrize("system", ["otel_genai", "toolhive"])
def test_the_tool_call_stands_on_the_same_chain_whoever_saw_it(told, system):
    called = told(None).call("publish_site", system)

    assert called["actor_path"] == WHOLE[:3]
    assert (called["root_principal"], called["gap_kind"]) == (ALICE, None)


def test_without_the_token_server_the_chain_breaks_at_its_token(told):
    written = told("jwt_claims").call("PutObject", "cloudtrail")

    assert (written["status"], written["gap_kind"]) == ("broken", "source_not_onboarded")
    assert written["actor_path"] == [ALICE, ROLE]


@pytest.mark.parametrize("missing", ["otel_genai", "toolhive"])
def test_without_one_witness_of_the_call_the_other_tells_the_same_chain(told, missing):
    (other,) = {"otel_genai", "toolhive"} - {missing}

    assert told(missing).call("publish_site", other)["actor_path"] == WHOLE[:3]
    assert told(missing).call("PutObject", "cloudtrail")["actor_path"] == WHOLE


def test_without_the_cloud_trail_the_chain_ends_at_the_tool(told):
    assert {call["tool_name"] for call in told("cloudtrail").calls} == {"publish_site"}
    assert told("cloudtrail").call("publish_site", "toolhive")["actor_path"] == WHOLE[:3]


@pytest.mark.parametrize("missing", [None, *SYSTEMS])
def test_exactly_the_missing_system_is_named(told, capsys, missing):
    story = told(missing)

    code = run(["--lake", story.lake, "coverage", "check", "--registry", story.policy, "--json"])

    rows = json.loads(capsys.readouterr().out)["items"]
    states = {row["source"]: row["state"] for row in rows}
    assert states == {
        source: "never_seen" if system == missing else "ok" for system, source in SOURCES.items()
    }
    assert code == (4 if missing else 0)


def test_no_secret_of_any_system_is_stored(told):
    assert "do-not-store" not in json.dumps(told(None).calls, default=str)

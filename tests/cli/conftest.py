"""The command line, run in this process on a lake with one small story."""

import json
import sys
from dataclasses import dataclass

import pytest

from pipeline.cli import run
from tests.factories import token_event, tool_call


@dataclass(frozen=True)
class Result:
    code: int
    out: str
    err: str

    @property
    def json(self):
        return json.loads(self.out)


@pytest.fixture
def cli(capsys, monkeypatch, tmp_path):
    """Run one command in an empty folder; no configuration of this machine reaches it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DELEGRAPH_CONFIG", raising=False)

    def call(*args):
        code = run([str(arg) for arg in args])
        written = capsys.readouterr()
        return Result(code, written.out, written.err)

    return call


def write_story(folder):
    """Write a widened exchange and its call as two contract files; return their paths."""
    root = token_event(credential_id="root", scopes=["repo.read"], client_id="planner")
    child = token_event(
        op="exchange",
        credential_id="child",
        scopes=["repo.read", "deploy.prod"],
        actor_id="coder",
        actor_issuer="https://idp.test",
        parents=[{"role": "subject", "issuer": "https://idp.test", "kind": "jti", "id": "root"}],
    )
    call = tool_call(
        agent_id="coder",
        credential_issuer="https://idp.test",
        credential_kind="jti",
        credential_id="child",
        required_scopes=["deploy.prod"],
    )
    paths = [folder / "tokens.jsonl", folder / "calls.jsonl"]
    paths[0].write_text("\n".join(map(json.dumps, (root, child))) + "\n")
    paths[1].write_text(json.dumps(call) + "\n")
    return paths


@pytest.fixture
def story(cli, tmp_path):
    """A lake in ./lake with the story ingested and built."""
    tokens, calls = write_story(tmp_path)
    assert cli("ingest", "--from", tokens, calls).code == 0
    assert cli("chains", "build", "--as-of", "2026-11-21").code == 0
    return tmp_path / "lake"


@pytest.fixture(autouse=True)
def stdin_is_closed(monkeypatch):
    monkeypatch.setattr(sys, "stdin", None)

"""A ledger of delegations that nobody here wrote, read through an adapter of ten lines of YAML."""

import json
from datetime import UTC, datetime

import pytest
from agent_ledger import DelegationStatus, Ledger, Task
from agent_ledger.demo import PRINCIPAL, build_grid

from pipeline.chains import build_chains
from pipeline.ingest.run import ingest_files
from pipeline.lake import open_lake
from pipeline.registry import load_registry

SECRET = "do-not-store"
ADAPTER = """\
adapter: agent_ledger
recognise: {path: $.scope_digest, exists: true}
source: agent-ledger
observer: agent_runtime
hidden: [$.note]
events:
  - family: token_event
    when: {path: $.outcome, in: [pending]}
    fields:
      event_id: $.digest
      event_time: $.issued_at
      issued_at: $.issued_at
      op: delegate
      outcome: success
      credential_issuer: agent-ledger
      credential_kind: local
      credential_id: $.receipt_id
      actor_id: $.delegate
      subject_id: $.delegated_by
      subject_kind: human
      task_id: $.task_id
      parents: [{role: delegation, issuer: agent-ledger, kind: local, id: $.parent_receipt_id}]
      scope_known: false
      ext: {depth: $.depth, budget_usd: $.budget_usd}
skip:
  - {when: {path: $.outcome, not_in: [pending]}, reason: course of a delegation}
"""


def delegate(grid, task, parent=None):
    found = grid.delegate(task, parent=parent)
    assert found.ok, found.reason
    return found.delegation


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Return a folder with the receipts of a principal, two agents and what they were asked."""
    folder = tmp_path_factory.mktemp("agent-ledger")
    grid = build_grid(ledger=Ledger(folder / "receipts.jsonl"))
    task = Task(
        intent=f"coordinate the programme {SECRET}",
        required_capabilities=("program_management",),
        issued_by=PRINCIPAL,
        budget_usd=0.5,
    )
    first = delegate(grid, task)
    grid.accept(first, note=SECRET)
    review = task.child(
        f"review the agreement {SECRET}",
        ["contract_review"],
        budget_usd=0.4,
        parent_delegation=first.delegation_id,
    )
    second = delegate(grid, review, parent=first)
    grid.ledger.receipt_delegation(second, status=DelegationStatus.COMPLETED, note=SECRET)
    (folder / "agent_ledger.yaml").write_text(ADAPTER)
    return folder


@pytest.fixture(scope="module")
def lake(written):
    made = open_lake(str(written / "lake"), create=True)
    adapter = str(written / "agent_ledger.yaml")
    report = ingest_files([written / "receipts.jsonl"], adapter=adapter, sink=made)
    assert (report.rows["token_events"], report.dead_letters) == (2, 0)
    build_chains(made, load_registry(None), datetime.now(UTC))
    return made.connect()


def test_its_receipts_become_the_chain_from_the_principal_on(lake):
    found = lake.execute("SELECT actor_path FROM chains ORDER BY depth DESC LIMIT 1").fetchone()

    agent = "urn:air:northwind.internal:agent:"
    assert found == ([PRINCIPAL, f"{agent}program-coordinator", f"{agent}legal-review"],)


def test_its_notes_are_not_stored(written, lake):
    assert SECRET in (written / "receipts.jsonl").read_text()
    assert SECRET not in json.dumps(lake.execute("FROM token_events").fetchall(), default=str)

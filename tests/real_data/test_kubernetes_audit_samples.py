"""Audit events of real clusters: every one is taken, and told as the truth tells it."""

import gzip
import json
from collections import Counter
from datetime import datetime
from pathlib import Path

import pytest

from tests.ingest.adapted import Told, pick

DATA = Path(__file__).parents[2].parent / "shared" / "data"
FALCO, PANTHER = DATA / "falco-k8s-public", DATA / "panther-public"
pytestmark = pytest.mark.skipif(not FALCO.is_dir(), reason="the sample data is not here")


def unzipped(path):
    return json.loads(gzip.decompress(path.read_bytes()))


@pytest.fixture(scope="module")
def truth():
    return unzipped(DATA / "truth" / "falco-k8s-public.json.gz")


@pytest.fixture(scope="module")
def found(truth):
    files = [unzipped(FALCO / f"{event['file']}.gz") for event in truth["events"]]
    return Told("kubernetes_audit", files)


def outcome_of(code):
    return "denied" if code in (401, 403) else "failure" if code >= 400 else "success"


def resource_of(event):
    name, namespace = event["name"], event["namespace"]
    return f"{namespace}/{name or ''}" if namespace else name


def test_every_event_is_one_call_with_the_fields_of_the_truth(truth, found):
    assert found.reasons == []
    assert len(found.calls) == truth["totals"]["events"] == 32

    told = [
        (
            *pick(row, "call_id", "event_id", "agent_id", "resource", "outcome"),
            row["operation"].split()[0],
            row["event_time"],
            row["ext"]["code"],
        )
        for row in found.calls
    ]
    assert told == [
        (
            event["auditID"],
            f"{event['auditID']}/{event['stage']}",
            event["user"],
            resource_of(event),
            outcome_of(event["code"]),
            event["verb"],
            datetime.fromisoformat(event["time"]),
            str(event["code"]),
        )
        for event in truth["events"]
    ]


def test_counts_by_audit_id_user_verb_and_resource_are_those_of_the_truth(truth, found):
    operations = Counter()
    for row in found.calls:
        verb, target = row["operation"].split()
        resource = target.removesuffix("/exec").rpartition("/")[2]
        operations[f"{verb} {resource}"] += 1

    assert len({row["call_id"] for row in found.calls}) == truth["totals"]["distinct_auditID"]
    assert Counter(row["agent_id"] for row in found.calls) == truth["by_user"]
    assert operations == truth["by_verb_resource"]
    assert not any(row["actor_convention"] == "impersonation" for row in found.calls)


def test_changes_of_rights_are_those_of_the_truth(truth, found):
    changing = [
        event["file"]
        for event, row in zip(truth["events"], found.calls, strict=True)
        if row["action_class"] == "admin_iam"
    ]

    assert sorted(changing) == sorted(truth["rights_changing"])


def test_the_two_secrets_are_made_by_name_and_nothing_of_them_is_kept(found):
    assert sorted(pick(row, "op", "secret_id") for row in found.secrets) == [
        ("create", "k8s/default/example-secret"),
        ("create", "k8s/kube-system/bootstrap-token-ne7bxu"),
    ]
    assert found.tokens == []


def eks_logs():
    lines = gzip.decompress((PANTHER / "events.jsonl.gz").read_bytes()).splitlines()
    for record in map(json.loads, lines):
        if "Amazon.EKS.Audit" in (record["log_types"] or []):
            yield record["log"]


def is_kubernetes(log):
    return bool(log.get("verb") or log.get("requestURI") or log.get("objectRef"))


def test_what_a_detection_vendor_calls_eks_audit_is_taken_once_it_has_a_time():
    """The publisher's tests leave out what their rules do not read, most often the time."""
    logs = list(eks_logs())
    own = [log for log in logs if is_kubernetes(log)]

    dated = Told(
        "kubernetes_audit", [{"stageTimestamp": "2026-01-01T00:00:00Z"} | log for log in own]
    )

    # The rest are records of Azure, Google, Okta, and others under the same rules.
    assert (len(logs), len(own)) == (121, 80)
    assert (len(dated.calls), dated.reasons) == (80, [])


def test_of_the_vendor_s_records_as_they_are_only_those_without_time_or_deed_are_refused():
    found = Told("kubernetes_audit", list(eks_logs()))

    assert len(found.calls) == 7
    assert len(found.reasons) == 114
    assert set(found.reasons) == {
        "stageTimestamp and requestReceivedTimestamp are missing or no times",
        "verb, requestURI and objectRef are missing",
    }


def test_a_key_of_aws_is_named_as_cloudtrail_names_it():
    found = Told("kubernetes_audit", list(eks_logs()))

    keys = {pick(row, "credential_issuer", "credential_kind") for row in found.calls}

    assert ("aws", "access_key_id") in keys

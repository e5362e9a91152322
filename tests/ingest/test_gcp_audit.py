"""What one entry of Google's audit logs becomes."""

import base64
import json

import pytest

from pipeline.ingest.sources import Context
from pipeline.ingest.sources.gcp_audit import adapt, recognises

PLANNER = "planner@acme.iam.gserviceaccount.com"
DEPLOYER = "deployer@acme.iam.gserviceaccount.com"
KEY = f"//iam.googleapis.com/projects/acme/serviceAccounts/{PLANNER}/keys/k1"
TOKEN = "GenerateAccessToken"


def entry(method="storage.objects.get", who="alice@acme.example", behind=(), payload=None, **more):
    authentication = {"principalEmail": who} if who else {}
    if behind:
        authentication["serviceAccountDelegationInfo"] = [
            {"firstPartyPrincipal": {"principalEmail": one}} if one else {} for one in behind
        ]
    return {
        "insertId": "i-1",
        "timestamp": "2026-11-20T09:00:00.123456789Z",
        "logName": "projects/acme/logs/cloudaudit.googleapis.com%2Factivity",
        "resource": {"type": "x", "labels": {"project_id": "acme"}},
        "protoPayload": {
            "serviceName": "storage.googleapis.com",
            "methodName": method,
            "authenticationInfo": authentication,
            "requestMetadata": {"callerIp": "198.51.100.1"},
            **(payload or {}),
        },
        **more,
    }


def issue(account=DEPLOYER, who="alice@acme.example", behind=(), method=TOKEN, **request):
    name = f"projects/-/serviceAccounts/{account}"
    payload = {"serviceName": "iamcredentials.googleapis.com", "request": {"name": name, **request}}
    return entry(method, who, behind, payload)


def rows(*records, family="tool_call"):
    adapted = adapt([json.dumps(record).encode() for record in records], Context())
    assert adapted.refusals == []
    return [
        row
        for batch in adapted.batches
        if batch.family == family
        for row in batch.batch.to_pylist(maps_as_pydicts="strict")
    ]


def subjects(chain):
    return [actor["subject"] for actor in chain]


def test_an_entry_is_a_call_of_the_principal_whose_rights_were_used():
    (row,) = rows(entry())

    assert (row["source"], row["observer"], row["agent_id"], row["agent_issuer"]) == (
        "gcp.audit:acme",
        "cloud_audit",
        "alice@acme.example",
        "gcp",
    )
    assert (row["operation"], row["action_class"], row["outcome"], row["phase"]) == (
        "storage:storage.objects.get",
        "read",
        "success",
        "single",
    )
    assert (row["subject_id"], row["actor_convention"], row["src_ip"]) == (
        None,
        "none",
        "198.51.100.1",
    )


def test_the_first_of_a_delegation_is_the_subject_and_the_rest_is_the_chain_backwards():
    (row,) = rows(entry(who=DEPLOYER, behind=["alice@acme.example", "relay@x.example", PLANNER]))

    assert (row["subject_id"], row["subject_kind"]) == ("alice@acme.example", "human")
    assert subjects(row["act_chain"]) == [DEPLOYER, PLANNER, "relay@x.example"]
    assert (row["agent_id"], row["actor_convention"]) == (DEPLOYER, "impersonation")


def test_every_way_to_name_a_delegating_identity_is_read():
    ways = {
        "principal://iam.googleapis.com/p/workloadIdentityPools/ci/subject/s": {
            "principalSubject": "principal://iam.googleapis.com/p/workloadIdentityPools/ci/subject/s"
        },
        "alice@acme.example": {"principalSubject": "user:alice@acme.example"},
        PLANNER: {"principalSubject": f"serviceAccount:{PLANNER}"},
        "partner-7": {"thirdPartyPrincipal": {"thirdPartyClaims": {"sub": "partner-7"}}},
        "robot@prod.google.com": {
            "firstPartyPrincipal": {"principalEmail": "robot@prod.google.com"}
        },
    }
    records = [entry(who=DEPLOYER) for _ in ways]
    for record, way in zip(records, ways.values(), strict=True):
        record["protoPayload"]["authenticationInfo"]["serviceAccountDelegationInfo"] = [way]

    found = rows(*records)

    assert [(row["subject_id"], row["subject_kind"]) for row in found] == list(
        zip(ways, ["workload", "human", "service_account", "unknown", "workload"], strict=True)
    )


def test_a_delegation_that_names_nobody_is_told():
    (row,) = rows(entry(who=DEPLOYER, behind=[None]))

    assert (row["subject_id"], row["act_malformed_reason"], row["act_chain"]) == (
        None,
        "delegation_without_principal",
        [],
    )


def test_a_static_key_is_the_credential():
    record = entry(who=PLANNER)
    record["protoPayload"]["authenticationInfo"]["serviceAccountKeyName"] = KEY

    (row,) = rows(record)

    assert (row["credential_issuer"], row["credential_kind"], row["credential_id"]) == (
        "gcp",
        "api_key_id",
        "k1",
    )


def test_outcome_and_decision_are_google_s():
    def answered(code=None, granted=()):
        permissions = [
            {"permission": "p.q.r", **({"granted": one} if one is not None else {})}
            for one in granted
        ]
        status = {"status": {"code": code}} if code is not None else {}
        return entry(payload={"authorizationInfo": permissions, **status})

    found = rows(
        answered(),
        answered(0, [True, True]),
        answered(7, [None]),
        answered(16),
        answered(4, [True]),
        answered(6, [True]),
        answered(None, [False]),
        answered(0, [True, False]),
        answered(None, ["nonsense"]),
    )

    assert [(row["outcome"], row["decision_effect"]) for row in found] == [
        ("success", None),
        ("success", "allow"),
        ("denied", "deny"),
        ("denied", None),
        ("timeout", "allow"),
        ("failure", "allow"),
        ("denied", "deny"),
        ("success", "deny"),
        ("success", None),
    ]
    assert found[1]["required_scopes"] == ["p.q.r"]


def test_the_records_of_a_long_operation_are_one_call():
    long = {"id": "operations/0123456789abcdef"}

    found = rows(
        entry(operation={**long, "first": True}),
        entry(operation={**long, "last": True}),
        entry(operation={**long, "first": True, "last": True}),
        entry(operation={}),
    )

    assert [(row["call_id"], row["phase"], row["outcome"]) for row in found] == [
        (long["id"], "pre", "unknown"),
        (long["id"], "post", "success"),
        ("i-1", "single", "success"),
        ("i-1", "single", "success"),
    ]


def test_actions_have_the_class_of_their_method():
    methods = {
        "google.cloud.secretmanager.v1.SecretManagerService.AccessSecretVersion": "secret_read",
        "io.k8s.core.v1.secrets.list": "secret_read",
        "io.k8s.core.v1.pods.exec.create": "execute",
        "google.cloud.aiplatform.v1.PredictionService.GenerateContent": "execute",
        "SetIamPolicy": "admin_iam",
        "storage.setIamPermissions": "admin_iam",
        "google.iam.admin.v1.CreateServiceAccountKey": "admin_iam",
        "io.k8s.authorization.rbac.v1.clusterrolebindings.create": "admin_iam",
        "storage.objects.get": "read",
        "google.storage.objects.list": "read",
        "GetIamPolicy": "read",
        "v1.compute.firewalls.delete": "delete",
        "v1.compute.instances.insert": "write",
        "Encrypt": None,
    }

    found = rows(*map(entry, methods))

    assert {row["tool_name"]: row["action_class"] for row in found} == methods


def test_a_generated_token_stands_for_its_caller_and_is_held_by_its_account():
    (row,) = rows(issue(scope=["a", "b"], lifetime="900s"), family="token_event")

    assert (row["op"], row["credential_kind"], row["credential_id"], row["scopes"]) == (
        "issue",
        "local",
        "i-1",
        ["a", "b"],
    )
    assert (row["subject_id"], row["actor_id"], subjects(row["act_chain"])) == (
        "alice@acme.example",
        DEPLOYER,
        [DEPLOYER],
    )
    # OAuth scopes are not what IAM's permissions are measured by.
    assert row["scope_dialect"] == "policy"
    assert (row["expires_at"] - row["issued_at"]).total_seconds() == 900


def test_a_token_s_chain_is_what_the_calls_with_it_will_show():
    token = issue(DEPLOYER, PLANNER, ["alice@acme.example", "relay@x.example"])
    (made,) = rows(token, family="token_event")

    (used,) = rows(entry(who=DEPLOYER, behind=["alice@acme.example", "relay@x.example", PLANNER]))

    assert (made["act_chain"], made["subject_id"]) == (used["act_chain"], used["subject_id"])


def test_accounts_in_between_stand_in_the_chain_last_first():
    between = [f"projects/-/serviceAccounts/{one}" for one in ("first@x", "second@x")]

    (row,) = rows(issue(delegates=between), family="token_event")

    assert subjects(row["act_chain"]) == [DEPLOYER, "second@x", "first@x"]


def test_a_token_made_with_a_key_descends_from_it():
    record = issue(PLANNER, PLANNER, method="SignJwt", payload="s3cr3t")
    record["protoPayload"]["authenticationInfo"]["serviceAccountKeyName"] = KEY

    (row,) = rows(record, family="token_event")

    assert row["parents"] == [{"role": "source", "issuer": "gcp", "kind": "api_key_id", "id": "k1"}]
    assert (row["token_type"], row["actor_convention"], row["act_chain"]) == ("jwt", "none", [])


def test_a_denied_token_is_a_failure_that_grants_nothing():
    record = issue(scope=["a"])
    record["protoPayload"]["status"] = {"code": 7}

    (row,) = rows(record, family="token_event")

    assert (row["outcome"], row["error"], row["credential_id"]) == (
        "failure",
        "PERMISSION_DENIED",
        None,
    )
    assert (row["scopes"], row["requested_scopes"]) == ([], ["a"])


def test_an_exchanged_token_is_of_the_principal_that_google_mapped():
    mapped = "principal://iam.googleapis.com/p/workloadIdentityPools/ci/subject/s"
    record = entry(
        "google.identity.sts.v1.SecurityTokenService.ExchangeToken",
        None,
        payload={"metadata": {"mapped_principal": mapped}, "request": {"grantType": "g"}},
    )

    (row,) = rows(record, family="token_event")

    assert (row["op"], row["subject_id"], row["subject_kind"], row["grant_type"]) == (
        "exchange",
        mapped,
        "workload",
        "g",
    )


def test_a_key_comes_and_goes_under_one_id_whatever_names_its_account():
    name = f"projects/acme/serviceAccounts/{PLANNER}/keys/k1"
    made = entry(
        "google.iam.admin.v1.CreateServiceAccountKey",
        payload={"response": {"name": name, "valid_before_time": {"seconds": 253402300799}}},
    )
    ends = entry(
        "google.iam.admin.v1.CreateServiceAccountKey",
        payload={"response": {"name": name, "valid_before_time": {"seconds": 1795168800}}},
    )
    gone = entry(
        "google.iam.admin.v1.DeleteServiceAccountKey",
        payload={"resourceName": "projects/-/serviceAccounts/1234/keys/k1"},
    )

    secrets = rows(made, ends, gone, family="secret_event")
    tokens = rows(made, gone, family="token_event")

    assert [(row["op"], row["secret_id"], row["secret_kind"]) for row in secrets] == [
        ("create", "k1", "gcp_sa_key"),
        ("create", "k1", "gcp_sa_key"),
        ("delete", "k1", "gcp_sa_key"),
    ]
    assert [row["never_expires"] for row in secrets[:2]] == [True, False]
    assert secrets[1]["expires_at"].isoformat() == "2026-11-20T10:00:00+00:00"
    assert [(row["op"], row["credential_kind"], row["credential_id"]) for row in tokens] == [
        ("issue", "api_key_id", "k1"),
        ("revoke", "api_key_id", "k1"),
    ]


def test_a_secret_read_and_rotated_is_one_secret_whether_its_project_is_a_number_or_a_name():
    service = "google.cloud.secretmanager.v1.SecretManagerService"
    read = entry(
        f"{service}.AccessSecretVersion",
        payload={"resourceName": "projects/1234/secrets/db/versions/3"},
    )
    added = entry(
        f"{service}.AddSecretVersion",
        payload={
            "resourceName": "projects/acme/secrets/db",
            "response": {"name": "projects/1234/secrets/db/versions/4"},
        },
    )
    denied = entry(
        f"{service}.AccessSecretVersion",
        payload={"resourceName": "projects/1234/secrets/db/versions/3", "status": {"code": 7}},
    )

    found = rows(read, added, denied, family="secret_event")

    assert [(row["op"], row["secret_id"], row["secret_version"]) for row in found] == [
        ("read", "projects/acme/secrets/db", "3"),
        ("rotate", "projects/acme/secrets/db", "4"),
    ]


def test_other_envelopes_and_spellings_are_read():
    data = base64.b64encode(json.dumps(entry(insertId="pushed")).encode()).decode()
    pushed = {"message": {"data": data}, "subscription": "s"}
    lowered = {name.lower(): part for name, part in entry(insertId="lowered").items()}

    found = rows(
        pushed,
        {"receivedMessages": [pushed, {"ackId": "a", **pushed}]},
        {"entries": [entry(insertId="listed")]},
        [entry(insertId="array")],
        lowered,
    )

    assert [(row["event_id"], row["tool_name"]) for row in found] == [
        (name, "storage.objects.get") for name in ("pushed", "pushed", "listed", "array", "lowered")
    ]


def test_a_principal_that_google_leaves_out_is_unknown():
    (row,) = rows(entry(who=None))

    assert (row["agent_id"], row["agent_issuer"], row["actor_id"]) == ("unknown", None, None)


def test_a_change_of_policy_tells_to_whom_it_gives():
    deltas = [
        {"action": "ADD", "role": "roles/owner", "member": f"serviceAccount:{DEPLOYER}"},
        {"action": "REMOVE", "role": "roles/owner", "member": "user:bob@acme.example"},
    ]
    payload = {"serviceData": {"policyDelta": {"bindingDeltas": deltas}}}
    [call] = rows(entry("SetIamPolicy", DEPLOYER, payload=payload))

    assert call["ext"]["target_id"] == f"serviceAccount:{DEPLOYER}"


def test_the_latest_version_of_a_secret_has_a_number_or_none():
    def read(name):
        method = "google.cloud.secretmanager.v1.SecretManagerService.AccessSecretVersion"
        request = {"name": "projects/acme/secrets/db/versions/latest"}
        payload = {"request": request, "resourceName": f"projects/1/secrets/db/versions/{name}"}
        return entry(method, payload=payload)

    told = [row["secret_version"] for row in rows(read("3"), read("latest"), family="secret_event")]
    assert told == ["3", None]


def test_a_call_without_a_method_is_partial():
    record = entry()
    del record["protoPayload"]["methodName"]

    (batch,) = adapt([json.dumps(record).encode()], Context()).batches

    assert batch.batch.column("tool_name").to_pylist() == ["unknown"]
    assert batch.parse_status.to_pylist() == ["partial"]


def test_what_is_no_entry_is_refused_once_and_without_its_request():
    secret = {"request": {"key": "s3cr3t"}, "response": {"key": "s3cr3t"}}
    timeless = entry(TOKEN, payload=secret)
    del timeless["timestamp"]
    odd = {"PROTOPAYLOAD": {"Request": {"key": "s3cr3t"}}}
    values = [timeless, odd, {"textPayload": "x"}, {"message": {"data": "s3cr3t%"}}]

    adapted = adapt([json.dumps(value).encode() for value in values], Context())

    assert adapted.batches == []
    assert sorted((item.row, item.reason) for item in adapted.refusals) == [
        (0, "timestamp is missing or is no time"),
        (1, "timestamp is missing or is no time"),
        (2, "protoPayload is missing"),
        (3, "protoPayload is missing"),
    ]
    assert not any(b"s3cr3t" in item.raw for item in adapted.refusals)


def test_odd_parts_lose_no_entry():
    odd = [
        {"authenticationInfo": "alice"},
        {"authenticationInfo": {"serviceAccountDelegationInfo": "x"}},
        {"authenticationInfo": {"serviceAccountDelegationInfo": [None, 3, []]}},
        {"authorizationInfo": {"permission": "x"}},
        {"authorizationInfo": [None]},
        {"status": "failed"},
        {"status": {"code": 10**30}},
        {"request": [], "response": 7},
        {"request": {"lifetime": "99999999999999s", "scope": "a b", "delegates": [None]}},
        {"response": {"valid_before_time": {"seconds": 1e300}}},
        {"resourceName": None, "methodName": 3},
    ]
    methods = [TOKEN, "google.iam.admin.v1.CreateServiceAccountKey", "x.AccessSecretVersion"]
    records = [entry(method, payload=part) for method in methods for part in odd]

    adapted = adapt([json.dumps(record).encode() for record in records], Context())

    calls = [batch for batch in adapted.batches if batch.family == "tool_call"]
    assert sorted(int(row) for batch in calls for row in batch.rows) == list(range(len(records)))
    assert adapted.refusals == []


@pytest.mark.parametrize(
    "other",
    [
        None,
        [],
        "x",
        {"protoPayload": None},
        {"protoPayload": {"@type": "type.googleapis.com/google.appengine.logging.v1.RequestLog"}},
        {"message": {"data": base64.b64encode(b'{"a": 1}').decode()}},
        {"message": {"data": "no base64"}},
        {"entries": []},
    ],
)
def test_other_records_are_not_recognised(other):
    assert not recognises(other)

"""Audit events of Kubernetes: what one of them becomes, and whose word counts."""

import json
from datetime import UTC, datetime

import pytest

from pipeline.chains import build_chains
from pipeline.ingest.run import ingest_files
from pipeline.ingest.sources.kubernetes_audit import recognises
from pipeline.lake import open_lake
from pipeline.registry import load_registry
from tests.factories import NOW
from tests.ingest.adapted import Told, pick

CREDENTIAL = ("credential_issuer", "credential_kind", "credential_id")
ACCOUNT = "system:serviceaccount:shop:cart"
HELD = "authentication.kubernetes.io/credential-id"
ISSUED = "authentication.kubernetes.io/issued-credential-id"
SECRET = {"resource": "secrets", "namespace": "shop", "name": "db", "apiVersion": "v1"}
TOKEN = {
    "resource": "serviceaccounts",
    "subresource": "token",
    "namespace": "shop",
    "name": "cart",
    "apiVersion": "v1",
}


def user(name, held=None, **extra):
    more = {HELD: [held]} if held else {}
    return {"username": name, "groups": ["g"], "extra": more | extra}


def event(**fields):
    return {
        "kind": "Event",
        "apiVersion": "audit.k8s.io/v1",
        "level": "Metadata",
        "auditID": "11111111-2222-4333-8444-555555555555",
        "stage": "ResponseComplete",
        "requestURI": "/api/v1/namespaces/shop/pods/one",
        "verb": "get",
        "user": user("dana"),
        "sourceIPs": ["10.1.1.1"],
        "objectRef": {"resource": "pods", "namespace": "shop", "name": "one", "apiVersion": "v1"},
        "responseStatus": {"metadata": {}, "code": 200},
        "requestReceivedTimestamp": "2026-10-05T08:00:00.100000Z",
        "stageTimestamp": "2026-10-05T08:00:00.200000Z",
    } | fields


def told(*events, **context):
    return Told("kubernetes_audit", events, **context)


def calls(*many):
    """Return the call of each event, given by what is special about it."""
    found = told(*(event(**fields) for fields in many))
    assert found.reasons == []
    assert len(found.calls) == len(many)
    return found.calls


def call(**fields):
    (row,) = calls(fields)
    return row


def issuances(*many):
    asked = {"verb": "create", "objectRef": TOKEN, "responseStatus": {"code": 201}}
    return told(*(event(**asked | {"annotations": {ISSUED: "JTI=b"}} | one) for one in many)).tokens


def column(rows, name):
    return [row.get(name) for row in rows]


STAGES = [
    ("RequestReceived", None, "pre", "unknown"),
    ("ResponseStarted", 101, None, "success"),
    ("ResponseComplete", 201, "post", "success"),
    ("ResponseComplete", 401, "post", "denied"),
    ("ResponseComplete", 403, "post", "denied"),
    ("ResponseComplete", 404, "post", "failure"),
    ("ResponseComplete", 504, "post", "timeout"),
    ("ResponseComplete", None, "post", "unknown"),
    ("Panic", 500, "post", "failure"),
    ("Panic", None, "post", "failure"),
]


def test_a_stage_is_one_observation_with_its_own_phase_and_outcome():
    rows = calls(
        *(
            {"stage": stage, "responseStatus": {"code": code} if code else None}
            for stage, code, _, _ in STAGES
        )
    )

    assert [pick(row, "phase", "outcome") for row in rows] == [case[2:] for case in STAGES]
    assert column(rows, "event_id") == [
        f"11111111-2222-4333-8444-555555555555/{stage}" for stage, _, _, _ in STAGES
    ]


def test_an_event_without_stage_and_audit_id_is_known_by_its_digest():
    row = call(stage=None, auditID=None)

    assert len(row["event_id"]) == 64
    assert "call_id" not in row


def test_the_stage_s_own_time_is_its_time_and_older_fields_stand_in():
    rows = calls(
        {},
        {"stageTimestamp": None},
        {
            "stageTimestamp": "soon",
            "requestReceivedTimestamp": None,
            "timestamp": "2018-10-25T13:58:49Z",
        },
    )

    assert column(rows, "event_time") == [
        datetime(2026, 10, 5, 8, 0, 0, 200_000, tzinfo=UTC),
        datetime(2026, 10, 5, 8, 0, 0, 100_000, tzinfo=UTC),
        datetime(2018, 10, 25, 13, 58, 49, tzinfo=UTC),
    ]


def test_the_user_acts_and_an_impersonated_user_is_the_subject():
    row = call(
        user=user("dana", "JTI=a"),
        # The caller chose these extras: they prove nothing.
        impersonatedUser={"username": ACCOUNT, "extra": {HELD: ["JTI=stolen"]}},
        sourceIPs=["203.0.113.9", "10.1.1.1"],
    )

    assert pick(row, "agent_id", "actor_id", "actor_convention") == (
        "dana",
        "dana",
        "impersonation",
    )
    assert pick(row, "subject_id", "subject_kind") == (ACCOUNT, "service_account")
    assert pick(row, *CREDENTIAL) == (None, "jti", "a")
    # Whatever stands before the last address came with the request.
    assert row["src_ip"] == "10.1.1.1"


def test_a_name_tells_the_kind_only_where_the_cluster_gives_it():
    names = [ACCOUNT, "system:node:one", "system:kube-scheduler", "system:anonymous", "dana"]

    rows = calls(*({"user": user(name)} for name in names))

    assert column(rows, "subject_kind") == [
        "service_account",
        "workload",
        "workload",
        "unknown",
        "unknown",
    ]


def test_who_was_not_authenticated_has_no_name():
    row = call(user={}, responseStatus={"code": 401})

    assert pick(row, "agent_id", "actor_id", "subject_id") == ("unknown", None, None)


THUMBPRINT = "5b6a51b9e44dfe3021ef089d089fb1c09dc801391343dee2370a3f990604445d"
CREDENTIALS = [
    (user(ACCOUNT, "JTI=a"), ("k8s:blue", "k8s_credential_id", "JTI=a")),
    # The token is its provider's, whose name the cluster does not log.
    (user("dana", "JTI=a"), (None, "jti", "a")),
    (
        user("admin", f"X509SHA256={THUMBPRINT}"),
        (None, "x5t_s256", "W2pRueRN_jAh7widCJ-xwJ3IATkTQ97iNwo_mQYERF0"),
    ),
    (user("admin", "X509SHA256=odd"), (None, "x5t_s256", "odd")),
    (user("sre", accessKeyId=["ASIAEXAMPLE"]), ("aws", "access_key_id", "ASIAEXAMPLE")),
    (user("dana", "JTI="), (None, None, None)),
    (user("dana", "SOMETHING=else"), (None, None, None)),
    (user("dana"), (None, None, None)),
]


def test_a_credential_is_named_as_its_issuer_names_it():
    found = told(*(event(user=caller) for caller, _ in CREDENTIALS), instance="blue")

    assert [pick(row, *CREDENTIAL) for row in found.calls] == [named for _, named in CREDENTIALS]


def test_a_pod_is_the_instance_of_its_account_and_named_with_its_namespace():
    pod = {"authentication.kubernetes.io/pod-name": ["cart-1"],
           "authentication.kubernetes.io/pod-uid": ["u-1"]}  # fmt: skip

    row = call(user={"username": ACCOUNT, "extra": pod})

    assert pick(row, "workload_id", "agent_instance") == ("shop/cart-1", "u-1")


def test_the_cluster_s_name_is_in_every_issuer_of_its_own():
    found = told(event(objectRef=SECRET, user=user(ACCOUNT, "JTI=a")), instance="blue")

    assert pick(found.calls[0], "source", "agent_issuer", "tool_server") == (
        "kubernetes.audit:blue",
        "k8s:blue",
        "blue",
    )
    assert pick(found.secrets[0], "secret_id", "store") == ("k8s/blue/shop/db", "k8s:blue")


ACTIONS = [
    ("create", {"resource": "pods", "subresource": "exec"}, "execute"),
    ("get", {"resource": "pods", "subresource": "exec"}, "execute"),
    ("get", {"resource": "pods", "subresource": "log"}, "read"),
    ("create", TOKEN, "execute"),
    ("create", {"resource": "serviceaccounts"}, "admin_iam"),
    ("delete", {"resource": "roles", "apiGroup": "rbac.authorization.k8s.io"}, "admin_iam"),
    ("patch", {"resource": "clusterroles"}, "admin_iam"),
    # Somebody's own resource that is called so.
    ("create", {"resource": "roles", "apiGroup": "game.example"}, "write"),
    ("list", {"resource": "roles", "apiGroup": "rbac.authorization.k8s.io"}, "read"),
    ("update", {"resource": "certificatesigningrequests", "subresource": "approval"}, "admin_iam"),
    (
        "update",
        {"resource": "configmaps", "namespace": "kube-system", "name": "aws-auth"},
        "admin_iam",
    ),
    ("update", {"resource": "configmaps", "namespace": "shop", "name": "aws-auth"}, "write"),
    ("create", {"resource": "selfsubjectaccessreviews"}, "read"),
    ("create", {"resource": "tokenreviews"}, "read"),
    ("watch", {"resource": "secrets"}, "secret_read"),
    ("deletecollection", {"resource": "pods"}, "delete"),
    ("post", None, "write"),
    ("propfind", None, "read"),
    ("juggle", {"resource": "pods"}, None),
]


def test_an_action_is_classed_by_verb_and_resource():
    rows = calls(*({"verb": verb, "objectRef": ref} for verb, ref, _ in ACTIONS))

    assert column(rows, "action_class") == [action for _, _, action in ACTIONS]


OPERATIONS = [
    ({}, "get pods", "shop/one"),
    ({"objectRef": {"resource": "roles", "apiGroup": "rbac", "name": "x"}}, "get rbac/roles", "x"),
    ({"objectRef": {"resource": "nodes"}, "verb": "list"}, "list nodes", None),
    ({"objectRef": {"resource": "pods", "namespace": "shop"}}, "get pods", "shop/"),
    ({"objectRef": None, "requestURI": "/healthz?a=b"}, "get /healthz", "/healthz"),
    ({"objectRef": None, "requestURI": "/healthz", "verb": None}, "/healthz", "/healthz"),
]


def test_an_operation_is_verb_group_and_resource():
    rows = calls(*(fields for fields, _, _ in OPERATIONS))

    assert [pick(row, "operation", "resource") for row in rows] == [case[1:] for case in OPERATIONS]
    assert column(rows, "tool_name") == column(rows, "operation")


def test_the_command_of_exec_is_kept_as_a_digest_only():
    uri = "/api/v1/namespaces/shop/pods/one/exec?command=cat&command=%2Fetc%2Fpasswd"
    ref = {"resource": "pods", "subresource": "exec", "namespace": "shop", "name": "one"}

    one, other = calls(
        {"requestURI": uri, "objectRef": ref}, {"requestURI": uri + "2", "objectRef": ref}
    )

    assert "passwd" not in str(one)
    assert one["args_hash"] != other["args_hash"]


def test_the_decision_is_the_authoriser_s():
    said = [
        {"authorization.k8s.io/decision": word, "authorization.k8s.io/reason": "RBAC"}
        for word in ("allow", "forbid", "x")
    ]

    rows = calls(*({"annotations": annotations} for annotations in said))

    assert [pick(row, "decision_effect", "decision_policy") for row in rows] == [
        ("allow", "RBAC"),
        ("deny", "RBAC"),
        (None, "RBAC"),
    ]


def test_an_issued_token_descends_from_the_caller_s():
    full = {
        "user": user(ACCOUNT, "JTI=a"),
        "requestObject": {"spec": {"audiences": ["asked"], "boundObjectRef": {"name": "pod"}}},
        "responseObject": {
            "spec": {"audiences": ["vault"]},
            "status": {"token": "do-not-store", "expirationTimestamp": "2026-10-05T09:00:00Z"},
        },
    }

    row, bare = issuances(full, {"user": user("dana")})

    assert pick(row, *CREDENTIAL) == ("k8s", "k8s_credential_id", "JTI=b")
    assert row["credential_aliases"] == [{"issuer": None, "kind": "jti", "id": "b"}]
    assert row["parents"] == [
        {"role": "source", "issuer": "k8s", "kind": "k8s_credential_id", "id": "JTI=a"}
    ]
    assert pick(row, "subject_id", "actor_id", "audience") == (ACCOUNT, ACCOUNT, ["vault"])
    assert row["expires_at"] == datetime(2026, 10, 5, 9, tzinfo=UTC)
    assert row["scope_known"] is False
    assert "do-not-store" not in str(row)
    # What the audit policy leaves out stays unknown.
    assert pick(bare, "audience", "expires_at", "parents") == (None, None, None)


def test_any_credential_but_its_own_may_be_the_parent_of_a_token():
    rows = issuances(
        {"user": user("dana", "JTI=a")},
        {"user": user("sre", accessKeyId=["K"])},
        {"user": user("node", "X509SHA256=odd")},
        {"user": user(ACCOUNT, "JTI=b")},
    )

    assert column(rows, "parents") == [
        [{"role": "source", "issuer": None, "kind": "jti", "id": "a"}],
        [{"role": "source", "issuer": "aws", "kind": "access_key_id", "id": "K"}],
        [{"role": "source", "issuer": None, "kind": "x5t_s256", "id": "odd"}],
        None,
    ]


def test_a_binding_tells_to_whom_it_gives_its_role():
    subjects = [
        {"kind": "ServiceAccount", "name": "cart", "namespace": "shop"},
        {"kind": "ServiceAccount", "name": "till"},
        {"kind": "User", "name": "dana"},
    ]
    ref = {"resource": "rolebindings", "name": "b", "namespace": "shop"}
    bound = {"objectRef": ref, "requestObject": {"subjects": subjects}}
    (made, read) = calls({"verb": "create"} | bound, {"verb": "get"} | bound)

    assert made["ext"]["target_id"] == "system:serviceaccount:shop:cart till dana"
    assert "target_id" not in read["ext"]


def test_no_token_is_issued_where_the_answer_names_none():
    assert (
        issuances(
            {"stage": "RequestReceived"},
            {"responseStatus": {"code": 403}},
            {"annotations": {}},
            {"annotations": {ISSUED: ""}},
            {"objectRef": TOKEN | {"resource": "pods"}},
        )
        == []
    )


def test_the_name_of_the_annotation_in_the_first_release_counts_too():
    old = "authentication.k8s.io/issued-credential-id"

    (row,) = issuances({"annotations": {old: "JTI=b"}})

    assert row["credential_id"] == "JTI=b"


def test_a_secret_under_its_name_is_a_secret_event():
    verbs = ("get", "watch", "create", "delete")

    rows = told(*(event(verb=verb, objectRef=SECRET) for verb in verbs)).secrets

    assert column(rows, "op") == ["read", "read", "create", "delete"]
    assert {pick(row, "secret_id", "accessed_by_id") for row in rows} == {("k8s/shop/db", "dana")}


def test_what_names_no_secret_or_did_not_happen_is_a_call_and_nothing_more():
    cases = [
        {"verb": "update"},
        {"responseStatus": {"code": 403}},
        {"responseStatus": None},
        {"stage": "RequestReceived"},
        {"stage": "ResponseStarted"},
        {"objectRef": {"resource": "secrets", "namespace": "shop"}},
        {"objectRef": SECRET | {"resource": "pods"}},
    ]

    found = told(*(event(**{"objectRef": SECRET} | fields) for fields in cases))

    assert found.secrets == []
    assert len(found.calls) == len(cases)


def test_an_event_without_time_or_deed_is_refused_by_name():
    private = {"requestObject": {"data": "do-not-store"}, "requestURI": "/x?do-not-store"}
    timeless = "stageTimestamp and requestReceivedTimestamp are missing or no times"

    found = told(
        event(**private, stageTimestamp=None, requestReceivedTimestamp=None),
        event(**private, stageTimestamp={}, requestReceivedTimestamp=[1]),
        event(verb="", requestURI=None, objectRef=[]),
    )

    assert found.calls == []
    assert found.reasons == [timeless, timeless, "verb, requestURI and objectRef are missing"]
    assert not any(b"do-not-store" in refusal.raw for refusal in found.refusals)


def test_odd_values_cost_a_field_and_never_the_event():
    odd = [
        {"user": "dana"},
        {"user": {"username": ["x"], "extra": {HELD: "JTI=a"}}},
        {"user": {"username": "dana", "extra": {HELD: [None, {}]}}},
        {"objectRef": "pods"},
        {"sourceIPs": []},
        {"sourceIPs": {"a": 1}},
        {"responseStatus": {"code": 10**30}},
        {"annotations": [1]},
        {"impersonatedUser": []},
        {"requestObject": "text", "responseObject": 7},
    ]

    assert len(calls(*odd, {})) == len(odd) + 1


def test_a_list_of_events_and_a_value_with_many_give_the_same_rows():
    first, second = event(), event(auditID="another-one-of-16-signs")
    document = {"kind": "EventList", "apiVersion": "audit.k8s.io/v1", "items": [first, second]}

    assert told(document).calls == told([first, second]).calls == told(first, second).calls


def shipped(text):
    """Return one event as CloudWatch Logs and as AKS ship it."""
    return [
        {"logGroup": "/aws/eks/blue/cluster", "logEvents": [{"id": "1", "message": text}]},
        {"category": "kube-audit", "properties": {"log": text}},
        {"records": [{"category": "kube-audit", "properties": {"log": text}}]},
        [{"category": "kube-audit", "properties": {"log": text}}],
        {"category": "kube-audit", "Properties": {"log": text}},
        {"Category": "kube-audit", "log_s": text},
        {"events": [{"logStreamName": "kube-apiserver-audit-1", "message": text}]},
    ]


def test_what_a_cloud_ships_as_text_gives_the_rows_of_the_event():
    (expected,) = calls({})

    found = told(*shipped(json.dumps(event())), *shipped('{"cut": "do-not-store'))

    assert found.calls == [expected] * 7
    assert found.reasons == ["verb, requestURI and objectRef are missing"] * 7
    assert not any(b"do-not-store" in refusal.raw for refusal in found.refusals)


@pytest.mark.parametrize(
    ("record", "is_ours"),
    [
        (event(), True),
        *((document, True) for document in shipped(json.dumps(event()))[:2]),
        *((document, False) for document in shipped('{"level": "info"}')),
        ({"kind": "EventList", "apiVersion": "audit.k8s.io/v1beta1", "items": []}, True),
        ({"auditID": "a", "stage": "Panic", "verb": "get"}, True),
        # An event of the cluster's own, which is no audit.
        ({"kind": "Event", "apiVersion": "v1", "reason": "Pulled"}, False),
        ({"verb": "get", "objectRef": {}}, False),
        ([], False),
        (None, False),
        (b"\x00", False),
    ],
)
def test_it_is_recognised_by_its_version_or_its_three_marks(record, is_ours):
    assert recognises(record) is is_ours


@pytest.fixture(scope="module")
def con(tmp_path_factory):
    """A person makes a token for one account, and that one for another; stages come apart."""
    folder = tmp_path_factory.mktemp("cluster")
    audit_id = "99999999-2222-4333-8444-555555555555"
    one, two = TOKEN | {"name": "one"}, TOKEN | {"name": "two"}
    made = {"verb": "create", "responseStatus": {"code": 201}}
    last = {"auditID": audit_id, "user": user("system:serviceaccount:shop:two", "JTI=two")}
    files = {
        "a": [
            event(auditID="a", **made, objectRef=one, user=user("dana", "JTI=dana"),
                  annotations={ISSUED: "JTI=one"}),
            event(**last, stage="RequestReceived", responseStatus=None),
        ],
        "b": [
            event(**last, stage="ResponseComplete"),
            event(**last, stage="ResponseStarted"),
            event(auditID="b", **made, objectRef=two, annotations={ISSUED: "JTI=two"},
                  user=user("system:serviceaccount:shop:one", "JTI=one")),
        ],
    }  # fmt: skip
    lake = open_lake(str(folder / "lake"), create=True)
    for name, events in files.items():
        path = folder / f"{name}.jsonl"
        path.write_text("\n".join(map(json.dumps, events)), encoding="utf-8")
        ingest_files([path], adapter="kubernetes_audit", sink=lake, now=NOW)
    build_chains(lake, load_registry(None), NOW)
    return lake.connect()


def test_stages_of_one_request_in_two_files_are_one_call(con):
    found = con.execute(
        "SELECT observations, outcome, actor_path FROM calls WHERE operation = 'get pods'"
    ).fetchall()

    path = ["dana", "system:serviceaccount:shop:one", "system:serviceaccount:shop:two"]
    assert found == [(3, "success", path)]

"""An ordinary day of three clouds, as their logs tell it: nobody has to look at it."""

import json
from datetime import UTC, datetime, timedelta

import pytest

from pipeline.chains import build_chains
from pipeline.detections.ledger import Window
from pipeline.detections.rule import read_rules
from pipeline.detections.run import run_detections
from pipeline.ingest.run import ingest_files
from pipeline.ingest.sources import Context
from pipeline.lake import open_lake
from pipeline.registry import load_registry

DAY = datetime(2026, 3, 1, tzinfo=UTC)
LATER = DAY + timedelta(days=2)
ACCOUNT = "111111111111"
DEPLOYER = "deployer@acme.iam.gserviceaccount.com"


def moment(hour, minute=0):
    return (DAY + timedelta(hours=hour, minutes=minute)).isoformat().replace("+00:00", "Z")


def aws(hour, name, identity, source="s3", **over):
    return {
        "eventID": f"{name}-{hour}-{identity.get('accessKeyId')}",
        "eventTime": moment(hour),
        "eventSource": f"{source}.amazonaws.com",
        "eventName": name,
        "userIdentity": {"accountId": ACCOUNT} | identity,
        "recipientAccountId": ACCOUNT,
    } | over


def session(role, key):
    return {
        "type": "AssumedRole",
        "arn": f"arn:aws:sts::{ACCOUNT}:assumed-role/{role}/s",
        "accessKeyId": key,
    }


def person(key, **more):
    arn = f"arn:aws:iam::{ACCOUNT}:user/ann"
    return {"type": "IAMUser", "arn": arn, "userName": "ann", "accessKeyId": key, **more}


def takes(hour, role, key, identity, name="AssumeRole"):
    return aws(
        hour,
        name,
        identity,
        "sts",
        requestParameters={"roleArn": f"arn:aws:iam::{ACCOUNT}:role/{role}"},
        responseElements={"credentials": {"accessKeyId": key, "expiration": moment(hour + 6)}},
    )


def day_of_aws():
    service = {"type": "AWSService", "invokedBy": "ec2.amazonaws.com"}
    foreign = {"type": "AWSAccount", "accountId": "222222222222", "principalId": "AIDAVENDOR"}
    yield from (aws(hour, "ListBuckets", person("AKIAANN")) for hour in range(24))
    yield takes(1, "web", "ASIAWEB", service)
    yield takes(2, "pod", "ASIAPOD", session("web", "ASIAWEB"), "AssumeRoleForPodIdentity")
    yield from (
        aws(3, "PutObject", session(*one)) for one in (("web", "ASIAWEB"), ("pod", "ASIAPOD"))
    )
    yield aws(4, "DescribeInstances", person("ASIACONSOLE"), sessionCredentialFromConsole="true")
    yield aws(5, "RunInstances", person("ASIASTACK", invokedBy="cloudformation.amazonaws.com"))
    yield aws(6, "RotateKey", {"invokedBy": "AWS Internal"}, "kms", eventType="AwsServiceEvent")
    yield aws(7, "AssumeRole", foreign, "sts")


def google(hour, method, who, **payload):
    service = "iamcredentials" if method.startswith("Generate") else "storage"
    return {
        "insertId": f"{method}-{hour}-{who}",
        "timestamp": moment(hour),
        "logName": "projects/acme/logs/cloudaudit.googleapis.com%2Factivity",
        "protoPayload": {
            "@type": "type.googleapis.com/google.cloud.audit.AuditLog",
            "serviceName": f"{service}.googleapis.com",
            "methodName": method,
            "authenticationInfo": {"principalEmail": who} | payload.pop("auth", {}),
            **payload,
        },
    }


def day_of_google():
    key = {"serviceAccountKeyName": f"//iam.googleapis.com/x/serviceAccounts/{DEPLOYER}/keys/k1"}
    made = {"name": f"projects/-/serviceAccounts/{DEPLOYER}", "lifetime": "3600s"}
    behind = {"principalSubject": "user:ann@acme.example"}
    stood_for = {"serviceAccountDelegationInfo": [behind]}
    yield from (google(hour, "storage.objects.get", "ann@acme.example") for hour in range(24))
    yield google(1, "GenerateAccessToken", "ann@acme.example", request=made)
    yield google(1, "storage.objects.list", DEPLOYER, auth=stood_for)
    yield google(2, "storage.buckets.list", DEPLOYER, auth=key)


def cluster(hour, verb, user, credential=None, uri="/api/v1/pods", **over):
    extra = {"authentication.kubernetes.io/credential-id": [credential]} if credential else {}
    return {
        "apiVersion": "audit.k8s.io/v1",
        "auditID": f"0000-0000-0000-{verb}-{hour}-{user}",
        "stage": "ResponseComplete",
        "verb": verb,
        "requestURI": uri,
        "user": {"username": user, "extra": extra},
        "responseStatus": {"code": 200},
        "stageTimestamp": moment(hour),
    } | over


def day_of_a_cluster():
    node = ("system:node:n1", "X509SHA256=" + "ab" * 32)
    account = {"resource": "serviceaccounts", "namespace": "shop", "name": "cart"}
    issued = {"authentication.kubernetes.io/issued-credential-id": "JTI=j1"}
    yield from (cluster(hour, "get", *node) for hour in range(24))
    yield cluster(
        1, "create", *node, objectRef=account | {"subresource": "token"}, annotations=issued
    )
    yield cluster(2, "list", "system:serviceaccount:shop:cart", "JTI=j1")
    yield from (cluster(hour, "get", "system:anonymous", uri="/livez?verbose") for hour in (3, 4))


DAYS = {"aws": day_of_aws, "google": day_of_google, "cluster": day_of_a_cluster}


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clouds")
    lake = open_lake(str(folder / "lake"), create=True)
    for tenant, day in DAYS.items():
        path = folder / f"{tenant}.jsonl"
        path.write_text("\n".join(map(json.dumps, day())), encoding="utf-8")
        ingest_files(
            [path], adapter="auto", sink=lake, context=Context(tenant_id=tenant), now=LATER
        )
    registry = load_registry(None)
    build_chains(lake, registry, LATER)
    run_detections(lake, registry, rules=read_rules()[0], window=Window(DAY, LATER), now=LATER)
    query = "SELECT tenant_id, rule_id, entity, severity FROM findings ORDER BY ALL"
    return lake.connect().execute(query).fetchall()


def test_an_ordinary_day_of_a_cloud_gives_no_finding_but_what_google_never_tells(found):
    assert found == [("google", "call_without_credential", "gcp.audit:acme", 2)]

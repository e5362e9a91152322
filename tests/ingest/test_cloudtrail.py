"""What one CloudTrail record becomes."""

import json
from base64 import urlsafe_b64encode as b64
from datetime import UTC, datetime
from hashlib import sha256

import pytest

from pipeline.ingest.aws import action_class, is_denial, moment, provider_issuer, role_of
from pipeline.ingest.recognise import recogniser
from pipeline.ingest.sources import Context, load_adapter

SESSION_TOKEN = "IQoJb3JpZ2luX2VjEGYaCXVzLWVhc3QtMSJGMEQCIGWKgbykBmpvw3C2tHFJG2Z2" * 5
USER = {
    "type": "IAMUser",
    "arn": "arn:aws:iam::111111111111:user/div/ann",
    "accountId": "111111111111",
    "accessKeyId": "AKIAANN",
    "userName": "ann",
    "principalId": "AIDAANN",
}
SESSION = {
    "type": "AssumedRole",
    "arn": "arn:aws:sts::111111111111:assumed-role/deploy/run-7",
    "accountId": "111111111111",
    "accessKeyId": "ASIADEPLOY",
    "principalId": "AROADEPLOY:run-7",
    "sessionContext": {
        "sessionIssuer": {"arn": "arn:aws:iam::111111111111:role/ci/deploy"},
        "attributes": {"creationDate": "2026-01-02T03:00:00Z", "mfaAuthenticated": "false"},
        "sourceIdentity": "ann@example.com",
    },
}


def record(**over):
    return {
        "eventID": "e-1",
        "eventTime": "2026-01-02T03:04:05Z",
        "eventSource": "s3.amazonaws.com",
        "eventName": "GetObject",
        "userIdentity": USER,
        "recipientAccountId": "111111111111",
        "requestID": "r-1",
    } | over


def assume(key="ASIANEW", name="AssumeRole", identity=USER, **answer):
    return record(
        eventSource="sts.amazonaws.com",
        eventName=name,
        userIdentity=identity,
        requestParameters={
            "roleArn": "arn:aws:iam::222222222222:role/ops/target",
            "roleSessionName": "run-8",
        },
        responseElements={
            "credentials": {
                "accessKeyId": key,
                "sessionToken": SESSION_TOKEN,
                "expiration": "Jan 2, 2026, 4:04:05 AM",
            },
            "assumedRoleUser": {"arn": "arn:aws:sts::222222222222:assumed-role/target/run-8"},
        }
        | answer,
    )


def adapt(*records):
    values = [item if isinstance(item, bytes) else json.dumps(item).encode() for item in records]
    return load_adapter("cloudtrail").adapt(values, Context(tenant_id="acme"))


def rows(*records):
    found = {}
    for batch in adapt(*records).batches:
        found.setdefault(batch.family, []).extend(batch.batch.to_pylist())
    return found


def only(family, *records):
    [row] = rows(*records)[family]
    return row | {"ext": dict(row["ext"])}


def test_a_call_names_the_acting_principal_its_key_and_the_operation():
    call = only("tool_call", record())

    assert (call["agent_id"], call["agent_issuer"]) == (USER["arn"], "aws:111111111111")
    assert call["operation"] == "s3:GetObject"
    assert (call["credential_issuer"], call["credential_id"]) == ("aws", "AKIAANN")
    assert (call["source"], call["event_id"]) == ("aws.cloudtrail:111111111111", "e-1")
    assert (call["tenant_id"], call["observer"]) == ("acme", "cloud_audit")
    assert call["required_scopes"] == []


def test_a_role_session_is_the_role_as_agent_and_the_session_as_instance():
    call = only("tool_call", record(userIdentity=SESSION))

    assert call["agent_id"] == "arn:aws:iam::111111111111:role/ci/deploy"
    assert call["agent_instance"] == SESSION["arn"]
    assert call["actor_convention"] == "role_session"
    assert (call["subject_id"], call["subject_issuer"]) == ("ann@example.com", "aws")
    assert call["session_id"] == "AROADEPLOY:run-7@2026-01-02T03:00:00Z"


def test_access_that_was_lent_to_a_vendor_names_the_vendor_s_account():
    lent = SESSION | {"invokedByDelegate": {"accountId": "888800001111"}}

    assert only("tool_call", record(userIdentity=lent))["ext"]["invokedByDelegate"] == (
        "888800001111"
    )
    assert only("token_event", assume(identity=lent))["ext"]["invokedByDelegate"] == "888800001111"


@pytest.mark.parametrize(
    ("identity", "agent"),
    [
        ({"type": "AWSService", "invokedBy": "ec2.amazonaws.com"}, "ec2.amazonaws.com"),
        ({"type": "Root", "arn": "arn:aws:iam::1:root", "accountId": "1"}, "arn:aws:iam::1:root"),
        ({"type": "IAMUser", "accountId": "1", "userName": "b"}, "arn:aws:iam::1:user/b"),
        (
            {"type": "AssumedRole", "arn": "arn:aws:sts::1:assumed-role/r/s"},
            "arn:aws:iam::1:role/r",
        ),
        ({"type": "AWSAccount", "principalId": "AIDAX", "accountId": "2"}, "AIDAX"),
        ({"type": "IAMUser", "userName": "HIDDEN_DUE_TO_SECURITY_REASONS"}, "unknown"),
        (None, "unknown"),
        ("text", "unknown"),
    ],
)
def test_every_identity_type_has_an_agent(identity, agent):
    assert only("tool_call", record(userIdentity=identity))["agent_id"] == agent


def test_a_record_without_identity_or_name_is_partial_not_refused():
    [batch] = adapt(record(userIdentity=None), record(eventName=None), record()).batches

    assert batch.parse_status.to_pylist() == ["partial", "partial", "ok"]


@pytest.mark.parametrize(
    ("over", "outcome", "effect"),
    [
        ({}, "success", "allow"),
        ({"errorCode": "AccessDenied"}, "denied", "deny"),
        ({"errorCode": "Client.UnauthorizedOperation"}, "denied", "deny"),
        ({"errorCode": "ThrottlingException"}, "failure", None),
        ({"errorMessage": "No username found"}, "failure", None),
        ({"responseElements": {"ConsoleLogin": "Failure"}}, "failure", None),
    ],
)
def test_the_outcome_follows_the_error(over, outcome, effect):
    call = only("tool_call", record(**over))

    assert (call["outcome"], call["decision_effect"]) == (outcome, effect)


def test_assuming_a_role_issues_a_token_to_the_role_with_the_calling_key_as_parent():
    token = only("token_event", assume())

    assert token["op"] == "assume"
    assert token["grant_type"] == "assume_role"
    assert token["credential_id"] == "ASIANEW"
    assert token["actor_id"] == "arn:aws:iam::222222222222:role/ops/target"
    assert token["parents"] == [
        {"role": "source", "issuer": "aws", "kind": "access_key_id", "id": "AKIAANN"}
    ]
    assert token["expires_at"] == datetime(2026, 1, 2, 4, 4, 5, tzinfo=UTC)
    assert token["scope_known"] is False
    assert (token["from_trust_domain"], token["to_trust_domain"]) == (
        "aws:111111111111",
        "aws:222222222222",
    )
    assert token["ext"]["callerId"] == USER["arn"]


def test_the_source_identity_of_a_session_stays_its_subject():
    token = only("token_event", assume(identity=SESSION))

    assert (token["subject_id"], token["subject_issuer"]) == ("ann@example.com", "aws")


@pytest.mark.parametrize(
    "over", [{"errorCode": "AccessDenied"}, {"responseElements": None}, {"responseElements": "x"}]
)
def test_an_issuance_that_failed_makes_no_token(over):
    assert set(rows(assume() | over)) == {"tool_call"}


@pytest.mark.parametrize(
    "identity",
    [
        {"type": "AWSService", "invokedBy": "ec2.amazonaws.com"},
        {"type": "AWSService", "invokedBy": "ec2.amazonaws.com", "accessKeyId": "ASIAX"},
        {"type": "AWSAccount", "accountId": "333333333333", "principalId": "AIDAX"},
        USER | {"accessKeyId": "ASIANEW"},
    ],
    ids=["service", "service with a key", "another account", "a key as its own parent"],
)
def test_an_issuance_by_a_service_or_without_a_calling_key_has_no_parent(identity):
    assert only("token_event", assume(identity=identity))["parents"] == []


def test_web_identity_keeps_provider_audience_and_subject_for_the_join_with_the_token():
    event = assume(
        name="AssumeRoleWithWebIdentity",
        identity={"type": "WebIdentityUser", "identityProvider": "token.actions.example.com"},
        subjectFromWebIdentityToken="repo:org/app",
        audience="sts.amazonaws.com",
        provider="arn:aws:iam::2:oidc-provider/token.actions.example.com",
    )

    token = only("token_event", event)

    assert (token["subject_id"], token["audience"]) == ("repo:org/app", ["sts.amazonaws.com"])
    assert token["subject_issuer"] == "https://token.actions.example.com"
    assert token["parents"] == []
    assert token["grant_type"] == "assume_role_with_web_identity"


@pytest.mark.parametrize("name", ["GetFederationToken", "GetSessionToken"])
def test_a_session_of_ones_own_is_a_token_too(name):
    answer = {"federatedUser": {"arn": "arn:aws:sts::111111111111:federated-user/bob"}}
    event = assume(name=name) | {"requestParameters": {"name": "bob"}}
    event["responseElements"].pop("assumedRoleUser")
    if name == "GetFederationToken":
        event["responseElements"] |= answer

    token = only("token_event", event)

    holder = answer["federatedUser"]["arn"] if name == "GetFederationToken" else USER["arn"]
    assert (token["op"], token["actor_id"]) == ("assume", holder)
    assert token["parents"][0]["id"] == "AKIAANN"


def create_key(**over):
    return (
        record(
            eventSource="iam.amazonaws.com",
            eventName="CreateAccessKey",
            requestParameters={"userName": "bob"},
            responseElements={"accessKey": {"accessKeyId": "AKIABOB", "userName": "bob"}},
        )
        | over
    )


def test_a_new_access_key_is_a_token_event_and_a_secret_event():
    found = rows(create_key())

    [token], [secret] = found["token_event"], found["secret_event"]
    assert (token["op"], token["credential_id"], token["never_expires"]) == (
        "issue",
        "AKIABOB",
        True,
    )
    assert token["parents"][0]["id"] == "AKIAANN"
    assert (secret["op"], secret["secret_id"], secret["secret_kind"]) == (
        "create",
        "AKIABOB",
        "aws_access_key",
    )
    assert secret["bound_identity_id"] == "arn:aws:iam::111111111111:user/bob"
    assert secret["accessed_by_id"] == USER["arn"]


def test_a_deleted_key_is_revoked_and_an_inactive_one_only_out_of_use():
    deleted = rows(
        record(eventName="DeleteAccessKey", requestParameters={"accessKeyId": "AKIABOB"})
    )
    parameters = {"accessKeyId": "AKIABOB", "status": "Inactive"}
    inactive = rows(record(eventName="UpdateAccessKey", requestParameters=parameters))

    assert [row["op"] for row in deleted["secret_event"] + deleted["token_event"]] == [
        "delete",
        "revoke",
    ]
    assert [row["op"] for row in inactive["secret_event"]] == ["revoke"]
    assert "token_event" not in inactive


def test_identical_records_have_one_uid_and_others_under_the_same_id_their_own():
    one, again, other = record(), dict(reversed(record().items())), record(awsRegion="eu-west-1")

    [batch] = adapt(one, again, other).batches

    first, second, third = batch.event_uids.to_pylist()
    assert first == second != third


def test_a_delivery_file_in_one_value_gives_all_its_records_and_repeats_once():
    delivery = {"Records": [record(), record(eventID="e-2"), record()]}

    adapted = adapt(record(), delivery, [record()])

    [batch] = adapted.batches
    assert batch.rows.tolist() == [0, 1, 1, 2]
    assert adapted.refusals == []


@pytest.mark.parametrize(
    ("value", "stage"),
    [
        (b"{'single': 1}", "decode"),
        (b'{"eventTime": NaN}', "decode"),
        (b"\xff\xfe", "decode"),
        (b"7", "decode"),
        (b"", "frame"),
        (b'{"Records": [1]}', "decode"),
        (json.dumps(record(eventTime="redacted")).encode(), "adapt"),
        (json.dumps(record(eventTime=None)).encode(), "adapt"),
        (json.dumps(record(eventTime=True)).encode(), "adapt"),
        (json.dumps(record(eventTime="9999-12-31T23:59:59Z")).encode(), "validate"),
        (json.dumps(record(userAgent="x" * 100_000)).encode(), "limit"),
    ],
)
def test_a_bad_record_is_refused_and_the_others_are_taken(value, stage):
    adapted = adapt(record(), value, record(eventID="e-2"))

    assert [(item.row, item.stage) for item in adapted.refusals] == [(1, stage)]
    assert sum(batch.batch.num_rows for batch in adapted.batches) == 2


def test_odd_types_anywhere_never_break_the_adapter():
    odd = [None, True, 0, 1.5, "", "x", [], [1], {}, {"a": 1}]
    keys = ["userIdentity", "responseElements", "requestParameters", "resources", "eventName"]
    events = [assume() | {key: value} for key in keys for value in odd]

    adapted = adapt(*events)

    assert adapted.refusals == []
    assert sum(len(b.rows) for b in adapted.batches if b.family == "tool_call") == len(events)


def test_no_session_token_reaches_a_row_or_a_refusal():
    adapted = adapt(assume(), assume(eventTime=None) | {"eventTime": "no"})

    shown = str([batch.batch.to_pylist() for batch in adapted.batches]) + str(adapted.refusals)
    assert SESSION_TOKEN[:20] not in shown


def test_times_are_read_in_every_form_that_aws_writes():
    expected = datetime(2024, 11, 30, 20, 43, 17, tzinfo=UTC)
    forms = [
        "2024-11-30T20:43:17Z",
        "2024-11-30 20:43:17.000000000",
        "2024-11-30T22:43:17+02:00",
        "Nov 30, 2024, 8:43:17 PM",
        "Nov 30, 2024, 8:43:17\u202fPM",
        "Nov 30, 2024 8:43:17 PM",
        1732999397,
        1732999397000,
    ]

    assert [moment(form) for form in forms] == [expected] * len(forms)
    assert moment("Nov 30, 2024, 12:05:00 AM") == datetime(2024, 11, 30, 0, 5, tzinfo=UTC)
    assert [moment(f"{day}, 2024, 1:00:00 AM") for day in ("Feb 30", "Xyz 1")] == [None, None]
    assert [
        moment(form) for form in ("", "soon", None, {}, True, 1e300, "0001-01-01T00:00:00+14:00")
    ] == [None] * 7


@pytest.mark.parametrize(
    ("source", "name", "over", "expected"),
    [
        ("secretsmanager", "GetSecretValue", {"readOnly": True}, "secret_read"),
        ("ssm", "GetParameters", {"requestParameters": {"withDecryption": True}}, "secret_read"),
        ("ssm", "GetParameters", {"readOnly": True}, "read"),
        ("iam", "AttachUserPolicy", {"readOnly": False}, "admin_iam"),
        ("iam", "ListUsers", {"readOnly": True}, "read"),
        ("s3", "PutBucketPolicy", {}, "admin_iam"),
        ("lambda", "AddPermission20150331v2", {"readOnly": False}, "admin_iam"),
        ("lambda", "Invoke", {}, "execute"),
        ("bedrock", "InvokeModel", {"readOnly": True}, "execute"),
        ("ssm", "SendCommand", {"readOnly": False}, "execute"),
        ("cloudtrail", "DeleteTrail", {"readOnly": False}, "delete"),
        ("ec2", "DescribeInstances", {}, "read"),
        ("ec2", "RunInstances", {}, "write"),
        ("sts", "GetCallerIdentity", {"readOnly": True}, "read"),
        ("sts", "AssumeRole", {"readOnly": True}, "execute"),
        ("signin", "ConsoleLogin", {"readOnly": False}, None),
        ("", "unknown", {}, None),
    ],
)
def test_the_action_class_follows_service_and_verb(source, name, over, expected):
    assert action_class(f"{source}.amazonaws.com", name, record(**over)) == expected


def test_small_facts_of_aws():
    assert role_of("arn:aws-cn:sts::1:assumed-role/r/s/t") == "arn:aws-cn:iam::1:role/r"
    assert role_of("arn:aws:iam::1:role/r") is None
    assert provider_issuer("accounts.example.com") == "https://accounts.example.com"
    assert provider_issuer("arn:aws:iam::1:saml-provider/x") == "arn:aws:iam::1:saml-provider/x"
    assert [is_denial(code) for code in ("AccessDeniedException", None, "NoSuchKey")] == [
        True,
        False,
        False,
    ]


def shipped(how):
    inner = record(errorCode="AccessDenied")
    detail = {"detail-type": "AWS API Call via CloudTrail", "source": "aws.s3", "detail": inner}
    notice = {"Type": "Notification", "Message": json.dumps(detail)}
    return {
        "EventBridge": detail,
        "SNS": notice,
        "SNS to Lambda": {"Records": [{"EventSource": "aws:sns", "Sns": notice}]},
        "SQS": {"Messages": [{"ReceiptHandle": SESSION_TOKEN, "Body": json.dumps(notice)}]},
        "SQS to Lambda": {"Records": [{"eventSource": "aws:sqs", "body": json.dumps(detail)}]},
        "CloudWatch Logs": {"messageType": "D", "logEvents": [{"message": json.dumps(inner)}]},
        "filter-log-events": {"events": [{"message": json.dumps(inner)}]},
        "lookup-events": {"Events": [{"EventId": "e", "CloudTrailEvent": json.dumps(inner)}]},
        "CloudTrail Lake": {"eventData": json.dumps(inner)},
    }[how]


@pytest.mark.parametrize(
    "how",
    [
        "EventBridge",
        "SNS",
        "SNS to Lambda",
        "SQS",
        "SQS to Lambda",
        "CloudWatch Logs",
        "filter-log-events",
        "lookup-events",
        "CloudTrail Lake",
    ],
)
def test_a_record_is_taken_out_of_what_aws_ships_it_in(how):
    assert rows(shipped(how)) == rows(record(errorCode="AccessDenied"))
    [part, *more] = recogniser().parts(0, json.dumps(shipped(how)).encode())
    assert (part.adapter, more) == ("cloudtrail", [])


def test_what_else_is_shipped_is_refused_without_its_text():
    lines = {"logEvents": [{"id": "1", "message": json.dumps({"password": SESSION_TOKEN})}]}
    adapted = adapt(lines, b'{"detail": {"responseElements": {"x": "' + SESSION_TOKEN.encode())

    assert [item.stage for item in adapted.refusals] == ["adapt", "decode"]
    assert all(SESSION_TOKEN.encode() not in (item.raw or b"") for item in adapted.refusals)


def test_what_tells_of_no_call_is_counted_and_left_out():
    insight = {"eventType": "AwsCloudTrailInsight", "eventTime": "2026-01-02T03:04:05Z"}
    digest = {"digestS3Object": "AWSLogs/1/CloudTrail-Digest/x.json.gz", "logFiles": []}
    check = {"messageType": "CONTROL_MESSAGE", "logEvents": [{"message": "Checking health"}]}
    adapted = adapt(insight, digest, check)

    assert (adapted.batches, adapted.refusals) == ([], [])
    assert adapted.skipped.total() == 3
    assert all(map(load_adapter("cloudtrail").recognises, (insight, digest, check)))


@pytest.mark.parametrize(
    ("identity", "agent"),
    [
        ({"accountId": "1", "invokedBy": "backup.amazonaws.com"}, ("backup.amazonaws.com", "aws")),
        ({"accountId": "1", "invokedBy": "AWS Internal"}, ("s3.amazonaws.com", "aws")),
        ({"type": "AWSAccount", "accountId": "ANONYMOUS_PRINCIPAL"}, ("unknown", None)),
    ],
)
def test_a_service_acts_for_itself_and_an_anonymous_caller_is_nobody(identity, agent):
    call = only("tool_call", record(userIdentity=identity))

    assert (call["agent_id"], call["agent_issuer"]) == agent


def test_a_role_that_a_service_takes_names_the_service_as_client():
    service = {"type": "AWSService", "invokedBy": "ec2.amazonaws.com"}
    [token] = rows(assume(identity=service))["token_event"]
    [pod] = rows(
        assume(
            name="AssumeRoleForPodIdentity",
            identity=SESSION,
            subject={"namespace": "shop", "serviceAccount": "cart"},
        )
    )["token_event"]

    assert (token["client_id"], token["parents"]) == ("ec2.amazonaws.com", [])
    assert (pod["client_id"], pod["parents"]) == ("pods.eks.amazonaws.com", [])
    assert (pod["subject_id"], pod["subject_kind"]) == (
        "system:serviceaccount:shop:cart",
        "service_account",
    )


def test_an_assumed_root_is_called_as_its_calls_call_it():
    taken = assume(name="AssumeRoot", assumedRoleUser=None)
    taken["requestParameters"] = {"targetPrincipal": "333333333333"}
    [token] = rows(taken)["token_event"]

    assert token["actor_id"] == "arn:aws:iam::333333333333:root"
    assert (token["actor_issuer"], token["op"]) == ("aws:333333333333", "assume")


def test_a_certificate_is_the_parent_of_a_session_of_roles_anywhere():
    found = rows(
        record(
            eventSource="rolesanywhere.amazonaws.com",
            eventName="CreateSession",
            userIdentity={"type": "Unknown", "accountId": "111111111111"},
            requestParameters={"cert": "MAMCAQE=", "roleArn": "arn:aws:iam::1:role/edge"},
            responseElements={
                "credentialSet": [
                    {
                        "credentials": {"accessKeyId": "ASIAEDGE", "sessionToken": SESSION_TOKEN},
                        "assumedRoleUser": {"arn": "arn:aws:sts::1:assumed-role/edge/00f1"},
                        "sourceIdentity": "CN=host",
                    }
                ]
            },
        )
    )
    [call], [token] = found["tool_call"], found["token_event"]
    assert (call["credential_kind"], call["action_class"]) == ("x5t_s256", "execute")
    assert (token["credential_id"], token["subject_id"]) == ("ASIAEDGE", "CN=host")
    assert token["parents"] == [
        {"role": "assertion", "issuer": None, "kind": "x5t_s256", "id": call["credential_id"]}
    ]
    der = b"\x30\x03\x02\x01\x01"
    assert call["credential_id"] == b64(sha256(der).digest()).decode().rstrip("=")


def test_whose_rights_iam_changed_is_told_beside_the_policy():
    call = only(
        "tool_call",
        record(
            eventSource="iam.amazonaws.com",
            eventName="AttachUserPolicy",
            requestParameters={"userName": "ann", "policyArn": "arn:aws:iam::aws:policy/Admin"},
        ),
    )

    assert (call["resource"], call["ext"]["userName"]) == ("arn:aws:iam::aws:policy/Admin", "ann")


def test_a_bearer_of_identity_center_is_known_by_its_credential_id():
    identity = {
        "type": "IdentityCenterUser",
        "onBehalfOf": {"userId": "u-1", "identityStoreArn": "arn:aws:identitystore::1:d-1"},
        "credentialId": "c-1",
    }
    call = only("tool_call", record(userIdentity=identity))

    assert (call["credential_kind"], call["credential_id"]) == ("local", "c-1")


def test_a_pool_s_credentials_are_of_the_pooled_identity():
    answer = {"credentials": {"accessKeyId": "ASIAPOOL"}, "identityId": "us-east-1:7"}
    [token] = rows(
        record(
            eventSource="cognito-identity.amazonaws.com",
            eventName="GetCredentialsForIdentity",
            userIdentity={"type": "Unknown"},
            responseElements=answer,
        )
    )["token_event"]

    assert (token["subject_id"], token["actor_id"]) == ("us-east-1:7", None)


NAMED = "arn:aws:secretsmanager:eu-west-1:111111111111:secret:prod/db"


@pytest.mark.parametrize(
    ("name", "over", "expected"),
    [
        ("GetSecretValue", {"requestParameters": {"secretId": "prod/db"}}, ("read", NAMED)),
        ("GetSecretValue", {"requestParameters": {"secretId": f"{NAMED}-Ab12Cd"}}, ("read", NAMED)),
        ("CreateSecret", {"requestParameters": {"name": "prod/db"}}, ("create", NAMED)),
        ("PutSecretValue", {"requestParameters": {"secretId": "prod/db"}}, ("rotate", NAMED)),
        (
            "RotationSucceeded",
            {"additionalEventData": {"SecretId": f"{NAMED}-Ab12Cd"}},
            ("rotate", NAMED),
        ),
        ("DeleteSecret", {"requestParameters": {"secretId": "prod/db"}}, ("delete", NAMED)),
    ],
)
def test_a_secret_has_one_id_by_name_and_by_arn(name, over, expected):
    source = {"eventSource": "secretsmanager.amazonaws.com", "awsRegion": "eu-west-1"}
    event = only("secret_event", record(eventName=name, **source, **over))

    assert (event["op"], event["secret_id"]) == expected
    assert (event["accessed_by_id"], event["store"]) == (USER["arn"], "aws.secretsmanager")


def test_what_changes_no_value_or_failed_touches_no_secret():
    source = {"eventSource": "secretsmanager.amazonaws.com", "awsRegion": "eu-west-1"}
    described = {"secretId": "prod/db", "description": "x"}
    found = rows(
        record(eventName="UpdateSecret", requestParameters=described, **source),
        record(eventName="GetSecretValue", errorCode="AccessDenied", **source),
        record(eventName="DescribeSecret", requestParameters={"secretId": "a"}, **source),
        record(
            eventSource="ssm.amazonaws.com",
            eventName="GetParameters",
            requestParameters={"names": ["/a"], "withDecryption": True},
        ),
    )

    assert "secret_event" not in found

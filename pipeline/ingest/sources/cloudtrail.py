"""AWS CloudTrail: delivery files with `Records`, arrays of records, single records.

What EventBridge, CloudWatch Logs, SNS, SQS and `lookup-events` put around a record is
taken off.  Insights events and digests tell of no call: they are counted and left out.

Every record is one tool call.  A successful answer that holds a new access key
is one token event besides, with the calling key as its parent; a key made or
removed by IAM is a secret event too, and so is a secret of Secrets Manager that was
read, made, changed or removed.  Names no scope: CloudTrail does not say
what IAM required.  Never copies `sessionToken`, request parameters or answers;
`ext.record_sha256` tells records apart that share a placeholder id.

Who acts is a lasting id: of a role session the role, with the session as
instance.  The subject is who a session stands for where AWS says so
(`sourceIdentity`, a federated user, `onBehalfOf`), else nobody.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.events.conform import build_batch
from pipeline.events.wire import Decoded
from pipeline.ingest.aws import (
    Principal,
    account_issuer,
    account_of,
    action_class,
    certificate_thumbprint,
    hidden,
    is_denial,
    moment,
    provider_issuer,
    resource_of,
    role_of,
    root_arn,
    text,
    user_arn,
)
from pipeline.ingest.aws_envelope import SHIPPED_IN, is_event, no_event, unpacked
from pipeline.ingest.aws_record import (
    KEY_ISSUER,
    Event,
    finish,
    read_event,
    subject_columns,
    subject_of,
)
from pipeline.ingest.aws_secrets import Touched, touched
from pipeline.ingest.json_text import (
    digest,
    digest_or_none,
    dump_json,
    is_cut_json,
    member,
    parse_json,
)
from pipeline.ingest.sources import Adapted, Refusal
from pipeline.ingest.sql_source import before, without

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pipeline.ingest.sources import Context

WRAPPER = "Records"

MAPPING = (
    ("eventID, else the whole record", "event_id"),
    ("recipientAccountId, else userIdentity.accountId", "source, trust_domain"),
    ("eventTime", "event_time, issued_at, created_at"),
    ("eventName", "tool_name, operation, grant_type, op"),
    ("eventSource", "tool_server, operation"),
    ("eventSource, eventName, readOnly, requestParameters.withDecryption", "action_class"),
    ("errorCode, errorMessage, responseElements.ConsoleLogin", "outcome, decision_effect"),
    ("userIdentity: the role of a session, else arn, principalId", "agent_id, actor_id"),
    ("userIdentity.arn of a role session", "agent_instance"),
    ("userIdentity.accountId, identityProvider", "agent_issuer, actor_issuer"),
    ("userIdentity.type", "actor_convention"),
    ("userIdentity.onBehalfOf, sessionContext.sourceIdentity, a federated user", "subject_id"),
    ("userIdentity.principalId, sessionContext.attributes.creationDate", "session_id"),
    (
        "userIdentity.accessKeyId, credentialId, the sha256 of a certificate",
        "credential_id of a call, parents of what is issued",
    ),
    ("userIdentity.invokedBy of a service that takes a role", "client_id"),
    ("sharedEventID, else requestID", "call_id"),
    ("resources.ARN, else a name in requestParameters", "resource"),
    ("sourceIPAddress, userAgent", "src_ip, user_agent"),
    ("sha256 of requestParameters, of responseElements", "args_hash, result_hash"),
    (
        "responseElements.credentials.accessKeyId, credentialSet, accessKey.accessKeyId",
        "credential_id",
    ),
    ("responseElements.credentials.expiration", "expires_at"),
    ("requestParameters.roleArn, responseElements.assumedRoleUser.arn", "actor_id of a session"),
    (
        "responseElements.subjectFromWebIdentityToken, subject, sourceIdentity, identityId",
        "subject_id",
    ),
    ("responseElements.audience", "audience"),
    (
        "responseElements.accessKey, requestParameters.accessKeyId, secretId, name",
        "secret_id",
    ),
    (
        "awsRegion, eventType, errorCode, userIdentity.type, the user, role or group of IAM, ...",
        "ext",
    ),
)

HIDDEN = (
    ("responseElements",),
    ("requestParameters",),
    ("additionalEventData",),
    ("serviceEventDetails",),
    ("errorMessage",),
    *SHIPPED_IN,
)
"""What no dead letter may keep: arguments, answers and texts that repeat them."""
_WORDS = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_KEY_REMOVALS = {"DeleteAccessKey": "delete", "UpdateAccessKey": "revoke"}


def recognises(record: object) -> bool:
    """Return whether a record names an AWS event and who caused it, or holds such records."""
    if isinstance(record, bytes):
        return is_cut_json(record, b'"eventSource"', b'"userIdentity"')
    if not isinstance(record, dict):
        return False
    if is_event(record) or no_event(record):
        return True
    # A list of records is asked one by one.
    return WRAPPER not in record and any(
        is_event(part) or no_event(part) for part in unpacked(record)
    )


def adapt(values: Sequence[bytes | None], context: Context) -> Adapted:
    """Return one tool call per record, and token and secret events where keys come or go."""
    found: dict[str, list[tuple[int, Event, dict[str, Any]]]] = {}
    refusals: list[Refusal] = []
    skipped: Counter[str] = Counter()
    for index, value in enumerate(values):
        for record in _records(value):
            if isinstance(record, Refusal):
                refusals.append(replace(record, row=index))
                continue
            if (why := no_event(record)) is not None:
                skipped[why] += 1
                continue
            event = read_event(record, context.tenant_id)
            if event is None:
                reason = "eventTime is missing or is no time"
                refusals.append(Refusal(index, "adapt", reason, _without_content(record)))
                continue
            for family, row in _rows(event):
                found.setdefault(family, []).append((index, event, row))
    decoded = Decoded()
    for family, items in found.items():
        refusals += _take(family, items, decoded)
    return Adapted(decoded.batches, refusals, skipped)


def _take(
    family: str, items: list[tuple[int, Event, dict[str, Any]]], decoded: Decoded
) -> list[Refusal]:
    built = build_batch(family, [row for _, _, row in items])
    mended = np.array([_is_mended(event.record) for _, event, _ in items])[built.rows]
    kept = replace(built, partial=built.partial | mended, failures=[])
    decoded.take(kept, np.array([index for index, _, _ in items], dtype=np.int64))
    return [
        Refusal(items[row][0], stage, reason, _without_content(items[row][1].record))
        for row, stage, reason in built.failures
    ]


def _records(value: bytes | None) -> Iterator[dict[str, Any] | Refusal]:
    if value is None or not value.strip():
        yield Refusal(0, "frame", "no value")
        return
    try:
        document = parse_json(value)
    except ValueError as error:
        yield Refusal(0, "decode", f"not JSON: {error}", before(value, HIDDEN))
        return
    records = unpacked(document)
    if not records:
        yield Refusal(0, "decode", "an empty list of records")
    yield from _distinct(records, alone=len(records) == 1 and records[0] is document)


def _distinct(listed: list[Any], *, alone: bool) -> Iterator[dict[str, Any] | Refusal]:
    # Repeats inside one value share their offset, so nothing later could tell which to keep.
    seen = set()
    for record in listed:
        if not isinstance(record, dict):
            reason = "a record is no JSON object"
            yield Refusal(0, "decode", reason, None if alone else dump_json(record))
            continue
        key = digest(record) if len(listed) > 1 else ""
        if key not in seen:
            seen.add(key)
            yield record


def _without_content(record: dict[str, Any]) -> bytes:
    # A dead letter must not become the place where a session token lies.
    return dump_json(without(record, HIDDEN))


def _is_mended(record: dict[str, Any]) -> bool:
    return not isinstance(record.get("userIdentity"), dict) or not text(record.get("eventName"))


def _rows(event: Event) -> Iterator[tuple[str, dict[str, Any]]]:
    yield "tool_call", _tool_call(event)
    if event.error:
        return
    issued = member(event.record, "responseElements", "accessKey")
    if text(member(issued, "accessKeyId")):
        yield "token_event", _key_issuance(event, issued)
        yield "secret_event", _key_secret(event, text(member(issued, "accessKeyId")), "create")
        return
    answer = _answer(event.record)
    if text(member(answer, "credentials", "accessKeyId")):
        yield "token_event", _session_issuance(event, answer)
    yield from _key_removal(event)
    if secret := touched(event.record, event.name):
        yield "secret_event", _secret(event, secret)


def _secret(event: Event, secret: Touched) -> dict[str, Any]:
    row = {
        "op": secret.op,
        "secret_id": secret.secret_id,
        "secret_version": secret.version,
        "secret_kind": "other",
        "store": "aws.secretsmanager",
        "accessed_by_id": event.who.id,
        "accessed_by_issuer": event.who.issuer,
        "created_at": event.time if secret.op == "create" else None,
        "last_rotated_at": event.time if secret.op == "rotate" else None,
    }
    return finish(event, row)


def _answer(record: dict[str, Any]) -> Any:
    """Return what holds a session's credentials; IAM Roles Anywhere lists them."""
    answer = record.get("responseElements")
    listed = member(answer, "credentialSet")
    return listed[0] if isinstance(listed, list) and listed else answer


def _tool_call(event: Event) -> dict[str, Any]:
    record, who = event.record, event.who
    source = text(record.get("eventSource"))
    denied = is_denial(event.error)
    outcome = "denied" if denied else "failure" if event.error else "success"
    # Success shows that IAM allowed it; another failure may have come before IAM was asked.
    decision = {"denied": "deny", "success": "allow"}.get(outcome)
    service = (source or "").removesuffix(".amazonaws.com")
    key = _presented(record)
    return finish(
        event,
        {
            "tool_name": event.name,
            "tool_server": source,
            "tool_protocol": "cloud_api",
            "operation": f"{service}:{event.name}" if service else event.name,
            "outcome": outcome,
            "decision_effect": decision,
            "agent_id": who.id,
            "agent_issuer": who.issuer,
            "agent_instance": who.instance,
            "actor_id": who.id,
            "actor_issuer": who.issuer,
            "actor_convention": "role_session" if who.instance else "none",
            "call_id": text(record.get("sharedEventID"))
            or text(record.get("requestID"))
            or event.envelope["event_id"],
            "resource": resource_of(record),
            "action_class": action_class(source or "", event.name, record),
            **(key or {}),
            "src_ip": text(record.get("sourceIPAddress")),
            "user_agent": text(record.get("userAgent")),
            "args_hash": digest_or_none(record.get("requestParameters")),
            "result_hash": digest_or_none(record.get("responseElements")),
            **subject_of(record.get("userIdentity")),
        },
        **_target(record, service),
    )


def _target(record: dict[str, Any], service: str) -> dict[str, Any]:
    """Return whose rights IAM changed, which the policy's name as the resource hides."""
    request = record.get("requestParameters")
    names = ("userName", "roleName", "groupName") if service == "iam" else ()
    return {name: hidden(text(member(request, name))) for name in names}


def _presented(record: dict[str, Any]) -> dict[str, str | None] | None:
    """Return the credential that a caller showed, None where AWS does not say."""
    identity = record.get("userIdentity")
    key = text(member(identity, "accessKeyId"))
    if key:
        return _credential(key)
    bearer = text(member(identity, "credentialId"))
    if bearer:
        return {**_credential(bearer), "credential_kind": "local"}
    thumbprint = certificate_thumbprint(member(record, "requestParameters", "cert"))
    if not thumbprint:
        return None
    return {"credential_kind": "x5t_s256", "credential_id": thumbprint}


def _credential(key: str | None) -> dict[str, str | None]:
    return {
        "credential_issuer": KEY_ISSUER,
        "credential_kind": "access_key_id",
        "credential_id": key,
    }


def _parents(event: Event, key: str | None) -> list[dict[str, str | None]]:
    caller = _presented(event.record) or {}
    kind, name = caller.get("credential_kind"), caller.get("credential_id")
    # Documentation examples show one key as both; a key is no parent of itself.
    if not name or name == key or _taken_by(event):
        return []
    role = "assertion" if kind == "x5t_s256" else "source"
    return [{"role": role, "issuer": caller.get("credential_issuer"), "kind": kind, "id": name}]


def _taken_by(event: Event) -> str | None:
    """Return the service that took a role for a machine, a function or a pod, None if none did."""
    if event.name == "AssumeRoleForPodIdentity":
        # The node only passes on what the pod's own token is good for.
        return "pods.eks.amazonaws.com"
    is_service = text(member(event.record, "userIdentity", "type")) == "AWSService"
    return event.who.id if is_service else None


def _issuance(
    event: Event, key: str | None, holder: Principal, row: dict[str, Any], **more: Any
) -> dict[str, Any]:
    common = {
        **_credential(key),
        "outcome": "success",
        "grant_type": _WORDS.sub("_", event.name).lower(),
        "actor_id": None if holder.id == "unknown" else holder.id,
        "actor_issuer": holder.issuer,
        "actor_convention": "role_session" if holder.instance else "none",
        "client_id": _taken_by(event),
        "scope_known": False,
        "scope_dialect": "aws",
        "issued_at": event.time,
        "parents": _parents(event, key),
    }
    caller = {"callerId": event.who.id, "callerIssuer": event.who.issuer}
    return finish(event, {**common, **row}, **caller, **more)


def _key_issuance(event: Event, issued: Any) -> dict[str, Any]:
    key = text(member(issued, "accessKeyId"))
    row = {"op": "issue", "token_type": "aws_access_key", "never_expires": True}
    return _issuance(event, key, _key_owner(event), row)


def _session_issuance(event: Event, answer: Any) -> dict[str, Any]:
    credentials, request = member(answer, "credentials"), event.record.get("requestParameters")
    holder = _session_holder(event, answer, request)
    caller_account = text(member(event.record, "userIdentity", "accountId"))
    crosses = caller_account and account_issuer(caller_account) != holder.issuer
    audience = text(member(answer, "audience"))
    row = {
        "op": _session_op(event.name),
        "token_type": "aws_session",
        "expires_at": moment(member(credentials, "expiration")),
        "audience": [audience] if audience else [],
        "from_trust_domain": account_issuer(caller_account) if crosses else None,
        "to_trust_domain": holder.issuer if crosses else None,
        **_session_subject(event, answer, request),
    }
    return _issuance(
        event,
        text(member(credentials, "accessKeyId")),
        holder,
        row,
        sessionArn=holder.instance,
        roleSessionName=member(request, "roleSessionName"),
        durationSeconds=member(request, "durationSeconds"),
        grantedSourceIdentity=_source_identity(answer, request),
        provider=member(answer, "provider") or member(answer, "issuer"),
    )


def _session_op(name: str) -> str:
    taken = name.startswith("AssumeR") or name in {"GetFederationToken", "GetSessionToken"}
    return "assume" if taken else "issue"


def _session_holder(event: Event, answer: Any, request: Any) -> Principal:
    session = text(member(answer, "assumedRoleUser", "arn"))
    role = text(member(request, "roleArn")) or role_of(session)
    if role:
        issuer = account_issuer(account_of(role)) or account_issuer(event.account)
        return Principal(role, issuer, session or role)
    federated = text(member(answer, "federatedUser", "arn"))
    if federated:
        return Principal(federated, account_issuer(account_of(federated)), federated)
    target = root_arn(text(member(request, "targetPrincipal")))
    if target:
        return Principal(target, account_issuer(account_of(target)), target)
    return event.who


def _source_identity(answer: Any, request: Any) -> str | None:
    return text(member(answer, "sourceIdentity")) or text(member(request, "sourceIdentity"))


def _session_subject(event: Event, answer: Any, request: Any) -> dict[str, str | None]:
    web = text(member(answer, "subjectFromWebIdentityToken"))
    if web:
        provider = provider_issuer(text(member(answer, "provider")))
        return subject_columns(web, provider, "unknown")
    asserted = text(member(answer, "subject"))
    if asserted:
        return subject_columns(asserted, text(member(answer, "issuer")), "human")
    source = _source_identity(answer, request)
    if source:
        return subject_columns(source, KEY_ISSUER, "unknown")
    pod, space = (text(member(answer, "subject", n)) for n in ("serviceAccount", "namespace"))
    if pod and space:
        return subject_columns(f"system:serviceaccount:{space}:{pod}", None, "service_account")
    pooled = text(member(answer, "identityId"))
    if pooled:
        return subject_columns(pooled, text(event.record.get("eventSource")), "unknown")
    return subject_of(event.record.get("userIdentity"))


def _key_owner(event: Event) -> Principal:
    named = text(member(event.record, "responseElements", "accessKey", "userName")) or text(
        member(event.record, "requestParameters", "userName")
    )
    # IAM leaves the name out when a user works on its own keys; only then is its path known.
    if not named or event.who.id.endswith(f"/{named}"):
        return event.who
    account = event.account or account_of(event.who.id)
    return Principal(user_arn(account, named) or named, account_issuer(account))


def _key_secret(event: Event, key: str | None, op: str) -> dict[str, Any]:
    owner = _key_owner(event)
    return finish(
        event,
        {
            "op": op,
            "secret_id": key,
            "secret_kind": "aws_access_key",
            "store": "aws.iam",
            "bound_identity_id": owner.id,
            "bound_identity_issuer": owner.issuer,
            "accessed_by_id": event.who.id,
            "accessed_by_issuer": event.who.issuer,
            "created_at": event.time if op == "create" else None,
            "never_expires": True,
        },
    )


def _key_removal(event: Event) -> Iterator[tuple[str, dict[str, Any]]]:
    request = event.record.get("requestParameters")
    key, op = text(member(request, "accessKeyId")), _KEY_REMOVALS.get(event.name)
    if not key or not op or (op == "revoke" and member(request, "status") != "Inactive"):
        return
    yield "secret_event", _key_secret(event, key, op)
    # An inactive key can be made active again, and nothing takes a revocation back.
    if op == "delete":
        row = {"op": "revoke", "outcome": "success", "revoke_target": "token", **_credential(key)}
        yield "token_event", finish(event, {**row, "revoke_reason": event.name})

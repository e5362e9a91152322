"""Kubernetes audit: `audit.k8s.io` events, alone, as lines, in an `EventList`, or as shipped.

AKS sends them as texts in `properties.log` (or `log_s`), CloudWatch Logs (EKS) as the `message`
of each of its `logEvents`; all are taken out of that.

Every stage of a request is one observation of one call, named by its `auditID`: what was
received before, what was answered after it, and the start of a long answer by itself.  The
user acts; an impersonated user is the subject.  A service account's token is known by its
`jti` on use and where it is issued, with the caller's credential as its parent; a client
certificate by its thumbprint; a key of AWS by its id, as CloudTrail names it.  A secret that
was read, made or deleted under its name is a secret event besides.

A cluster does not name itself: say `instance` where records of more than one are read.
Never reads a request's or an answer's object but for its digest, a token's audience and
end, and a secret's type; never keeps the query of a URI, which holds the command of `exec`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pipeline.ingest.json_text import is_cut_json, member, parse_json
from pipeline.ingest.sql_source import SqlSource

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pipeline.ingest.sources import Adapted, Context

WRAPPER = "items"

_LISTS = ("logEvents", "events", "records")
"""Where CloudWatch and its command line, and Event Hubs list what they ship."""


def _unwrap(document: Any) -> list[Any] | None:
    """Return the events in what a cloud ships, None where it is an event or a list of them."""
    if isinstance(document, dict) and "auditID" in document:
        return None
    for held in (document, *(member(document, name) for name in _LISTS)):
        if isinstance(held, list):
            return [_inner(item) for item in held]
    inner = _inner(document)
    return None if inner is document else [inner]


def _inner(item: Any) -> Any:
    for text in (
        member(item, "properties", "log"),
        member(item, "Properties", "log"),
        member(item, "log_s"),
        member(item, "message"),
    ):
        if isinstance(text, str) and text.lstrip().startswith("{"):
            try:
                return parse_json(text.encode())
            except ValueError:
                return item
    return item


SOURCE = SqlSource(
    name="kubernetes_audit",
    wrapper=WRAPPER,
    unwrap=_unwrap,
    shape={
        "auditID": "VARCHAR",
        "level": "VARCHAR",
        "stage": "VARCHAR",
        "verb": "VARCHAR",
        "requestURI": "VARCHAR",
        "user": {
            "username": "VARCHAR",
            "uid": "VARCHAR",
            "groups": ["VARCHAR"],
            # Whoever runs the authenticator may put more here; what is not named is not read.
            "extra": {
                "authentication.kubernetes.io/credential-id": ["VARCHAR"],
                "authentication.kubernetes.io/pod-name": ["VARCHAR"],
                "authentication.kubernetes.io/pod-uid": ["VARCHAR"],
                "authentication.kubernetes.io/node-name": ["VARCHAR"],
                "accessKeyId": ["VARCHAR"],
                "arn": ["VARCHAR"],
                "canonicalArn": ["VARCHAR"],
                "sessionName": ["VARCHAR"],
            },
        },
        # Its `extra` is what the caller asked for, and so no proof of any credential.
        "impersonatedUser": {"username": "VARCHAR", "uid": "VARCHAR", "groups": ["VARCHAR"]},
        "authenticationMetadata": {"impersonationConstraint": "VARCHAR"},
        "sourceIPs": ["VARCHAR"],
        "userAgent": "VARCHAR",
        "objectRef": {
            "resource": "VARCHAR",
            "subresource": "VARCHAR",
            "namespace": "VARCHAR",
            "name": "VARCHAR",
            "apiGroup": "VARCHAR",
        },
        "responseStatus": {"code": "INTEGER", "reason": "VARCHAR"},
        "requestReceivedTimestamp": "VARCHAR",
        "stageTimestamp": "VARCHAR",
        "timestamp": "VARCHAR",
        "annotations": {
            "authorization.k8s.io/decision": "VARCHAR",
            "authorization.k8s.io/reason": "VARCHAR",
            "authentication.kubernetes.io/issued-credential-id": "VARCHAR",
            "authentication.k8s.io/issued-credential-id": "VARCHAR",
        },
        "requestObject": {
            "type": "VARCHAR",
            "subjects": [{"kind": "VARCHAR", "name": "VARCHAR", "namespace": "VARCHAR"}],
            "spec": {
                "audiences": ["VARCHAR"],
                "boundObjectRef": {"kind": "VARCHAR", "name": "VARCHAR", "uid": "VARCHAR"},
            },
        },
        "responseObject": {
            "spec": {"audiences": ["VARCHAR"]},
            "status": {"expirationTimestamp": "VARCHAR"},
        },
    },
    digests={"args_hash": ("requestObject",), "result_hash": ("responseObject",)},
    # Annotations hold the patches of admission webhooks, the URI the command of `exec`.
    hidden=(
        ("requestObject",),
        ("responseObject",),
        ("requestURI",),
        ("annotations",),
        ("properties",),
        ("message",),
        ("log_s",),
        *((name,) for name in _LISTS),
    ),
)


def recognises(record: object) -> bool:
    """Return whether a record is an audit event of Kubernetes or a list of them."""
    if isinstance(record, bytes):
        return is_cut_json(record, b'"audit.k8s.io/')
    if not isinstance(record, dict):
        return False
    for held in (record.get(name) for name in _LISTS):
        if isinstance(held, list):
            return any(_is_event(_inner(item)) for item in held)
    return _is_event(_inner(record))


def _is_event(record: Any) -> bool:
    return isinstance(record, dict) and (
        str(record.get("apiVersion", "")).startswith("audit.k8s.io/")
        or ("auditID" in record and "stage" in record and "verb" in record)
    )


def adapt(values: Sequence[bytes | None], context: Context) -> Adapted:
    """Return one tool call per stage, and token and secret events where a request succeeded."""
    return SOURCE.adapt(values, context)

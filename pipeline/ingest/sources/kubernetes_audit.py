"""Kubernetes audit: `audit.k8s.io` events, alone, as lines, or in an `EventList`.

Every stage of a request is one observation of one call, named by its `auditID`.
The user acts; an impersonated user is the subject.  A service account's token is
known by its `jti` where the cluster writes it, on use and where it is issued.
Never reads request or response objects but for their digest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.ingest.sql_source import SqlSource

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pipeline.ingest.sources import Adapted, Context

WRAPPER = "items"

_WHO = {
    "username": "VARCHAR",
    "uid": "VARCHAR",
    "groups": ["VARCHAR"],
    "extra": "MAP(VARCHAR, VARCHAR[])",
}
SOURCE = SqlSource(
    name="kubernetes_audit",
    wrapper=WRAPPER,
    shape={
        "auditID": "VARCHAR",
        "stage": "VARCHAR",
        "verb": "VARCHAR",
        "requestURI": "VARCHAR",
        "user": _WHO,
        "impersonatedUser": _WHO,
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
        "annotations": "MAP(VARCHAR, VARCHAR)",
    },
    digests={"args_hash": ("requestObject",), "result_hash": ("responseObject",)},
    hidden=(("requestObject",), ("responseObject",)),
)


def recognises(record: object) -> bool:
    """Return whether a record is an audit event of Kubernetes or a list of them."""
    return isinstance(record, dict) and (
        str(record.get("apiVersion", "")).startswith("audit.k8s.io/")
        or ("auditID" in record and "verb" in record)
    )


def adapt(values: Sequence[bytes | None], context: Context) -> Adapted:
    """Return one tool call per stage, and a token event where a token is issued."""
    return SOURCE.adapt(values, context)

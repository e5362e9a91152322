"""What a CloudTrail record tells of a secret in Secrets Manager.

Pure.  A secret has one id whether a caller named it or gave its ARN, in full or without the
six letters that AWS puts behind its name.  Parameters of Systems Manager are left out: most
of them are no secrets, and whoever starts a program reads a dozen at once.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from pipeline.ingest.aws import account_of, text
from pipeline.ingest.json_text import member

_SUFFIX = re.compile(r"-[A-Za-z0-9]{6}$")
_OPS = {
    "GetSecretValue": "read",
    "CreateSecret": "create",
    "PutSecretValue": "rotate",
    "UpdateSecret": "rotate",
    "RotationSucceeded": "rotate",
    "DeleteSecret": "delete",
}


class Touched(NamedTuple):
    """One secret, and what was done with it."""

    op: str
    secret_id: str
    version: str | None = None


def touched(record: dict[str, Any], name: str) -> Touched | None:
    """Return the secret that a call which succeeded read, made, changed or removed, if it did."""
    if name not in _OPS or text(record.get("eventSource")) != "secretsmanager.amazonaws.com":
        return None
    answer, request = record.get("responseElements"), record.get("requestParameters")
    named = (
        text(member(request, "secretId"))
        or text(member(record, "additionalEventData", "SecretId"))
        or text(member(answer, "arn"))
        or text(member(request, "name"))
    )
    version = text(member(answer, "versionId")) or text(member(request, "versionId"))
    # Another description makes no new version.
    if not named or (name == "UpdateSecret" and not version):
        return None
    return Touched(_OPS[name], _secret_id(record, named), version)


def _secret_id(record: dict[str, Any], named: str) -> str:
    if account_of(named) and ":secret:" in named:
        return _SUFFIX.sub("", named)
    account = text(record.get("recipientAccountId"))
    account = account or text(member(record, "userIdentity", "accountId"))
    region = text(record.get("awsRegion"))
    return f"arn:aws:secretsmanager:{region or ''}:{account or ''}:secret:{named}"

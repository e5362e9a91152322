"""What AWS names mean: times, principals, actions and errors of CloudTrail records.

Pure look-ups on single values; anything unknown is None, never a guess.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
import string
from datetime import UTC, datetime
from typing import Any, NamedTuple

from pipeline.ingest.json_text import member

_LOCAL_TIME = re.compile(r"([A-Z][a-z]{2}) (\d+), (\d{4}),? (\d+):(\d\d):(\d\d) ([AP])M")
_MONTHS = "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"
_SESSION_ARN = re.compile(r"arn:([\w-]+):sts::(\d*):assumed-role/([^/]+)/.+")
_NOON = 12
_MILLISECONDS_FROM = 100_000_000_000
_BASE64 = frozenset(string.ascii_letters + string.digits + "+/=")


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


_SECRET_READS = _words(
    "GetSecretValue BatchGetSecretValue GetPasswordData GetAuthorizationToken "
    "GetRoleCredentials GetClusterCredentials GetClusterCredentialsWithIAM "
    "GetCredentialsForIdentity GetInstanceAccessDetails GetBearerToken "
    # Bedrock AgentCore hands an agent's own credentials out under these.
    "GetResourceOauth2Token GetResourceApiKey GetWorkloadAccessToken "
    "GetWorkloadAccessTokenForJWT GetWorkloadAccessTokenForUserId"
)
_PARAMETER_READS = _words("GetParameter GetParameters GetParametersByPath GetParameterHistory")
_EXECUTES = _words(
    "SendCommand StartSession ResumeSession ExecuteCommand SendSSHPublicKey RunTask "
    "RunJobFlow SendSerialConsoleSSHPublicKey StartExecution StartSyncExecution StartBuild "
    "Converse ConverseStream ExecuteStatement BatchExecuteStatement StartQueryExecution"
)
_SIGN_INS = _words(
    "Authenticate Federate Logout CreateToken RegisterClient StartDeviceAuthorization"
)
_SESSION_MAKERS = {
    ("rolesanywhere", "CreateSession"),
    ("s3express", "CreateSession"),
    ("eks-auth", "AssumeRoleForPodIdentity"),
}
_SENDS = _words("SendEmail SendRawEmail SendBulkEmail SendTemplatedEmail Publish")
_IAM_SOURCES = _words(
    "iam organizations sso sso-directory identitystore rolesanywhere access-analyzer ram"
)
_PERMISSION_CHANGE = re.compile(
    r"(Put|Delete|Set|Attach|Detach|Create|Update)\w*(Policy|Acl|Grant)$|CreateGrant$|"
    r"(Add|Remove)(Layer\w*)?Permission"
)
_READ_VERB = re.compile(
    r"(Get|List|Describe|Head|Lookup|BatchGet|Batch[A-Z]?Describe|Search|Scan|Query|Select|View|"
    r"Check|Download|Simulate|Generate\w*Report|Preview|Validate)(?=[A-Z]|$)"
)
_DELETE_VERB = re.compile(r"(Delete|BatchDelete|Terminate|Purge|Destroy|Deregister)(?=[A-Z]|$)")

_RESOURCE_PARAMETERS = _words(
    "roleArn secretId secretArn functionName keyId targetKeyId policyArn topicArn queueUrl "
    "tableName trailName bucketName userName roleName groupName instanceId imageId snapshotId "
    "modelId dBInstanceIdentifier dBSnapshotIdentifier accessKeyId groupId documentName name "
    "target"
)


class Principal(NamedTuple):
    """Who acts: a lasting id and the account or provider that names it."""

    id: str
    issuer: str | None
    instance: str | None = None


def text(value: Any) -> str | None:
    """Return a scalar as text; None for nothing, blanks and containers."""
    # Called some sixty times a record: the usual kinds come first.
    if isinstance(value, str):
        return value.strip() or None
    if value is None:
        return None
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, int | float) else None


def flag(value: Any) -> bool | None:
    """Return a boolean that may have been written as text."""
    word = text(value)
    return {"true": True, "false": False}.get(word.lower()) if word else None


def moment(value: Any) -> datetime | None:
    """Return a time in UTC; None for what is no time.

    Read are ISO 8601, seconds or milliseconds since 1970, and `Nov 30, 2024, 8:43:17 PM`.
    """
    try:
        if isinstance(value, int | float) and not isinstance(value, bool):
            seconds = value / 1000 if value >= _MILLISECONDS_FROM else value
            return datetime.fromtimestamp(seconds, UTC)
        return _written_moment(text(value) or "")
    except (ValueError, OverflowError, OSError):
        return None


def _written_moment(written: str) -> datetime | None:
    if written[:1].isdigit():
        found = datetime.fromisoformat(written)
        return found.astimezone(UTC) if found.tzinfo else found.replace(tzinfo=UTC)
    # Newer Java writes a narrow no-break space before AM and PM.
    local = _LOCAL_TIME.fullmatch(" ".join(written.replace("\u202f", " ").split()))
    if not local or local[1] not in _MONTHS or not 1 <= int(local[4]) <= _NOON:
        return None
    month, hour = _MONTHS.index(local[1]) + 1, int(local[4]) % _NOON
    hour += _NOON if local[7] == "P" else 0
    day, year, minute, second = (int(local[n]) for n in (2, 3, 5, 6))
    return datetime(year, month, day, hour, minute, second, tzinfo=UTC)


def account_issuer(account: Any) -> str | None:
    """Return the pseudo-issuer of an account's principals."""
    number = text(account)
    return f"aws:{number}" if number else None


def account_of(arn: str | None) -> str | None:
    """Return the account in an ARN."""
    parts = (arn or "").split(":", 5)
    return parts[4] or None if len(parts) == 6 and parts[0] == "arn" else None  # noqa: PLR2004


def role_of(session_arn: str | None) -> str | None:
    """Return the role's ARN of an assumed-role session; a role's path is not in it."""
    match = _SESSION_ARN.fullmatch(session_arn or "")
    return f"arn:{match[1]}:iam::{match[2]}:role/{match[3]}" if match else None


def user_arn(account: str | None, name: str | None) -> str | None:
    """Return the ARN of an IAM user without a path."""
    return f"arn:aws:iam::{account}:user/{name}" if account and name else None


def provider_issuer(provider: str | None) -> str | None:
    """Return the issuer URL of an identity provider, which AWS names by ARN or by host."""
    if provider and ":oidc-provider/" in provider:
        provider = provider.split(":oidc-provider/", 1)[1]
    if not provider or "://" in provider or provider.startswith("arn:") or "." not in provider:
        return provider
    return f"https://{provider}"


def root_arn(account: str | None) -> str | None:
    """Return the ARN of an account's root user; of another ARN or name, that."""
    is_number = account is not None and account.isdecimal()
    return f"arn:aws:iam::{account}:root" if is_number else account


def certificate_thumbprint(certificate: Any) -> str | None:
    """Return the `x5t#S256` of a certificate that is written in base64, None of anything else."""
    if not isinstance(certificate, str):
        return None
    body = "".join(line for line in certificate.split() if set(line) <= _BASE64)
    try:
        content = base64.b64decode(body, validate=True)
    except binascii.Error:
        return None
    # Every certificate is a DER sequence.
    if not content.startswith(b"\x30"):
        return None
    digest = hashlib.sha256(content).digest()
    return base64.urlsafe_b64encode(digest).decode().rstrip("=")


def principal_of(identity: Any, event_source: str | None = None) -> Principal:
    """Return who `userIdentity` names; `unknown` where it names nobody.

    A role session is the role, its session the instance: the role lasts.
    """
    kind, arn = text(member(identity, "type")), text(member(identity, "arn"))
    issuer = account_issuer(member(identity, "accountId")) or account_issuer(account_of(arn))
    name = hidden(text(member(identity, "userName")))
    principal = text(member(identity, "principalId"))
    if kind == "AssumedRole":
        source = text(member(identity, "sessionContext", "sessionIssuer", "arn"))
        return Principal(source or role_of(arn) or arn or principal or "unknown", issuer, arn)
    if kind == "AWSService":
        return Principal(text(member(identity, "invokedBy")) or principal or "unknown", "aws")
    if kind in {"WebIdentityUser", "SAMLUser"}:
        provider = provider_issuer(text(member(identity, "identityProvider")))
        return Principal(name or principal or "unknown", provider or issuer)
    if kind == "IdentityCenterUser":
        user = text(member(identity, "onBehalfOf", "userId"))
        store = text(member(identity, "onBehalfOf", "identityStoreArn"))
        return Principal(user or name or principal or "unknown", store or issuer)
    named = user_arn(text(member(identity, "accountId")), name) if kind == "IAMUser" else name
    called = arn or named or principal
    if called:
        return Principal(called, issuer)
    return _unnamed(identity, kind, event_source, issuer)


def _unnamed(
    identity: Any, kind: str | None, event_source: str | None, issuer: str | None
) -> Principal:
    service = text(member(identity, "invokedBy"))
    if kind is None and service:
        # What a service did by itself; where it does not say which, the one that tells of it.
        return Principal(service if "." in service else event_source or service, "aws")
    account = text(member(identity, "accountId"))
    if not account or account == "ANONYMOUS_PRINCIPAL":
        return Principal("unknown", None)
    return Principal(account, issuer)


def hidden(name: str | None) -> str | None:
    """Return a name, None where AWS hides it: what was typed may have been a password."""
    return None if name == "HIDDEN_DUE_TO_SECURITY_REASONS" else name


def is_denial(code: str | None) -> bool:
    """Return whether an error code says that authorisation failed."""
    word = (code or "").lower()
    return any(part in word for part in ("accessdenied", "unauthorized", "notauthorized")) or (
        word in {"forbidden", "client.authfailure", "authorizationerror", "accessdeniedexception"}
    )


def action_class(source: str, name: str, record: Any) -> str | None:
    """Return the kind of action of one API operation; None where its name does not tell."""
    service = source.removesuffix(".amazonaws.com")
    read_only = flag(member(record, "readOnly"))
    if name in _SECRET_READS or _decrypts(name, record):
        return "secret_read"
    if name in _EXECUTES or name.startswith("Invoke"):
        return "execute"
    if service in {"ses", "sns", "email"} and name in _SENDS:
        return "external_send"
    if service == "signin" or (service == "sso" and name in _SIGN_INS):
        return None
    # Taking a role changes nothing and reads nothing: it is done in order to act.
    if (service, name) in _SESSION_MAKERS or (
        service == "sts" and not name.startswith(("Get", "Decode"))
    ):
        return "execute"
    return _effect(service, name, reads=_reads(name, read_only), known=read_only is not None)


def _effect(service: str, name: str, *, reads: bool, known: bool) -> str | None:
    if reads:
        return "read"
    if service in _IAM_SOURCES or _PERMISSION_CHANGE.search(name):
        return "admin_iam"
    if _DELETE_VERB.match(name):
        return "delete"
    return "write" if known or name[:1].isupper() else None


def _reads(name: str, read_only: bool | None) -> bool:
    return read_only if read_only is not None else bool(_READ_VERB.match(name))


def _decrypts(name: str, record: Any) -> bool:
    if name not in _PARAMETER_READS:
        return False
    return flag(member(record, "requestParameters", "withDecryption")) is True


def resource_of(record: Any) -> str | None:
    """Return the first resource that a record names, by ARN where it can."""
    listed = member(record, "resources")
    for entry in listed if isinstance(listed, list) else []:
        arn = text(member(entry, "ARN")) or text(member(entry, "arn"))
        if arn:
            return arn
    parameters = member(record, "requestParameters")
    if not isinstance(parameters, dict):
        return None
    bucket, key = text(member(parameters, "bucketName")), text(member(parameters, "key"))
    if bucket and key:
        return f"arn:aws:s3:::{bucket}/{key}"
    for name in _RESOURCE_PARAMETERS:
        found = hidden(text(parameters.get(name)))
        if found:
            return found
    return _first_item(parameters)


def _first_item(parameters: Any) -> str | None:
    items = member(parameters, "instancesSet", "items")
    first = items[0] if isinstance(items, list) and items else None
    return text(member(first, "instanceId"))

"""Microsoft Entra: sign-ins of all four kinds, Graph activity, and directory audit records.

Each comes in three spellings: exported by Azure Monitor (`properties` in an envelope,
`records` around many), from Graph (camel case, `value` around many), and as a row of a
Log Analytics table (Pascal case, parts as JSON text).

A sign-in is a token event: the app holds the token, the user or service principal is
its subject, `uniqueTokenIdentifier` names it.  A Graph request is a tool call with that
token (`signInActivityId`).  A directory audit record is a tool call, a token event where it
tells of a consent, and a secret event for each credential of an app that it adds or
removes; a client secret used to sign in is a secret event and the token's parent.
An agent's own user account (`agentIDuser`, fact 13) is an `agent_user`, never a person.
The log does not tell the version of a token, so its issuer is `entra:<tenant>`, and the
two URLs that tokens may carry are its aliases.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pipeline.ingest.json_text import member, parse_json, speller
from pipeline.ingest.sql_source import SqlSource

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pipeline.ingest.sources import Adapted, Context

WRAPPER = "records"

_INITIATOR = {
    "id": "VARCHAR",
    "appId": "VARCHAR",
    "servicePrincipalId": "VARCHAR",
    "displayName": "VARCHAR",
    "userPrincipalName": "VARCHAR",
    "ipAddress": "VARCHAR",
    "agentType": "VARCHAR",
}
_PROPERTIES = {
    "id": "VARCHAR",
    "createdDateTime": "VARCHAR",
    "timeGenerated": "VARCHAR",
    "aadTenantId": "VARCHAR",
    "homeTenantId": "VARCHAR",
    "resourceTenantId": "VARCHAR",
    "correlationId": "VARCHAR",
    "sessionId": "VARCHAR",
    "userAgent": "VARCHAR",
    "ipAddress": "VARCHAR",
    "appId": "VARCHAR",
    "appDisplayName": "VARCHAR",
    "userId": "VARCHAR",
    "userPrincipalName": "VARCHAR",
    "servicePrincipalId": "VARCHAR",
    "servicePrincipalName": "VARCHAR",
    # A sign-in.
    "uniqueTokenIdentifier": "VARCHAR",
    "resourceId": "VARCHAR",
    "resourceIdentity": "VARCHAR",
    "resourceDisplayName": "VARCHAR",
    "isInteractive": "VARCHAR",
    "signInEventTypes": ["VARCHAR"],
    "authenticationProtocol": "VARCHAR",
    "incomingTokenType": "VARCHAR",
    "clientCredentialType": "VARCHAR",
    "servicePrincipalCredentialKeyId": "VARCHAR",
    "servicePrincipalCredentialThumbprint": "VARCHAR",
    "federatedCredentialId": "VARCHAR",
    "managedServiceIdentity": {"federatedTokenId": "VARCHAR", "federatedTokenIssuer": "VARCHAR"},
    "conditionalAccessStatus": "VARCHAR",
    "status": {"errorCode": "VARCHAR", "failureReason": "VARCHAR"},
    "resultType": "VARCHAR",
    "resultDescription": "VARCHAR",
    "agent": {
        "agentType": "VARCHAR",
        "agentSubjectType": "VARCHAR",
        "agentSubjectParentId": "VARCHAR",
        "parentAppId": "VARCHAR",
    },
    "xms_act_fct": "VARCHAR",
    "xms_sub_fct": "VARCHAR",
    "xms_par_app_azp": "VARCHAR",
    # A request to Graph.
    "requestId": "VARCHAR",
    "operationId": "VARCHAR",
    "clientRequestId": "VARCHAR",
    "requestMethod": "VARCHAR",
    "requestUri": "VARCHAR",
    "responseStatusCode": "VARCHAR",
    "signInActivityId": "VARCHAR",
    "scopes": "VARCHAR",
    "roles": "VARCHAR",
    "clientAuthMethod": "VARCHAR",
    "tokenIssuedAt": "VARCHAR",
    "userPrincipalObjectID": "VARCHAR",
    "C_Idtyp": "VARCHAR",
    "C_Sid": "VARCHAR",
    # A directory audit record.
    "activityDateTime": "VARCHAR",
    "activityDisplayName": "VARCHAR",
    "operationType": "VARCHAR",
    "result": "VARCHAR",
    "resultReason": "VARCHAR",
    "loggedByService": "VARCHAR",
    "category": "VARCHAR",
    "initiatedBy": {"user": _INITIATOR, "app": _INITIATOR},
    "targetResources": [
        {
            "id": "VARCHAR",
            "type": "VARCHAR",
            "displayName": "VARCHAR",
            "modifiedProperties": [
                {"displayName": "VARCHAR", "oldValue": "VARCHAR", "newValue": "VARCHAR"}
            ],
        }
    ],
    "additionalDetails": [{"key": "VARCHAR", "value": "VARCHAR"}],
}
_ENVELOPE = {
    "time": "VARCHAR",
    "resourceId": "VARCHAR",
    "tenantId": "VARCHAR",
    "category": "VARCHAR",
    "type": "VARCHAR",
    "operationName": "VARCHAR",
    "resultType": "VARCHAR",
    "callerIpAddress": "VARCHAR",
    "correlationId": "VARCHAR",
    "location": "VARCHAR",
}
_SHAPE = {"kind": "VARCHAR", **_ENVELOPE, "properties": _PROPERTIES}

# Parts that a table row holds as text.
_NESTED = frozenset(
    (
        "properties",
        "status",
        "agent",
        "managedserviceidentity",
        "initiatedby",
        "targetresources",
        "additionaldetails",
    )
)
_SIGN_IN_FACTS = frozenset(("uniqueTokenIdentifier", "conditionalAccessStatus", "signInEventTypes"))

_envelope = speller({**_ENVELOPE, "properties": "JSON", "timeGenerated": "VARCHAR"})
_properties = speller(_PROPERTIES)


def _listed(document: Any) -> list[Any] | None:
    for name in (WRAPPER, "value"):
        listed = member(document, name)
        if isinstance(listed, list):
            return listed
    return None


def _parts(record: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the envelope and what it holds; of a record without one, that record twice."""
    envelope = _envelope(record)
    inner = _read(envelope.pop("properties", None))
    if isinstance(inner, dict):
        envelope.pop("timeGenerated", None)
        return envelope, _properties(inner)
    # In a table row this is the workspace's id, not the directory's.
    envelope.pop("tenantId", None)
    envelope["time"] = envelope.pop("timeGenerated", None)
    opened = {
        name: _read(part) if name.lower() in _NESTED else part for name, part in record.items()
    }
    return envelope, _properties(opened)


def _read(part: Any) -> Any:
    if isinstance(part, str) and part[:1] in {"{", "["}:
        try:
            return parse_json(part.encode())
        except ValueError:
            return None
    return part


def _kind(envelope: dict[str, Any], properties: dict[str, Any]) -> str | None:
    # A table row tells its table as `Type`, and as `Category` what the record is about.
    for name in (envelope.get("type"), envelope.get("category")):
        word = name.lower() if isinstance(name, str) else ""
        if word.endswith("signinlogs"):
            return "sign_in"
        if word in {"microsoftgraphactivitylogs", "auditlogs"}:
            return "graph" if word.startswith("microsoft") else "audit"
    if {"signInActivityId", "requestMethod"} <= properties.keys():
        return "graph"
    if {"activityDisplayName", "initiatedBy"} <= properties.keys():
        return "audit"
    if "appId" in properties and not _SIGN_IN_FACTS.isdisjoint(properties):
        return "sign_in"
    return None


def _prepared(record: dict[str, Any]) -> dict[str, Any]:
    envelope, properties = _parts(record)
    return {"kind": _kind(envelope, properties), **envelope, "properties": properties}


SOURCE = SqlSource(
    name="entra_signin",
    wrapper=WRAPPER,
    shape=_SHAPE,
    unwrap=_listed,
    prepare=_prepared,
    # Queries are arguments; changed values and details are whatever a service writes there.
    hidden=tuple(
        (*place, name)
        for place in ((), ("properties",))
        for name in (
            "requestUri",
            "additionalDetails",
            "authenticationProcessingDetails",
            "targetResources",
        )
    ),
)


def recognises(record: object) -> bool:
    """Return whether a record is a sign-in, a Graph request or an audit record of Entra."""
    if not isinstance(record, dict):
        return False
    listed = _listed(record)
    if listed is not None:
        return bool(listed) and recognises(listed[0])
    return _kind(*_parts(record)) is not None


def adapt(values: Sequence[bytes | None], context: Context) -> Adapted:
    """Return token events of sign-ins, tool calls of the rest, secret events of credentials."""
    return SOURCE.adapt(values, context)

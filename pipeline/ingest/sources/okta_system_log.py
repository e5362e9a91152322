"""Okta System Log: the API's lists, JSON lines; envelopes of event hooks, EventBridge, Splunk.

Grants, revocations, reuse and consents of the authorization servers are token events;
everything else is one tool call, named by its `eventType`.  It is made with an API token,
known by its id (`requestApiTokenId`), or in the person's session (`externalSessionId`).
Sessions that begin and end are token events too, API tokens secret events.

A grant is told by its app, which holds the token.  The subject is the user among the
targets, or the app itself where it has a grant of its own; a plain exchange names
none, and so does the row.  A token is known by the id that Okta writes among the
targets; where there is none, by the event's own id (`local`).
The log does not say which organisation it is of unless an event hook brings it: name
its domain as the source's instance, and issuers are the URLs that tokens carry.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from pipeline.ingest.json_text import member, speller
from pipeline.ingest.sql_source import SqlSource

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pipeline.ingest.sources import Adapted, Context

WRAPPER = None

_WHO = {"id": "VARCHAR", "type": "VARCHAR", "alternateId": "VARCHAR"}
_SHAPE = {
    "uuid": "VARCHAR",
    "published": "VARCHAR",
    "eventType": "VARCHAR",
    "orgDomain": "VARCHAR",
    "actor": _WHO,
    "client": {
        "id": "VARCHAR",
        "ipAddress": "VARCHAR",
        "userAgent": {"rawUserAgent": "VARCHAR"},
    },
    "outcome": {"result": "VARCHAR", "reason": "VARCHAR"},
    "target": [
        {
            **_WHO,
            "displayName": "VARCHAR",
            "detailEntry": {
                "expires": "VARCHAR",
                "subject": "VARCHAR",
                "hash": "VARCHAR",
                "actor": "VARCHAR",
            },
        }
    ],
    "transaction": {"id": "VARCHAR", "detail": {"requestApiTokenId": "VARCHAR"}},
    "authenticationContext": {"externalSessionId": "VARCHAR"},
    "debugContext": {
        "debugData": {
            "grantType": "VARCHAR",
            "requestedScopes": "VARCHAR",
            "grantedScopes": "VARCHAR",
            "requestUri": "VARCHAR",
            "requestId": "VARCHAR",
            "clientAuthType": "VARCHAR",
            "authorizationServerAudience": "VARCHAR",
            "authorizationServerName": "VARCHAR",
            "resource": "VARCHAR",
        }
    },
    "request": {"ipChain": [{"ip": "VARCHAR"}]},
}


def _events(document: Any) -> list[Any] | None:
    if isinstance(document, list):
        inside = (_events(item) if isinstance(item, dict) else None for item in document)
        return [
            one for item, events in zip(document, inside, strict=True) for one in events or [item]
        ]
    hooked = member(document, "data", "events")
    if isinstance(hooked, list):
        return [_of_org(event, document) for event in hooked]
    # EventBridge, and Splunk's event collector.
    for detail in (member(document, "detail"), member(document, "event")):
        if isinstance(detail, dict) and not {"eventType", "eventtype"}.isdisjoint(detail):
            return [detail]
    return None


def _of_org(event: Any, hook: Any) -> Any:
    try:
        host = urlsplit(str(member(hook, "source"))).hostname
    except ValueError:
        host = None
    return {**event, "orgDomain": host} if isinstance(event, dict) and host else event


_respelt = speller(_SHAPE)


def _prepared(record: dict[str, Any]) -> dict[str, Any]:
    if "eventType" in record:
        return record
    found: dict[str, Any] = _respelt(record)
    return found


SOURCE = SqlSource(
    name="okta_system_log",
    shape=_SHAPE,
    unwrap=_events,
    prepare=_prepared,
    hidden=(("debugContext",), ("detail", "debugContext"), ("event", "debugContext")),
)


def recognises(record: object) -> bool:
    """Return whether a record is an event of Okta's System Log, or an envelope of some."""
    events = _events(record)
    if events is not None:
        return bool(events) and isinstance(events[0], dict) and recognises(events[0])
    if not isinstance(record, dict):
        return False
    names = {name.lower() for name in record}
    dotted = isinstance(record.get("eventType", record.get("eventtype")), str)
    return dotted and "actor" in names and not names.isdisjoint({"outcome", "published", "uuid"})


def adapt(values: Sequence[bytes | None], context: Context) -> Adapted:
    """Return a token event for what an authorization server did, a tool call for the rest."""
    return SOURCE.adapt(values, context)

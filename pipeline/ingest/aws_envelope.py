"""CloudTrail records taken out of what AWS ships them in.

EventBridge puts one under `detail`, CloudWatch Logs writes each of its `logEvents` as a
text, `lookup-events` as `CloudTrailEvent`, and SNS and SQS wrap any of these once more.
"""

from __future__ import annotations

from typing import Any

from pipeline.ingest.json_text import parse_json

_LISTS = ("Records", "logEvents", "events", "Events", "Messages")
_HOLDERS: dict[str, tuple[str, ...]] = {
    "detail": ("detail-type",),
    "CloudTrailEvent": (),
    "eventData": (),
    "Sns": (),
    "message": ("timestamp", "ingestionTime"),
    "Message": ("Type", "TopicArn", "MessageId"),
    "body": ("messageId", "receiptHandle", "eventSource"),
    "Body": ("MessageId", "ReceiptHandle"),
}
"""What holds a record, and beside which of the envelope's own members outside of a list: a bare
`message` or `body` is anybody's text and must forge no event."""
_DEEPEST = 6
"""SQS around SNS around EventBridge around the record, and some to spare."""
SHIPPED_IN = tuple((name,) for name in (*_LISTS[1:], *_HOLDERS))
"""Where an envelope holds texts; what `Records` lists is looked at one by one."""


def is_event(record: Any) -> bool:
    """Return whether a record names an AWS event and who caused it."""
    return isinstance(record, dict) and "eventName" in record and "userIdentity" in record


def no_event(record: Any) -> str | None:
    """Return what of CloudTrail's own a record is that tells of no call, None where it may."""
    if not isinstance(record, dict) or is_event(record):
        return None
    if record.get("eventType") == "AwsCloudTrailInsight" or "insightDetails" in record:
        return "an Insights event: it counts calls that have records of their own"
    if "digestS3Object" in record and "logFiles" in record:
        return "a digest of delivery files"
    if record.get("messageType") == "CONTROL_MESSAGE":
        return "a test message of CloudWatch Logs"
    return None


def unpacked(document: Any, depth: int = 0, *, is_listed: bool = False) -> list[Any]:
    """Return the records in a document; what holds none stands for itself.

    `is_listed` tells that an envelope lists it.
    """
    if depth > _DEEPEST or is_event(document) or no_event(document):
        return [document]
    if isinstance(document, list):
        return [
            record for item in document for record in unpacked(item, depth + 1, is_listed=is_listed)
        ]
    if not isinstance(document, dict):
        return [document]
    for name in _LISTS:
        if isinstance(document.get(name), list):
            return unpacked(document[name], depth + 1, is_listed=True)
    for name, beside in _HOLDERS.items():
        if beside and not is_listed and document.keys().isdisjoint(beside):
            continue
        inner = _opened(document.get(name))
        if isinstance(inner, dict):
            found = unpacked(inner, depth + 1)
            if any(is_event(record) or no_event(record) for record in found):
                return found
    return [document]


def _opened(held: Any) -> Any:
    """Return a document that is written as a text, anything else as it is."""
    if not isinstance(held, str) or not held.lstrip().startswith("{"):
        return held
    try:
        return parse_json(held.encode())
    except ValueError:
        return None

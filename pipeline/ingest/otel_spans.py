"""Spans as they are sent or filed, brought into one form.

OTLP as protobuf or JSON (`resourceSpans`, with the older `instrumentationLibrarySpans`),
and single spans as the SDKs print them: ids as `0x` texts, or as whole numbers of 128 and
64 bits, which never pass through a float.  Reads the attributes of `otel_words` and no
others, so that prompts, answers and events never leave the bytes they came in.
"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from google.protobuf.message import DecodeError
from opentelemetry.proto.trace.v1.trace_pb2 import TracesData

from pipeline.ingest.json_text import dump_json, member, parse_json
from pipeline.ingest.otel_words import (
    CONTENT,
    ENVIRONMENTS,
    ERROR_FLAG,
    READ,
    READ_OF_RESOURCE,
    STATUS_CODES,
    WORKLOADS,
)
from pipeline.ingest.sources import Refusal
from pipeline.ingest.unread import kept_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue

KINDS = ("", "internal", "server", "client", "producer", "consumer")
STATUS = ("unset", "ok", "error")
_RESOURCES = ("resourceSpans", "resource_spans")
_SCOPES = ("scopeSpans", "scope_spans", "instrumentationLibrarySpans")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MAX_DIGITS = 20
_EXACT = 1 << 53
_CODE = re.compile(r"[\w.$:/<>\[\]-]{1,200}")
_HEX = re.compile(r"[0-9a-f]+")
_AFTER_PATH = re.compile(r"[?#].*$", re.DOTALL)
_USER_INFO = re.compile(r"//[^/@]*@")


@dataclass(frozen=True, slots=True)
class Resource:
    """Who wrote some spans."""

    attributes: Mapping[str, str]
    service: str | None
    """Its name, within its namespace; None where the SDK made one up."""
    instance: str | None
    workload: str | None
    """In Kubernetes what runs the pods, else what a cloud or itself calls it."""
    environment: str | None
    """One of the contract's."""
    agent: str | None
    """Who acts in all of its spans that name nobody."""


@dataclass(slots=True)
class Span:
    """What is read of one span."""

    row: int
    """Which of the values it came in."""
    trace_id: str | None
    span_id: str | None
    parent_id: str | None
    name: str
    kind: str
    start_us: int | None
    end_us: int | None
    status: str
    attributes: dict[str, Any]
    """Texts, but for content, which is as it was sent."""
    resource: Resource
    scope: str
    """Name of the library that wrote it, empty where that is not told."""
    agent: str | None = None
    """The agent that it names, see `otel_calls.agent_of`."""

    def first(self, names: tuple[str, ...]) -> str | None:
        """Return the first of these attributes that is there, as text."""
        for name in names:
            if name in self.attributes:
                found: str = self.attributes[name]
                return found
        return None

    def safe(self) -> bytes:
        """Return the span without content, in a form that is read again."""
        kept = {
            name: value
            for name, value in self.attributes.items()
            if name not in CONTENT and (name not in STATUS_CODES or is_code(value))
        }
        span = {
            "context": {"trace_id": self.trace_id, "span_id": self.span_id},
            "parent_id": self.parent_id,
            "name": self.name,
            "kind": self.kind,
            "start_time": self.start_us,
            "end_time": self.end_us,
            "status": {"status_code": self.status},
            "attributes": kept,
            "resource": {"attributes": dict(self.resource.attributes)},
        }
        return dump_json(span)


@dataclass
class Read:
    """What became of some values."""

    spans: list[Span] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)
    empty: int = 0
    """Values that are exports and hold no span."""


def read_spans(values: list[tuple[int, bytes]]) -> Read:
    """Return the spans in these values, each with its row."""
    read = Read()
    for row, value in values:
        spans, refusals = len(read.spans), len(read.refusals)
        try:
            _read_value(read, row, value)
        except ValueError as error:
            read.refusals.append(Refusal(row, "decode", str(error), kept_of(value)))
        read.empty += (spans, refusals) == (len(read.spans), len(read.refusals))
    return read


def _read_value(read: Read, row: int, value: bytes) -> None:
    opening = value.removeprefix(b"\xef\xbb\xbf").lstrip()[:1]
    if value[:1] == b"\n" and opening:
        # A line feed also opens a protobuf export, and any byte may follow as its length.
        try:
            _read_protobuf(read, row, value)
        except ValueError:
            if opening not in b"{[":
                raise
        else:
            return
    if opening not in b"{[":
        _read_protobuf(read, row, value)
        return
    try:
        document = parse_json(value)
    except ValueError as error:
        raise ValueError(f"not JSON: {error}") from None
    for part in document if isinstance(document, list) else [document]:
        _read_document(read, row, part)


def _read_document(read: Read, row: int, document: Any) -> None:
    if not isinstance(document, dict):
        read.refusals.append(_refuse(row, document, "a span is no JSON object"))
        return
    resources = _either(document, _RESOURCES)
    listed = document.get("spans")
    if resources is not None:
        _read_export(read, row, resources)
    elif isinstance(listed, list) and "context" not in document:
        for span in listed:
            _read_loose(read, row, span)
    else:
        _read_loose(read, row, document)


def _read_export(read: Read, row: int, resources: Any) -> None:
    for resource, wrong in _objects(resources, "resourceSpans"):
        if wrong:
            read.refusals.append(_refuse(row, None, wrong))
            continue
        about = _resource(_pairs(member(resource, "resource", "attributes"), READ_OF_RESOURCE))
        for scope, at_scope in _objects(_either(resource, _SCOPES), "scopeSpans"):
            if at_scope:
                read.refusals.append(_refuse(row, None, at_scope))
                continue
            library = member(scope, "scope", "name") or member(
                scope, "instrumentationLibrary", "name"
            )
            for span, at_span in _objects(scope.get("spans"), "spans"):
                if at_span:
                    read.refusals.append(_refuse(row, None, at_span))
                else:
                    read.spans.append(_otlp_span(row, span, about, text_of(library) or ""))


def _objects(listed: Any, name: str) -> Iterator[tuple[dict[str, Any], str]]:
    """Yield the objects of a list, or what is wrong with it or one of them."""
    if listed is None:
        return
    if not isinstance(listed, list):
        yield {}, f"{name} is no list"
        return
    for one in listed:
        yield (one, "") if isinstance(one, dict) else ({}, f"an element of {name} is no object")


def _otlp_span(row: int, span: dict[str, Any], resource: Resource, scope: str) -> Span:
    status = member(span, "status", "code")
    return Span(
        row=row,
        trace_id=id_of(_either(span, ("traceId", "trace_id")), 32),
        span_id=id_of(_either(span, ("spanId", "span_id")), 16),
        parent_id=id_of(_either(span, ("parentSpanId", "parent_span_id")), 16),
        name=text_of(span.get("name")) or "",
        kind=_word(span.get("kind"), KINDS),
        start_us=_moment_us(_either(span, ("startTimeUnixNano", "start_time_unix_nano"))),
        end_us=_moment_us(_either(span, ("endTimeUnixNano", "end_time_unix_nano"))),
        status=_word(status, STATUS) or "unset",
        attributes=_cleaned(_pairs(span.get("attributes"), READ)),
        resource=resource,
        scope=scope,
    )


def _read_loose(read: Read, row: int, span: Any) -> None:
    """Read a span as an SDK prints it: `context`, `parent_id` or `parent`, flat attributes."""
    context = span.get("context") if isinstance(span, dict) else None
    if not isinstance(context, dict):
        read.refusals.append(_refuse(row, span, "holds neither resourceSpans nor a span's context"))
        return
    parent = span.get("parent_id")
    if parent is None:
        parent = member(span, "parent", "span_id")
    scope = member(span, "instrumentation_scope", "name") or member(span, "scope", "name")
    read.spans.append(
        Span(
            row=row,
            trace_id=id_of(context.get("trace_id"), 32),
            span_id=id_of(context.get("span_id"), 16),
            parent_id=id_of(parent, 16),
            name=text_of(span.get("name")) or "",
            kind=_word(span.get("kind"), KINDS),
            start_us=_moment_us(span.get("start_time")),
            end_us=_moment_us(span.get("end_time")),
            status=_word(member(span, "status", "status_code"), STATUS) or "unset",
            attributes=_cleaned(_flat(span.get("attributes"), READ)),
            resource=_resource(_flat(member(span, "resource", "attributes"), READ_OF_RESOURCE)),
            scope=text_of(scope) or "",
        )
    )


def _read_protobuf(read: Read, row: int, value: bytes) -> None:
    try:
        data = TracesData.FromString(value)
    except DecodeError:
        raise ValueError("neither JSON nor an OTLP export of traces") from None
    if not data.resource_spans:
        raise ValueError("neither JSON nor an OTLP export of traces")
    for resource in data.resource_spans:
        about = _resource(_proto_pairs(resource.resource.attributes, READ_OF_RESOURCE))
        for group in resource.scope_spans:
            scope = group.scope.name
            for span in group.spans:
                parent = span.parent_span_id
                read.spans.append(
                    Span(
                        row=row,
                        trace_id=_bytes_id(span.trace_id, 16),
                        span_id=_bytes_id(span.span_id, 8),
                        parent_id=_bytes_id(parent, 8) if parent else None,
                        name=span.name,
                        kind=KINDS[span.kind] if span.kind < len(KINDS) else "",
                        start_us=span.start_time_unix_nano // 1000 or None,
                        end_us=span.end_time_unix_nano // 1000 or None,
                        status=STATUS[span.status.code] if span.status.code < len(STATUS) else "",
                        attributes=_cleaned(_proto_pairs(span.attributes, READ)),
                        resource=about,
                        scope=scope,
                    )
                )


def _proto_pairs(pairs: Any, wanted: frozenset[str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    pair: KeyValue
    for pair in pairs:
        key = pair.key
        if key in wanted:
            found[key] = _proto_value(pair.value)
    return found


def _proto_value(value: AnyValue) -> Any:
    name = value.WhichOneof("value")
    if name is None:
        return None
    if name == "array_value":
        return [_proto_value(one) for one in value.array_value.values]
    if name == "kvlist_value":
        return {pair.key: _proto_value(pair.value) for pair in value.kvlist_value.values}
    if name == "bytes_value":
        return value.bytes_value.hex()
    return getattr(value, name)


def _pairs(pairs: Any, wanted: frozenset[str]) -> dict[str, Any]:
    """Return attributes of OTLP JSON; where a key stands twice, the last counts."""
    found = {}
    for pair in pairs if isinstance(pairs, list) else ():
        key = pair.get("key") if isinstance(pair, dict) else None
        if isinstance(key, str) and key in wanted:
            value = pair.get("value")
            # Nearly all are texts.
            is_text = isinstance(value, dict) and len(value) == 1 and "stringValue" in value
            found[key] = value["stringValue"] if is_text else _json_value(value)
    return found


def _json_value(value: Any) -> Any:
    if not isinstance(value, dict) or len(value) != 1:
        return None
    ((name, content),) = value.items()
    name = name.replace("_v", "V")
    if name == "arrayValue":
        listed = member(content, "values")
        return [_json_value(one) for one in listed] if isinstance(listed, list) else []
    if name == "kvlistValue":
        listed = member(content, "values")
        held = listed if isinstance(listed, list) else []
        return {
            str(one.get("key")): _json_value(one.get("value"))
            for one in held
            if isinstance(one, dict)
        }
    if name == "intValue" and isinstance(content, str):
        return int(content) if re.fullmatch(r"-?[0-9]{1,19}", content) else None
    return content


def _flat(attributes: Any, wanted: frozenset[str]) -> dict[str, Any]:
    if not isinstance(attributes, dict):
        return {}
    return {name: attributes[name] for name in attributes.keys() & wanted}


def _cleaned(attributes: dict[str, Any]) -> dict[str, Any]:
    """Return all but content as text; of a URI neither user nor query nor fragment."""
    kept = {}
    for name, value in attributes.items():
        if name in CONTENT:
            clean = value
        else:
            clean = (value.strip() or None) if isinstance(value, str) else text_of(value)
        if clean is not None:
            kept[name] = clean
    if attributes.get(ERROR_FLAG) is True:
        kept[ERROR_FLAG] = "error"
    if "metadata" in kept:
        # OpenInference: a JSON text of LangChain's, which also names the agent.
        _take_agent(kept, kept.pop("metadata"))
    uri = kept.get("mcp.resource.uri")
    if uri is not None:
        kept["mcp.resource.uri"] = _USER_INFO.sub("//", _AFTER_PATH.sub("", uri))
    return kept


def _take_agent(kept: dict[str, Any], metadata: str) -> None:
    try:
        named = text_of(member(parse_json(metadata.encode("utf-8", "replace")), "lc_agent_name"))
    except ValueError:
        return
    if named is not None:
        kept["lc_agent_name"] = named


def _resource(attributes: dict[str, Any]) -> Resource:
    texts = _cleaned(attributes)
    name, space = texts.get("service.name"), texts.get("service.namespace")
    if name is None or name.startswith("unknown_service"):
        service = None
    else:
        service = f"{space}/{name}" if space else name
    named = texts.get("deployment.environment.name") or texts.get("deployment.environment", "")
    return Resource(
        attributes=texts,
        service=service,
        instance=texts.get("service.instance.id"),
        workload=_pods(texts) or texts.get("cloud.resource_id") or service,
        environment=ENVIRONMENTS.get(named.lower()),
        agent=texts.get("gen_ai.agent.id") or texts.get("gen_ai.agent.name"),
    )


def _pods(texts: Mapping[str, str]) -> str | None:
    named = next(filter(None, (texts.get(name) for name in WORKLOADS)), None)
    space, cluster = texts.get("k8s.namespace.name"), texts.get("k8s.cluster.name")
    if not space or not named:
        return None
    return f"{cluster}/{space}/{named}" if cluster else f"{space}/{named}"


def text_of(value: Any) -> str | None:
    """Return a text or number as text; None where there is nothing, or something else."""
    if isinstance(value, str):
        return value.strip() or None
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if isinstance(value, float):
        # A code or a port that some exporter sent as a double.
        is_whole = value.is_integer() and abs(value) < _EXACT
        return str(int(value) if is_whole else value)
    return None


def is_code(text: str) -> bool:
    """Return whether a text is a code; a library that writes its messages as codes is cut off."""
    return _CODE.fullmatch(text) is not None


def id_of(value: Any, digits: int) -> str | None:
    """Return a trace's (32) or span's (16) id in small hexadecimal; None where it is none.

    A whole number is taken exactly; a float has lost digits and is no id.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:0{digits}x}" if 0 < value < 1 << 4 * digits else None
    if not isinstance(value, str):
        return None
    text = value
    if len(text) != digits or not _HEX.fullmatch(text):
        text = text.strip().lower().removeprefix("0x")
    if len(text) == digits and _HEX.fullmatch(text):
        return text if text.strip("0") else None
    if len(value.strip()) in (12, 24):  # protobuf's own JSON has bytes in base64
        try:
            return _bytes_id(base64.b64decode(value.strip(), validate=True), digits // 2)
        except binascii.Error:
            return None
    return None


def _bytes_id(value: bytes, size: int) -> str | None:
    return value.hex() if len(value) == size and any(value) else None


def _moment_us(value: Any) -> int | None:
    """Return microseconds since 1970 of a count of seconds to nanoseconds or RFC 3339 text."""
    if isinstance(value, str) and not (value.isascii() and value.isdigit()):
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            return None
        moment = moment.replace(tzinfo=moment.tzinfo or UTC)
        return (moment - _EPOCH) // (_EPOCH.resolution)
    if isinstance(value, str):
        value = int(value) if len(value) <= _MAX_DIGITS else None
    if not isinstance(value, int) or isinstance(value, bool) or value <= 0:
        return None
    if value >= 10**17:
        return value // 1000
    if value >= 10**14:
        return value
    return value * 1000 if value >= 10**11 else value * 1_000_000


def _word(value: Any, words: tuple[str, ...]) -> str:
    """Return an enum of OTLP by its number or by its name, with or without a prefix."""
    if isinstance(value, int) and not isinstance(value, bool):
        return words[value] if 0 <= value < len(words) else ""
    if not isinstance(value, str):
        return ""
    last = re.split(r"[._]", value.lower())[-1]
    return last if last in words else ""


def _either(record: Mapping[str, Any], names: tuple[str, ...]) -> Any:
    for name in names:
        found = record.get(name)
        if found is not None:
            return found
    return None


def _refuse(row: int, part: Any, reason: str) -> Refusal:
    """Refuse a part by its member names alone: what it holds may be content."""
    names = sorted(map(str, part)) if isinstance(part, dict) else []
    return Refusal(row, "decode", reason, dump_json(names))

"""What the README says of a source's mapping is what its rows are made of."""

from __future__ import annotations

import copy
import re

import orjson
import pytest

from pipeline.events.schema import FAMILIES, contract_schema, defaults
from pipeline.ingest.file_records import read_records
from pipeline.ingest.samples import sample_path
from pipeline.ingest.sources import Context, adapter_names, load_adapter
from tests.mappings import BATCH, WHOLE, mapping_of, table_of

_OKTA_ORG = (
    "secret_event.accessed_by_issuer",
    "secret_event.bound_identity_issuer",
    "secret_event.source",
    "token_event.actor_issuer",
    "token_event.source",
    "token_event.subject_issuer",
    "tool_call.credential_issuer",
)
"""Made of the organisation's name, which only some of the envelopes in the sample give."""
_TWIN = "without it the sample says the same: another field stands in, or a value is the default"
_BESIDE = "it is read from the records around it too"
NOT_SHOWN: dict[str, dict[str, str]] = {
    "attenu_guard": {
        "tool_call.actor_id": _BESIDE,
        "tool_call.agent_id": _BESIDE,
        "tool_call.parent_agent_id": _BESIDE,
    },
    "entra_signin": {
        "properties.C_Idtyp": _TWIN,
        "properties.homeTenantId": _TWIN,
        "properties.initiatedBy.app": _TWIN,
        "properties.initiatedBy.app.appId": _TWIN,
        "properties.resultReason": _TWIN,
        "token_event.from_trust_domain": _BESIDE,
        "token_event.to_trust_domain": _BESIDE,
    },
    "gcp_audit": {
        "protoPayload.request.name": _TWIN,
        "protoPayload.response.valid_before_time.seconds": _TWIN,
        "resource.labels.email_id": _TWIN,
    },
    "ocsf": {
        "action_id": _TWIN,
        "actor.invoked_by": _TWIN,
        "actor.user.account.uid": _TWIN,
        "api.request.data.roleArn": _TWIN,
        "authentication_token.type_id": _TWIN,
        "disposition_id": _TWIN,
        "secret_event.observer": _TWIN,
    },
    "okta_system_log": {
        "target.detailEntry.subject": _TWIN,
        **dict.fromkeys(_OKTA_ORG, "no record of this family in the sample names the organisation"),
    },
}
"""Source to the vendor field, or the column, whose part its sample cannot show, and why."""

MADE_BY_SQL = [
    name for name in adapter_names() if hasattr(load_adapter(name), "SOURCE") and sample_path(name)
]


@pytest.mark.parametrize("name", adapter_names())
def test_every_source_has_a_mapping_that_names_fields_of_the_contract(name):
    known = {field for family in FAMILIES for field in contract_schema(family).names}
    rows = table_of(name)[2:]

    assert rows
    if hasattr(load_adapter(name), "SOURCE"):
        assert {row.column.partition(".")[0] for row in mapping_of(name)} <= known
    else:
        right = [row.rpartition(" | ")[2] for row in rows]
        assert [text for text in right if not re.search("|".join(known), text)] == []


@pytest.mark.parametrize("name", MADE_BY_SQL)
def test_every_vendor_field_of_the_mapping_makes_a_column_what_it_is(name):
    """Without it one of its columns says something else, or the record is refused."""
    rows = mapping_of(name)
    records = _records(name)
    fields = sorted({path for row in rows for path in row.paths} - {WHOLE, BATCH})
    fields = [path for path in fields if any(_without(item, path) != item for item in records)]
    variants = [[_without(item, path) for item in records] for path in fields]
    for path in fields:
        # A field that another stands in for is told by what is left without the other.
        bare = [_without_all(item, _beside(rows, path)) for item in records]
        variants += [bare, [_without(item, path) for item in bare]]

    sound, *found = _adapted(name, [records, *variants])

    silent = set()
    for at, path in enumerate(fields):
        bare = found[len(fields) + 2 * at : len(fields) + 2 * at + 2]
        pairs = [(sound, found[at]), bare]
        of = [row for row in rows if path in row.paths]
        if not any(_column(a, row) != _column(b, row) for row in of for a, b in pairs):
            silent.add(".".join(path))
    assert sorted(silent - NOT_SHOWN.get(name, {}).keys()) == []


@pytest.mark.parametrize("name", MADE_BY_SQL)
def test_every_column_of_the_mapping_needs_one_of_its_vendor_fields(name):
    rows = [row for row in mapping_of(name) if not {WHOLE, BATCH} & {*row.paths}]
    records = _records(name)
    rows = [row for row in rows if any(_without_all(item, row.paths) != item for item in records)]
    bare = [[_without_all(item, row.paths) for item in records] for row in rows]

    sound, *found = _adapted(name, [records, *bare])

    silent = {
        f"{row.family}.{row.column}"
        for row, left in zip(rows, found, strict=True)
        if _is_filled(sound, row) and _column(left, row) == _column(sound, row)
    }
    assert sorted(silent - NOT_SHOWN.get(name, {}).keys()) == []


def _records(name):
    source = load_adapter(name)
    values = list(read_records(sample_path(name), source.WRAPPER))
    return source.SOURCE._read(values).documents


def _beside(rows, path):
    """Return the fields that stand beside this one in some column, and do not hold it."""
    beside = {other for row in rows if path in row.paths for other in row.paths}
    return [
        other
        for other in sorted(beside - {WHOLE, BATCH})
        if other != path[: len(other)] and path != other[: len(path)]
    ]


def _without(value, path):
    if isinstance(value, list):
        return [_without(item, path) for item in value]
    if not isinstance(value, dict) or path[0] not in value:
        return value
    rest = copy.copy(value)
    if len(path) == 1:
        del rest[path[0]]
    else:
        rest[path[0]] = _without(value[path[0]], path[1:])
    return rest


def _without_all(value, paths):
    for path in paths:
        value = _without(value, path)
    return value


def _adapted(name, variants):
    """Return of each list of records its rows by family, with the number of the record."""
    size = len(variants[0])
    values = [orjson.dumps(item) for records in variants for item in records]
    found = [{family: [] for family in FAMILIES} for _ in variants]
    for batch in load_adapter(name).adapt(values, Context()).batches:
        rows = batch.batch.to_pylist(maps_as_pydicts="lossy")
        for at, row in zip(batch.rows.tolist(), rows, strict=True):
            found[at // size][batch.family].append((at % size, row))
    return found


def _column(rows, mapped):
    name, _, key = mapped.column.partition(".")
    return sorted(
        (at, repr(row[name].get(key) if key else row[name])) for at, row in rows[mapped.family]
    )


def _is_filled(rows, mapped):
    empty = repr(defaults(mapped.family).get(mapped.column))
    return any(text not in (empty, "None") for _, text in _column(rows, mapped))

"""Every source's sample, record by record, against what it became when it was last reviewed.

`pytest tests/contracts/test_source_samples.py --update-golden` writes `golden/NAME.json`:
read it before you commit it.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import orjson
import pyarrow as pa
import pytest

from pipeline.events.schema import FAMILIES, defaults
from pipeline.ingest.batch import ANCHOR, Slice, TopicPartition
from pipeline.ingest.file_records import Faulty, read_records
from pipeline.ingest.files import wrapping_of
from pipeline.ingest.recognise import AUTO
from pipeline.ingest.samples import sample_path
from pipeline.ingest.sources import Context, adapter_names, load_adapter
from pipeline.ingest.take import take_slice
from pipeline.ingest.tally import Taken
from tests.factories import NOW

GOLDEN = Path(__file__).parent / "golden"
SECRET = "do-not-store"

KEEPS_NAMES = {"jwt_claims"}
"""Their samples mark people's names and error texts too, which a dead letter may hold."""

SAMPLED = [name for name in adapter_names() if sample_path(name)]
each_sample = pytest.mark.parametrize("name", SAMPLED)


def records_of(name):
    values = list(read_records(sample_path(name), load_adapter(name).WRAPPER))
    assert not any(isinstance(value, Faulty) for value in values), "the sample cannot be read"
    return values


def told(name, values):
    """Return what the records became: rows with what is no default, by family."""
    adapted = load_adapter(name).adapt(values, Context())
    found: dict = {family: [] for family in FAMILIES}
    for batch in adapted.batches:
        rows = batch.batch.to_pylist(maps_as_pydicts="strict")
        statuses = batch.parse_status.to_pylist()
        for record, row, status in zip(batch.rows.tolist(), rows, statuses, strict=True):
            partial = {"parse_status": status} if status != "ok" else {}
            found[batch.family].append({"record": record, **said(batch.family, row), **partial})
    for rows in found.values():
        rows.sort(key=lambda row: (row["record"], row["event_id"]))
    refusals = [
        {"record": item.row, "stage": item.stage, "reason": item.reason}
        for item in sorted(adapted.refusals, key=lambda item: (item.row, item.reason))
    ]
    skipped = dict(sorted(adapted.skipped.items()))
    return {key: value for key, value in found.items() if value} | {
        "refusals": refusals,
        "skipped": skipped,
    }


def said(family, row):
    known = defaults(family)
    return {
        name: value.isoformat().replace("+00:00", "Z") if isinstance(value, datetime) else value
        for name, value in row.items()
        if name not in known or value != known[name]
    }


def written(golden):
    """Return JSON with one line per field."""
    parts = []
    for key, content in golden.items():
        if isinstance(content, list) and content:
            items = ",\n".join(_object(item, "    ") for item in content)
            parts.append(f"  {json.dumps(key)}: [\n{items}\n  ]")
        else:
            parts.append(f"  {json.dumps(key)}: {json.dumps(content, ensure_ascii=False)}")
    return "{\n" + ",\n".join(parts) + "\n}\n"


def _object(item, indent):
    lines = ",\n".join(
        f"{indent}  {json.dumps(name)}: {json.dumps(value, ensure_ascii=False)}"
        for name, value in item.items()
    )
    return f"{indent}{{\n{lines}\n{indent}}}"


def test_every_source_has_a_sample_with_a_golden_and_tests_of_its_own():
    assert [name for name in adapter_names() if not sample_path(name)] == []
    assert sorted(path.stem for path in GOLDEN.glob("*.json")) == adapter_names()
    tests = Path(__file__).parents[1] / "ingest"
    own = [name for name in adapter_names() if name != "native"]
    assert [name for name in own if not (tests / f"test_{name}.py").exists()] == []


@each_sample
def test_a_sample_becomes_what_was_reviewed(name, request):
    file = GOLDEN / f"{name}.json"
    fresh = told(name, records_of(name))

    if request.config.getoption("--update-golden"):
        file.write_text(written(fresh), encoding="utf-8")

    assert file.exists(), "write it with --update-golden and read it"
    assert fresh == json.loads(file.read_text(encoding="utf-8"))


@each_sample
def test_a_sample_gives_rows_and_every_record_is_accounted_for(name):
    values = records_of(name)
    adapted = load_adapter(name).adapt(values, Context())

    rows = Counter(int(row) for batch in adapted.batches for row in batch.rows)
    refused = {item.row for item in adapted.refusals}
    silent = set(range(len(values))) - rows.keys() - refused
    assert rows
    assert len(silent) <= adapted.skipped.total()


@each_sample
def test_nothing_of_a_sample_s_secrets_is_stored(name):
    assert SECRET in sample_path(name).read_text(encoding="utf-8") or name == "native"

    assert leaks(name, records_of(name)) == []


@each_sample
def test_a_source_recognises_its_own_records_and_no_other_s(name):
    source = load_adapter(name)
    records = {other: list(map(orjson.loads, records_of(other))) for other in SAMPLED}

    assert [record for record in records.pop(name) if not source.recognises(record)] == []
    taken = {
        other: [record for record in found if source.recognises(record)]
        for other, found in records.items()
    }
    assert {other: found for other, found in taken.items() if found} == {}


@each_sample
def test_a_sample_read_as_auto_gives_what_it_gives_by_name(name):
    path = sample_path(name)
    values = list(read_records(path, wrapping_of(AUTO)))
    place = TopicPartition(f"file:{name}", 0)
    asked = Slice(place, AUTO, values, range(len(values)))
    named = replace(asked, adapter=name, values=records_of(name))

    auto, known = (take_slice(item, Context(), NOW) for item in (asked, named))

    assert auto.tally.taken == {Taken(place.topic, AUTO, name): len(values)}
    assert auto.tally.skipped == known.tally.skipped
    assert {t: pa.Table.from_batches(b) for t, b in auto.tables.items()} == {
        t: pa.Table.from_batches(b) for t, b in known.tables.items()
    }


def leaks(name, values):
    """Return the columns in which a secret of the sample would be stored."""
    place = TopicPartition(f"file:{name}", 0)
    rows = take_slice(Slice(place, name, values, range(len(values))), Context(), NOW)
    return [
        (table, column, row.get("reason") if table == ANCHOR else row["event_id"])
        for table, batches in rows.tables.items()
        for batch in batches
        for row in batch.to_pylist()
        for column, value in row.items()
        if SECRET in str(value)
    ]


@each_sample
def test_a_refused_record_keeps_its_secrets_out_of_the_dead_letters(name):
    """Each record without each of its members, down to the second level."""
    broken = [
        orjson.dumps(less)
        for value in records_of(name)
        for less in _lesser(orjson.loads(value), depth=2)
    ]

    found = leaks(name, broken)

    if name in KEEPS_NAMES:
        found = [item for item in found if item[0] != ANCHOR]
    assert found == []


def _lesser(value, depth):
    if not isinstance(value, dict) or not depth:
        return
    for key, part in value.items():
        yield {other: kept for other, kept in value.items() if other != key}
        for less in _lesser(part, depth - 1):
            yield {**value, key: less}

"""The chains behind real attack simulations, against the truth that came with the records."""

import gzip
import json
import random
import re
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.chains import build_chains
from pipeline.ingest.run import ingest_files
from pipeline.lake import open_lake
from pipeline.registry import load_registry
from tests.factories import NOW

DATA = Path(__file__).parents[2].parent / "shared" / "data"
FOLDER = DATA / "stratus-detonation"
pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason="the sample data is not here")


def records(path):
    return json.loads(gzip.decompress(path.read_bytes()))


def truth():
    return json.loads(gzip.decompress((DATA / "truth" / "stratus-detonation.json.gz").read_bytes()))


def session_tokens():
    answers = [
        (record.get("responseElements") or {}).get("credentials") or {}
        for path in FOLDER.glob("*.json.gz")
        for record in records(path)
    ]
    return {answer["sessionToken"] for answer in answers if answer.get("sessionToken")}


def built(folder, paths):
    lake = open_lake(str(folder / "lake"), create=True)
    ingest_files(paths, adapter="cloudtrail", sink=lake, now=NOW)
    build_chains(lake, load_registry(None), NOW)
    return lake


def in_order(folder):
    return built(folder, sorted(FOLDER.glob("*.json.gz")))


def shuffled(folder):
    dice = random.Random(7)
    paths = []
    for path in FOLDER.glob("*.json.gz"):
        found = records(path)
        dice.shuffle(found)
        paths.append(folder / path.name)
        paths[-1].write_bytes(gzip.compress(json.dumps(found).encode()))
    dice.shuffle(paths)
    return built(folder, paths)


@pytest.fixture(scope="module", params=[in_order, shuffled], ids=["in order", "shuffled"])
def lake(request, tmp_path_factory):
    return request.param(tmp_path_factory.mktemp("stratus"))


def one(lake, query):
    return lake.connect().execute(query).fetchone()


_LINKED = """
    SELECT count(*) FROM calls JOIN credentials AS c USING (credential_key)
    WHERE c.seen_issued AND c.kind = 'access_key_id'
"""
_BROKEN = """
    SELECT count(*), count(DISTINCT credential_id), any_value(gap_kind), count(DISTINCT gap_kind)
    FROM calls WHERE status = 'broken'
"""
_ISSUANCES = """
    SELECT count(*) FROM credentials WHERE seen_issued AND kind = 'access_key_id'
"""
_EDGES = """
    SELECT parent.id, child.id FROM hops
    JOIN credentials AS parent ON parent.credential_key = hops.parent_key
    JOIN credentials AS child ON child.credential_key = hops.child_key
"""
_DELIVERED_EARLY = """
    SELECT count(*) FROM calls AS call
    JOIN token_events AS made ON made.credential_id = call.credential_id
        AND made.kafka_topic = call.kafka_topic AND made.op IN ('issue', 'assume')
        AND made.outcome = 'success'
    WHERE call.kafka_offset < made.kafka_offset
"""


def test_every_issuance_links_the_calls_made_with_it(lake):
    assert one(lake, _ISSUANCES) == (11,)
    assert one(lake, _LINKED) == (48,)


def test_temporary_keys_without_an_issuance_are_broken_and_nothing_else_is(lake):
    assert one(lake, _BROKEN) == (21, 3, "missing_issue_event", 1)


def test_the_hops_are_the_edges_of_the_truth(lake):
    expected = {(e["parent_key"], e["issued_key"]) for e in truth()["edges"] if e["parent_key"]}

    assert set(lake.connect().execute(_EDGES).fetchall()) == expected
    assert one(lake, "SELECT max(links) FROM chains") == (1,)


def test_no_record_is_lost(lake):
    assert one(lake, "SELECT count(*) FROM calls") == (310,)
    assert one(lake, "SELECT count(*) FROM dead_letters") == (0,)


def test_calls_delivered_before_their_issuance_are_linked(tmp_path):
    assert one(in_order(tmp_path), _DELIVERED_EARLY) == (37,)


def strings(column):
    """Yield every string of a column, however deeply nested."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if pa.types.is_struct(column.type):
        for child in column.flatten():
            yield from strings(child)
    elif pa.types.is_map(column.type):
        yield from strings(column.keys)
        yield from strings(column.items)
    elif pa.types.is_list(column.type) or pa.types.is_large_list(column.type):
        yield from strings(column.flatten())
    elif pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        yield from (value for value in column.to_pylist() if value)
    elif pa.types.is_binary(column.type) or pa.types.is_large_binary(column.type):
        yield from (value.decode("latin-1") for value in column.to_pylist() if value)


def test_no_session_token_is_in_any_file_of_the_lake(tmp_path):
    in_order(tmp_path)
    tokens = session_tokens()
    assert len(tokens) == 9
    held = []

    for path in (tmp_path / "lake").rglob("*"):
        if path.suffix == ".parquet":
            for column in pq.ParquetFile(path).read().columns:
                for chunk in column.chunks:
                    held += strings(chunk)
        elif path.is_file():
            held.append(path.read_text(encoding="latin-1"))

    text = "\n".join(held)
    assert "ASIA" in text  # what is looked through does hold the ids of keys
    # The first half of a token would be a leak as well.
    assert not [token for token in tokens if token in text or token[: len(token) // 2] in text]
    assert not re.search(r"FwoGZXIvYXdz|IQoJb3JpZ2lu", text)

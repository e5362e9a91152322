"""CloudTrail records of real attack simulations, against the publisher-independent truth."""

import gzip
import hashlib
import json
from pathlib import Path

import pytest

from pipeline.ingest.batch import Limits, TopicPartition
from pipeline.ingest.run import Control, Loop, ingest_files
from pipeline.ingest.sources import Context
from pipeline.lake import open_lake
from tests.factories import NOW
from tests.scripted import Scripted, Sent

DATA = Path(__file__).parents[2].parent / "shared" / "data"
FOLDER = DATA / "stratus-detonation"
pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason="the sample data is not here")


def files():
    return sorted(FOLDER.glob("*.json.gz"))


def truth():
    return json.loads(gzip.decompress((DATA / "truth" / "stratus-detonation.json.gz").read_bytes()))


def session_tokens():
    found = set()
    for path in files():
        for record in json.loads(gzip.decompress(path.read_bytes())):
            credentials = (record.get("responseElements") or {}).get("credentials") or {}
            found.add(credentials.get("sessionToken"))
    return sorted(found - {None})


@pytest.fixture(scope="module")
def ingested(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stratus") / "lake"
    lake = open_lake(str(folder), create=True)
    report = ingest_files(files(), adapter="cloudtrail", sink=lake, now=NOW)
    return folder, lake.connect(), report


KEYS_MADE, SECRETS_READ = 2, 20


def test_every_event_is_one_tool_call_and_every_issuance_one_token_event(ingested):
    _, _, report = ingested

    assert report.rows == {
        "tool_calls": 310,
        "token_events": 11,
        "secret_events": KEYS_MADE + SECRETS_READ,
        "dead_letters": 0,
    }


def test_issued_keys_and_their_parents_are_those_of_the_truth(ingested):
    _, con, _ = ingested

    found = con.execute(
        "SELECT event_id, credential_id, parents[1].id, len(parents) FROM token_events ORDER BY 1"
    ).fetchall()

    assert found == sorted(
        (edge["event_id"], edge["issued_key"], edge["parent_key"], 1) for edge in truth()["edges"]
    )


def test_the_principal_of_an_issued_role_session_is_the_agent_of_its_calls(ingested):
    _, con, _ = ingested

    strangers = con.execute("""
        SELECT calls.agent_id, tokens.actor_id
        FROM tool_calls AS calls JOIN token_events AS tokens USING (credential_id)
        WHERE calls.agent_id <> tokens.actor_id OR calls.agent_issuer <> tokens.actor_issuer
    """).fetchall()

    assert strangers == []


def test_keys_and_errors_are_counted_as_in_the_truth(ingested):
    _, con, _ = ingested
    expected = truth()

    keys, failed, without = con.execute("""
        SELECT count(DISTINCT credential_id), count(*) FILTER (outcome <> 'success'),
               count(*) FILTER (credential_id IS NULL)
        FROM tool_calls
    """).fetchone()

    assert keys == expected["keys"]["used"]
    assert failed == expected["counts"]["events_with_error"]
    assert without == expected["calls"]["without_key"]


def test_every_action_is_classified(ingested):
    _, con, _ = ingested

    unclassified = con.execute(
        "SELECT DISTINCT operation FROM tool_calls WHERE action_class IS NULL"
    ).fetchall()

    assert unclassified == [("signin:ConsoleLogin",)]


def test_no_session_token_nor_its_digest_is_anywhere_in_the_lake(ingested):
    folder, con, _ = ingested
    tokens, digests = session_tokens(), truth()["session_token_sha256_must_not_appear_in_output"]
    assert sorted(hashlib.sha256(token.encode()).hexdigest() for token in tokens) == digests

    shown = "".join(
        str(con.execute(f"SELECT * FROM {table}").fetchall())  # fixed names
        for table in ("tool_calls", "token_events", "secret_events", "dead_letters")
    )
    stored = b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())

    for needle in [*tokens, *digests]:
        assert needle not in shown
        assert needle.encode() not in stored
        assert needle[:40].encode() not in stored


@pytest.mark.parametrize("wrap", [list, lambda found: {"Records": found}], ids=["array", "wrapped"])
def test_whole_delivery_files_as_values_of_a_topic_give_the_same_rows(tmp_path, wrap):
    lake = open_lake(str(tmp_path / "lake"), create=True)
    place = TopicPartition("aws", 0)
    values = [json.dumps(wrap(json.loads(gzip.decompress(p.read_bytes())))) for p in files()]
    source = Scripted(
        [Sent(value.encode(), place) for value in values], adapters={"aws": "cloudtrail"}
    )

    report = Loop(source, lake, Limits(), Context(), Control(once=True, clock=lambda: NOW)).run()

    assert report.rows == {
        "tool_calls": 310,
        "token_events": 11,
        "secret_events": KEYS_MADE + SECRETS_READ,
        "dead_letters": 0,
    }


def test_the_same_files_again_add_nothing(tmp_path):
    lake = open_lake(str(tmp_path / "lake"), create=True)
    ingest_files(files(), adapter="cloudtrail", sink=lake, now=NOW)

    report = ingest_files(list(reversed(files())), adapter="cloudtrail", sink=lake, now=NOW)

    assert report.records == 0
    assert lake.connect().execute("SELECT count(*) FROM tool_calls").fetchone() == (310,)

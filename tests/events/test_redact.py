from __future__ import annotations

import json

import pytest

from pipeline.events.complete import to_table_batch
from pipeline.events.redact import redact_batch, redact_bytes, redact_text
from pipeline.events.schema import table_schema
from pipeline.events.wire import decode_batch
from tests.events.wire_forms import Lookup, as_json, event, framed
from tests.factories import NOW

JWT = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJhbGljZSJ9.c2lnbmF0dXJlLW9mLXRva2Vu"
LONG = "X2VjEAAaCXVzLWVhc3QtMSJHMEUCIQDk4Zf9wq8Jb" * 3
AWS_SECRET = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"

SECRETS = {
    "jwt": JWT,
    "unsigned jwt": "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhbGljZSJ9.",
    "aws session": "IQoJb3JpZ2lu" + LONG,
    "aws session, older": "FwoGZXIvYXdzE" + LONG,
    "aws session, other": "AgoJb3JpZ2lu" + LONG,
    "github": "ghp_" + "a1B2" * 9,
    "github app": "github_pat_11ABCDEFG0" + "a1B2" * 9,
    "openai": "sk-proj-" + "a1B2" * 9,
    "anthropic": "sk-ant-api03-" + "a1B2" * 9,
    "slack": "xoxb-123456789012-abcdefABCDEF",
    "stripe": "sk_live_" + "a1B2" * 6,
    "vault": "hvs.CAESI" + "a1B2" * 6,
    "vault, older": "s." + "a1B2" * 6,
    "pem": "-----BEGIN RSA PRIVATE KEY-----\nMIIEow\n-----END RSA PRIVATE KEY-----",
}
PLACED = {
    "aws_secret_access_key=" + AWS_SECRET: AWS_SECRET,
    "AKIAIOSFODNN7EXAMPLE:" + AWS_SECRET: AWS_SECRET,
    "https://h/x?access_token=abc123def&page=2": "abc123def",
    "https://user:hunter2@example.org/x": "hunter2",
    "Authorization: Basic dXNlcjpwYXNzd29yZA==": "dXNlcjpwYXNzd29yZA==",
    "Authorization: Bearer abc123def456": "abc123def456",
    '{"client_secret": "abc def"}': "abc",
    '{"saml_assertion": "PHNhbWxwOlJlc3BvbnNl"}': "PHNhbWxwOlJlc3BvbnNl",
}
HARMLESS = (
    "7c9e6679-7425-40de-944b-e07fc1f90ae7",
    "task-7c9e6679-7425-40de-944b-e07fc1f90ae7",
    "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    "arn:aws:sts::123456789012:assumed-role/Admin/session-1",
    "AKIAIOSFODNN7EXAMPLE",
    "ASIAIOSFODNN7EXAMPLE",
    "spiffe://acme.example/ns/prod/sa/agent-1",
    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko)",
    "/srv/" + "very/long/path/to/some/file-name_01/" * 8,
    "urn:ietf:params:oauth:grant-type:jwt-bearer",
    "urn:ietf:params:oauth:token-type:access_token",
    "token:read",
    "secrets:list",
    "Basic authentication failed",
    "monkeyJournalService.handler",
    "s3://bucket/desk-lamps/and-more-things-2024.parquet",
)


@pytest.mark.parametrize("secret", SECRETS.values(), ids=SECRETS)
@pytest.mark.parametrize("around", ["{}", "got {} back", "url/%20{}", "a={}"])
def test_no_piece_of_a_credential_survives(secret, around):
    text = around.format(secret)

    clean, raw = redact_text(text), redact_bytes(text.encode())

    middle = secret[len(secret) // 3 : len(secret) // 3 + 8]
    assert middle not in clean
    assert "redacted:sha256:" in clean
    assert redact_text(clean) == clean
    assert middle.encode() not in raw
    assert len(raw) == len(text.encode())


@pytest.mark.parametrize(("text", "secret"), PLACED.items())
def test_a_secret_is_known_by_its_place(text, secret):
    assert secret not in redact_text(text)
    assert secret.encode() not in redact_bytes(text.encode())


@pytest.mark.parametrize("text", HARMLESS)
def test_what_only_looks_like_a_secret_stays(text):
    assert redact_text(text) == text
    assert redact_bytes(text.encode()) == text.encode()


@pytest.mark.parametrize(
    "name",
    [
        "sessionToken",
        "secretAccessKey",
        "password",
        "client_secret",
        "access_token",
        "refresh_token",
        "Authorization",
        "private-key",
        "SESSION_TOKEN",
        "x-api-key",
    ],
)
def test_the_value_of_a_telling_json_key_is_blanked_in_place(name):
    text = json.dumps({"a": 1, name: 'p"q, r', "in": {name: ["u1v", 2]}, "z": "kept"})

    masked = redact_bytes(text.encode())

    assert len(masked) == len(text)
    after = json.loads(masked)
    assert after["z"] == "kept"
    assert not {"p", "q", "r", "u", "v"} & set(str(after[name]) + str(after["in"][name]))


def test_json_within_json_and_cut_json_are_blanked_too():
    inner = json.dumps({"secretAccessKey": "abcDEF", "q": "kept"})

    assert b"abcDEF" not in redact_bytes(json.dumps({"m": inner}).encode())
    assert b"kept" in redact_bytes(json.dumps({"m": inner}).encode())
    assert b"abcDEF" not in redact_bytes(b'{"password":"abcDEF')


def test_raw_arguments_are_blanked_in_dead_letters_and_hashed_in_ext():
    sent = as_json(event(arguments={"amount": 12345, "to": "mallory"}))

    batch = decode_batch([sent], registry=None).batches[0].batch
    clean, _ = redact_batch(batch)

    assert b"mallory" not in redact_bytes(sent)
    assert b"12345" not in redact_bytes(sent)
    assert dict(clean["ext"][0].as_py())["arguments"].startswith("redacted:sha256:")


def test_a_masked_avro_frame_still_parses():
    sent = framed(event(resource=SECRETS["github"], ext={"k": JWT}, tags=[JWT, "tag"]))

    masked = redact_bytes(sent)

    decoded = decode_batch([masked], registry=Lookup())
    assert decoded.failures == []
    assert decoded.batches[0].batch["tags"][0].as_py()[1] == "tag"
    assert b"c2lnbmF0" not in masked


def test_a_batch_is_redacted_in_every_column_and_stays_joinable():
    sent = event(
        "token_event",
        credential_id=JWT,
        scopes=["read", f"Bearer {JWT}"],
        parents=[{"role": "subject", "issuer": None, "kind": "jti", "id": JWT}],
        act_chain=[{"issuer": None, "subject": JWT}],
        ext={"sessionToken": "short-secret-123", JWT: "v", "note": JWT},
        family_id=JWT,
    )
    batch = decode_batch([as_json(event("token_event")), as_json(sent)], registry=None).batches[0]

    clean, changed = redact_batch(batch.batch)

    assert changed.tolist() == [False, True]
    assert JWT not in str(clean.to_pylist())
    assert "short-secret" not in str(clean.to_pylist())
    row = clean.to_pylist()[1]
    assert row["credential_kind"] == row["parents"][0]["kind"] == "token_sha256"
    assert row["credential_id"] == row["parents"][0]["id"]
    assert row["family_id"] == f"redacted:sha256:{row['credential_id']}"
    assert clean.slice(0, 1).equals(batch.batch.slice(0, 1))


def test_a_table_row_has_every_column_and_no_secret():
    decoded = decode_batch([as_json(event(resource=JWT))], registry=None).batches[0]

    rows = to_table_batch(
        "tool_call",
        decoded.batch,
        adapter="native",
        topic="agent.tool_calls",
        partition=3,
        offsets=[42],
        ingest_time=NOW,
        parse_status=decoded.parse_status,
        uids=decoded.event_uids,
    )

    assert rows.schema.equals(table_schema("tool_call"))
    assert JWT not in str(rows.to_pylist())
    assert rows["kafka_offset"].to_pylist() == [42]
    assert str(rows["event_date"][0]) == "2023-11-14"

import io

import pytest

from pipeline.log import configure_logging, get_log, mask_secrets


@pytest.fixture
def written():
    stream = io.StringIO()
    configure_logging("INFO", stream)
    yield stream
    configure_logging("INFO")


def test_an_event_is_one_line_of_named_values(written):
    get_log("pipeline.ingest").info("batch stored", rows=3, topic="agent.tool_calls", took_s=0.25)

    line = written.getvalue()

    assert line.endswith(
        "INFO pipeline.ingest batch stored rows=3 topic=agent.tool_calls took_s=0.250\n"
    )
    assert line[10] == "T"


def test_a_value_cannot_break_its_line(written):
    get_log("pipeline.ingest").warning("odd", text='a\n2026 FATAL "x" \x1b[31m\u202e')

    assert written.getvalue().count("\n") == 1
    assert "\x1b" not in written.getvalue()
    assert "\u202e" not in written.getvalue()


def test_an_exception_is_told_without_its_frames(written):
    get_log("pipeline.ingest").error("stopped", error=ValueError("no such topic"))

    assert 'error="no such topic"' in written.getvalue()


@pytest.mark.parametrize(
    "secret",
    [
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhbGljZSJ9.c2lnbmF0dXJl",
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        "ghp_abcdefghijklmnopqrstuvwxyz0123456789",
        "hvs.CAESIJx0AbCdEfGhIjKl",
        "A" * 300,
    ],
)
def test_what_looks_like_a_credential_is_masked(secret):
    assert secret not in mask_secrets(f"refused {secret} today")


def test_an_assigned_secret_is_masked_and_its_name_kept():
    masked = mask_secrets("sasl.password=hunter22! Authorization: Bearer abcdef123 at=5")

    assert masked == "sasl.password=[redacted] Authorization: Bearer [redacted] at=5"


def test_the_password_of_a_url_is_masked():
    assert "s3cret" not in mask_secrets("cannot reach http://bob:s3cret@registry:8081/ids")


def test_ordinary_text_is_left_alone():
    text = "token_events rows=5 offset=77 sha=3f9a topic=agent.token_events"

    assert mask_secrets(text) == text

from datetime import UTC, datetime, timedelta

import click
import pytest

from pipeline.cli.options import MOMENT, spread

NAMES = {"--from"}


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (["--from", "a"], ["--from", "a"]),
        (["--from", "a", "b", "c"], ["--from", "a", "--from", "b", "--from", "c"]),
        (["--from", "a", "--from", "b"], ["--from", "a", "--from", "b"]),
        (
            ["--from", "a", "b", "--lake", "l", "--once"],
            ["--from", "a", "--from", "b", "--lake", "l", "--once"],
        ),
        (["--lake", "l", "x", "--from", "a"], ["--lake", "l", "x", "--from", "a"]),
        (["--from", "a", "-", "b"], ["--from", "a", "--from", "-", "--from", "b"]),
        (["--from", "a", "--", "b"], ["--from", "a", "--", "b"]),
        ([], []),
    ],
)
def test_an_option_takes_all_values_up_to_the_next_one(args, expected):
    assert spread(args, NAMES) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-11-20T12:00:00Z", datetime(2026, 11, 20, 12, tzinfo=UTC)),
        ("2026-11-20T12:00:00+02:00", datetime(2026, 11, 20, 10, tzinfo=UTC)),
        ("2026-11-20", datetime(2026, 11, 20, tzinfo=UTC)),
    ],
)
def test_a_moment_is_read_as_utc(text, expected):
    assert MOMENT.convert(text, None, None) == expected


@pytest.mark.parametrize(("text", "age"), [("24h", timedelta(hours=24)), ("7d", timedelta(days=7))])
def test_a_moment_may_be_an_age(text, age):
    moment = MOMENT.convert(text, None, None)

    assert age <= datetime.now(UTC) - moment < age + timedelta(minutes=1)


@pytest.mark.parametrize("text", ["yesterday", "24x", "2026-13-01", "9999999999999w", ""])
def test_what_is_no_moment_is_a_usage_error(text):
    with pytest.raises(click.BadParameter):
        MOMENT.convert(text, None, None)

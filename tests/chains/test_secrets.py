"""What a secret is folded to: its newest version decides whether it still works."""

from __future__ import annotations

import random
from datetime import timedelta
from typing import Any

import pytest

from tests.chains.worlds import built
from tests.factories import NOW, secret_event

Event = dict[str, Any]
STORIES: dict[str, list[Event]] = {}


def on(day: float, op: str, version: str | None = None, **over: Any) -> Event:
    """Return one event of the story's secret, so many days after its beginning."""
    when = NOW + timedelta(days=day - 100)
    usual = {"op": op, "secret_id": "kv/key", "secret_version": version, "event_time": when}
    return secret_event(**usual | over)


def story(name: str, *events: Event) -> str:
    STORIES[name] = [event | {"tenant_id": name} for event in events]
    return name


def folded(order: random.Random | None) -> dict[str, Event]:
    events = [event for story in STORIES.values() for event in story]
    if order:
        order.shuffle(events)
    return {row["tenant_id"]: row for row in built(events).table("secrets")}


@pytest.fixture(scope="module", params=["as told", "shuffled"])
def secrets(request) -> dict[str, Event]:
    return folded(None if request.param == "as told" else random.Random(7))


ROTATED = story(
    "rotated",
    on(1, "create", "v1", expires_at=NOW - timedelta(days=5)),
    on(2, "rotate", "v2"),
    on(2, "revoke", "v1"),
    on(3, "delete", "v1"),
    on(4, "expire", "v1", expires_at=NOW - timedelta(days=90)),
)


def test_the_end_of_an_old_version_is_part_of_its_rotation(secrets):
    found = secrets[ROTATED]
    assert (found["status"], found["secret_version"], found["expires_at"]) == ("active", "v2", None)


@pytest.mark.parametrize(
    ("op", "status"), [("revoke", "revoked"), ("delete", "deleted"), ("expire", "expired")]
)
def test_the_end_of_the_newest_version_is_the_secrets(secrets, op, status):
    assert secrets[f"newest {op}"]["status"] == status
    assert secrets[f"unversioned {op}"]["status"] == status


for _op in ("revoke", "delete", "expire"):
    story(f"newest {_op}", on(1, "create", "v1"), on(2, "rotate", "v2"), on(3, _op, "v2"))
    story(f"unversioned {_op}", on(1, "create", "v1"), on(2, "rotate", "v2"), on(3, _op))

ENDED_EARLY = story(
    "ended early",
    on(1, "create", "v1", expires_at=NOW + timedelta(days=9)),
    on(3, "expire", "v1"),
)


def test_what_was_told_to_have_ended_has_ended(secrets):
    found = secrets[ENDED_EARLY]
    assert (found["status"], found["expires_at"]) == ("expired", NOW - timedelta(days=97))


ROLLED_BACK = story(
    "rolled back",
    on(1, "create", "v1"),
    on(2, "rotate", "v2"),
    on(3, "rotate", "v1"),
    on(4, "revoke", "v2"),
)


def test_a_version_that_is_made_current_again_is_the_newest(secrets):
    assert (secrets[ROLLED_BACK]["status"], secrets[ROLLED_BACK]["secret_version"]) == (
        *("active", "v1"),
    )


STRAGGLER = story(
    "straggler",
    on(1, "rotate", "b7c2"),
    on(2, "use", "a901"),
    on(3, "revoke", "a901"),
)
UNSEEN = story("unseen", on(1, "create", "v9"), on(2, "use", "v10"), on(3, "revoke", "v9"))
LISTED = story(
    "listed",
    on(1, "create", "b7c2"),
    on(2, "inventory", "a901", last_rotated_at=NOW - timedelta(days=98)),
    on(3, "revoke", "b7c2"),
)
USED_ONLY = story("used only", on(1, "use", "v2"), on(2, "use", "v1"), on(3, "revoke", "v1"))


def test_a_version_known_from_use_is_newer_only_where_its_number_says_so(secrets):
    assert (secrets[STRAGGLER]["status"], secrets[STRAGGLER]["secret_version"]) == (
        *("active", "b7c2"),
    )
    assert (secrets[UNSEEN]["status"], secrets[UNSEEN]["secret_version"]) == ("active", "v10")
    assert (secrets[USED_ONLY]["status"], secrets[USED_ONLY]["secret_version"]) == ("active", "v2")


def test_a_listing_tells_of_a_version_whose_making_nobody_saw(secrets):
    assert (secrets[LISTED]["status"], secrets[LISTED]["secret_version"]) == ("active", "a901")


NAMELESS = story("nameless", on(1, "create", "v1"), on(2, "rotate"), on(3, "revoke", "v1"))
TOLD_TWICE = story(
    "told twice",
    on(1, "create", "v1"),
    on(2, "rotate", "v2"),
    on(2 + 60 / 86400, "rotate", source="another log"),
    on(3, "revoke", "v2"),
)
AFTER_NAMELESS = story(
    "after nameless",
    on(1, "create", "v1"),
    on(2, "rotate"),
    on(3, "use", "v2"),
    on(4, "revoke", "v2"),
)


def test_a_rotation_without_a_version_makes_what_was_before_old(secrets):
    assert secrets[NAMELESS]["status"] == "active"
    assert secrets[TOLD_TWICE]["status"] == "revoked"
    assert secrets[AFTER_NAMELESS]["status"] == "revoked"


TOGETHER = story("together", on(1, "create"), on(2, "rotate"), on(2, "revoke"))
ENDED = story("ended", on(1, "create"), on(2, "inventory"), on(2, "delete"))
REVIVED = story("revived", on(1, "create"), on(2, "delete"), on(3, "create"))


def test_an_end_in_the_same_moment_is_of_what_a_rotation_replaced(secrets):
    assert secrets[TOGETHER]["status"] == "active"
    assert secrets[ENDED]["status"] == "deleted"
    assert secrets[REVIVED]["status"] == "active"


FETCHED = story("fetched", on(1, "create"), on(50, "read"))
REPORTED = story(
    "reported", on(40, "read"), on(50, "inventory", last_used_at=NOW - timedelta(days=95))
)
FETCHED_SINCE = story(
    "fetched since", on(50, "inventory", last_used_at=NOW - timedelta(days=95)), on(60, "read")
)


def test_a_fetch_counts_as_use_until_somebody_who_sees_uses_speaks(secrets):
    assert secrets[FETCHED]["last_used_at"] == NOW - timedelta(days=50)
    assert secrets[REPORTED]["last_used_at"] == NOW - timedelta(days=95)
    assert secrets[FETCHED_SINCE]["last_used_at"] == NOW - timedelta(days=40)

"""The demo's registry: an example that stays right on whatever day the demo runs."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from pipeline.demo.policy import REGISTRY, WRITTEN, moved, write_policy
from pipeline.registry import load_registry
from pipeline.registry.check import find_warnings
from pipeline.registry.shapes import FILES


def test_dates_move_by_whole_days_and_times_and_ids_stay():
    text = "since: 2026-02-20T22:00:00Z # written 2026-03-02, TPR-2026-014"

    assert moved(text, WRITTEN + timedelta(days=367, hours=9)) == (
        "since: 2027-02-22T22:00:00Z # written 2027-03-04, TPR-2026-014"
    )


@pytest.mark.parametrize("now", [WRITTEN, datetime(2031, 2, 28, 23, tzinfo=UTC)])
def test_nothing_in_it_has_run_out_on_any_day(tmp_path, now):
    registry = load_registry(write_policy(tmp_path, now))

    assert [str(warned) for warned in find_warnings(registry.sections, now)] == []


def test_it_shows_every_file_and_what_a_newcomer_must_find_in_it():
    registry = load_registry(REGISTRY)
    rows = {name: table.to_pylist() for name, table in registry.tables().items()}
    owners = rows["reg_owners"]

    assert {file.name for file in REGISTRY.iterdir()} == set(FILES)
    assert len(owners) == 3 * len(rows["reg_identities"])
    assert all(owner["is_accountable"] for owner in owners)
    assert any(owner["backup_owner"] for owner in owners)
    for shown in (
        "reg_group_members",
        "reg_signoffs",
        "reg_trust_edges",
        "reg_sources",
        "reg_suppressions",
        "reg_static_exceptions",
        "reg_break_glass",
        "reg_ignored_clients",
    ):
        assert rows[shown], shown
    assert {row["business_unit"] for row in rows["reg_delegation_records"]} == {
        "support",
        "finance",
    }
    assert any(row["vendor_hosted"] and row["vendor_review_id"] for row in rows["reg_identities"])
    hashes = {row["class"]: row["scope_hash"] for row in rows["reg_classes"]}
    assert all(row["scope_hash"] == hashes[row["class"]] for row in rows["reg_signoffs"])
    assert len(rows["reg_identities_as_of"]) == len(rows["reg_identities"]) + 1

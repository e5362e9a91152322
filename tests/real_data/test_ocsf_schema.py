"""The OCSF that we read and the sample that we write, against the published schema."""

import json
import tarfile
from functools import cache
from pathlib import Path

import pytest

from pipeline.ingest.samples import sample_path
from pipeline.ingest.sources.ocsf import SHAPE

ARCHIVE = Path(__file__).parents[2].parent / "shared/data/schemas/ocsf-1.9.0-dev.tar.gz"
pytestmark = pytest.mark.skipif(not ARCHIVE.is_file(), reason="the published schema is not here")

CLASSES = {
    3001: "account_change",
    3002: "authentication",
    3007: "user_management",
    3008: "role_management",
    6003: "api_activity",
}
PROFILES = ("ai_operation", "cloud", "security_control", "trace", "datetime")
# Merged after the schema's commit (ocsf-schema #1665), or proposed (#1705).
LATER = {"delegation"}
# The profile's own name, under which some producers keep its members.
NESTED_PROFILE = {"ai_operation"}


@cache
def published():
    with tarfile.open(ARCHIVE) as archive:
        return {
            Path(member.name).as_posix().removeprefix("./"): json.load(archive.extractfile(member))
            for member in archive.getmembers()
            if member.name.endswith(".json")
        }


def file_of(folder, name):
    for path, content in published().items():
        if folder in path and path.endswith(f"/{name}.json"):
            return content
    return {}


def attributes(content, folder):
    """Return the attribute names of an object or class, those of what it extends included."""
    own = content.get("attributes", {})
    found = {name for name in own if not name.startswith("$")}
    for include in own.get("$include", []):
        found |= attributes(file_of("profiles", Path(include).stem), "profiles")
    if parent := content.get("extends"):
        found |= attributes(file_of(folder, parent), folder)
    return found


@cache
def class_attributes(name):
    found = attributes(file_of("events", name), "events") | attributes(
        file_of("events", "base_event"), "events"
    )
    for profile in PROFILES:
        found |= attributes(file_of("profiles", profile), "profiles")
    return found


@cache
def object_attributes(name):
    return attributes(file_of("objects", name), "objects")


def kind_of(name):
    return published()["dictionary.json"]["attributes"].get(name, {}).get("type", "")


def unknown(value, known, path=""):
    """Yield the paths of names that the schema does not have there."""
    value = value[0] if isinstance(value, list) and value else value
    if not isinstance(value, dict):
        return
    for name, part in value.items():
        here = f"{path}.{name}".lstrip(".")
        if name in LATER | NESTED_PROFILE or path == "unmapped":
            continue
        if name.removesuffix("_dt") not in known:
            yield here
        elif attributes_below := object_attributes(kind_of(name)):
            yield from unknown(part, attributes_below, here)


def test_every_name_that_is_read_is_one_of_the_schema():
    known = set().union(*map(class_attributes, CLASSES.values()))

    assert list(unknown(SHAPE, known)) == []


def test_the_sample_is_what_the_schema_says():
    for line in sample_path("ocsf").read_text(encoding="utf-8").splitlines():
        record = json.loads(line)
        name = CLASSES.get(record["class_uid"])
        if name is not None:
            assert list(unknown(record, class_attributes(name))) == [], line[:80]
            assert record["type_uid"] == record["class_uid"] * 100 + record["activity_id"]


def test_the_classes_have_the_numbers_that_we_read():
    iam, application = 3, 6
    for uid, name in CLASSES.items():
        content = file_of("events", name)
        category = application if content["extends"] == "application" else iam
        assert category * 1000 + content["uid"] == uid


def test_credentials_come_and_go_under_the_activities_that_we_read():
    for name, added in (("user_management", "18"), ("role_management", "10")):
        words = file_of("events", name)["attributes"]["activity_id"]["enum"]
        assert words[added]["caption"] == "Add Programmatic Credentials"
        assert words[str(int(added) + 1)]["caption"] == "Remove Programmatic Credentials"

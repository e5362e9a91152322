"""The published JSON Schemas: current, and as strict as the loader where they can be."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest
import yaml

from pipeline.registry.schema import file_schema, schema_name
from pipeline.registry.shapes import DOCS, FILES

ROOT = Path(__file__).parents[2]
PUBLISHED = ROOT / "schemas" / "registry"


class Core(yaml.SafeLoader):
    """YAML as editors read it: a date is a text."""


Core.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith("timestamp")]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def faults(file, text):
    content = yaml.load(text, Loader=Core)
    return [e.message for e in jsonschema.Draft7Validator(file_schema(file)).iter_errors(content)]


@pytest.mark.parametrize("file", sorted(FILES))
def test_the_published_schema_is_current(file):
    published = PUBLISHED / schema_name(file)

    expected = json.dumps(file_schema(file), indent=2) + "\n"

    told = f"delegraph registry schema {file} > schemas/registry/{schema_name(file)}"
    assert published.read_text(encoding="utf-8") == expected, told
    jsonschema.Draft7Validator.check_schema(json.loads(expected))


@pytest.mark.parametrize(
    "file", sorted(p.name for p in (ROOT / "pipeline/demo/registry").iterdir())
)
def test_the_demo_registry_fits(file):
    text = (ROOT / "pipeline/demo/registry" / file).read_text(encoding="utf-8")

    assert faults(file, text) == []


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("agents.yaml", "agents: {a: {clas: x}}"),
        ("agents.yaml", "agents: {a: {kind: robot}}"),
        ("agents.yaml", "agents: {' ': {kind: agent}}"),
        ("agents.yaml", "agents: {a: {aliases: [{subject: ''}]}}"),
        ("agents.yaml", "agents: {a: {aliases: [{issuer: x}]}}"),
        ("agents.yaml", "agents: {a: {status_since: 31.12.2026}}"),
        ("agents.yaml", "agents: {a: {status_since: '2026-01-01T00:00:00'}}"),
        ("agents.yaml", "agents: {a: {max_depth: -1}}"),
        ("agents.yaml", "agents: {a: {is_broker: maybe}}"),
        ("agents.yaml", "agents: [a]"),
        ("agents.yaml", "agents: {a: {history: [{status: active}]}}"),
        ("agents.yaml", "agents: {a: {history: [{until: 2026-01-01, aliases: []}]}}"),
        ("agents.yaml", "agents: {a: {static_secret_exceptions: [{until: 2026-01-01}]}}"),
        ("agents.yaml", "agent: {}"),
        ("people.yaml", "people: {ann: }"),
        ("scopes.yaml", "tiers: [{scope: a, tier: 5}]"),
        ("suppressions.yaml", "suppressions: {s: {rule: r}}"),
    ],
)
def test_what_the_loader_refuses_the_schema_refuses(file, text, load):
    with pytest.raises(Exception, match=r"\.yaml:1"):
        load(**{file.removesuffix(".yaml"): text})

    assert faults(file, text)


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("agents.yaml", "agents: {a: , b: {max_depth: }}"),
        ("classes.yaml", "classes: {c: {version: 1.10, signoff_roles: [1]}}"),
        ("people.yaml", "people: {ann: {status: left, left_at: 2026-01-31T18:00:00+02:00}}"),
        ("sources.yaml", "sources: {s: }"),
        ("trust.yaml", "issuers: {i: {max_ttl_s: 0}}"),
        ("suppressions.yaml", "suppressions:"),
    ],
)
def test_what_the_loader_takes_the_schema_takes(file, text, load):
    load(**{file.removesuffix(".yaml"): text})

    assert faults(file, text) == []


def test_every_key_that_is_explained_exists():
    def keys(shape):
        for name, key in shape.items():
            yield name
            yield from keys(key.entry or {})

    assert set(DOCS) <= {name for shape in FILES.values() for name in keys(shape)}

"""The README's tables are derived; `pytest tests/docs --update-golden` writes them."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from pipeline.config import load_config
from pipeline.events.schema import FAMILIES, PIPELINE_COLUMNS, TABLES, avro_schema
from pipeline.ingest.sources import adapter_names, load_adapter
from pipeline.lake.tables import tables
from tests.mappings import table_of

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"


def _avro_type(declared):
    if isinstance(declared, list):
        return _avro_type(next(part for part in declared if part != "null"))
    return declared if isinstance(declared, str) else _complex_type(declared)


def _complex_type(declared):
    match declared["type"]:
        case "enum":
            return ", ".join(declared["symbols"])
        case "array":
            return f"list of {_avro_type(declared['items'])}"
        case "map":
            return "map of strings"
        case "record":
            return "{" + ", ".join(field["name"] for field in declared["fields"]) + "}"
    return "timestamp" if "logicalType" in declared else declared["type"]


def _columns():
    lines, _added = [], PIPELINE_COLUMNS
    shared = {f["name"] for f in avro_schema("tool_call")["fields"]}
    for family in FAMILIES:
        shared &= {f["name"] for f in avro_schema(family)["fields"]}
    for title, family, chosen in [
        ("Every family", "tool_call", lambda name: name in shared),
        *((TABLES[family], family, lambda name: name not in shared) for family in FAMILIES),
    ]:
        lines += [f"### {title}", "", "| column | type | meaning |", "| --- | --- | --- |"]
        for field in avro_schema(family)["fields"]:
            if chosen(field["name"]):
                need = "" if "default" in field else " (required)"
                lines.append(
                    f"| `{field['name']}`{need} | {_avro_type(field['type'])} | {field['doc']} |"
                )
        if title == "Every family":
            lines += [
                f"| `{name}` (added) | {kind} | {doc} |" for name, kind, doc in PIPELINE_COLUMNS
            ]
        lines.append("")
    return "\n".join(lines)


def _tables():
    rows = ["| view | one row is |", "| --- | --- |"]
    rows += [f"| `{TABLES[family]}` | {avro_schema(family)['doc']} |" for family in FAMILIES]
    rows.append("| `dead_letters` | One record that could not be taken. |")
    for path in sorted((ROOT / "pipeline/lake/tables").glob("*.toml")):
        declared = tomllib.loads(path.read_text())
        if path.stem != "event_marks":
            rows.append(f"| `{path.stem}` | {declared['doc']} |")
    return "\n".join(rows)


def _rules():
    rows = []
    for path in (ROOT / "pipeline/detections/rules").glob("*/rule.toml"):
        rule = tomllib.loads(path.read_text())
        rows.append((rule["code"], path.parent.name, rule["title"]))
    return "\n".join(f"| {code} | `{name}` | {title} |" for code, name, title in sorted(rows))


def _sources():
    parts = []
    for name in adapter_names():
        reads = load_adapter(name).__doc__.strip().partition("\n")[0]
        summary = f"<details><summary><code>{name}</code>: {reads}</summary>"
        parts += [summary, "", *table_of(name), "", "</details>"]
    return "\n".join(parts)


DERIVED = {"columns": _columns, "tables": _tables, "rules": _rules, "sources": _sources}


def _with(text, mark, body):
    pattern = re.compile(rf"<!-- {mark} -->\n.*?<!-- /{mark} -->", re.DOTALL)
    assert pattern.search(text), mark
    return pattern.sub(lambda _: f"<!-- {mark} -->\n{body}\n<!-- /{mark} -->", text)


@pytest.mark.parametrize("mark", DERIVED)
def test_derived_table_of_the_readme_is_up_to_date(mark, request):
    text = README.read_text()

    fresh = _with(text, mark, DERIVED[mark]())

    if request.config.getoption("--update-golden"):
        README.write_text(fresh)
    assert fresh == text or request.config.getoption("--update-golden")


def test_every_declared_table_is_a_view_or_internal():
    declared = {path.stem for path in (ROOT / "pipeline/lake/tables").glob("*.toml")}

    assert declared - {"calls"} <= set(tables())


def test_the_configuration_of_the_readme_is_one_that_loads(tmp_path):
    (block,) = re.findall(r"```toml\n(.*?)```", README.read_text(), re.DOTALL)
    file = tmp_path / "delegraph.toml"
    file.write_text(block)

    config = load_config(file, {})

    assert config.kafka.topics["aws.cloudtrail"] == "cloudtrail"
    assert config.alerts.sinks[0].name == "soc"


def test_every_test_that_the_design_names_is_there():
    named = re.findall(r"`(tests/[a-z_/.]+)`", (ROOT / "DESIGN.md").read_text())

    assert named
    assert [path for path in named if not (ROOT / path).exists()] == []

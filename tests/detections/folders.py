"""Rule folders made for one test: everything has a value, a test names what matters."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.detections.check import check_rule
from pipeline.detections.rule import Rule, read_rule

if TYPE_CHECKING:
    from pathlib import Path

SQL = """\
SELECT
    tenant_id,
    agent_id,
    agent_id AS entity,
    min(event_time) AS first_seen,
    max(event_time) AS last_seen,
    list(event_uid ORDER BY event_uid) AS event_uids
FROM tool_calls
WHERE outcome = 'denied'
GROUP BY tenant_id, agent_id
"""

ABSENCE_SQL = """\
SELECT
    calls.tenant_id,
    calls.agent_id,
    calls.agent_id AS entity,
    calls.event_time AS first_seen,
    calls.event_time AS last_seen,
    [calls.event_uid] AS event_uids
FROM tool_calls AS calls
JOIN rule_watermarks AS closed ON closed.tenant_id = calls.tenant_id
WHERE calls.event_time < closed.watermark
    AND calls.agent_id NOT IN (SELECT subject_id FROM token_events WHERE subject_id IS NOT NULL)
"""


def toml(name: str, **over: object) -> str:
    """Return a rule.toml; `extra` is text that follows the keys."""
    values: dict[str, object] = {
        "id": f'"{name}"',
        "code": '"GO-01"',
        "title": '"Something was denied"',
        "version": '"1.0.0"',
        "family": '"GO"',
        "maturity": '"stable"',
        "severity": 3,
        "kind": '"presence"',
        "why": '"Because."',
        "identity": '["agent_id"]',
        "false_positives": "[]",
        "remediation": '"Ask."',
        "runbook": '["Look an hour back.", "Look an hour on."]',
    }
    extra = over.pop("extra", "")
    tables = over.pop("tables", '["tool_calls"]')
    sources = over.pop("sources", "[]")
    values |= over
    lines = [f"{key} = {value}" for key, value in values.items() if value is not None]
    return "\n".join(
        [
            *lines,
            "[needs]",
            f"tables = {tables}",
            f"sources = {sources}",
            "[mappings]",
            *(
                f"{key} = []"
                for key in ("owasp_asi", "owasp_nhi", "maestro", "nist_govern", "attack", "atlas")
            ),
            str(extra),
        ]
    )


def write_rule(folder: Path, name: str = "denied", *, sql: str = SQL, **over: object) -> Path:
    """Write a rule folder and return its path."""
    path = folder / name
    path.mkdir(parents=True, exist_ok=True)
    (path / "rule.toml").write_text(toml(name, **over), encoding="utf-8")
    (path / "rule.sql").write_text(sql, encoding="utf-8")
    return path


def make_rule(folder: Path, name: str = "denied", *, sql: str = SQL, **over: object) -> Rule:
    """Write a rule folder, check it and return the rule."""
    rule = read_rule(write_rule(folder, name, sql=sql, **over))
    assert check_rule(rule) == []
    return rule


def make_absence_rule(folder: Path, name: str = "unknown_agent", **over: object) -> Rule:
    """Return a rule that misses a token event for the agent of a call."""
    return make_rule(
        folder,
        name,
        sql=over.pop("sql", ABSENCE_SQL),
        kind='"absence"',
        tables='["tool_calls", "token_events", "rule_watermarks"]',
        sources='["token_event"]',
        **over,
    )

"""What may change a finding, family by family, over the stories of the rules themselves.

Each firing story of a family is told in one lake by several tenants: alone, among
unrelated traffic, with every event three times, and, once its findings are known,
without the evidence of one of them.  The lake is built twice, the second time
incrementally, so that what comes later meets what was found before.
"""

from __future__ import annotations

import json
import random
import re
from collections import Counter, defaultdict
from dataclasses import dataclass

import pytest

from pipeline.chains import build_chains
from pipeline.detections.ledger import Window
from pipeline.detections.rule import RULES, find_rules, read_rule
from pipeline.detections.run import run_detections
from pipeline.detections.testing import group_cases, read_case, read_cases
from pipeline.ingest.run import ingest_files
from pipeline.lake import open_lake
from pipeline.registry import load_registry
from tests.factories import token_event, tool_call

pytestmark = pytest.mark.slow

FAMILIES = ("PC", "SP", "LS", "BT", "GO", "TR")
HASH = re.compile(r"\b[0-9a-f]{32,64}\b")

# Quiet stories that fire until one of their events arrives: rule, story, place of that event.
LATE = {
    "PC": [("delegation_too_deep", "quiet_at_own_limit", 0)],
    "SP": [
        ("dormant_identity_with_credentials", "quiet_exchanged", 1),
        ("scope_unused", "quiet_needed_once", 8),
        ("standing_consent", "quiet_used", 1),
    ],
    "GO": [
        ("vendor_agent_without_control", "quiet_controlled", 9),
        ("person_and_agent_share_credential", "quiet_browser_agent", 4),
    ],
    "BT": [("lineage_broken", "quiet_complete", 0), ("call_without_credential", "quiet_linked", 1)],
    "LS": [
        ("secret_unused_but_active", "quiet_read_lately", 0),
        ("not_revoked_after_task", "quiet_revoked_in_grace", 3),
        ("dormant_credential_wakes", "quiet_used_between", 1),
    ],
    "TR": [
        ("live_below_revoked", "quiet_cascade_in_time", 4),
        ("probing_then_success", "quiet_consent", 7),
    ],
}


def largest_group(family):
    """Return one firing story per rule of a family, of the most that may share a lake."""
    rules = [read_rule(folder) for folder in find_rules([RULES])]
    cases = [case for rule in rules if rule.family == family for case in read_cases(rule)]
    group = max(group_cases([case for case in cases if case.is_firing]), key=len)
    return list(
        {case.rule.id: case for case in random.Random(family).sample(group, len(group))}.values()
    )


def unrelated(tenant, case):
    """Return traffic of people, agents and credentials that no story knows."""
    at = case.events[0]["event_time"]
    common = {"tenant_id": tenant, "event_time": at, "environment": "prod"}
    root = {
        "credential_issuer": "https://elsewhere.example",
        "credential_kind": "jti",
        "credential_id": "elsewhere-root",
    }
    token = {
        "grant_type": "authorization_code",
        "client_id": "bystander",
        "subject_id": "nobody@elsewhere.example",
        "subject_issuer": "https://elsewhere.example",
        "scopes": ["weather.read"],
        "audience": ["https://weather.elsewhere.example"],
        "issued_at": at,
        "source": "test://elsewhere/as",
        "auth_time": at,
    }
    call = {
        "agent_id": "bystander",
        "agent_issuer": "https://elsewhere.example",
        "tool_name": "weather.today",
        "tool_server": "https://weather.elsewhere.example",
        "required_scopes": ["weather.read"],
        "subject_id": "nobody@elsewhere.example",
        "subject_issuer": "https://elsewhere.example",
        "source": "test://elsewhere/gateway",
    }
    return [
        token_event(**common, **root, **token),
        *(tool_call(**common, **root, **call) for _ in range(3)),
    ]


@dataclass
class World:
    """One lake, its clock and policy; tenants are told apart by name."""

    folder: object
    group: list

    def __post_init__(self):
        self.now = self.group[0].as_of
        registry = self.folder / "registry"
        registry.mkdir()
        for name, content in self.group[0].registry.items():
            (registry / name).write_text(json.dumps(content))
        self.registry = load_registry(registry)
        self.lake = open_lake(str(self.folder / "lake"), create=True)
        self.files = 0

    def tell(self, stories):
        """Ingest stories, tenant to events, and look again; return what is found by tenant."""
        self.files += 1
        path = self.folder / f"{self.files}.jsonl"
        lines = [
            json.dumps(event | {"tenant_id": tenant})
            for tenant, events in stories.items()
            for event in events
        ]
        path.write_text("\n".join(lines) + "\n")
        ingest_files([path], adapter="native", sink=self.lake, now=self.now)
        build_chains(self.lake, self.registry, self.now)
        rules = list({case.rule.id: case.rule for case in self.group}.values())
        run_detections(self.lake, self.registry, rules=rules, window=Window(), now=self.now)
        found = defaultdict(list)
        with self.lake.connect(comments=False) as con:
            for row in (
                con.sql("SELECT * FROM findings ORDER BY finding_id").to_arrow_table().to_pylist()
            ):
                found[row["tenant_id"]].append(row)
        return found

    def sent_ids(self):
        """Return the producer's id of each event of the lake, by its uid."""
        query = """
            SELECT event_uid, event_id FROM tool_calls
            UNION ALL SELECT event_uid, event_id FROM token_events
            UNION ALL SELECT event_uid, event_id FROM secret_events
        """
        with self.lake.connect(comments=False) as con:
            return dict(con.execute(query).fetchall())

    def names(self):
        """Return what each key, a hash over the tenant, stands for."""
        query = """
            SELECT credential_key, issuer || ' ' || kind || ' ' || id FROM credentials
            UNION ALL
            SELECT call_key, 'call ' || string_agg(DISTINCT event_id, ' ' ORDER BY event_id)
            FROM call_links JOIN tool_calls USING (event_uid) GROUP BY call_key
        """
        with self.lake.connect(comments=False) as con:
            return dict(con.execute(query).fetchall())


def say(value, names):
    return HASH.sub(lambda key: names.get(key[0], "#"), json.dumps(value, default=str))


def shape(finding, names):
    """Return what a person would compare, whatever the tenant."""
    told = ("rule_id", "entity", "title", "severity", "confidence", "status", "identity", "summary")
    text = say({name: finding[name] for name in told}, names)
    return f"{text} {len(finding['event_uids'])} events"


def shapes(findings, names):
    return Counter(shape(finding, names) for finding in findings)


def about(finding, names):
    return say([finding["rule_id"], finding["identity"]], names)


@pytest.mark.parametrize("family", FAMILIES)
def test_only_its_own_evidence_makes_a_finding(family, tmp_path):
    group = largest_group(family)
    world = World(tmp_path, group)
    stories = {}
    for number, case in enumerate(group):
        stories[f"alone-{number}"] = case.events
        among = f"among-{number}"
        stories[among] = [*unrelated(among, case), *case.events, *unrelated(among, case)]
        stories[f"thrice-{number}"] = [event for event in case.events for _ in range(3)]

    found = world.tell(stories)
    ids = world.sent_ids()
    without = {}
    for number, case in enumerate(group):
        for place, finding in enumerate(found[f"alone-{number}"]):
            evidence = {ids[uid] for uid in finding["event_uids"]}
            left = [event for event in case.events if event["event_id"] not in evidence]
            without[f"without-{number}-{place}"] = left
    again = world.tell(without)
    names = world.names()

    for number, case in enumerate(group):
        alone = shapes(found[f"alone-{number}"], names)
        assert alone, case.path.name
        assert shapes(found[f"among-{number}"], names) == alone, case.path.name
        assert shapes(found[f"thrice-{number}"], names) == alone, case.path.name
        # Another tenant's events came in between, the same agents and credentials among them.
        assert shapes(again[f"alone-{number}"], names) == alone, case.path.name
        # What another rule says beside may rest on more events than it cites.
        for place, finding in enumerate(found[f"alone-{number}"]):
            if finding["rule_id"] != case.rule.id:
                continue
            left = [about(other, names) for other in again[f"without-{number}-{place}"]]
            assert about(finding, names) not in left, case.path.name


@pytest.mark.parametrize("family", FAMILIES)
def test_late_evidence_ends_a_finding(family, tmp_path):
    cases = [
        (read_case(rule, rule.folder / "cases" / f"{story}.jsonl"), place)
        for rule_id, story, place in LATE[family]
        for rule in [read_rule(RULES / rule_id)]
    ]
    for number, group in enumerate(group_cases([case for case, _ in cases])):
        folder = tmp_path / str(number)
        folder.mkdir()
        world = World(folder, group)
        late = {case.rule.id: (case, place) for case, place in cases if case in group}

        early = world.tell(
            {
                name: [event for at, event in enumerate(case.events) if at != place]
                for name, (case, place) in late.items()
            }
        )
        after = world.tell({name: [case.events[place]] for name, (case, place) in late.items()})

        for name in late:
            assert "open" in {f["status"] for f in early[name] if f["rule_id"] == name}, name
            ended = {f["status"] for f in after[name] if f["rule_id"] == name}
            assert ended
            assert ended <= {"refuted", "resolved"}, name

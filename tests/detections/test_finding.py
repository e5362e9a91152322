"""Identity, severity and routing of findings, on hand-made rows."""

from __future__ import annotations

import hashlib
from datetime import timedelta
from decimal import Decimal

import duckdb
import pyarrow as pa
import pytest

from pipeline.detections.check import EPOCH, WATERMARKS, view_schemas
from pipeline.detections.finding import Look, finding_id, work_out
from pipeline.detections.run import FOREVER
from pipeline.detections.suppress import Suppression, load_suppressions
from pipeline.errors import RuleError
from pipeline.registry import load_registry
from pipeline.registry.tables import SCHEMAS
from tests.detections.folders import make_rule
from tests.factories import NOW

T0 = NOW - timedelta(days=1)


@pytest.fixture
def con():
    """Empty views of everything that the engine reads."""
    with duckdb.connect() as con:
        con.execute("SET TimeZone = 'UTC'")
        for name, schema in view_schemas().items():
            con.register(name, schema.empty_table())
        con.register("rule_watermarks", WATERMARKS.empty_table())
        yield con


@pytest.fixture
def rule(tmp_path):
    return make_rule(tmp_path, severity=3)


def row(**over):
    return {
        "tenant_id": "default",
        "agent_id": "a",
        "entity": "agent a",
        "first_seen": T0,
        "last_seen": T0,
        "event_uids": ["u1"],
    } | over


def found(con, rule, *rows, suppressions=()):
    look = Look(rule, EPOCH, FOREVER, NOW, "policy")
    names = dict.fromkeys(name for one in rows for name in one)
    table = pa.table({name: [one.get(name) for one in rows] for name in names})
    return work_out(con, look, table, suppressions).found.to_pylist()


def test_an_id_depends_on_rule_tenant_and_identity_and_on_nothing_else(con, rule):
    one = found(con, rule, row())
    later = found(con, rule, row(last_seen=NOW, event_uids=["u2"], title="other", severity=5))
    other_agent = found(con, rule, row(agent_id="b"))
    other_tenant = found(con, rule, row(tenant_id="t"))

    assert one[0]["finding_id"] == later[0]["finding_id"]
    assert len({r[0]["finding_id"] for r in (one, other_agent, other_tenant)}) == 3


def test_an_id_changes_with_the_major_version_only(tmp_path):
    ids = [
        finding_id(make_rule(tmp_path / v, version=f'"{v}"'), "default", {"agent_id": "a"})
        for v in ("1.0.0", "1.9.3", "2.0.0")
    ]

    assert ids[0] == ids[1] != ids[2]


def test_the_id_is_the_documented_hash(con, rule):
    """A receiver may compute it; it must never drift."""
    (finding,) = found(con, rule, row(agent_id="ä"))

    assert finding["identity"] == '{"agent_id":"ä"}'
    hashed = '{"identity":{"agent_id":"ä"},"major":1,"rule":"denied","tenant":"default"}'
    assert finding["finding_id"] == hashlib.sha256(hashed.encode()).hexdigest()


@pytest.mark.parametrize(
    ("columns", "severity"),
    [
        ({}, 3),
        ({"severity": 1}, 1),
        ({"severity_delta": 1}, 4),
        ({"action_class": "read"}, 3),
        ({"action_class": "payment"}, 4),
        ({"resource_sensitivity": 3}, 4),
        ({"resource_sensitivity": 2}, 3),
        ({"irreversible": True, "action_class": "delete"}, 4),
        ({"vendor_hosted": True}, 4),
        ({"cross_domain": True, "vendor_hosted": True}, 4),
        ({"environment": "test"}, 2),
        ({"environment": "prod"}, 3),
        ({"chain_confidence": 0.8}, 3),
        ({"chain_confidence": 0.79}, 2),
        ({"chain_confidence": 0.59}, 1),
        ({"possible": True}, 2),
        ({"severity": 1, "chain_confidence": 0.5, "environment": "dev"}, 1),
        ({"severity": 5, "observer": "gateway"}, 5),
        ({"severity": 4, "action_class": "payment", "observer": "gateway"}, 5),
        ({"severity": 5, "action_class": "payment", "observer": "gateway"}, 5),
        ({"severity": 5, "observer": "agent_runtime"}, 4),
        ({"severity": 5}, 4),
        ({"severity": 5, "observer": "gateway", "confidence": 0.94}, 4),
    ],
)
def test_severity_follows_the_common_modifiers(con, rule, columns, severity):
    (finding,) = found(con, rule, row(**columns))

    assert finding["severity"] == severity


def test_theft_of_a_credential_weighs_as_much_outside_production(con, tmp_path):
    rule = make_rule(tmp_path, severity=3, credential_theft="true")

    (finding,) = found(con, rule, row(environment="dev"))

    assert finding["severity"] == 3


def test_a_credential_brings_its_chain_its_confidence_and_its_observer(con, rule):
    schemas = view_schemas()
    mine = {"tenant_id": "default", "credential_key": "k"}
    chains = [
        mine | {"actor_path": ["alice", "a"], "confidence": 0.97},
        mine | {"tenant_id": "other", "actor_path": ["mallory"], "confidence": 0.1},
    ]
    con.register("chains", pa.Table.from_pylist(chains, schema=schemas["chains"]))
    credential = mine | {"observer": "authz_server"}
    con.register("credentials", pa.Table.from_pylist([credential], schema=schemas["credentials"]))

    (finding,) = found(con, rule, row(credential_key="k", severity=5))

    assert finding["chain_path"] == ["alice", "a"]
    assert (finding["confidence"], finding["severity"]) == (0.97, 5)


def test_a_possible_finding_says_so_and_its_title_is_safe_to_print(con, rule):
    (finding,) = found(con, rule, row(possible=True, title="x\x1b[31m\u202ey\nz"))

    assert finding["title"] == "Possible: x [31my z"


def register(con, folder, **files):
    folder.mkdir(exist_ok=True)
    for name, text in files.items():
        (folder / f"{name}.yaml").write_text(text)
    for name, table in load_registry(folder).tables().items():
        con.register(name, table)


def owners(con, rule, *rows):
    return {r["identity"]: r["route_owner"] for r in found(con, rule, *rows)}


def test_the_owner_is_that_of_the_named_identity_else_of_the_entity_else_of_the_last_actor(
    con, rule, tmp_path
):
    register(
        con,
        tmp_path / "registry",
        agents="agents:\n"
        "  a1: {owner_application: team-a, aliases: [{issuer: i, subject: agent a}]}\n"
        "  b1: {owner_iam: team-b}\n"
        "  c1: {owner_iam: team-c, aliases: [{issuer: i, subject: twin}]}\n"
        "  d1: {owner_iam: team-d, aliases: [{issuer: j, subject: twin}]}\n"
        "  e1: {}\n",
    )
    schemas = view_schemas()
    mine = {"tenant_id": "default", "credential_key": "k"}
    chain = mine | {"actor_path": ["alice", "twin"], "confidence": 0.97}
    con.register("chains", pa.Table.from_pylist([chain], schema=schemas["chains"]))
    held = mine | {"actor_id": "twin", "actor_issuer": "j"}
    con.register("credentials", pa.Table.from_pylist([held], schema=schemas["credentials"]))

    told = owners(
        con,
        rule,
        row(agent_id="by alias"),
        row(agent_id="by identity", identity_id="b1"),
        row(agent_id="ambiguous", entity="twin"),
        row(agent_id="by actor", entity="nobody", credential_key="k"),
        row(agent_id="unknown", entity="nobody"),
        row(agent_id="without owner", entity="a1", identity_id="e1"),
    )

    assert told == {
        '{"agent_id":"by alias"}': "team-a",
        '{"agent_id":"by identity"}': "team-b",
        '{"agent_id":"ambiguous"}': "unowned",
        # The issuer tells the twins apart.
        '{"agent_id":"by actor"}': "team-d",
        '{"agent_id":"unknown"}': "unowned",
        '{"agent_id":"without owner"}': "unowned",
    }


@pytest.mark.parametrize(
    ("role", "agent", "owner"),
    [
        ("application", "{owner_application: ann, owner_iam: bob, owner_platform: eve}", "ann"),
        ("iam", "{owner_application: ann, owner_iam: bob, owner_platform: eve}", "bob"),
        ("platform", "{owner_application: ann, owner_iam: bob, owner_platform: eve}", "eve"),
        ("platform", "{owner_application: ann, owner_iam: bob}", "ann"),
        ("application", "{owner_application: gone, owner_iam: bob, owner_platform: eve}", "bob"),
        ("application", "{owner_application: gone, backup_owner: eve}", "eve"),
        ("application", "{owner_application: gone, backup_owner: gone}", "unowned"),
        ("application", "{owner_application: ghosts, owner_platform: crew}", "crew"),
        ("application", "{}", "unowned"),
    ],
)
def test_the_owner_told_is_the_accountable_one_of_the_rule_s_role(
    con, tmp_path, role, agent, owner
):
    register(
        con,
        tmp_path / "registry",
        agents=f"agents: {{a: {agent}}}",
        people="people:\n"
        "  ann: {status: active}\n"
        "  bob: {status: active}\n"
        "  eve: {status: active}\n"
        "  gone: {status: left}\n"
        "groups: {ghosts: {members: [gone]}, crew: {members: [gone, ann]}}\n",
    )
    rule = make_rule(tmp_path, owner_role=f'"{role}"')

    assert owners(con, rule, row(entity="a")) == {'{"agent_id":"a"}': owner}


def test_the_owner_of_a_source_is_told_what_befalls_it(con, rule, tmp_path):
    register(
        con,
        tmp_path / "registry",
        agents="agents: {a: {owner_application: ann}}",
        people="people: {ann: {status: active}, bob: {status: active}, gone: {status: left}}",
        sources="sources:\n"
        "  urn:log: {owner: bob}\n"
        "  urn:left: {owner: gone}\n"
        "  urn:elsewhere: {owner: bob, tenant_id: other}\n"
        "  urn:nobody: {grace_s: 60}\n"
        "  a: {owner: bob}\n",
    )
    told = {}
    for name in ("urn:log", "urn:left", "urn:elsewhere", "urn:nobody", "a"):
        told |= owners(con, rule, row(agent_id=name, entity=name))

    assert list(told.values()) == ["bob", "unowned", "unowned", "unowned", "ann"]


def test_what_has_no_column_goes_into_the_summary_as_json(con, rule):
    (finding,) = found(
        con,
        rule,
        row(calls=Decimal(3), ratio=float("inf"), when=T0, nothing=None, action_class="read"),
    )

    assert finding["summary"] == (
        '{"action_class":"read","calls":3,"ratio":"inf","when":"2026-11-19T12:00:00Z"}'
    )


def test_rows_of_one_identity_become_one_finding_with_all_evidence(con, rule):
    rows = [
        row(event_uids=["u2"], last_seen=NOW),
        row(event_uids=["u1", "u2"], severity=4, title="worse"),
    ]

    forwards, backwards = found(con, rule, *rows), found(con, rule, *reversed(rows))

    assert forwards == backwards
    assert [(f["event_uids"], f["severity"], f["title"], f["last_seen"]) for f in forwards] == [
        (["u1", "u2"], 4, "worse", NOW)
    ]


def test_only_rows_whose_last_evidence_is_inside_the_window_count(con, rule):
    look = Look(rule, T0, NOW, NOW, "policy")
    rows = [
        row(agent_id="at start"),
        row(agent_id="before", last_seen=T0 - timedelta(seconds=1)),
        row(agent_id="at end", last_seen=NOW),
        row(agent_id="timeless", first_seen=None, last_seen=None),
    ]

    changes = work_out(con, look, pa.Table.from_pylist(rows))

    assert sorted(changes.found["identity"].to_pylist()) == [
        '{"agent_id":"at start"}',
        '{"agent_id":"timeless"}',
    ]


def test_a_row_without_tenant_is_the_rule_s_fault(con, rule):
    with pytest.raises(RuleError, match="without tenant_id"):
        found(con, rule, row(tenant_id=None))


def test_a_column_of_the_wrong_type_is_the_rule_s_fault(con, rule):
    with pytest.raises(RuleError, match="wrong type"):
        found(con, rule, row(severity="high"))


@pytest.mark.parametrize(
    ("predicate", "status"),
    [
        ({"entity": ["agent a"]}, "suppressed"),
        ({"entity": ["agent b", "agent a"], "agent_id": ["a"]}, "suppressed"),
        ({"calls": ["3"]}, "suppressed"),
        ({"tools": ["crm", "other"]}, "suppressed"),
        ({"tools": ["cr"]}, "open"),
        ({"is_new": ["true"]}, "suppressed"),
        ({"nothing": ["None"]}, "open"),
        ({"entity": ["agent a"], "agent_id": ["b"]}, "open"),
        ({"no_such_column": ["x"]}, "open"),
    ],
)
def test_a_suppression_must_fit_in_every_column(con, rule, predicate, status):
    known = [Suppression("s1", predicate, "known noise")]

    seen = row(calls=3, tools=["crm", "mail"], is_new=True, nothing=None)
    (finding,) = found(con, rule, seen, suppressions=known)

    assert finding["status"] == status
    assert finding["suppressed_by"] == ("s1" if status == "suppressed" else None)
    assert finding["status_reason"] == ("s1: known noise" if status == "suppressed" else None)


def test_a_critical_finding_is_not_suppressed_by_a_pattern(con, rule):
    known = [Suppression("s1", {"entity": ["agent a"]}, "known noise")]

    (finding,) = found(con, rule, row(severity=5, observer="gateway"), suppressions=known)

    assert finding["status"] == "open"


def test_only_suppressions_in_force_for_this_rule_are_taken(rule):
    day = timedelta(days=1)
    rows = [
        ("by id", rule.id, NOW - day, NOW + day),
        ("by code", rule.code, NOW - day, NOW + day),
        ("over", rule.id, NOW - day, NOW),
        ("to come", rule.id, NOW + day, NOW + 2 * day),
        ("of another", "other", NOW - day, NOW + day),
    ]
    table = pa.Table.from_pylist(
        [
            {"id": i, "rule": r, "predicate": "{}", "reason": "", "created_at": c, "expires_at": e}
            for i, r, c, e in rows
        ],
        schema=SCHEMAS["reg_suppressions"],
    )

    assert [s.id for s in load_suppressions(table, rule, NOW)] == ["by code", "by id"]

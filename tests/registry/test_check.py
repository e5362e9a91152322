"""Faults that take more than one place to see, and warnings about what has run out."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from pipeline.errors import RegistryErrors
from pipeline.registry import load_registry
from pipeline.registry.check import find_warnings
from pipeline.registry.decisions import scope_hash

NOW = datetime(2026, 6, 1, tzinfo=UTC)
HASH = scope_hash({"max_depth": 3})
PEOPLE = """\
people:
  ann: {status: active}
  bob: {status: left, left_at: 2026-01-01}
groups:
  crew: {members: [bob, ann]}
  gone: {members: [bob]}
  none: {members: []}
"""


def errors(path):
    with pytest.raises(RegistryErrors) as caught:
        load_registry(path)
    return [(e.line, e.message) for e in caught.value.errors]


def warnings(registry):
    return [(w.line, w.message) for w in find_warnings(registry.sections, NOW)]


@pytest.mark.parametrize(
    ("files", "line", "message"),
    [
        (
            {
                "agents": "agents:\n  a:\n    break_glass:\n"
                "      - {ticket: t, since: 2026-02-01, until: 2026-01-01}"
            },
            4,
            '"until" must be after "since"',
        ),
        (
            {
                "agents": "agents:\n  a:\n    static_secret_exceptions:\n"
                "      - {reason: r, approved_by: ann, since: 2026-02-01, until: 2026-02-01}"
            },
            4,
            '"until" must be after "since"',
        ),
        (
            {"agents": "agents:\n  a:\n    registered_at: 2026-02-01\n    valid_until: 2026-01-01"},
            4,
            '"valid_until" must be after "registered_at"',
        ),
        (
            {
                "trust": "trust_edges:\n  - from_domain: a\n    to_domain: b\n"
                "    valid_from: 2026-02-01\n    expires_at: 2026-01-01"
            },
            5,
            '"expires_at" must be after "valid_from"',
        ),
        (
            {
                "agents": "agents: {a: }",
                "trust": "delegation_records:\n  d:\n    principal: ann\n    delegate: a\n"
                "    not_before: 2026-02-01\n    not_after: 2026-01-01",
            },
            6,
            '"not_after" must be after "not_before"',
        ),
        (
            {
                "classes": "classes: {c: }",
                "people": PEOPLE,
                "signoffs": "signoffs:\n  - class: c\n    approver: ann\n"
                "    signed_at: 2026-02-01\n    expires_at: 2026-01-01",
            },
            5,
            '"expires_at" must be after "signed_at"',
        ),
        (
            {
                "agents": "agents:\n  a:\n    history:\n      - {until: 2026-02-01, class: wrker}",
                "classes": "classes: {worker: }",
            },
            4,
            '"class" names "wrker", which classes.yaml does not have; did you mean "worker"?',
        ),
        (
            {
                "agents": "agents:\n  a:\n    history:\n"
                "      - {until: 2026-02-01}\n      - {until: 2026-02-01}"
            },
            5,
            'two states of one history have the same "until"',
        ),
    ],
)
def test_a_fault_between_two_places_names_its_line(write, files, line, message):
    assert errors(write(**files)) == [(line, message)]


def test_owners_who_lead_to_nobody_are_warned_of(load):
    registry = load(
        people=PEOPLE,
        agents="agents:\n"
        "  a:\n"
        "    owner_application: crew\n"
        "    owner_iam: bob\n"
        "    owner_platform: cyd\n"
        "    backup_owner: gone\n"
        "  b: {owner_application: ann, owner_iam: ann, owner_platform: none}\n"
        "  c: {status: decommissioned}\n"
        "  d: {owner_application: ann, owner_iam: ann}\n",
    )

    assert warnings(registry) == [
        (4, '"owner_iam" "bob" leads to nobody: left'),
        (5, '"owner_platform" "cyd" leads to nobody: neither in people nor in groups'),
        (6, '"backup_owner" "gone" leads to nobody: group with 0 active of 1'),
        (7, '"owner_platform" "none" leads to nobody: group with 0 active of 0'),
        (9, '"owner_platform" leads to nobody: nobody is named'),
    ]


def test_a_slip_in_an_owner_or_a_member_is_told_with_the_nearest_name(load):
    registry = load(
        people="people: {annie: {status: active}}\ngroups: {crew: {members: [anny, annie]}}\n",
        agents="agents:\n  a: {owner_application: crew, owner_iam: crw, owner_platform: annie}\n",
    )

    assert warnings(registry) == [
        (
            2,
            (
                '"owner_iam" "crw" leads to nobody: neither in people nor in groups; did you mean'
                ' "crew"?'
            ),
        ),
        (2, '"members" names "anny", whom people.yaml does not have; did you mean "annie"?'),
    ]


def test_an_alias_for_any_issuer_that_is_another_agent_s_name_is_warned_of(load):
    owned = "owner_application: x, owner_iam: y, owner_platform: z"
    registry = load(
        agents="agents:\n"
        f"  a: {{{owned}, aliases: [{{subject: b}}, {{subject: a}}, {{issuer: i, subject: b}}]}}\n"
        f"  b: {{{owned}}}\n",
    )

    assert warnings(registry) == [
        (2, '"b" is the name of another agent, line 3: give the alias its issuer')
    ]


def test_where_no_people_are_listed_a_named_owner_is_not_known_to_be_nobody(load):
    owned = "owner_application: x, owner_iam: y, owner_platform: z"

    assert warnings(load(agents=f"agents: {{a: {{{owned}}}}}")) == []


def test_what_has_run_out_is_warned_of_from_its_last_moment_on(load):
    registry = load(
        agents="agents:\n"
        "  a:\n"
        "    owner_application: x\n"
        "    owner_iam: x\n"
        "    owner_platform: x\n"
        "    valid_until: 2026-06-01\n"
        "    review_due_at: 2026-06-02\n"
        "    static_secret_exceptions:\n"
        "      - {reason: r, approved_by: x, until: 2026-05-01}\n",
        trust="trust_edges:\n"
        "  - {from_domain: a, to_domain: b, expires_at: 2026-05-31}\n"
        "delegation_records:\n"
        "  d: {principal: p, delegate: a, not_after: 2026-01-01}\n"
        "  e: {principal: p, delegate: a, not_after: 2026-01-01, status: revoked}\n",
        suppressions="suppressions:\n"
        "  s: {rule: r, predicate: {entity: a}, reason: x, owner: x,"
        " created_at: 2026-01-01, expires_at: 2026-02-01}\n",
    )

    assert warnings(registry) == [
        (6, 'its registration ended on 2026-06-01 ("valid_until")'),
        (9, 'this exception for a static secret ended on 2026-05-01 ("until")'),
        (2, 'this suppression ended on 2026-02-01 ("expires_at")'),
        (2, 'this trust edge ended on 2026-05-31 ("expires_at")'),
        (4, 'this delegation record ended on 2026-01-01 ("not_after")'),
    ]


def signed(text, **more):
    return {
        "people": PEOPLE,
        "classes": "classes:\n  c:\n    version: '2'\n    max_depth: 3\n    signoff_roles: [sec]\n",
        "signoffs": "signoffs:\n  - {class: c, approver: ann, role: sec, " + text + "}\n",
    } | more


@pytest.mark.parametrize(
    "text",
    [
        "signed_at: 2026-01-01, expires_at: 2026-12-01, version: '2'",
        "signed_at: 2026-01-01, expires_at: 2026-06-02",
        f"signed_at: 2026-01-01, expires_at: 2026-12-01, scope_hash: '{HASH}'",
    ],
)
def test_a_sign_off_in_force_gives_no_warning(load, text):
    assert warnings(load(**signed(text))) == []


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            "signed_at: 2026-01-01, expires_at: 2026-12-01, version: '1'",
            'this sign-off is of version "1", the class is at "2"',
        ),
        (
            "signed_at: 2026-01-01, expires_at: 2026-12-01, scope_hash: '0123456789abcdef'",
            f"this sign-off is of scope_hash 0123456789abcdef, the class is at {HASH}",
        ),
        ("signed_at: 2026-01-01, expires_at: 2026-06-01", None),
        ("signed_at: 2025-06-01, expires_at: 2027-06-01", None),
        ("signed_at: 2026-06-02, expires_at: 2027-06-01", None),
    ],
)
def test_a_class_whose_sign_off_does_not_hold_is_warned_of(load, text, told):
    missing = (5, 'class "c" has no sign-off in force by "sec"')

    assert warnings(load(**signed(text))) == [missing] + ([(2, told)] if told else [])


def test_accountability_is_a_table(load):
    registry = load(
        people=PEOPLE,
        agents="agents: {a: {owner_application: crew, owner_iam: bob, backup_owner: ann}}",
    )

    rows = registry.tables()["reg_owners"].to_pylist()

    assert [(r["role"], r["owner"], r["backup_owner"], r["is_accountable"]) for r in rows] == [
        ("application", "crew", "ann", True),
        ("iam", "bob", "ann", False),
        ("platform", None, "ann", False),
    ]

"""What changed between two registries, and what of it a reviewer must look at first."""

from __future__ import annotations

import pytest

from pipeline.registry.diff import diff


def changes(load, old, new):
    return diff(load(**old), load(**new))


def agent(keys):
    return {"agents": f"agents: {{a: {{{keys}}}, other: }}"}


@pytest.mark.parametrize(
    ("old", "new", "widens"),
    [
        ("scope_ceiling: [x]", "scope_ceiling: [x, y]", True),
        ("scope_ceiling: [x, y]", "scope_ceiling: [x]", False),
        ("scope_ceiling: [x]", "", True),
        ("", "scope_ceiling: [x]", False),
        ("expected_tools: []", "expected_tools: [t]", True),
        ("max_depth: 2", "max_depth: 3", True),
        ("max_depth: 3", "max_depth: 2", False),
        ("max_depth: 3", "", True),
        ("approval_required_for: [payment]", "approval_required_for: []", True),
        ("approval_required_for: []", "approval_required_for: [payment]", False),
        ("human_root_required: true", "human_root_required: false", True),
        ("static_secret_allowed: false", "", True),
        ("", "static_secret_allowed: false", False),
        ("", "static_secret_exception_until: 2030-01-01", True),
        (
            "static_secret_exception_until: 2030-01-01",
            "static_secret_exception_until: 2029-01-01",
            False,
        ),
        ("", "static_secret_exceptions: [{reason: r, approved_by: b, until: 2030-01-01}]", True),
        ("", "delegate_for: [other]", True),
        ("status: suspended", "status: active", True),
        ("status: active", "status: suspended", False),
        ("risk_tier: high", "risk_tier: normal", True),
        ("", "history: [{until: 2026-01-01, max_depth: 9}]", True),
        ("owner_iam: ann", "owner_iam: bob", False),
        ("", "display_name: A", False),
        ("", "aliases: [{issuer: i, subject: s}]", True),
        ("aliases: [{issuer: i, subject: s}]", "", False),
        ("", "credential_ids: [{kind: jti, id: x}]", True),
        ("kind: agent", "kind: human", True),
        ("kind: human", "kind: agent", False),
    ],
)
def test_a_change_of_an_agent_widens_or_does_not(load, old, new, widens):
    (row,) = changes(load, agent(old), agent(new))

    assert (row["section"], row["name"], row["change"]) == ("agents", "a", "changed")
    assert row["widens"] == (list(row["fields"]) if widens else [])


def test_a_change_of_class_shows_what_it_does_to_the_agent(load):
    classes = "classes: {narrow: {max_depth: 1}, wide: {max_depth: 5}}"

    (row,) = changes(
        load,
        agent("class: narrow") | {"classes": classes},
        agent("class: wide") | {"classes": classes},
    )

    assert row["fields"]["max_depth"] == {"old": 1, "new": 5}
    assert row["widens"] == ["max_depth"]


def test_a_class_whose_limits_change_needs_new_sign_offs(load):
    old = {"classes": "classes: {c: {max_depth: 1, description: x}, d: {max_depth: 1}}"}
    new = {
        "classes": "classes: {c: {max_depth: 2, description: x}, d: {max_depth: 1, version: '2'}}"
    }

    rows = changes(load, old, new)

    assert [(r["name"], r["widens"], r["needs_signoff"]) for r in rows] == [
        ("c", ["max_depth"], True),
        ("d", [], False),
    ]


@pytest.mark.parametrize(
    ("old", "new", "change", "widens"),
    [
        (
            "",
            "trust_edges: [{from_domain: a, to_domain: b}]",
            "added",
            ["from_domain", "to_domain"],
        ),
        ("trust_edges: [{from_domain: a, to_domain: b}]", "", "removed", []),
        (
            "trust_edges: [{from_domain: a, to_domain: b, expires_at: 2026-01-01}]",
            "trust_edges: [{from_domain: a, to_domain: b, expires_at: 2027-01-01}]",
            "changed",
            ["expires_at"],
        ),
        (
            "trust_edges: [{from_domain: a, to_domain: b, allowed_scopes: [x]}]",
            "trust_edges: [{from_domain: a, to_domain: b, allowed_scopes: []}]",
            "changed",
            [],
        ),
        ("issuers: {i: {max_ttl_s: 60}}", "issuers: {i: }", "changed", ["max_ttl_s"]),
        (
            "issuers: {i: {revocation_cascades: true}}",
            "issuers: {i: }",
            "changed",
            ["revocation_cascades"],
        ),
        (
            "resource_servers: {r: {aliases: [a]}}",
            "resource_servers: {r: {aliases: [a, b]}}",
            "changed",
            ["aliases"],
        ),
        ("", "issuers: {i: {bare_wildcard: true}}", "added", []),
    ],
)
def test_trust_that_is_given_is_told_apart(load, old, new, change, widens):
    (row,) = changes(load, {"trust": old}, {"trust": new})

    assert (row["change"], row["widens"]) == (change, widens)


@pytest.mark.parametrize(
    ("old", "new", "widens"),
    [
        ("expected_interval_s: 60", "expected_interval_s: 600", ["expected_interval_s"]),
        ("expected_interval_s: 600", "expected_interval_s: 60", []),
        ("expected_interval_s: 60", "", ["expected_interval_s"]),
        ("paired_with: urn:b", "", ["paired_with"]),
        ("", "paired_with: urn:b", []),
        ("owner: ann", "owner: bob", []),
    ],
)
def test_a_source_that_may_be_silent_for_longer_widens(load, old, new, widens):
    old, new = ({"sources": f"sources: {{'urn:a': {{{keys}}}}}"} for keys in (old, new))

    (row,) = changes(load, old, new)

    assert row["widens"] == widens


def test_equal_registries_in_another_order_do_not_differ(load):
    old = {"agents": "agents:\n  a: {kind: agent, max_depth: 2}\n  b: {}\n"}
    new = {"agents": "# reviewed\nagents:\n  b: {}\n  a: {max_depth: 2, kind: agent}\n"}

    assert changes(load, old, new) == []

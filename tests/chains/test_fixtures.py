# ruff: noqa: E501 - one event a line reads best
"""The thirty stories that every build must pass (domain reference 4.8), as far as chains go.

What is expected is written from the documents, story by story.
"""

from __future__ import annotations

import pytest

from tests.chains.told import (
    AWS,
    IDP,
    STS,
    Event,
    Shown,
    act,
    at,
    aws_key,
    call,
    exchange,
    login,
    ref,
    token,
)

STORIES: dict[str, list[Event]] = {}


def story(name: str, *events: Event) -> str:
    STORIES[name] = list(events)
    return name


@pytest.fixture(scope="module")
def shown(tmp_path_factory) -> Shown:
    return Shown(tmp_path_factory.mktemp("fixtures"), STORIES)


F01 = story(
    "01 all ids",
    login("t0", client_id="A", scopes=["crm.read", "crm.write"], expires_at=at(60)),
    exchange("t1", "t0", 1, "B", scopes=["crm.read"], expires_at=at(30)),
    call("read", "t1", 2, agent_id="B", required_scopes=["crm.read"]),
    call("write", "t1", 3, agent_id="B", required_scopes=["crm.write"]),
)


def test_01_alice_to_a_to_b_with_all_ids_is_complete(shown):
    assert shown.facts(F01, "t1", "status", "end_kind", "root_kind", "root_principal", "depth") == (
        "complete", "root_human", "human_interactive", "alice", 1,
    )  # fmt: skip
    assert shown.facts(F01, "t1", "actor_path", "effective_scopes", "effective_expires_at") == (
        ["alice", "A", "B"], ["crm.read"], at(30),
    )  # fmt: skip
    hop = shown.hop(F01, "t1")
    assert (hop["method"], hop["confidence"], hop["attenuation"]) == ("P2", 1.0, "covered")
    assert (hop["delegator"], hop["delegate"], hop["actor_changed"]) == ("A", "B", True)
    read, write = shown.call(F01, "read"), shown.call(F01, "write")
    assert (read["link_method"], read["link_confidence"]) == ("T1", 1.0)
    assert (read["scope_coverage"], read["missing_scopes"]) == ("covered", [])
    assert (write["scope_coverage"], write["missing_scopes"]) == ("not_covered", ["crm.write"])
    assert read["root_principal"] == "alice"


F02 = story(
    "02 act suffix only",
    login("t0", audience=["B"], scopes=["crm.read"], expires_at=at(60)),
    exchange("t1", None, 1, "B", scopes=["crm.read"], expires_at=at(30)),
    exchange("t2", None, 2, "C", "B", client_id="B", scopes=["crm.read"], expires_at=at(30)),
)
F02B = story(
    "02 act suffix without issuers",
    login("t0", audience=["B"]),
    exchange("t1", None, 1, "B", act_chain=act("B", issuer=None)),
)


def test_02_without_parent_ids_the_actor_chain_links_with_less_confidence(shown):
    assert shown.links(F02) == {("t0", "t1"), ("t1", "t2")}
    assert shown.facts(F02, "t2", "status", "confidence", "depth", "actor_path") == (
        "complete_probable", 0.75, 2, ["alice", "web", "B", "C"],
    )  # fmt: skip
    assert shown.hop(F02, "t2")["method"] == "P6"
    assert shown.facts(F02B, "t1", "status", "confidence") == ("complete_probable", 0.60)


F03 = story(
    "03 exchange without act",
    login("t0"),
    exchange("bare", "t0", 1),
    exchange("by client", "t0", 1, client_id="B"),
    exchange("of B", "t0", 1, "B"),
    exchange("bare of B", "of B", 2),
)


def test_03_a_subject_that_is_all_that_is_left_does_not_come_back_in_its_chain(shown):
    path, depth, status = shown.facts(F03, "bare of B", "actor_path", "depth", "status")
    assert (path, status) == (["alice", "web", "B"], "impersonated")
    assert [depth] == list(shown.facts(F03, "of B", "depth"))


def test_03_an_exchange_that_shows_neither_act_nor_client_is_impersonation(shown):
    assert shown.facts(F03, "bare", "status", "end_kind") == ("impersonated", "root_human")
    assert shown.facts(F03, "by client", "status", "actor_path") == (
        "complete", ["alice", "web", "B"],
    )  # fmt: skip


F03B = story(
    "03 exchange that drops an actor",
    login("t0"),
    exchange("t1", "t0", 1, "B"),
    exchange("dropped", "t1", 2, "C"),
    exchange("narrowed", "t1", 2, "B"),
    exchange("other name", "t1", 2, "coder-client", act_chain=act("B")),
    exchange("of coder", "t0", 2, "coder"),
    exchange("the same", "of coder", 3, "coder-client"),
    exchange("of broker", "t0", 2, "broker"),
    exchange("behind it", "of broker", 3, "C"),
    exchange("through broker", "t0", 2, "B", act_chain=act("B", "broker")),
    exchange("without broker", "through broker", 3, "C", act_chain=act("C", "B")),
    exchange("in one transaction", "t0", 1, "B", txn_id="txn"),
    exchange("its next workload", "in one transaction", 2, "C", txn_id="txn"),
)


def test_03_an_actor_that_takes_the_place_of_another_erases_it(shown):
    statuses = {
        c["id"]: shown.facts(F03B, c["id"], "status")[0] for c in shown.rows("credentials", F03B)
    }
    assert {name for name, status in statuses.items() if status != "complete"} == {"dropped"}
    assert statuses["dropped"] == "impersonated"


F04 = story(
    "04 reversal trap",
    login("t0", audience=["B", "C"]),
    exchange("of B", "t0", 1, "B", audience=["C"]),
    exchange("of C", "t0", 1, "C", audience=["B"]),
    exchange("last", None, 2, "C", "B"),
    token("rfc", 3, op="exchange", act_chain=act("https://service16", "https://service77")),
)


def test_04_the_outermost_actor_is_the_current_one(shown):
    assert ("of B", "last") in shown.links(F04)
    assert ("of C", "last") not in shown.links(F04)
    assert shown.credential(F04, "last")["actor_path"] == ["alice", "web", "B", "C"]
    assert shown.credential(F04, "rfc")["actor_path"] == [
        "alice", "https://service77", "https://service16",
    ]  # fmt: skip


_OWN = {"grant_type": "client_credentials", "auth_time": None, "subject_kind": "client"}
F05 = story(
    "05 root without user",
    token("known", 0, subject_id="svc-batch", client_id="svc-batch", **_OWN),
    token("stranger", 0, subject_id="svc-new", client_id="svc-new", **_OWN),
)


def test_05_a_client_of_its_own_is_a_root_only_where_the_registry_knows_it(shown):
    assert shown.facts(F05, "known", "status", "end_kind", "root_kind", "depth") == (
        "complete", "root_nonhuman", "client_credentials", 0,
    )  # fmt: skip
    assert shown.facts(F05, "stranger", "status", "end_kind") == ("unknown_root", "unknown_root")


F06 = story(
    "06 step-up with consent",
    login("t0", scopes=["files.read"]),
    token("consent", 4, op="consent_grant", credential_kind="local", consent_id="c1",
          scopes=["files.read", "files.write"]),
    login("t1", 5, consent_id="c1", scopes=["files.read", "files.write"], parents=[ref("t0")]),
    exchange("t2", "t1", 6, "B", scopes=["files.write"]),
)  # fmt: skip


def test_06_a_consented_step_up_starts_a_new_root(shown):
    assert shown.links(F06) == {("t1", "t2")}
    assert ("t0", "t1", "superseded_by_consent") in shown.candidates(F06)
    assert shown.facts(F06, "t1", "status", "links", "end_kind") == ("complete", 0, "root_human")
    assert shown.facts(F06, "t2", "root_attenuation", "effective_scopes") == (
        "covered", ["files.write"],
    )  # fmt: skip


F07 = story(
    "07 client credentials step-up",
    token("t0", 0, subject_id="svc-batch", client_id="svc-batch", scopes=["a"], **_OWN),
    token("t1", 5, subject_id="svc-batch", client_id="svc-batch", scopes=["a", "b"], **_OWN),
)


def test_07_a_client_steps_up_to_a_root_without_consent(shown):
    assert shown.links(F07) == set()
    assert shown.facts(F07, "t1", "end_kind", "consent_id", "root_scopes") == (
        "root_nonhuman", None, ["a", "b"],
    )  # fmt: skip


F08 = story(
    "08 refresh re-widened",
    login("t0", family_id="f1", scopes=["a", "b"], expires_at=at(10)),
    token("r1", 9, op="refresh", client_id="web", family_id="f1", scopes=["a"],
          parents=[ref("t0", "refresh")], expires_at=at(20)),
    token("r2", 19, op="refresh", client_id="web", family_id="f1", scopes=["a", "b"],
          parents=[ref("r1", "refresh")], expires_at=at(30)),
    token("r3", 29, op="refresh", client_id="web", family_id="f1", scopes=["a", "c"]),
)  # fmt: skip


def test_08_a_refresh_is_compared_with_the_original_grant(shown):
    hop = shown.hop(F08, "r2")
    assert (hop["attenuation"], hop["compared_with"]) == ("covered", "original_grant")
    assert shown.facts(F08, "r2", "status", "depth", "effective_scopes", "effective_expires_at") == (
        "complete", 0, ["a", "b"], at(30),
    )  # fmt: skip
    by_family = shown.hop(F08, "r3")
    assert (by_family["method"], by_family["confidence"]) == ("P4", 0.95)
    assert (by_family["attenuation"], by_family["widened_scopes"]) == ("not_covered", ["c"])


F09 = story(
    "09 narrowed and widened again",
    login("t0", scopes=["a", "b"]),
    exchange("t1", "t0", 1, "B", scopes=["a"]),
    exchange("t2", "t1", 2, "C", "B", scopes=["a", "b"]),
    call("b", "t2", 3, required_scopes=["b"]),
)


def test_09_what_a_hop_gave_up_does_not_come_back(shown):
    hop = shown.hop(F09, "t2")
    assert (hop["attenuation"], hop["widened_scopes"]) == ("not_covered", ["b"])
    assert shown.facts(F09, "t2", "root_attenuation", "beyond_root_scopes", "effective_scopes") == (
        "covered", [], ["a"],
    )  # fmt: skip
    assert shown.call(F09, "b")["missing_scopes"] == ["b"]


F10 = story(
    "10 audience change",
    login("t0", audience=["api://a"], scopes=["a.read"]),
    exchange("mapped", "t0", 1, "B", audience=["api://b"], scopes=["b.read"]),
    exchange("too wide", "t0", 1, "B", audience=["api://b"], scopes=["b.read", "b.admin"]),
    exchange("unmapped", "t0", 1, "B", audience=["api://c"], scopes=["c.read"]),
    call("c", "unmapped", 2, required_scopes=["c.read"]),
)


def test_10_another_audience_goes_through_the_table_or_is_unknown(shown):
    mapped, wide, unmapped = (shown.hop(F10, n) for n in ("mapped", "too wide", "unmapped"))
    assert (mapped["attenuation"], mapped["compared_with"]) == ("covered", "translation")
    assert (wide["attenuation"], wide["widened_scopes"]) == ("not_covered", ["b.admin"])
    assert (unmapped["attenuation"], unmapped["unknown_scopes"]) == ("unknown", ["c.read"])
    assert shown.facts(F10, "mapped", "effective_scopes", "effective_scope_known") == (
        ["b.read"], True,
    )  # fmt: skip
    assert shown.facts(F10, "unmapped", "status", "unknown_count", "effective_scope_known") == (
        "complete", 1, False,
    )  # fmt: skip
    assert shown.call(F10, "c")["scope_coverage"] == "unknown"


F11 = story(
    "11 wildcards",
    login("t0", scope_dialect="dot", scopes=["crm.*"]),
    exchange("below", "t0", 1, "B", scopes=["crm.x.y"]),
    exchange("bare", "t0", 1, "B", scopes=["crm"]),
    exchange("near", "t0", 1, "B", scopes=["crmx.read"]),
)


def test_11_a_wildcard_ends_at_its_segment(shown):
    assert shown.hop(F11, "below")["attenuation"] == "covered"
    assert shown.credential(F11, "below")["effective_scopes"] == ["crm.x.y"]
    assert shown.hop(F11, "bare")["widened_scopes"] == ["crm"]
    assert shown.hop(F11, "near")["widened_scopes"] == ["crmx.read"]


F12 = story(
    "12 transaction token",
    login("t0", scopes=["a"], expires_at=at(5)),
    exchange("txn", "t0", 4, "B", scopes=["a"], txn_id="x", expires_at=at(9),
             token_type="urn:ietf:params:oauth:token-type:txn_token"),
    exchange("plain", "t0", 4, "B", scopes=["a"], expires_at=at(9)),
)  # fmt: skip


def test_12_a_transaction_token_may_outlive_its_subject_token(shown):
    assert shown.credential(F12, "txn")["effective_expires_at"] == at(9)
    assert shown.credential(F12, "plain")["effective_expires_at"] == at(5)


F13 = story(
    "13 assume role three times",
    aws_key("ASIA1", "AKIADEPLOYER", 0, subject_id="alice@corp", actor_id="role/a", actor_convention="role_session"),
    aws_key("ASIA2", "ASIA1", 1, subject_id="alice@corp", actor_id="role/b", actor_convention="role_session"),
    aws_key("ASIA3", "ASIA2", 2, subject_id=None, subject_issuer=None, actor_id="role/c", actor_convention="role_session"),
    call("list", "ASIA3", 3, agent_id="role/c", observer="cloud_audit", credential_issuer=AWS,
         credential_kind="access_key_id"),
    call("lost", "ASIALOST", 3, agent_id="role/x", observer="cloud_audit", credential_issuer=AWS,
         credential_kind="access_key_id"),
)  # fmt: skip


def test_13_three_assumed_roles_lead_back_to_the_long_term_key(shown):
    assert shown.links(F13) == {("AKIADEPLOYER", "ASIA1"), ("ASIA1", "ASIA2"), ("ASIA2", "ASIA3")}
    assert shown.facts(F13, "ASIA3", "status", "end_kind", "root_kind", "depth", "confidence") == (
        "complete", "root_nonhuman", "static_secret", 3, 0.98,
    )  # fmt: skip
    assert shown.credential(F13, "ASIA3")["confidence_product"] == pytest.approx(0.98**3)
    assert {shown.hop(F13, n)["method"] for n in ("ASIA1", "ASIA2", "ASIA3")} == {"P3"}
    assert shown.hop(F13, "ASIA2")["subject_changed"] is False
    assert shown.hop(F13, "ASIA3")["subject_changed"] is True
    lost = shown.call(F13, "lost")
    assert (lost["status"], lost["gap_kind"]) == ("broken", "missing_issue_event")


_VAULT = {"credential_issuer": "vault", "observer": "secret_store", "scope_dialect": "policy"}
F14 = story(
    "14 vault",
    login("acc0", credential_kind="vault_accessor", scopes=["ops"], **_VAULT),
    token("acc1", 1, credential_kind="vault_accessor", client_id="B", scopes=["ops"],
          parents=[ref("acc0", "source", "vault", "vault_accessor")], **_VAULT),
    token("batch", 1, credential_kind="local", client_id="B", scopes=["other"],
          parents=[ref("acc0", "source", "vault", "vault_accessor")], **_VAULT),
)  # fmt: skip


def test_14_vault_children_follow_their_accessor_and_policies_compare_by_name_only(shown):
    child, batch = shown.hop(F14, "acc1"), shown.hop(F14, "batch")
    assert (child["method"], child["confidence"], child["attenuation"]) == ("P3", 0.98, "covered")
    assert (batch["method"], batch["attenuation"]) == ("P3", "unknown")
    assert shown.facts(F14, "batch", "status", "root_principal") == ("complete", "alice")


_K8S = {"credential_issuer": "k8s", "credential_kind": "k8s_credential_id", "scope_known": False}
F15 = story(
    "15 kubernetes",
    token("c0", 0, subject_id="svc-batch", subject_kind="service_account", **_K8S),
    token("c1", 1, subject_id="svc-batch", subject_kind="service_account",
          parents=[ref("c0", "source", "k8s", "k8s_credential_id")], **_K8S),
    token("c2", 2, op="exchange", subject_id="alice", actor_id="svc-batch", actor_convention="impersonation",
          parents=[ref("c1", "source", "k8s", "k8s_credential_id")], **_K8S),
    call("get", "c2", 3, credential_issuer="k8s", credential_kind="k8s_credential_id",
         actor_convention="impersonation", actor_id="svc-batch"),
)  # fmt: skip


def test_15_kubernetes_names_the_actor_of_an_impersonation(shown):
    assert shown.links(F15) == {("c0", "c1"), ("c1", "c2")}
    assert shown.facts(F15, "c2", "status", "end_kind", "confidence") == (
        "complete", "root_nonhuman", 0.98,
    )  # fmt: skip
    assert shown.credential(F15, "c2")["actor_path"][-1] == "svc-batch"
    assert shown.hop(F15, "c2")["subject_changed"] is True
    assert shown.call(F15, "get")["root_principal"] == "svc-batch"


F16 = story(
    "16 agent user",
    login("t0", subject_id="copilot", subject_kind="agent_user", credential_kind="uti"),
    login("t1", subject_id="unlisted", subject_kind="agent_user", credential_kind="uti"),
)


def test_16_an_agent_with_a_user_account_is_no_human(shown):
    assert shown.credential(F16, "t0")["end_kind"] == "root_nonhuman"
    assert shown.credential(F16, "t1")["end_kind"] == "unknown_root"
    assert "human" not in shown.credential(F16, "t0")["root_kind"]


_OTHER = {"credential_issuer": STS, "subject_issuer": STS, "grant_type": "jwt-bearer"}
F17 = story(
    "17 cross domain",
    login("t0", scopes=["a"]),
    exchange(
        "mapped", None, 1, "B", subject_id="a.smith", parents=[ref("t0", "assertion")], **_OTHER
    ),
    exchange(
        "unmapped", None, 1, "B", subject_id="b.jones", parents=[ref("t0", "assertion")], **_OTHER
    ),
)


def test_17_a_transcribed_subject_needs_a_map(shown):
    assert shown.links(F17) == {("t0", "mapped"), ("t0", "unmapped")}
    assert shown.hop(F17, "mapped")["subject_changed"] is False
    assert shown.hop(F17, "unmapped")["subject_changed"] is True
    assert shown.hop(F17, "mapped")["hop_kind"] == "assertion"
    assert shown.credential(F17, "mapped")["root_principal"] == "alice"


F18 = story(
    "18 static hop",
    login("t0", trace_id="x"),
    exchange("t1", "t0", 1, "B", trace_id="x"),
    call("outer", "t1", 2, agent_id="B", trace_id="x", span_id="s1"),
    call("inner", "legacy-key", 2, agent_id="legacy-app", trace_id="x", parent_span_id="s1",
         credential_kind="api_key_id"),
)  # fmt: skip


def test_18_a_static_key_in_the_middle_does_not_borrow_the_human(shown):
    outer, inner = shown.call(F18, "outer"), shown.call(F18, "inner")
    assert (outer["status"], outer["root_principal"]) == ("complete", "alice")
    assert (inner["root_kind"], inner["end_kind"]) == ("static_secret", "root_nonhuman")
    assert (inner["root_principal"], inner["depth"]) == ("legacy-app", 0)


F19 = story(
    "19 broker",
    login("a0", business_unit="sales"),
    login("b0", subject_id="bob", business_unit="finance"),
    exchange("a1", "a0", 1, "broker", business_unit="sales"),
    exchange("b1", "b0", 1, "broker", business_unit="finance"),
    exchange("a2", "a1", 2, "C", "broker"),
)


def test_19_a_broker_keeps_its_customers_apart_and_adds_no_depth(shown):
    assert shown.facts(F19, "a1", "root_principal", "depth") == ("alice", 0)
    assert shown.facts(F19, "b1", "root_principal", "depth") == ("bob", 0)
    assert shown.facts(F19, "a2", "depth", "actor_path") == (1, ["alice", "web", "broker", "C"])


def _revoked(cascade: bool) -> list[Event]:
    return [
        login("t0", expires_at=at(90)),
        exchange("t1", "t0", 1, "B", expires_at=at(5)),
        exchange("t2", "t1", 2, "C", "B", expires_at=at(90)),
        token("t0", 10, op="revoke", revoke_cascade=cascade),
    ]


F20 = story("20 revoked root", *_revoked(cascade=False))
F20B = story("20 revoked root with cascade", *_revoked(cascade=True))


F20C = story(
    "20 revoked root of an issuer that should cascade and says nothing of it",
    *(event | {"credential_issuer": "https://cascading.test",
               "parents": [one | {"issuer": "https://cascading.test"} for one in event.get("parents", [])]}
      for event in _revoked(cascade=False)),
)  # fmt: skip


def test_20_a_revoked_root_shows_on_the_live_grandchild(shown):
    root = shown.credential(F20, "t0")
    assert (root["revoked_at"], root["revoke_target"]) == (at(10), "token")
    # RFC 7009 says nothing of exchanged tokens: they live on, below a dead ancestor.
    assert shown.facts(F20, "t2", "revoked_at", "revoked_ancestor_key") == (
        None, root["credential_key"],
    )  # fmt: skip
    assert shown.credential(F20, "t2")["effective_expires_at"] == at(5)
    assert shown.credential(F20B, "t2")["revoked_at"] == at(10)
    # What an issuer should do is for TR-03 to check; what it did, its log says.
    assert shown.credential(F20C, "t2")["revoked_at"] is None


F21 = story(
    "21 revoked chain extended",
    login("t0"),
    token("t0", 10, op="revoke"),
    exchange("t1", "t0", 20, "B"),
)


def test_21_a_token_made_from_a_revoked_one_knows_it(shown):
    root = shown.credential(F21, "t0")
    assert shown.facts(F21, "t1", "status", "revoked_ancestor_key") == (
        "complete", root["credential_key"],
    )  # fmt: skip


RENEWED = story(
    "renewed in place",
    login("refreshed", expires_at=at(60)),
    token("refreshed", 50, op="refresh", expires_at=at(120)),
    token("refreshed", 110, op="rotate", expires_at=at(180)),
    login("asked for", expires_at=at(60)),
    token("asked for", 50, op="introspect", expires_at=at(90)),
    login("self-reported", expires_at=at(60)),
    token("self-reported", 50, op="refresh", expires_at=at(999), observer="agent_runtime"),
    login("disputed", expires_at=at(60)),
    token("disputed", 50, op="introspect", expires_at=at(90), source="another log"),
    login("told twice", expires_at=at(60)),
    login("told twice", 5, expires_at=at(999)),
    login("shortened", expires_at=at(60)),
    token("shortened", 50, op="introspect", expires_at=at(55)),
    login("refused", expires_at=at(60)),
    token("refused", 50, op="refresh", expires_at=at(120), outcome="failure"),
)


@pytest.mark.parametrize(
    ("name", "ends"),
    [("refreshed", 180), ("asked for", 90), ("self-reported", 60), ("disputed", 60),
     ("told twice", 60), ("shortened", 60), ("refused", 60)],
)  # fmt: skip
def test_only_its_issuer_prolongs_a_token_in_place(shown, name, ends):
    assert shown.facts(RENEWED, name, "expires_at", "issued_at") == (at(ends), at(0))


F22 = story(
    "22 refresh reuse",
    login("r0", family_id="f"),
    *(token(f"r{n}", 10 + n, op="refresh", client_id="web", family_id="f",
            parents=[ref("r0", "refresh")]) for n in (1, 2)),
    token("r0", 13, op="reuse_detected", family_id="f"),
)  # fmt: skip


def test_22_a_refresh_token_used_twice_has_two_children(shown):
    assert shown.links(F22) == {("r0", "r1"), ("r0", "r2")}
    assert shown.facts(F22, "r2", "status", "depth") == ("complete", 0)


F23 = story(
    "23 shared key",
    *(
        call(f"by {name}", "shared", 1, agent_id=name, credential_kind="api_key_id")
        for name in "AB"
    ),
)


def test_23_one_key_used_by_two_agents_is_one_credential(shown):
    assert shown.facts(F23, "shared", "use_count", "is_static", "seen_issued", "status") == (
        2, True, False, "unknown_root",
    )  # fmt: skip


_TWICE = [
    login("t0", source="idp"),
    exchange("t1", "t0", -1, "B", source="idp"),
    call("late", "t1", 1, agent_id="B"),
]
F24 = story("24 duplicates, late and skewed", *reversed(_TWICE), *_TWICE)


def test_24_copies_and_a_skewed_clock_change_nothing(shown):
    assert shown.links(F24) == {("t0", "t1")}
    assert shown.facts(F24, "t1", "status", "use_count") == ("complete", 1)
    assert len(shown.rows("calls", F24)) == 1


_TWELVE = [f"agent-{n}" for n in range(12, 0, -1)]
F25 = story(
    "25 deep and malformed",
    exchange("deep", None, 0, *_TWELVE, act_truncated=True),
    token("malformed", 0, op="exchange", act_malformed_reason="act_not_object"),
)


def test_25_an_actor_chain_without_its_tokens_is_broken_but_fully_shown(shown):
    assert shown.facts(F25, "deep", "status", "gap_kind", "depth", "act_truncated") == (
        "broken", "missing_parent_id", 12, True,
    )  # fmt: skip
    assert shown.credential(F25, "deep")["actor_path"] == ["alice", *reversed(_TWELVE)]
    assert shown.facts(F25, "malformed", "status", "gap_kind") == ("broken", "malformed_act")


F26 = story(
    "26 one id, two issuers",
    login("same", scopes=["a"]),
    login("same", credential_issuer=STS, subject_id="bob", subject_issuer=STS, scopes=["b"]),
    exchange("child", None, 1, "B", parents=[ref("same", issuer=STS)], credential_issuer=STS),
    call("bare", "same", 2, credential_issuer=None),
)


def test_26_an_id_without_its_issuer_joins_nothing(shown):
    child = shown.credential(F26, "child")
    assert child["root_principal"] == "bob"
    issuers = [c["issuer"] for c in shown.rows("credentials", F26) if c["id"] == "same"]
    assert sorted(issuers, key=str) == sorted([IDP, STS, None], key=str)
    assert shown.call(F26, "bare")["root_principal"] not in {"alice", "bob"}


F27 = story(
    "27 outage",
    login("early", 0),
    exchange("t2", "t1", 30, "B"),
    call("after", "t2", 31, agent_id="B"),
)


def test_27_a_record_lost_in_an_outage_leaves_a_broken_chain(shown):
    assert shown.facts(F27, "t2", "status", "end_kind", "gap_kind") == (
        "broken", "broken", "missing_issue_event",
    )  # fmt: skip
    assert shown.call(F27, "after")["status"] == "broken"


F28 = story(
    "28 retention",
    login("first", 0),
    token("old", 5, op="introspect", issued_at=at(-600)),
    exchange("t1", "old", 6, "B"),
)


def test_28_a_root_from_before_the_retention_is_not_broken(shown):
    assert shown.facts(F28, "t1", "status", "end_kind", "gap_kind") == (
        "retention_truncated", "retention_truncated", None,
    )  # fmt: skip


_TOLD = {"observer": "agent_runtime", "source": "runtime"}
F29 = story(
    "29 declared only",
    login("t0", scopes=["a", "b"]),
    exchange("t1", "t0", 1, "B", scopes=["a", "b"], **_TOLD),
    exchange("t2", "t1", 2, "C", "B", scopes=["a"], **_TOLD),
)


def test_29_a_chain_that_only_an_agent_declares_is_never_complete(shown):
    assert shown.facts(F29, "t2", "status", "confidence") == ("complete_probable", 0.70)
    assert shown.hop(F29, "t2")["evidence_class"] == "self_reported"


F30 = story(
    "30 one transaction, four workloads",
    login("t0"),
    *(exchange(f"w{n}", "t0" if n == 1 else f"w{n - 1}", n, f"workload-{n}", txn_id="txn")
      for n in (1, 2, 3, 4)),
)  # fmt: skip


def test_30_a_transaction_id_is_shared_by_many_tokens(shown):
    assert shown.links(F30) == {("t0", "w1"), ("w1", "w2"), ("w2", "w3"), ("w3", "w4")}
    assert shown.facts(F30, "w4", "status", "depth", "confidence") == ("complete", 4, 1.0)


SPELLINGS = story(
    "grants as logs spell them",
    login("ciba", grant_type="CIBA", auth_time=None, subject_kind=None),
    login("hybrid", grant_type="hybrid", auth_time=None, subject_kind=None),
    aws_key("ASIASAML", None, 1, grant_type="AssumeRoleWithSAML"),
    aws_key(
        "ASIAWEB",
        None,
        1,
        grant_type="AssumeRoleWithWebIdentity",
        subject_issuer="https://silent.test",
    ),
    token("short", 1, grant_type="token-exchange", client_id="web"),
)


@pytest.mark.parametrize(
    ("name", "end", "root", "gap"),
    [
        ("ciba", "root_human", "human_interactive", None),
        ("hybrid", "root_human", "human_interactive", None),
        ("ASIASAML", "root_human", "human_federated", None),
        ("ASIAWEB", "broken", "unknown", "source_not_onboarded"),
        ("short", "broken", "unknown", "missing_parent_id"),
    ],
)
def test_a_grant_is_known_by_its_name_however_spelt(shown, name, end, root, gap):
    assert shown.facts(SPELLINGS, name, "end_kind", "root_kind", "gap_kind") == (end, root, gap)


PROBABLE = story(
    "a call without an id",
    login("t0", audience=["crm"]),
    call("c", None, 1, agent_id="web", subject_id="alice", tool_server="crm"),
)


def test_a_call_is_no_surer_than_its_link(shown):
    row = shown.call(PROBABLE, "c")
    assert (row["link_method"], row["confidence"]) == ("T6", 0.65)
    assert row["status"] == "complete_probable"
    assert shown.facts(PROBABLE, "t0", "status") == ("complete",)


SPELLED = story(
    "one audience in two spellings",
    login("t0", scopes=["crm.read"], audience=["https://crm.test/"]),
    exchange("t1", "t0", 1, "B", scopes=["crm.write"], audience=["https://CRM.test:443"]),
)


def test_spelling_does_not_hide_a_widening(shown):
    assert shown.hop(SPELLED, "t1")["attenuation"] == "not_covered"


def test_no_link_crosses_a_tenant(shown):
    crossing = shown.con.execute(
        "SELECT count(*) FROM hops JOIN credentials AS parent ON parent.credential_key = hops.parent_key"
        " WHERE parent.tenant_id <> hops.tenant_id"
    ).fetchall()[0]
    assert crossing == (0,)

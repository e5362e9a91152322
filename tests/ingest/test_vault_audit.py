"""Audit devices of Vault: tokens by accessor, secrets, leases, and what is never told."""

import json
from datetime import UTC, datetime

import pytest

from pipeline.chains import build_chains
from pipeline.ingest.run import ingest_files
from pipeline.ingest.sources.vault_audit import recognises
from pipeline.lake import open_lake
from pipeline.registry import load_registry
from tests.factories import NOW
from tests.ingest.adapted import Told, pick

CREDENTIAL = ("credential_issuer", "credential_kind", "credential_id")
MADE = "2026-10-05T08:00:00Z"


def auth(accessor=None, **fields):
    known = {"accessor": accessor, "client_token": f"hmac-sha256:token-{accessor}"}
    return (known if accessor else {}) | {"token_type": "service"} | fields


def made(accessor, policies=("default",), **fields):
    """Return the auth of an answer that gives a token."""
    return auth(accessor, policies=list(policies), token_ttl=600, token_issue_time=MADE, **fields)


def record(path, operation="read", caller=None, response=None, type="response", **fields):  # noqa: A002
    request = {"id": "0" * 8 + "-1111-2222-3333-444444444444", "operation": operation, "path": path}
    caller = caller or {}
    if caller.get("accessor"):
        request["client_token_accessor"] = caller["accessor"]
    more = {"response": response or {}} if type == "response" else {}
    told = {"time": "2026-10-05T08:00:01.5Z", "type": type, "auth": caller, "request": request}
    request |= fields.pop("request", {})
    return told | more | fields


def told(*records, **context):
    return Told("vault_audit", records, **context)


def column(rows, name):
    return [row.get(name) for row in rows]


CALLER = auth("parent", display_name="oidc-dana", entity_id="e-1", policies=["default", "ops"])


def test_a_request_and_its_response_are_two_phases_of_one_call():
    rows = told(
        record("secret/a", caller=CALLER, type="request"), record("secret/a", caller=CALLER)
    ).calls

    assert column(rows, "phase") == ["pre", "post"]
    assert column(rows, "outcome") == ["unknown", "success"]
    assert len(set(column(rows, "call_id"))) == 1
    assert len(set(column(rows, "event_id"))) == 2
    assert len(set(column(rows, "tool_name"))) == 1


def test_the_entity_acts_with_the_accessor_and_its_policies():
    (row,) = told(record("secret/a", caller=CALLER), instance="blue/file").calls

    assert pick(row, "source", "agent_id", "agent_issuer") == (
        "vault.audit:blue/file",
        "e-1",
        "vault:blue/file",
    )
    assert pick(row, *CREDENTIAL) == ("vault:blue/file", "vault_accessor", "parent")
    assert row["presented_scopes"] == ["default", "ops"]


def test_who_has_no_entity_is_called_by_the_display_name_or_not_at_all():
    rows = told(
        record("secret/a", caller=auth("a", display_name="root")), record("sys/seal-status")
    ).calls

    assert column(rows, "agent_id") == ["root", "unknown"]
    assert column(rows, "actor_id") == ["root", None]


def test_a_batch_token_is_nobody_s_twin():
    batch = {"token_type": "batch", "display_name": "approle", "client_token": "hvb.do-not-store"}

    found = told(
        record("auth/approle/login", "update", batch, {"auth": batch | {"token_ttl": 60}}),
        record("auth/token/create", "update", CALLER, {"auth": batch}, request={"id": "two"}),
        record("secret/a", caller=batch, request={"id": "three"}),
        record("secret/b", caller=batch, request={"id": "four"}),
    )

    assert column(found.calls, "credential_id") == [None, "parent", None, None]
    first, second = found.tokens
    assert first["credential_id"] != second["credential_id"]
    assert (first["credential_kind"], "parents" in first) == ("local", False)
    assert second["parents"][0]["id"] == "parent"
    assert "do-not-store" not in str(found.rows)


def test_a_token_made_with_a_token_descends_from_it():
    child = made("child", ["default", "read"], display_name="token-worker", num_uses=3)

    (row,) = told(record("auth/token/create/worker", "update", CALLER, {"auth": child})).tokens

    assert pick(row, "op", "grant_type", *CREDENTIAL) == (
        "issue",
        "token_create",
        "vault",
        "vault_accessor",
        "child",
    )
    assert row["parents"] == [
        {"role": "source", "issuer": "vault", "kind": "vault_accessor", "id": "parent"}
    ]
    assert pick(row, "scopes", "scope_dialect") == (["default", "read"], "policy")
    assert row["expires_at"] == datetime(2026, 10, 5, 8, 10, tzinfo=UTC)
    assert row["credential_aliases"] == [
        {"issuer": "vault", "kind": "local", "id": "hmac-sha256:token-child"}
    ]
    assert row["ext"]["num_uses"] == "3"
    # Whoever makes a token chooses its metadata.
    assert "subject_id" not in row


def test_a_raw_token_has_no_digest_either():
    raw = made("child") | {"client_token": "hvs.do-not-store"}

    (row,) = told(record("auth/token/create", "update", CALLER, {"auth": raw})).tokens

    assert "credential_aliases" not in row
    assert "do-not-store" not in str(row)


LOGINS = [
    ("auth/userpass/login/dana", {"username": "dana"}, "userpass", "password", "dana", "unknown"),
    ("auth/oidc/oidc/callback", {"role": "x"}, "oidc", "authorization_code", "eve", "unknown"),
    ("auth/jwt/login", {"role": "x", "sub": "repo:a/b"}, "jwt", "jwt", "repo:a/b", "unknown"),
    (
        "auth/kubernetes/login",
        {"service_account_name": "cart", "service_account_namespace": "shop"},
        "kubernetes",
        "kubernetes",
        "system:serviceaccount:shop:cart",
        "service_account",
    ),
    ("auth/approle/login", {"role_name": "ci"}, "approle", "client_credentials", "ci", "client"),
    (
        "auth/aws/login",
        {"canonical_arn": "arn:aws:iam::1:role/R"},
        "aws",
        "aws",
        "arn:aws:iam::1:role/R",
        "workload",
    ),
    ("auth/team/jwt/login", {}, "jwt", "jwt", "eve", "unknown"),
]


def login(path, metadata, method, token=None):
    mount = "auth/team/jwt/" if "team" in path else "/".join(path.split("/")[:2]) + "/"
    prefix = mount.removeprefix("auth/").replace("/", "-")
    name = f"{prefix}eve"
    token = token or made("new", display_name=name, metadata=metadata, entity_id="e-2")
    return record(
        path, "update", token, {"auth": token}, request={"mount_type": method, "mount_point": mount}
    )


def test_a_login_has_no_parent_and_names_whom_the_method_let_in():
    found = told(*(login(*case[:3]) for case in LOGINS))

    assert [pick(row, "grant_type", "subject_id", "subject_kind") for row in found.tokens] == [
        case[3:] for case in LOGINS
    ]
    assert not any("parents" in row for row in found.tokens)
    # The call was not made with the token that it gave.
    assert {row.get("credential_id") for row in found.calls} == {None}
    assert {row["tool_name"] for row in found.calls} == {"vault login"}


def test_a_token_that_was_still_about_is_no_parent_of_a_login():
    sent = record(
        "auth/userpass/login/dana",
        "update",
        made("new"),
        {"auth": made("new")},
        request={"client_token_accessor": "old"},
    )

    found = told(sent)

    assert "credential_id" not in found.calls[0]
    assert "parents" not in found.tokens[0]


def test_a_name_that_only_a_mount_knows_has_the_mount_as_its_issuer():
    rows = told(*(login(*case[:3]) for case in LOGINS[:2]), instance="blue").tokens

    assert column(rows, "subject_issuer") == ["vault:blue/auth/userpass", None]


def test_renewals_move_the_end_of_the_same_token():
    own = made("parent")
    other = made("child")

    rows = told(
        record("auth/token/renew-self", "update", own, {"auth": own}),
        record("auth/token/renew", "update", CALLER, {"auth": other}),
        record("auth/token/renew-accessor", "update", CALLER, {"auth": other}),
    ).tokens

    assert column(rows, "op") == ["refresh"] * 3
    assert column(rows, "credential_id") == ["parent", "child", "child"]
    assert column(rows, "parents") == [None] * 3
    assert rows[0]["expires_at"] == datetime(2026, 10, 5, 8, 10, 1, 500_000, tzinfo=UTC)


def test_a_look_at_oneself_tells_the_age_and_the_hash_of_a_token_made_before_the_log():
    (row,) = told(record("auth/token/lookup-self", "read", made("old", ["ops"]))).tokens

    assert pick(row, "op", "credential_id", "scopes") == ("introspect", "old", ["ops"])
    assert row["issued_at"] == datetime(2026, 10, 5, 8, tzinfo=UTC)
    assert row["credential_aliases"][0]["id"] == "hmac-sha256:token-old"


def test_revocations_name_the_token_and_what_goes_with_it():
    rows = told(
        record("auth/token/revoke-self", "update", CALLER),
        record(
            "auth/token/revoke-accessor", "update", CALLER, request={"data": {"accessor": "child"}}
        ),
        record("auth/token/revoke", "update", CALLER, request={"data": {"token": "hmac-sha256:t"}}),
        record("auth/token/revoke-orphan", "update", CALLER, request={"data": {"token": "hmac-x"}}),
    ).tokens

    assert [
        pick(row, "op", "credential_kind", "credential_id", "revoke_cascade") for row in rows
    ] == [
        ("revoke", "vault_accessor", "parent", True),
        ("revoke", "vault_accessor", "child", True),
        ("revoke", "local", "hmac-sha256:t", True),
        ("revoke", "local", "hmac-x", None),
    ]


def test_what_did_not_happen_or_names_nobody_revokes_nothing():
    data = {"data": {"token": "hvs.do-not-store"}}

    found = told(
        record("auth/token/revoke", "update", CALLER, request=data),
        record("auth/token/revoke-self", "update", CALLER, error="permission denied"),
        record("auth/token/revoke-self", "update", CALLER, type="request"),
        record("auth/token/revoke-accessor", "update", CALLER),
    )

    assert found.tokens == []
    assert len(found.calls) == 4
    assert "do-not-store" not in str(found.rows)


def test_a_wrapped_token_is_known_before_it_is_unwrapped():
    wrap = {"accessor": "paper", "ttl": 60, "creation_time": MADE, "wrapped_accessor": "gift"}

    rows = told(
        record("auth/token/create", "update", CALLER, {"wrap_info": wrap}),
        record(
            "secret/data/a", caller=CALLER, response={"wrap_info": wrap | {"wrapped_accessor": ""}}
        ),
        record("auth/approle/login", "update", auth("gift"), {"wrap_info": wrap}),
    ).tokens

    assert [pick(row, "credential_id", "token_type") for row in rows] == [
        ("paper", "wrapping"),
        ("gift", None),
        ("paper", "wrapping"),
        ("paper", "wrapping"),
        ("gift", None),
    ]
    assert [bool(row.get("parents")) for row in rows] == [True, True, True, False, False]
    assert rows[0]["expires_at"] == datetime(2026, 10, 5, 8, 1, tzinfo=UTC)
    assert column(rows, "scope_known") == [False] * 5


def test_only_a_root_token_without_ttl_never_expires():
    def token(policies, **fields):
        return auth("t", policies=policies) | {"token_issue_time": MADE} | fields

    rows = told(
        *(
            record("auth/token/create", "update", CALLER, {"auth": token(policies, **fields)})
            for policies, fields in (
                (["root"], {}),
                (["root"], {"token_ttl": 60}),
                (["ops"], {}),
                (["root"], {"token_issue_time": None}),
            )
        )
    ).tokens

    assert column(rows, "never_expires") == [True, None, None, None]


KV = {"mount_type": "kv", "mount_point": "kv/"}
SECRETS = [
    ("kv/data/app/db", "read", {}, {"data": {"metadata": {"version": 3}}}, ("read", "3")),
    ("kv/data/app/db", "create", {}, {"data": {"version": 1}}, ("create", "1")),
    ("kv/data/app/db", "update", {}, {"data": {"version": 1}}, ("create", "1")),
    ("kv/data/app/db", "update", {}, {"data": {"version": 4}}, ("rotate", "4")),
    ("kv/data/app/db", "delete", {}, {}, ("delete", None)),
    ("kv/metadata/app/db", "delete", {}, {}, ("delete", None)),
    ("kv/destroy/app/db", "update", {"data": {"versions": [2]}}, {}, ("delete", "2")),
    ("kv/app/db", "read", {}, {"data": {"version": "do-not-store"}}, ("read", None)),
    ("kv/app/db", "update", {}, {}, ("rotate", None)),
]


def test_key_value_secrets_are_one_secret_under_all_their_paths():
    rows = told(
        *(
            record(path, verb, CALLER, answer, request=KV | asked)
            for path, verb, asked, answer, _ in SECRETS
        )
    ).secrets

    assert [pick(row, "op", "secret_version") for row in rows] == [case[4] for case in SECRETS]
    assert set(column(rows, "secret_id")) == {"kv/app/db"}
    assert set(column(rows, "accessed_by_id")) == {"e-1"}
    assert "do-not-store" not in str(rows)


def test_versions_that_are_destroyed_together_are_told_one_by_one():
    asked = KV | {"data": {"versions": [1, 2]}}

    rows = told(record("kv/destroy/app/db", "update", CALLER, request=asked)).secrets

    assert column(rows, "secret_version") == ["1", "2"]


def test_what_reads_no_secret_is_a_call_and_nothing_more():
    cases = [
        ("kv/data/app/none", "read", {}),
        ("kv/metadata/app/db", "read", {"data": {"x": 1}}),
        ("kv/metadata/app/", "list", {"data": {"keys": 2}}),
        ("kv/config", "read", {"data": {}}),
        ("kv/undelete/app/db", "update", {}),
    ]

    found = told(*(record(path, verb, CALLER, answer, request=KV) for path, verb, answer in cases))

    assert found.secrets == []
    assert len(found.calls) == len(cases)


def test_a_lease_is_made_renewed_and_revoked_under_its_id():
    lease = {"secret": {"lease_id": "database/creds/app/x1"}}

    found = told(
        record("database/creds/app", caller=CALLER, response=lease),
        record("sys/leases/renew", "update", CALLER, lease),
        record(
            "sys/leases/revoke",
            "update",
            CALLER,
            request={"data": {"lease_id": "database/creds/app/x1"}},
        ),
        record("sys/leases/revoke/database/creds/app/x1", "update", CALLER),
        # The device hashed it: nobody can tell which lease that was.
        record(
            "sys/leases/revoke", "update", CALLER, request={"data": {"lease_id": "hmac-sha256:x"}}
        ),
        record("sys/leases/revoke-prefix/database", "update", CALLER),
    )

    assert column(found.secrets, "op") == ["create", "renew", "revoke", "revoke"]
    assert {pick(row, "secret_id", "secret_kind") for row in found.secrets} == {
        ("database/creds/app/x1", "vault_lease")
    }
    assert found.secrets[0]["bound_identity_id"] == "e-1"


def test_namespaces_and_instances_keep_equal_paths_apart():
    asked = KV | {"namespace": {"id": "x", "path": "team-a/"}}

    found = told(
        record("kv/a", caller=CALLER, response={"data": {}}, request=asked), instance="blue"
    )

    assert found.secrets[0]["secret_id"] == "blue/team-a/kv/a"
    assert found.calls[0]["resource"] == "team-a/kv/a"


ERRORS = [
    ("1 error occurred:\n\t* permission denied\n\n", "denied"),
    ("invalid username or password", "denied"),
    ("no handler for route do-not-store", "failure"),
    ("", "success"),
]


def test_an_error_tells_the_outcome_and_is_not_kept():
    found = told(*(record("kv/a", caller=CALLER, error=text) for text, _ in ERRORS))

    assert column(found.calls, "outcome") == [outcome for _, outcome in ERRORS]
    assert "do-not-store" not in str(found.rows)


def test_the_decision_is_that_of_the_policies():
    def said(allowed, *names):
        policies = [{"name": name, "type": "acl"} for name in names]
        return CALLER | {"policy_results": {"allowed": allowed, "granting_policies": policies}}

    rows = told(
        record("kv/a", caller=said(True, "", "ops", "read")),
        record("kv/a", caller=said(False)),
        record("kv/a", caller=CALLER),
    ).calls

    assert [pick(row, "decision_effect", "decision_policy") for row in rows] == [
        ("allow", "ops read"),
        ("deny", None),
        (None, None),
    ]


ACTIONS = [
    ("sys/policies/acl/x", "update", None, "admin_iam"),
    ("sys/policies/acl/x", "read", None, "read"),
    ("sys/audit/file", "delete", None, "admin_iam"),
    ("identity/entity", "update", None, "admin_iam"),
    ("auth/approle/role/ci", "update", None, "admin_iam"),
    ("auth/token/roles/x", "update", None, "admin_iam"),
    ("auth/token/create", "update", None, "execute"),
    ("auth/token/lookup-accessor", "update", None, "read"),
    ("kv/data/a", "read", "kv", "secret_read"),
    ("kv/metadata/a", "read", "kv", "read"),
    ("database/creds/app", "read", "database", "secret_read"),
    ("sys/wrapping/unwrap", "update", None, "secret_read"),
    ("transit/sign/key", "update", "transit", "execute"),
    ("kv/destroy/a", "update", "kv", "delete"),
    ("kv/data/a", "delete", "kv", "delete"),
    ("kv/data/a", "patch", "kv", "write"),
    ("kv/metadata/", "list", "kv", "read"),
]


def test_an_action_is_classed_by_path_and_operation():
    rows = told(
        *(
            record(path, verb, CALLER, request={"mount_type": engine})
            for path, verb, engine, _ in ACTIONS
        )
    ).calls

    assert column(rows, "action_class") == [action for *_, action in ACTIONS]


def test_a_token_in_an_old_client_s_path_is_cut_off():
    (row,) = told(record("auth/token/lookup/hvs.do-not-store", caller=CALLER)).calls

    assert row["resource"] == "auth/token/lookup/*"
    assert "do-not-store" not in str(row)


def test_what_cannot_be_told_is_refused_by_the_name_of_its_field():
    private = {"data": {"password": "do-not-store"}, "client_token": "do-not-store"}

    found = told(
        record("kv/a", request=private, time="yesterday"),
        record("kv/a", request=private | {"id": ""}),
        record("", request=private),
        record("kv/a", request=private, type="other"),
    )

    assert found.reasons == [
        "time is missing or no time",
        "request.id is missing",
        "request.path is missing",
        "type is neither request nor response",
    ]
    assert not any(b"do-not-store" in refusal.raw for refusal in found.refusals)


def test_the_test_record_of_a_new_device_is_counted_and_no_event():
    found = told(record("sys/audit/test", "update", type="request"))

    assert (found.calls, found.reasons) == ([], [])
    assert found.skipped == {"the test record of a new audit device": 1}


def test_a_request_for_help_has_no_id_and_is_counted():
    asked = {"operation": "help", "path": "pki/roles/web"}
    entry = {"time": MADE, "type": "request", "auth": CALLER, "request": asked}
    found = told(entry)

    assert (found.calls, found.reasons) == ([], [])
    assert found.skipped == {"a request for the help on a path": 1}
    assert recognises(entry)


@pytest.mark.parametrize(
    ("path", "target"),
    [
        ("sys/policies/acl/ops", "e-1"),
        ("sys/policy/ops", "e-1"),
        ("sys/policies/acl/other", None),
        ("secret/data/ops", None),
    ],
)
def test_whoever_writes_a_policy_of_his_own_is_its_target(path, target):
    [call] = told(record(path, "update", CALLER)).calls

    assert call["ext"].get("target_id") == target


def test_prefixes_of_the_device_and_of_syslog_are_cut_off():
    line = json.dumps(record("kv/a", caller=CALLER)).encode()

    found = told(line, b"@cee: " + line, b"<38>Nov 13 23:47:09 host vault[966]: " + line, b"tail")

    assert len(found.calls) == 3
    assert len(found.reasons) == 1


def test_odd_values_cost_a_field_and_never_the_record():
    odd = [
        {"auth": "root"},
        {"auth": {"accessor": 7, "policies": "ops", "policy_results": []}},
        {"auth": {"metadata": [1], "token_ttl": 10**30, "policies": [None, {}]}},
        {"response": []},
        {"response": {"auth": {"accessor": ["x"]}, "secret": "x", "wrap_info": {"ttl": "x"}}},
        {"response": {"data": {"metadata": {"version": {"a": 1}}}}},
        {"error": {"a": 1}},
    ]

    found = told(*(record("kv/a", caller=CALLER) | fields for fields in odd))

    assert len(found.calls) == len(odd)
    assert found.reasons == []


@pytest.mark.parametrize(
    ("thing", "is_ours"),
    [
        (record("kv/a"), True),
        (record("kv/a", type="request"), True),
        (record("kv/a") | {"type": "notice"}, False),
        ({"type": "request", "request": {"id": 1}}, False),
        ({"type": "response", "request": "GET /"}, False),
        ([], False),
        (None, False),
        (b"@cee: " + json.dumps(record("kv/a")).encode(), True),
        (b'@cee: {"request": ', False),
        (b"\x00", False),
    ],
)
def test_it_is_recognised_by_its_type_and_its_request(thing, is_ours):
    assert recognises(thing) is is_ours


@pytest.fixture(scope="module")
def con(tmp_path_factory):
    """A person signs in, and makes a token, from it another, and an orphan; then it is over."""
    folder = tmp_path_factory.mktemp("vault")
    person = made("person", ["ops", "default"], entity_id="e-1", metadata={"username": "dana"})
    child, grandchild, orphan = (made(name, ["ops"], entity_id="e-1") for name in ("c", "g", "o"))

    def at(minute, told):
        told["request"]["id"] += f"-{minute}"
        return told | {"time": f"2026-10-05T08:{minute:02}:00Z"}

    create = "auth/token/create"
    lines = [
        at(0, login("auth/userpass/login/dana", {"username": "dana"}, "userpass", person)),
        at(1, record(create, "update", person, {"auth": child})),
        at(2, record(create, "update", child, {"auth": grandchild})),
        at(3, record("auth/token/create-orphan", "update", person, {"auth": orphan})),
        at(4, record("kv/a", caller=grandchild, type="request")),
        at(4, record("kv/a", caller=grandchild)),
        at(5, record("auth/token/revoke-self", "update", person)),
        at(6, record("kv/a", caller=orphan)),
    ]
    path = folder / "audit.log"
    path.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    lake = open_lake(str(folder / "lake"), create=True)
    ingest_files([path], adapter="vault_audit", sink=lake, now=NOW)
    build_chains(lake, load_registry(None), NOW)
    return lake.connect()


def test_a_request_and_its_response_are_one_call_of_the_person_at_the_root(con):
    found = con.execute(
        "SELECT observations, outcome, root_principal, status, links FROM calls"
        " WHERE resource = 'kv/a' ORDER BY event_time"
    ).fetchall()

    assert found == [(2, "success", "dana", "complete", 2), (1, "success", "dana", "complete", 1)]


def test_children_die_with_the_parent_and_orphans_do_not(con):
    dead = con.execute("SELECT id FROM credentials WHERE revoked_at IS NOT NULL ORDER BY id")

    assert dead.fetchall() == [("c",), ("g",), ("person",)]


def test_a_lifetime_beyond_all_times_and_a_token_in_the_path_do_no_harm():
    wrapped = {"wrap_info": {"accessor": "w", "ttl": 2**63 - 1, "creation_time": MADE}}
    path = "auth/token/lookup/8f0c1a52-0d7e-4c1b-9f0a-6d1f3b1f0b11"

    found = told(record(path, "read", CALLER, wrapped))

    assert not found.refusals
    (row,) = found.tokens
    assert row.get("expires_at") is None
    assert "8f0c1a52" not in str(row) + str(found.calls)

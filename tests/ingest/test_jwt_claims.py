"""What one line of a token server's log becomes."""

import base64
import hashlib
import json
from datetime import UTC, datetime, timedelta

import pytest

from pipeline.ingest.claims import moment_us
from pipeline.ingest.raw_token import jwk_thumbprint
from pipeline.ingest.sources import Context, load_adapter

SOURCE = load_adapter("jwt_claims")
AS = "https://as.test"
IAT = 1767225600
TIME = "2026-01-01T00:00:00Z"
EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
CLAIMS = {
    "iss": AS,
    "sub": "ann",
    "aud": "https://crm.test",
    "exp": IAT + 3600,
    "iat": IAT,
    "jti": "t-1",
    "client_id": "web",
    "scope": "crm.read crm.write",
}


def claims(**over):
    found = CLAIMS | over
    return {name: value for name, value in found.items() if value is not None}


def adapt(*records, context=None):
    values = [json.dumps(record).encode() for record in records]
    return SOURCE.adapt(values, context or Context())


def rows(record, context=None):
    adapted = adapt(record, context=context)
    assert not adapted.refusals, adapted.refusals
    batch = adapted.batches[0]
    return [
        row | {"parse_status": status, "event_uid": uid}
        for row, status, uid in zip(
            batch.batch.to_pylist(maps_as_pydicts="strict"),
            batch.parse_status.to_pylist(),
            batch.event_uids.to_pylist(),
            strict=True,
        )
    ]


def row(record, context=None):
    (found,) = rows(record, context)
    return found


def line(**over):
    return {"time": TIME, "event": "token.issued", "claims": CLAIMS} | over


def jwt(payload, typ="at+jwt"):
    header = {"alg": "ES256", "typ": typ, "kid": "k1"}
    parts = [base64.urlsafe_b64encode(json.dumps(part).encode()) for part in (header, payload)]
    return ".".join(part.rstrip(b"=").decode() for part in parts) + ".do-not-store"


def key_of(found):
    return tuple(found[f"credential_{name}"] for name in ("issuer", "kind", "id"))


def actors(found):
    return [actor["subject"] for actor in found["act_chain"]]


class TestClaims:
    def test_claims_alone_are_an_issuance_at_iat(self):
        found = row(CLAIMS)

        assert (found["op"], found["outcome"]) == ("issue", "success")
        assert found["event_time"] == found["issued_at"] == datetime(2026, 1, 1, tzinfo=UTC)
        assert found["expires_at"] == datetime(2026, 1, 1, 1, tzinfo=UTC)
        assert key_of(found) == (AS, "jti", "t-1")
        assert (found["subject_id"], found["subject_issuer"]) == ("ann", AS)
        assert (found["actor_id"], found["actor_convention"]) == ("web", "client_id")
        assert found["scopes"] == ["crm.read", "crm.write"]
        assert found["audience"] == ["https://crm.test"]

    def test_an_actor_in_the_claims_makes_it_an_exchange_by_that_actor(self):
        act = {"iss": AS, "sub": "mailer", "act": {"sub": "planner"}}

        found = row(claims(act=act))

        assert found["op"] == "exchange"
        assert (found["actor_id"], found["actor_issuer"]) == ("mailer", AS)
        assert (found["actor_convention"], found["client_id"]) == ("act", "web")
        assert actors(found) == ["mailer", "planner"]

    def test_an_unreadable_actor_is_asserted_and_nobody(self):
        found = row(claims(act="mailer"))

        assert (found["actor_id"], found["actor_convention"]) == (None, "act")
        assert found["act_malformed_reason"] == "act_not_object"
        assert found["parse_status"] == "partial"

    def test_a_client_s_own_token_has_no_actor_beside_it(self):
        found = row(claims(sub="web"))

        assert (found["subject_kind"], found["actor_id"]) == ("client", None)

    @pytest.mark.parametrize("name", ["client_id", "azp", "cid", "appid"])
    def test_the_client_has_many_names(self, name):
        found = row(
            {key: value for key, value in CLAIMS.items() if key != "client_id"} | {name: "x"}
        )

        assert found["client_id"] == "x"

    @pytest.mark.parametrize(
        ("over", "scopes", "known"),
        [
            ({"scope": "a b  a"}, ["a", "b"], True),
            ({"scope": None, "scp": ["a", "b"]}, ["a", "b"], True),
            ({"scope": None, "scp": "a b"}, ["a", "b"], True),
            ({"scope": "a", "scp": "b"}, ["a"], True),
            ({"scope": ""}, [], True),
            ({"scope": None}, [], False),
            ({"scope": 7}, [], False),
            ({"scope": None, "roles": ["r"]}, [], False),
        ],
    )
    def test_unknown_scopes_are_not_empty_scopes(self, over, scopes, known):
        found = row(claims(**over))

        assert (found["scopes"], found["scope_known"]) == (scopes, known)

    def test_rich_authorization_is_told_by_type_and_only_delegated_scopes_are_scopes(self):
        details = [{"type": "agent_delegation", "scopes": ["crm.*"], "secret": "do-not-store"}]

        found = row(claims(scope=None, authorization_details=[*details, {"type": "payment"}]))
        beside = row(claims(authorization_details=details))

        assert (found["scopes"], found["scope_dialect"]) == (["crm.*"], "dot")
        assert found["ext"]["authorization_details_types"] == "agent_delegation payment"
        assert beside["scopes"] == ["crm.read", "crm.write"]

    @pytest.mark.parametrize(
        ("cnf", "thumbprint"),
        [
            ({"jkt": "J"}, "J"),
            ({"x5t#S256": "X"}, "X"),
            ({"kid": "k"}, None),
            ("J", None),
            ({"jwk": {"kty": "oct", "k": "do-not-store"}}, None),
        ],
    )
    def test_the_key_is_known_by_its_thumbprint(self, cnf, thumbprint):
        assert row(claims(cnf=cnf))["cnf_thumbprint"] == thumbprint

    def test_a_whole_key_is_reduced_to_the_thumbprint_of_rfc_7638(self):
        # The example of RFC 7638 section 3.1.
        modulus = (
            "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc"
            "_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQ"
            "R0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bF"
            "TWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw"
        )
        key = {"kty": "RSA", "n": modulus, "e": "AQAB", "alg": "RS256", "kid": "2011-04-29"}

        assert jwk_thumbprint(key) == "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"

    def test_without_an_end_nothing_says_that_it_never_ends(self):
        for found in (row(claims(exp=None)), row(claims(exp=0))):
            assert found["expires_at"] is None
            assert not found["never_expires"]
            assert found["parse_status"] == "ok"

    def test_a_time_that_is_none_is_unknown_and_the_row_partial(self):
        found = row(claims(exp="tomorrow", nbf={"a": 1}))

        assert (found["expires_at"], found["not_before"]) == (None, None)
        assert found["parse_status"] == "partial"

    def test_an_entra_token_is_known_by_uti_in_its_tenant_and_its_agent_user_is_no_person(self):
        token = {
            "iss": "https://sts.windows.net/t-9/",
            "sub": "pairwise",
            "oid": "o-1",
            "tid": "t-9",
            "uti": "U",
            "appid": "app-1",
            "idtyp": "user",
            "xms_sub_fct": "9 13",
            "roles": ["Files.Read.All"],
            "iat": IAT,
        }

        found = row(token)

        assert key_of(found) == ("entra:t-9", "uti", "U")
        assert (found["subject_id"], found["subject_kind"]) == ("o-1", "agent_user")
        assert found["actor_id"] == "app-1"
        assert found["scopes"] == ["Files.Read.All"]
        newer = token | {"iss": "https://login.microsoftonline.com/t-9/v2.0"}
        assert key_of(row(newer)) == key_of(found)
        assert found["credential_aliases"] == [{"issuer": token["iss"], "kind": "uti", "id": "U"}]
        assert (
            row(token | {"idtyp": "app", "xms_sub_fct": None})["subject_kind"] == "service_account"
        )

    @pytest.mark.parametrize(
        ("over", "kind"),
        [
            ({"sub": "spiffe://x/y"}, "workload"),
            ({"sub": "system:serviceaccount:ns:sa"}, "service_account"),
            ({"xms_sub_fct": ["11"]}, "agent"),
            ({"sub": "ann"}, None),
        ],
    )
    def test_the_subject_s_kind_is_told_only_where_the_claims_tell_it(self, over, kind):
        assert row(claims(**over))["subject_kind"] == kind

    def test_names_and_ids_may_be_numbers(self):
        found = row(claims(sub=42, jti=2**70, client_id=7))

        assert (found["subject_id"], found["client_id"]) == ("42", "7")
        assert key_of(found) == (AS, "jti", str(2**70))

    def test_the_workload_that_asked_for_a_transaction_token_acts_with_it(self):
        found = row(claims(client_id=None, txn="tx-1", req_wl="gateway.test"))

        assert (found["client_id"], found["actor_id"]) == ("gateway.test", "gateway.test")

    def test_okta_s_user_is_known_by_the_id_that_its_log_writes(self):
        token = claims(client_id=None, cid="0oa1", uid="00u1", sub="ann@okta.test")

        assert row(token)["subject_id"] == "00u1"
        assert row(claims(client_id=None, cid="0oa1", sub="0oa1"))["subject_kind"] == "client"
        assert row(claims(uid="1000"))["subject_id"] == "ann"

    @pytest.mark.parametrize(
        "own",
        [
            line(grant_type="client_credentials"),
            line(claims=claims(sub="web@clients")),
            line(claims=claims(gty="client-credentials")),
            line(claims=claims(preferred_username="service-account-web")),
        ],
    )
    def test_a_token_of_a_client_s_own_is_known_by_whatever_tells_it(self, own):
        assert row(own)["subject_kind"] == "client"

    def test_another_name_of_the_client_is_no_actor_beside_it(self):
        found = row(claims(sub="web@clients"))

        assert (found["actor_id"], found["actor_convention"]) == (None, None)

    def test_an_actor_may_be_named_by_its_client_alone(self):
        found = row(
            claims(act={"client_id": "api", "act": {"sub": "b"}}, may_act={"client_id": "c"})
        )

        assert (actors(found), found["actor_id"]) == (["api", "b"], "api")
        assert (found["act_malformed_reason"], found["parse_status"]) == (None, "ok")
        assert found["may_act"] == [{"issuer": None, "subject": "c"}]

    def test_other_claims_of_a_person_are_not_kept(self):
        found = row(
            claims(name="do-not-store", email="do-not-store", act={"sub": "a", "n": "do-not-store"})
        )

        assert "do-not-store" not in str(found)


class TestIds:
    def test_claims_without_an_id_are_their_own_id_wherever_they_are_told(self):
        bare = claims(jti=None)
        shown = line(claims=claims(jti="t-2"), subject_token_claims=bare)

        issued, (exchanged, seen) = row(bare), rows(shown)

        assert key_of(issued)[1] == "local"
        assert exchanged["parents"] == [
            {"role": "subject", "issuer": AS, "kind": "local", "id": issued["credential_id"]}
        ]
        assert key_of(seen) == key_of(issued)

    def test_claims_without_id_and_time_are_another_token_in_each_line(self):
        bare = {"iss": AS, "sub": "ann"}

        one, two = row(line(claims=bare)), row(line(claims=bare, event_id="e-2"))

        assert one["credential_kind"] == two["credential_kind"] == "local"
        assert one["credential_id"] != two["credential_id"]

    def test_a_raw_token_is_read_for_its_claims_and_leaves_only_digests(self):
        raw = jwt(CLAIMS)
        found = row({"time": TIME, "access_token": f"Bearer {raw}"})

        whole = hashlib.sha256(raw.encode())
        signed = hashlib.sha256(raw.rpartition(".")[0].encode()).digest()
        assert key_of(found) == (AS, "jti", "t-1")
        assert [(one["kind"], one["id"]) for one in found["credential_aliases"]] == [
            ("token_sha256", whole.hexdigest()),
            ("ath", base64.urlsafe_b64encode(whole.digest()).rstrip(b"=").decode()),
            ("par_hash", base64.urlsafe_b64encode(signed).rstrip(b"=").decode()),
        ]
        assert found["token_type"] == "urn:ietf:params:oauth:token-type:access_token"
        assert "do-not-store" not in str(found)
        assert raw[:40] not in str(found)

    def test_an_opaque_token_is_known_by_its_digest(self):
        found = row({"time": TIME, "event": "token.revoked", "token": "do-not-store-opaque"})

        assert found["credential_kind"] == "token_sha256"
        assert (found["op"], found["revoke_target"]) == ("revoke", "token")
        assert "do-not-store" not in str(found)

    def test_a_token_short_enough_to_be_guessed_leaves_no_digest(self):
        (refusal,) = adapt({"time": TIME, "event": "token.revoked", "token": "1234"}).refusals

        assert refusal.reason == "holds no claims and no token"
        assert b"1234" not in refusal.raw

    def test_the_instance_is_the_issuer_of_claims_that_name_none(self):
        found = row(line(claims=claims(iss=None)), Context(instance="https://sso.test"))

        assert key_of(found)[0] == "https://sso.test"
        assert found["subject_issuer"] is None
        assert found["source"] == "oauth.claims:https://sso.test"

    def test_two_ids_of_one_token_are_aliases(self):
        found = row(claims(uti="U"))

        assert key_of(found)[1:] == ("uti", "U")
        assert found["credential_aliases"] == [{"issuer": AS, "kind": "jti", "id": "t-1"}]


class TestLines:
    def test_an_exchange_names_its_parent_and_tells_the_token_that_was_presented(self):
        shown = claims(jti="t-0", client_id="portal", scope="crm.read crm.write mail")
        record = line(
            event="token.exchanged",
            event_id="e-1",
            grant_type=EXCHANGE,
            request={"subject_token": jwt(shown), "scope": "crm.read"},
            claims=claims(act={"sub": "agent"}, scope="crm.read"),
        )

        made, seen = rows(record)

        assert (made["op"], made["grant_type"]) == ("exchange", EXCHANGE)
        assert made["parents"] == [{"role": "subject", "issuer": AS, "kind": "jti", "id": "t-0"}]
        assert made["requested_scopes"] == ["crm.read"]
        assert (seen["op"], key_of(seen)) == ("introspect", (AS, "jti", "t-0"))
        assert seen["scopes"] == ["crm.read", "crm.write", "mail"]
        assert (made["event_id"], seen["event_id"]) == ("e-1", "e-1/subject")

    @pytest.mark.parametrize(
        ("member", "role"),
        [
            ("subject_token_jti", "subject"),
            ("subject_token.jti", "subject"),
            ("subject_jti", "subject"),
            ("actor_token_jti", "actor"),
            ("assertion_jti", "assertion"),
            ("parent_jti", "source"),
            ("parentJti", "source"),
            ("parent_token_id", "source"),
        ],
    )
    def test_a_parent_may_be_named_by_its_id_alone(self, member, role):
        found = row(line(**{member: "t-0"}))

        assert found["parents"] == [{"role": role, "issuer": AS, "kind": "jti", "id": "t-0"}]

    @pytest.mark.parametrize("member", ["subject_id", "actor_id", "parent_id", "subject"])
    def test_the_name_of_a_person_or_agent_is_no_token(self, member):
        assert row(line(**{member: "ann"}))["parents"] == []

    def test_parents_in_the_claims_themselves_are_read_and_no_token_is_its_own_parent(self):
        found = row(claims(parent_jti="t-0", par_hash="PH"))

        assert [(one["kind"], one["id"]) for one in found["parents"]] == [
            ("jti", "t-0"),
            ("par_hash", "PH"),
        ]
        assert row(claims(parent_jti="t-1"))["parents"] == []

    def test_a_refused_exchange_is_a_failure_of_who_asked_for_whom(self):
        record = {
            "ts": IAT,
            "grant_type": EXCHANGE,
            "client_id": "agent",
            "error": "invalid_scope",
            "error_description": "do-not-store",
            "scope": "admin",
            "subject_token_claims": CLAIMS,
        }

        refused = row(record)

        assert (refused["op"], refused["outcome"]) == ("exchange", "failure")
        assert refused["error"] == "invalid_scope"
        assert refused["credential_id"] is None
        assert (refused["subject_id"], refused["actor_id"]) == ("ann", "agent")
        assert refused["requested_scopes"] == ["admin"]
        assert refused["parents"][0]["id"] == "t-1"
        assert refused["source"] == f"oauth.claims:{AS}"

    @pytest.mark.parametrize(
        "failed",
        [
            {"error": "invalid_grant"},
            {"outcome": "denied"},
            {"status": "401"},
            {"event": "access.denied"},
        ],
    )
    def test_a_token_presented_in_vain_may_be_forged_and_is_not_vouched_for(self, failed):
        record = {"time": TIME, "grant_type": EXCHANGE, "subject_token_claims": CLAIMS}

        made = rows(line(subject_token_claims=claims(jti="t-0")))
        refused = rows(record | failed)

        assert [one["outcome"] for one in made] == ["success", "success"]
        assert [one["outcome"] for one in refused] == ["failure"]

    @pytest.mark.parametrize(
        ("record", "op"),
        [
            (line(event="token.introspected"), "introspect"),
            (line(event="refresh_token.reuse_detected"), "reuse_detected"),
            (line(event="access.denied"), "deny"),
            (line(event="token.validated"), "use"),
            (line(event="token_used"), "use"),
            (line(event="api_user_login"), "issue"),
            (line(event="code_exchanged"), "issue"),
            (line(event="token.exchanged"), "exchange"),
            (line(event="token_exchange", grant_type="authorization_code"), "issue"),
            (line(event="x", grant_type="refresh_token"), "refresh"),
            (line(event="token_refreshed"), "refresh"),
            (line(event="refresh_token_issued"), "issue"),
            (line(event="x", grantType="client_credentials"), "issue"),
            (line(event="x", op="rotate"), "rotate"),
            (line(event="x", subject_token_jti="t-0"), "exchange"),
            (CLAIMS | {"active": True}, "introspect"),
        ],
    )
    def test_what_happened_is_told_by_event_grant_and_signs(self, record, op):
        assert row(record)["op"] == op

    def test_a_resource_server_saw_a_token_used(self):
        assert row(line(event="token.validated"))["observer"] == "resource_server"
        assert row(line())["observer"] == "authz_server"

    @pytest.mark.parametrize(
        ("over", "error"),
        [
            ({"error": "invalid_grant"}, "invalid_grant"),
            ({"error": {"error": "invalid_client"}}, "invalid_client"),
            ({"error": {"odd": 1}}, "unspecified"),
            ({"outcome": "failure"}, "unspecified"),
            ({"status": 400}, "unspecified"),
            ({"success": False}, "unspecified"),
            ({"status": "401"}, "unspecified"),
            ({"status_code": "500"}, "unspecified"),
            ({"outcome": "DENY"}, "unspecified"),
            ({"outcome": "denied"}, "unspecified"),
            ({"result": "unauthorized"}, "unspecified"),
            ({"status": "forbidden"}, "unspecified"),
            ({"result": "invalid"}, "unspecified"),
            ({"result": "rejected"}, "unspecified"),
            ({"status": "200", "status_code": "304"}, None),
            ({"status": 200, "success": True, "error": None, "outcome": "success"}, None),
        ],
    )
    def test_a_failure_is_told_in_many_ways(self, over, error):
        found = row(line(**over))

        assert found["error"] == error
        assert found["outcome"] == ("failure" if error else "success")

    @pytest.mark.parametrize("event", ["refresh_token.reuse_detected", "request.denied"])
    def test_what_the_server_refused_did_not_succeed_though_no_error_is_told(self, event):
        found = row(line(event=event))

        assert (found["outcome"], found["error"]) == ("failure", None)

    def test_an_inactive_token_failed_introspection_and_nothing_more(self):
        asked = {
            "time": TIME,
            "request": {"token": "do-not-store-token"},
            "response": {"active": False},
        }

        found = row(asked)

        assert (found["op"], found["outcome"]) == ("introspect", "failure")
        assert found["error"] == "inactive_token"
        adapted = adapt({"active": False}, {"time": TIME, "response": {"active": False}})
        assert (adapted.batches, adapted.refusals) == ([], [])
        assert adapted.skipped.total() == 2

    @pytest.mark.parametrize(
        "written",
        [
            {"time": TIME},
            {"ts": IAT},
            {"timestamp": IAT * 1000},
            {"@timestamp": "2026-01-01T01:00:00+01:00"},
            {"event_time": IAT * 1_000_000},
            {"time": "2026-01-01 00:00:00"},
            {"details": {"occurred_at": str(IAT)}},
        ],
    )
    def test_the_line_s_own_time_goes_before_iat(self, written):
        record = {"claims": claims(iat=IAT - 60)} | written

        assert row(record)["event_time"] == datetime(2026, 1, 1, tzinfo=UTC)

    def test_a_line_without_time_is_refused_unless_it_is_known_when_it_came(self):
        undated = {"claims": claims(iat=None, exp=None)}

        (refusal,) = adapt(undated).refusals
        came = datetime(2026, 2, 1, tzinfo=UTC)
        one = row(undated, Context(received_at=came))
        two = row(undated, Context(received_at=came + timedelta(days=1)))

        assert refusal.reason == "names no time: neither the line's own nor iat nor nbf"
        assert (one["event_time"], one["ext"]["time_basis"]) == (came, "received")
        assert one["issued_at"] is None
        assert one["event_uid"] == two["event_uid"]

    def test_a_token_that_ended_before_it_came_was_made_before_its_end(self):
        ended = {"claims": claims(iat=None)}

        found = row(ended, Context(received_at=datetime(2026, 2, 1, tzinfo=UTC)))

        assert found["event_time"] == found["expires_at"]
        assert found["ext"]["time_basis"] == "exp"

    def test_scopes_beside_the_claims_are_granted_or_requested_by_their_name(self):
        iam = line(claims=claims(scope=None), scopes=["a", "b"])
        asked = line(scope="crm.read")

        assert (row(iam)["scopes"], row(iam)["scope_known"]) == (["a", "b"], True)
        assert row(asked)["requested_scopes"] == ["crm.read"]

    def test_a_flat_line_mixes_its_own_members_with_the_claims(self):
        flat = CLAIMS | {
            "ts": IAT + 5,
            "event": "token_exchange",
            "subject_token_jti": "t-0",
            "id": 7,
        }

        found = row(flat)

        assert (found["op"], found["parents"][0]["id"]) == ("exchange", "t-0")
        assert found["event_id"] != "7"
        assert found["event_time"] > found["issued_at"]
        assert found["requested_scopes"] == []

    @pytest.mark.parametrize(
        "around",
        [
            {"response": {"access_token": jwt(CLAIMS), "token_type": "Bearer", "scope": "x"}},
            {"response": {"body": {"access_token": jwt(CLAIMS)}}},
            {"jwt": {"header": {"typ": "at+jwt"}, "payload": CLAIMS}},
            {"token": {"raw_token": jwt(CLAIMS), "claims": CLAIMS}},
            {"auth": {"claims": CLAIMS}},
            {"event": {"claims": CLAIMS}},
            {"data": CLAIMS | {"note": "issued"}},
            {"decoded": CLAIMS},
            {"tokenClaims": CLAIMS},
            {"access-token-claims": CLAIMS},
            {"claims": json.dumps(CLAIMS)},
            {"headers": {"authorization": f"Bearer {jwt(CLAIMS)}"}},
            {"subject": claims(jti="t-0"), "issued": CLAIMS},
        ],
    )
    def test_a_token_is_found_wherever_loggers_put_it(self, around):
        record = {"time": TIME} | around

        assert key_of(rows(record)[0]) == (AS, "jti", "t-1")
        assert SOURCE.recognises(record)

    def test_names_are_read_in_any_spelling(self):
        record = {
            "eventTime": TIME,
            "eventType": "token_exchange",
            "grantType": EXCHANGE,
            "clientId": "agent",
            "requestedScopes": ["crm.read"],
            "subjectToken": jwt(claims(jti="t-0")),
            "issued-token-type": "urn:x",
            "accessToken": jwt(claims(client_id=None)),
        }

        made, seen = rows(record)

        assert (made["op"], made["client_id"], made["token_type"]) == ("exchange", "agent", "urn:x")
        assert (made["requested_scopes"], made["parents"][0]["id"]) == (["crm.read"], "t-0")
        assert key_of(seen) == (AS, "jti", "t-0")

    def test_the_answer_to_a_request_tells_an_opaque_token_s_scope_and_end(self):
        answer = {"access_token": "do-not-store-opaque", "expires_in": 60}
        request = {"grant_type": "client_credentials", "client_id": "job", "scope": "a b"}

        found = row({"time": TIME, "issuer": AS, "request": request, "response": answer})

        assert found["credential_kind"] == "token_sha256"
        assert (found["subject_id"], found["subject_kind"]) == ("job", "client")
        # An answer without a scope grants what was asked for.
        assert (found["scopes"], found["scope_known"]) == (["a", "b"], True)
        assert found["expires_at"] - found["event_time"] == timedelta(seconds=60)
        assert "do-not-store" not in str(found)

    def test_a_refresh_leads_back_to_the_refresh_token_that_was_made(self):
        old, new = "do-not-store-refresh-1", "do-not-store-refresh-2"
        first = {"time": TIME, "response": {"access_token": jwt(CLAIMS), "refresh_token": old}}
        again = {
            "time": TIME,
            "request": {"grant_type": "refresh_token", "refresh_token": old},
            "response": {"access_token": jwt(claims(jti="t-2")), "refresh_token": new},
        }

        (_, kept), (access, refresh) = rows(first), rows(again)

        assert kept["token_type"].endswith(":refresh_token")
        assert kept["expires_at"] is None
        shown = {"role": "refresh"} | dict(zip(("issuer", "kind", "id"), key_of(kept), strict=True))
        assert (access["op"], access["parents"]) == ("refresh", [shown])
        assert (refresh["parents"], key_of(refresh)) == ([shown], (AS, *key_of(refresh)[1:]))
        assert key_of(refresh) != key_of(kept)
        assert "do-not-store" not in str((kept, access, refresh))

    def test_a_line_long_after_the_token_was_made_tells_of_its_use(self):
        late = {"time": "2026-01-01T00:10:00Z", "claims": claims(act={"sub": "agent"})}

        assert row(late)["op"] == "use"
        assert row(late | {"event": "token.issued"})["op"] == "exchange"
        assert row(late | {"time": "2026-01-01T00:00:30Z"})["op"] == "exchange"

    def test_another_s_raw_token_beside_the_claims_is_no_alias_of_them(self):
        found = row(line(token=jwt(claims(jti="t-9"))))

        assert (key_of(found)[2], found["credential_aliases"]) == ("t-1", [])

    @pytest.mark.parametrize(
        ("told", "address"),
        [
            ({"clientIp": "192.0.2.7"}, "192.0.2.7"),
            ({"request": {"remote_addr": "2001:DB8::1"}}, "2001:db8::1"),
            ({"ip": "Lyon"}, None),
        ],
    )
    def test_the_address_that_asked_is_told(self, told, address):
        assert row(line(**told))["ext"].get("src_ip") == address

    def test_an_id_is_kept_whole(self):
        assert row(line(id=2**70))["event_id"] == str(2**70)

    def test_a_token_from_another_issuer_crosses_domains(self):
        made = rows(line(subject_token_claims=claims(iss="https://other.test", jti="o")))[0]

        assert (made["from_trust_domain"], made["to_trust_domain"]) == ("https://other.test", AS)

    def test_indigo_iam_s_events_carry_milliseconds_and_their_refresh_token(self):
        record = {
            "@type": "AccessTokenIssuedEvent",
            "timestamp": IAT * 1000 + 8,
            "scopes": ["openid"],
            "grantType": "client_credentials",
            "header": {"kid": "rsa1"},
            "payload": claims(iat=IAT * 1000, exp=IAT * 1000 + 5, scope=None),
            "refreshTokenJti": "rt-1",
        }

        found = row(record)
        refreshed = row(record | {"grantType": "refresh_token"})

        assert (found["op"], found["family_id"], found["parents"]) == ("issue", "rt-1", [])
        assert found["issued_at"] == datetime(2026, 1, 1, tzinfo=UTC)
        assert refreshed["parents"][0] | {} == {
            "role": "refresh",
            "issuer": AS,
            "kind": "jti",
            "id": "rt-1",
        }


class TestKeycloak:
    def event(self, kind, *, error=None, **details):
        return {
            "id": "kc-1",
            "time": IAT * 1000,
            "type": kind,
            "realmId": "r",
            "realmName": "acme",
            "clientId": "web",
            "userId": "u-1",
            "sessionId": "s-1",
            "error": error,
            "details": details,
        }

    def test_a_refresh_makes_an_access_token_and_a_new_refresh_token_from_the_old(self):
        event = self.event(
            "REFRESH_TOKEN",
            token_id="at",
            refresh_token_id="rt-1",
            updated_refresh_token_id="rt-2",
            scope="openid",
            access_token_expiration_time="60",
        )

        access, refresh = rows(event, Context(instance="https://sso.test"))

        issuer = "https://sso.test/realms/acme"
        assert key_of(access) == (issuer, "jti", "at")
        assert key_of(refresh) == (issuer, "jti", "rt-2")
        assert access["parents"] == refresh["parents"]
        assert access["parents"][0] == {
            "role": "refresh",
            "issuer": issuer,
            "kind": "jti",
            "id": "rt-1",
        }
        assert access["expires_at"] - access["event_time"] == timedelta(seconds=60)
        assert refresh["expires_at"] is None
        assert (access["op"], access["scopes"], access["session_id"]) == (
            "refresh",
            ["openid"],
            "s-1",
        )

    def test_the_console_log_s_text_says_the_same(self):
        text = (
            'type="CODE_TO_TOKEN", realmId="r", realmName="acme", clientId="web", userId="u-1", '
            'token_id="at", scope="openid email", username="do-not-store"'
        )
        record = {"timestamp": TIME, "loggerName": "org.keycloak.events", "message": text}

        found = row(record)

        assert key_of(found) == ("keycloak:acme", "jti", "at")
        assert (found["op"], found["grant_type"]) == ("issue", "authorization_code")
        assert found["scopes"] == ["openid", "email"]
        assert "do-not-store" not in str(found)

    def test_an_exchange_names_the_actor_or_else_the_client(self):
        told = row(self.event("TOKEN_EXCHANGE", token_id="at", actor_id="a-1", audience="crm mail"))
        silent = row(self.event("TOKEN_EXCHANGE", token_id="at"))

        assert (told["actor_id"], actors(told)) == ("a-1", ["a-1"])
        assert told["audience"] == ["crm", "mail"]
        assert (silent["actor_id"], silent["actor_convention"]) == ("web", "client_id")
        assert not silent["scope_known"]

    def test_the_address_that_asked_is_told_as_other_lines_tell_it(self):
        event = self.event("REFRESH_TOKEN", token_id="at", refresh_token_id="rt")

        assert row(event | {"ipAddress": "192.0.2.7"})["ext"]["src_ip"] == "192.0.2.7"

    def test_a_failure_made_no_token(self):
        found = row(self.event("CODE_TO_TOKEN_ERROR", error="invalid_code", refresh_token_id="rt"))

        assert (found["outcome"], found["error"]) == ("failure", "invalid_code")
        assert found["credential_id"] is None

    def test_events_that_concern_no_token_are_counted(self):
        adapted = adapt(self.event("LOGIN", auth_method="openid-connect"))

        assert not adapted.batches
        assert dict(adapted.skipped) == {"a Keycloak event that concerns no token": 1}

    @pytest.mark.parametrize(
        ("details", "key", "made"),
        [
            ({"token_id": "at"}, "at", "access"),
            ({"refresh_token_id": "rt", "revoked_client": "web"}, "rt", "refresh"),
        ],
    )
    def test_a_revocation_ends_the_token_it_names_and_issues_none(self, details, key, made):
        found = row(self.event("REVOKE_GRANT", **details))

        assert (found["op"], found["revoke_target"]) == ("revoke", "token")
        assert key_of(found) == ("keycloak:acme", "jti", key)
        assert found["token_type"] == f"urn:ietf:params:oauth:token-type:{made}_token"
        assert found["issued_at"] is None

    def test_a_revocation_of_a_client_s_grants_names_no_token_and_is_counted(self):
        broad = self.event("REVOKE_GRANT", revoked_client="web")
        adapted = adapt(broad)
        failed = row(self.event("REVOKE_GRANT_ERROR", error="invalid_token"))

        assert (adapted.batches, adapted.refusals) == ([], [])
        assert dict(adapted.skipped) == {"a Keycloak revocation that names no token": 1}
        assert (failed["op"], failed["outcome"]) == ("revoke", "failure")

    def test_only_kinds_that_are_known_to_make_a_token_issue_it(self):
        adapted = adapt(self.event("USER_INFO_REQUEST", token_id="at"))

        assert not adapted.batches
        assert dict(adapted.skipped) == {"a Keycloak event that concerns no token": 1}
        assert row(self.event("LOGIN", token_id="at", grant_type="password"))["op"] == "issue"

    @pytest.mark.parametrize(
        ("details", "client"), [({"token_issued_for": "web"}, "web"), ({}, None)]
    )
    def test_the_server_that_introspects_a_token_is_not_its_client(self, details, client):
        event = self.event("INTROSPECT_TOKEN", token_id="at", **details) | {"clientId": "api"}

        found = row(event)

        assert (found["op"], found["ext"]["callerId"]) == ("introspect", "api")
        assert (found["client_id"], found["actor_id"]) == (client, client)

    def test_an_event_without_time_is_refused(self):
        (refusal,) = adapt(self.event("CLIENT_LOGIN", token_id="at") | {"time": None}).refusals

        assert refusal.reason == "time is missing or is no time"


class TestSharedSignals:
    CAEP = "https://schemas.openid.net/secevent/caep/event-type/"

    def signal(self, kind, told, **over):
        event = {"iss": AS, "jti": "set-1", "iat": IAT + 9, "aud": "https://rp.test"}
        return event | {"events": {self.CAEP + kind: {"event_timestamp": IAT * 1000} | told}} | over

    def test_a_session_that_ended_revokes_what_its_subject_holds_and_issues_nothing(self):
        told = {"subject": {"format": "iss_sub", "iss": "https://idp.test", "sub": "ann"}}

        found = row(self.signal("session-revoked", told))

        assert (found["op"], found["revoke_target"]) == ("revoke", "subject")
        assert found["revoke_reason"] == "session-revoked"
        assert (found["subject_id"], found["subject_issuer"]) == ("ann", "https://idp.test")
        assert found["event_time"] == datetime(2026, 1, 1, tzinfo=UTC)
        assert found["issued_at"] is None

    def test_a_session_that_is_named_ends_alone(self):
        user = {"format": "iss_sub", "iss": AS, "sub": "ann"}
        whole = {"user": user, "session": {"format": "opaque", "id": "s-1"}}

        found = row(self.signal("session-revoked", {}, sub_id=whole))

        assert (key_of(found), found["revoke_target"]) == ((AS, "local", "s-1"), "token")
        assert (found["subject_id"], found["session_id"]) == ("ann", "s-1")

    def test_other_signals_are_counted_and_one_of_nobody_is_refused(self):
        others = [self.signal("credential-change", {}), self.signal("session-revoked", {})]
        logout = claims(events={"http://schemas.openid.net/event/backchannel-logout": {}})

        adapted = adapt(*others, logout, claims(events={"login": 3}))

        assert adapted.skipped == {"a security event that ends no session and no account": 2}
        assert [item.reason for item in adapted.refusals] == [
            "a security event names no time, no issuer or no subject"
        ]
        assert adapted.batches[0].batch["op"].to_pylist() == ["issue"]


class TestHostile:
    @pytest.mark.parametrize(
        "odd",
        [
            {"iat": 10**30},
            {"iat": -(10**15)},
            {"iat": True},
            {"exp": 1e308},
            {"aud": {"a": 1}},
            {"aud": [1, None, "x"]},
            {"scope": ["a", 7, None]},
            {"sub": 7, "client_id": [], "jti": {"x": 1}},
            {"iss": ["x"]},
            {"act": {"act": {"act": {}}}},
            {"may_act": [[]]},
            {"cnf": {"jwk": {"kty": ["RSA"]}}},
            {"authorization_details": {"type": "x"}},
            {"xms_sub_fct": {"a": [13]}},
            {"xms_sub_fct": [2**70], "xms_act_fct": [[[]]]},
            {"del_max_depth": -1},
            {"del_max_depth": 2**40},
        ],
    )
    def test_odd_claims_break_nothing(self, odd):
        adapted = adapt(line(claims=CLAIMS | odd), line(event_id="good"))

        ids = [one for batch in adapted.batches for one in batch.batch["event_id"].to_pylist()]
        assert "good" in ids
        assert len(ids) + len(adapted.refusals) == 2

    @pytest.mark.parametrize(
        "token",
        [
            "a.b.c" * 5,
            "..",
            "....." * 5,
            f"{'e30'}.{'e30'}.x" * 3,
            "é" * 30,
            "\ud800" * 20,
            " " * 20,
        ],
    )
    def test_what_only_looks_like_a_jwt_breaks_nothing(self, token):
        adapted = adapt({"time": TIME, "token": token})

        assert sum(len(batch.rows) for batch in adapted.batches) + len(adapted.refusals) == 1

    def test_a_deep_act_is_cut_where_the_contract_cuts_it(self):
        act = {"sub": "deepest"}
        for level in range(300):
            act = {"sub": f"a{level}", "act": act}

        found = row(claims(act=act))

        assert len(found["act_chain"]) == 100
        assert found["act_truncated"]
        assert (actors(found)[0], found["ext"]["act_omitted"]) == ("a299", "201")

    def test_a_refused_line_keeps_no_raw_token(self):
        record = {
            "claims": {"iss": AS, "sub": "ann", "jti": "x"},
            "access_token": "do-not-store",
            "request": {"subject_token": "do-not-store", "client_secret": "do-not-store"},
        }

        (refusal,) = adapt(record).refusals

        assert b"do-not-store" not in refusal.raw
        assert b'"jti":"x"' in refusal.raw

    def test_a_refused_line_keeps_no_secret_at_any_depth_or_in_any_spelling(self):
        deep = {"a": [{"refreshToken": "do-not-store", "Authorization": "do-not-store"}]}
        record = {"note": "kept", "http": {"cookie": "do-not-store", "deep": deep}}

        (refusal,) = adapt(record | {"clientSecret": "do-not-store"}).refusals

        assert b"do-not-store" not in refusal.raw
        assert b"kept" in refusal.raw

    def test_the_same_claims_twice_in_one_value_are_one_event(self):
        adapted = SOURCE.adapt(
            [json.dumps([CLAIMS, CLAIMS, claims(jti="t-2")]).encode()], Context()
        )

        assert adapted.batches[0].batch["credential_id"].to_pylist() == ["t-1", "t-2"]


@pytest.mark.parametrize(
    ("record", "known"),
    [
        (CLAIMS, True),
        ({"sub": "a", "act": {"sub": "b"}}, True),
        (line(), True),
        ({"access_token": jwt(CLAIMS)}, True),
        ({"time": TIME, "error": "x", "subject_token_claims": CLAIMS}, True),
        ({"time": TIME, "response": {"active": False}}, True),
        ({"sub": "a"}, False),
        ({"claims": {"sub": "a"}}, False),
        ({"token": "opaque-opaque-opaque"}, False),
        ({"request": {"subject_token": jwt(CLAIMS)}}, True),
        ({"response": {"access_token": jwt(CLAIMS)}}, True),
        ({"claims": json.dumps(CLAIMS)}, True),
        ({"headers": {"authorization": "Basic YTpi"}}, False),
        ({"grantType": "refresh_token", "refreshToken": "opaque-opaque"}, True),
        ({"grant_type": "refresh_token"}, False),
        ({"family": "token_event", "grant_type": "x", "token": jwt(CLAIMS)}, False),
        ({"response": {"access_token": "opaque-opaque-opaque"}}, False),
        ({"type": "LOGIN", "details": {}}, False),
        ({"message": "x", "loggerName": "org.keycloak.services"}, False),
        ([CLAIMS], False),
        ("x", False),
    ],
)
def test_only_claims_and_lines_around_them_are_recognised(record, known):
    assert SOURCE.recognises(record) is known


@pytest.mark.parametrize(
    ("written", "count"),
    [
        (0, 0),
        (1.5, 1_500_000),
        ("1767225600", IAT * 1_000_000),
        (IAT * 1000, IAT * 1_000_000),
        (IAT * 1_000_000, IAT * 1_000_000),
        (IAT * 1_000_000_000, IAT * 1_000_000),
        ("2026-01-01T00:00:00.1234567Z", IAT * 1_000_000 + 123_456),
        ("1767225600.25", IAT * 1_000_000 + 250_000),
        (True, None),
        ("soon", None),
        ("2026-13-01T00:00:00Z", None),
        ("0001-01-01T00:00:00+23:00", None),
        (float("inf"), None),
        (10**40, None),
        ([], None),
    ],
)
def test_times_are_read_by_their_size(written, count):
    assert moment_us(written) == count

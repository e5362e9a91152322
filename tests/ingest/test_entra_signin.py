"""What one record of Entra becomes: sign-ins, Graph requests, directory audit."""

import json

import pytest

from pipeline.ingest.sources import Context
from pipeline.ingest.sources.entra_signin import adapt, recognises

TENANT = "7d1c0e2a-0000-4000-8000-000000000001"
ISSUER = f"entra:{TENANT}"
KEY = "12345678-aaaa-4bbb-8ccc-1234567890ab"
OTHER_KEY = "87654321-aaaa-4bbb-8ccc-1234567890ab"


def exported(category, properties, **more):
    return {
        "time": "2026-11-20T09:00:09Z",
        "resourceId": f"/tenants/{TENANT}/providers/Microsoft.aadiam",
        "tenantId": TENANT,
        "category": category,
        "operationName": "Sign-in activity",
        "properties": properties,
        **more,
    }


def signed_in(**more):
    return {
        "id": "s-1",
        "createdDateTime": "2026-11-20T09:00:00Z",
        "appId": "app-1",
        "userId": "user-1",
        "uniqueTokenIdentifier": "uti-1",
        "resourceId": "crm",
        "status": {"errorCode": 0},
        **more,
    }


def app_sign_in(**more):
    return signed_in(userId=None, servicePrincipalId="sp-1", **more)


def requested(**more):
    return {
        "timeGenerated": "2026-11-20T09:01:00Z",
        "requestId": "r-1",
        "requestMethod": "GET",
        "requestUri": "https://graph.microsoft.com/v1.0/me?$select=id",
        "responseStatusCode": 200,
        "signInActivityId": "uti-1",
        "appId": "app-1",
        "userId": "user-1",
        "scopes": "User.Read Mail.Send",
        **more,
    }


def audited(name, *changes, **more):
    return exported(
        "AuditLogs",
        {
            "id": "Directory_1",
            "activityDateTime": "2026-11-20T08:00:00+00:00",
            "activityDisplayName": name,
            "result": "success",
            "initiatedBy": {"user": {"id": "admin-1", "userPrincipalName": "bob@acme.example"}},
            "targetResources": [
                {"id": "sp-1", "type": "ServicePrincipal", "modifiedProperties": list(changes)}
            ],
            **more,
        },
    )


def keys(before, after):
    def described(held):
        return json.dumps(
            [f"[KeyIdentifier={key},KeyType={kind},KeyUsage=Verify]" for key, kind in held]
        )

    return {
        "displayName": "KeyDescription",
        "oldValue": described(before),
        "newValue": described(after),
    }


def rows(*records, family="token_event"):
    adapted = adapt([json.dumps(record).encode() for record in records], Context())
    assert adapted.refusals == []
    return [
        row
        for batch in adapted.batches
        if batch.family == family
        for row in batch.batch.to_pylist(maps_as_pydicts="strict")
    ]


def test_a_sign_in_issues_a_token_that_the_app_holds_for_the_user():
    (row,) = rows(exported("SignInLogs", signed_in(isInteractive=True, sessionId="sid-1")))

    assert (row["op"], row["outcome"], row["grant_type"]) == ("issue", "success", "interactive")
    assert (row["credential_issuer"], row["credential_kind"], row["credential_id"]) == (
        ISSUER,
        "uti",
        "uti-1",
    )
    assert (row["subject_id"], row["subject_kind"], row["actor_id"], row["client_id"]) == (
        "user-1",
        "human",
        "app-1",
        "app-1",
    )
    assert (row["audience"], row["scope_known"], row["session_id"]) == (["crm"], False, "sid-1")
    assert row["auth_time"] == row["event_time"] == row["issued_at"]


def test_a_token_is_known_by_both_issuers_that_it_may_carry():
    (row,) = rows(exported("SignInLogs", signed_in()))

    assert [(alias["issuer"], alias["id"]) for alias in row["credential_aliases"]] == [
        (f"https://sts.windows.net/{TENANT}/", "uti-1"),
        (f"https://login.microsoftonline.com/{TENANT}/v2.0", "uti-1"),
    ]


def test_a_request_and_its_sign_in_are_of_one_tenant_however_its_id_is_written():
    """The exported records of Graph requests write it in capitals."""
    shouted = f"/TENANTS/{TENANT.upper()}/PROVIDERS/MICROSOFT.AADIAM"

    (token,) = rows(exported("SignInLogs", signed_in()))
    (call,) = rows(
        exported("MicrosoftGraphActivityLogs", requested(), resourceId=shouted), family="tool_call"
    )

    assert call["credential_issuer"] == token["credential_issuer"] == ISSUER


def test_the_kinds_of_sign_in_tell_subjects_and_grants():
    managed = app_sign_in(
        managedServiceIdentity={"federatedTokenId": "f-1", "federatedTokenIssuer": "https://aks"}
    )

    found = rows(
        exported("NonInteractiveUserSignInLogs", signed_in(incomingTokenType="refreshToken")),
        exported("ServicePrincipalSignInLogs", app_sign_in()),
        exported("ManagedIdentitySignInLogs", managed),
        exported("SignInLogs", signed_in(authenticationProtocol="deviceCode", isInteractive=True)),
        exported("SignInLogs", signed_in(authenticationProtocol="ropc")),
    )

    assert [(row["subject_id"], row["subject_kind"], row["grant_type"]) for row in found] == [
        ("user-1", "human", None),
        ("sp-1", "service_account", "client_credentials"),
        ("sp-1", "workload", "client_credentials"),
        ("user-1", "human", "urn:ietf:params:oauth:grant-type:device_code"),
        ("user-1", "human", "password"),
    ]
    assert found[2]["parents"] == [
        {"role": "assertion", "issuer": "https://aks", "kind": "jti", "id": "f-1"}
    ]


def test_an_agent_is_an_agent_and_its_own_user_account_is_no_person():
    agent = {"agentType": "agenticAppInstance", "parentAppId": "blueprint-1"}

    found = rows(
        exported("ServicePrincipalSignInLogs", app_sign_in(agent=agent)),
        exported(
            "NonInteractiveUserSignInLogs",
            signed_in(agent={**agent, "agentSubjectType": "agentIDuser"}, isInteractive=True),
        ),
        exported("SignInLogs", signed_in(xms_sub_fct="9 13", isInteractive=True)),
        exported("SignInLogs", signed_in(xms_sub_fct=["3", "13"])),
        exported("ServicePrincipalSignInLogs", app_sign_in(xms_act_fct="11")),
        exported("SignInLogs", signed_in(agent={"agentType": "notAgentic"}, xms_sub_fct="113")),
    )

    assert [row["subject_kind"] for row in found] == [
        "agent",
        "agent_user",
        "agent_user",
        "agent_user",
        "agent",
        "human",
    ]
    assert [row["auth_time"] for row in found[:5]] == [None] * 5
    assert [row["grant_type"] for row in found[1:4]] == [None] * 3
    assert found[0]["ext"]["parentAppId"] == "blueprint-1"


def test_a_client_secret_is_the_token_s_parent_and_in_use():
    record = exported(
        "ServicePrincipalSignInLogs",
        app_sign_in(clientCredentialType="clientSecret", servicePrincipalCredentialKeyId=KEY),
    )

    token, used = sorted(rows(record), key=lambda row: row["op"])
    (secret,) = rows(record, family="secret_event")

    assert token["parents"] == [
        {"role": "source", "issuer": ISSUER, "kind": "secret_version", "id": KEY}
    ]
    assert (used["op"], used["credential_kind"], used["credential_id"], used["parents"]) == (
        "use",
        "secret_version",
        KEY,
        [],
    )
    assert (secret["op"], secret["secret_id"], secret["secret_kind"]) == (
        "use",
        KEY,
        "client_secret",
    )


@pytest.mark.parametrize("kind", ["none", "clientAssertion", None])
def test_a_key_of_another_kind_is_no_secret(kind):
    properties = app_sign_in(clientCredentialType=kind, servicePrincipalCredentialKeyId=KEY)
    record = exported("ServicePrincipalSignInLogs", properties)

    assert [row["parents"] for row in rows(record)] == [[]]
    assert rows(record, family="secret_event") == []


def test_a_failed_sign_in_makes_no_token_and_keeps_its_code():
    found = rows(
        exported("SignInLogs", signed_in(status={"errorCode": 53003})),
        exported("SignInLogs", signed_in(status=None, resultType="50126")),
        exported("SignInLogs", signed_in(status=None), resultType="50126"),
        exported("SignInLogs", signed_in(status=None, conditionalAccessStatus="failure")),
    )

    assert [(row["outcome"], row["error"], row["credential_id"]) for row in found] == [
        ("failure", "53003", None),
        ("failure", "50126", None),
        ("failure", "50126", None),
        ("failure", "conditionalAccess", None),
    ]


def test_a_success_that_names_no_token_has_the_record_s_id():
    properties = signed_in(status=None, uniqueTokenIdentifier=None)

    (row,) = rows(exported("SignInLogs", properties, resultType="Success"))

    assert (row["outcome"], row["credential_kind"], row["credential_id"]) == (
        "success",
        "local",
        "s-1",
    )


def test_all_three_spellings_tell_the_same():
    properties = signed_in(agent={"agentType": "agenticApp"}, sessionId="sid-1")
    listed = {"@odata.context": "x", "value": [{**properties, "signInEventTypes": ["x"]}]}
    table = {name[0].upper() + name[1:]: part for name, part in properties.items()}
    table |= {
        "Agent": json.dumps(properties["agent"]),
        "Status": json.dumps(properties["status"]),
        "ResourceIdentity": "crm",
        "TenantId": "the-workspace",
        "AADTenantId": TENANT,
        "TimeGenerated": "2026-11-20T09:00:09Z",
        "Type": "AADNonInteractiveUserSignInLogs",
    }
    del table["ResourceId"]
    records = [exported("SignInLogs", properties), listed, table, {"records": [table]}]

    found = rows(*records)

    told = [
        {
            name: row[name]
            for name in ("event_id", "event_time", "subject_id", "actor_id", "audience", "outcome")
        }
        | {"agent": row["ext"]["agentType"], "id": row["credential_id"]}
        for row in found
    ]
    assert told == [told[0]] * 4
    assert [row["credential_issuer"] for row in found] == [ISSUER, "", ISSUER, ISSUER]
    assert all(map(recognises, records))


def test_a_guest_comes_from_another_tenant():
    (row,) = rows(exported("SignInLogs", signed_in(homeTenantId="h", resourceTenantId="r")))

    assert (row["from_trust_domain"], row["to_trust_domain"]) == ("entra:h", "entra:r")


def test_a_graph_request_is_a_call_with_the_token_of_its_sign_in():
    (call,) = rows(exported("MicrosoftGraphActivityLogs", requested()), family="tool_call")
    (token,) = rows(exported("SignInLogs", signed_in()))

    assert [call[f"credential_{part}"] for part in ("issuer", "kind", "id")] == [
        token[f"credential_{part}"] for part in ("issuer", "kind", "id")
    ]
    assert (call["operation"], call["resource"], call["observer"]) == (
        "GET /v1.0/me",
        "/v1.0/me",
        "resource_server",
    )
    assert (call["agent_id"], call["subject_id"], call["subject_kind"]) == (
        "app-1",
        "user-1",
        None,
    )
    assert (call["presented_scopes"], call["call_id"]) == (["Mail.Send", "User.Read"], "r-1")


def test_requests_that_do_the_same_have_one_name():
    paths = {
        "/v1.0/users/a1a1a1a1-1111-4111-8111-111111111111/messages": "/v1.0/users/{id}/messages",
        "/v1.0/users/alice@acme.example/messages": "/v1.0/users/{id}/messages",
        "/v1.0/users('alice@acme.example')/messages": "/v1.0/users('{id}')/messages",
        "/v1.0/me/messages/AAMkAGI2TG93AAAAAAEMAAAiIsqMbYjsT5e-T7Kzow=": "/v1.0/me/messages/{id}",
        "/v1.0/teams/19/channels/20": "/v1.0/teams/{id}/channels/{id}",
        "/beta/roleManagement/directory/roleAssignmentScheduleRequests": (
            "/beta/roleManagement/directory/roleAssignmentScheduleRequests"
        ),
    }
    records = [
        exported(
            "MicrosoftGraphActivityLogs", requested(requestUri=f"https://graph.x{path}?a=s3cr3t")
        )
        for path in paths
    ]

    found = rows(*records, family="tool_call")

    assert [row["operation"] for row in found] == [f"GET {name}" for name in paths.values()]
    assert "s3cr3t" not in json.dumps(found, default=str)


def test_requests_have_the_class_and_outcome_of_what_they_do():
    cases = [
        ("GET", "/users", 200, "read", "success"),
        ("POST", "/directoryObjects/getByIds", 200, "read", "success"),
        ("POST", "/$batch", 200, None, "success"),
        ("POST", "/applications/x/addPassword", 403, "admin_iam", "denied"),
        ("PATCH", "/roleManagement/directory/roleAssignments/x", 401, "admin_iam", "denied"),
        ("GET", "/roleManagement/directory/roleAssignments", 200, "read", "success"),
        ("POST", "/me/sendMail", 202, "external_send", "success"),
        ("DELETE", "/groups/x", 404, "delete", "failure"),
        ("PUT", "/drives/x/content", 504, "write", "timeout"),
        ("HEAD", "/me", None, None, "unknown"),
    ]
    records = [
        exported(
            "MicrosoftGraphActivityLogs",
            requested(
                requestMethod=method,
                requestUri=f"https://graph.microsoft.com/v1.0{path}",
                responseStatusCode=status,
            ),
        )
        for method, path, status, _, _ in cases
    ]

    found = rows(*records, family="tool_call")

    assert [(row["action_class"], row["outcome"]) for row in found] == [case[3:] for case in cases]


def test_the_principal_of_an_exported_request_may_be_one_field():
    one = {"userId": None, "UserPrincipalObjectID": "oid-1"}

    user, app = rows(
        exported("MicrosoftGraphActivityLogs", requested(**one, C_Idtyp="user")),
        exported("MicrosoftGraphActivityLogs", requested(**one, C_Idtyp="app", roles="A.B")),
        family="tool_call",
    )

    assert (user["subject_id"], user["subject_kind"]) == ("oid-1", None)
    assert (app["subject_id"], app["subject_kind"]) == ("oid-1", "service_account")
    assert "A.B" in app["presented_scopes"]


def test_an_audit_record_is_a_call_and_tells_each_key_that_came_or_went():
    held, added = (KEY, "Password"), (OTHER_KEY, "AsymmetricX509Cert")
    made = audited("Add service principal credentials", keys([], [held]))
    swapped = audited(
        "Update application \u2013 Certificates and secrets management ",
        keys([held], [added]),
        additionalDetails=[{"key": "AppId", "value": "app-1"}],
    )

    calls = rows(made, swapped, family="tool_call")
    secrets = rows(made, swapped, family="secret_event")

    assert [(row["action_class"], row["agent_id"], row["resource"]) for row in calls] == [
        ("admin_iam", "admin-1", "ServicePrincipal:sp-1")
    ] * 2
    assert sorted(
        (row["op"], row["secret_id"], row["secret_kind"], row["bound_identity_id"])
        for row in secrets
    ) == [
        ("create", KEY, "client_secret", "sp-1"),
        ("create", OTHER_KEY, "x509", "app-1"),
        ("delete", KEY, "client_secret", "app-1"),
    ]
    assert len({row["event_id"] for row in secrets}) == 3


def test_a_failed_change_of_keys_changes_none():
    record = audited("Add x credentials", keys([], [(KEY, "Password")]), result="failure")

    assert rows(record, family="secret_event") == []
    assert [row["outcome"] for row in rows(record, family="tool_call")] == ["failure"]


def test_a_change_by_an_app_is_told_of_the_app():
    by = {"app": {"appId": None, "servicePrincipalId": "sp-9", "displayName": "Sync"}, "user": None}

    (row,) = rows(audited("Add member to role", initiatedBy=by), family="tool_call")

    assert (row["agent_id"], row["ext"]["initiatorName"]) == ("sp-9", "Sync")


def test_a_consent_names_its_scopes_its_app_and_whom_it_holds_for():
    def changed(**values):
        return [
            {"displayName": name, "newValue": json.dumps(value)} for name, value in values.items()
        ]

    app = changed(**{"TargetId.ServicePrincipalNames": "app-1;https://crm.example"})
    own = (
        "[] => [[Id: g-1, ConsentType: Principal, Scope: Mail.Read User.Read, CreatedDateTime: ]]; "
    )
    everybody = own.replace("Principal", "AllPrincipals")
    delegated = changed(
        **{"DelegatedPermissionGrant.Scope": " Files.Read", "ConsentContext.OnBehalfOfAll": "True"}
    )
    records = [
        audited("Consent to application", *app, *changed(**{"ConsentAction.Permissions": own})),
        audited("Consent to application", *changed(**{"ConsentAction.Permissions": everybody})),
        audited("Add delegated permission grant", *app, *app, *delegated),
        audited("Remove delegated permission grant", *delegated, initiatedBy={"user": {"id": "u"}}),
        audited("Consent to application", result="failure", resultReason="denied"),
    ]

    found = rows(*records)

    assert [
        (row["op"], row["consent_id"], row["client_id"], row["subject_id"]) for row in found
    ] == [
        ("consent_grant", "g-1", "app-1", "admin-1"),
        ("consent_grant", "g-1", "sp-1", None),
        ("consent_grant", None, "app-1", None),
        ("consent_revoke", None, "sp-1", None),
        ("consent_grant", None, "sp-1", "admin-1"),
    ]
    assert [row["scopes"] for row in found] == [
        ["Mail.Read", "User.Read"],
        ["Mail.Read", "User.Read"],
        ["Files.Read"],
        ["Files.Read"],
        [],
    ]
    assert [(row["outcome"], row["credential_id"]) for row in found[3:]] == [
        ("success", "Directory_1"),
        ("failure", None),
    ]
    assert len(rows(*records, family="tool_call")) == len(records)


def test_a_consent_is_of_the_principal_that_it_names_before_who_wrote_it():
    def consent(activity, who, kind="Principal"):
        told = f"[] => [[Id: g, ClientId: c, PrincipalId: {who}, ConsentType: {kind}, Scope: x]]; "
        permissions = {"displayName": "ConsentAction.Permissions", "newValue": json.dumps(told)}
        return audited(activity, permissions)

    found = rows(
        consent("Consent to application", " bob "),
        consent("Consent to application", ""),
        consent("Consent to application", "bob", "AllPrincipals"),
        consent("Add delegated permission grant", "bob"),
        audited("Add delegated permission grant"),
        audited("Remove delegated permission grant"),
    )

    assert [row["subject_id"] for row in found] == ["bob", "admin-1", None, "bob", None, None]


def test_a_delegated_grant_is_for_the_client_among_its_changes_and_of_the_resource_it_is_told_of():
    graph = "00000003-0000-0000-c000-000000000000"
    changes = {
        "DelegatedPermissionGrant.Scope": " Mail.Read",
        "DelegatedPermissionGrant.ConsentType": "Principal",
        "DelegatedPermissionGrant.PrincipalId": "bob",
        "ServicePrincipal.ObjectID": "sp-client",
        "ServicePrincipal.AppId": None,
        "TargetId.ServicePrincipalNames": f"{graph}/ags.windows.net;{graph};https://graph",
    }
    told = [
        {"displayName": name, "newValue": one and json.dumps(one)} for name, one in changes.items()
    ]

    (found,) = rows(audited("Add delegated permission grant", *told))

    assert (found["client_id"], found["audience"]) == ("sp-client", [graph])
    assert (found["subject_id"], found["scopes"]) == ("bob", ["Mail.Read"])


def test_an_argument_in_a_request_s_path_is_not_kept():
    root = "https://graph.microsoft.com/v1.0/me/drive/root"
    uris = [
        f"{root}/search(q='salary of Bob')",
        f"{root}/search(q=%27salary of Bob%27)?$top=1",
        f"{root}/search(q='salary? of Bob')",
        f"{root}/search(q='O''Brien')",
    ]
    records = [
        exported("MicrosoftGraphActivityLogs", requested(requestUri=f"{uri}")) for uri in uris
    ]

    found = rows(*records, family="tool_call")

    path = "/v1.0/me/drive/root/search(q='{id}'"
    ends = [")", ")", "", ")"]
    assert [row["resource"] for row in found] == [path + end for end in ends]
    assert [row["tool_name"] for row in found] == [f"GET {path}{end}" for end in ends]
    assert not any(word in str(found) for word in ("salary", "Bob", "Brien"))


def test_what_is_no_record_of_entra_is_refused_without_its_values():
    activity = exported("Administrative", {"requestbody": "x"}, operationName="vaults/delete")
    timeless = audited("Add x", keys([], []), activityDateTime=None)
    timeless["time"] = "noon"
    timeless["properties"]["TargetResources"] = "s3cr3t"

    adapted = adapt([json.dumps(one).encode() for one in (activity, timeless)], Context())

    assert adapted.batches == []
    assert [item.reason for item in adapted.refusals] == [
        "category names no sign-in, Graph request or directory audit",
        "time is missing or is no time",
    ]
    assert not any(b"s3cr3t" in item.raw for item in adapted.refusals)
    assert not recognises(activity)


def test_odd_parts_lose_no_record():
    odd = [
        {"status": "x", "agent": "{broken", "signInEventTypes": "x"},
        {"initiatedBy": [], "targetResources": {}},
        {"targetResources": [None, {"modifiedProperties": "x"}]},
        {"appId": None, "userId": 7, "servicePrincipalId": []},
        {"requestUri": None, "responseStatusCode": 10**40, "requestMethod": None},
        {"agent": {"agentType": 7}, "managedServiceIdentity": []},
        {"xms_sub_fct": {"a": [13]}, "scopes": ["a"], "roles": "["},
    ]
    records = [
        record
        for part in odd
        for record in (
            exported("SignInLogs", {**signed_in(), **part}),
            exported("MicrosoftGraphActivityLogs", {**requested(), **part}),
            {
                **audited("x"),
                "properties": {**audited("Consent to application")["properties"], **part},
            },
        )
    ]

    adapted = adapt([json.dumps(record).encode() for record in records], Context())

    taken = {int(row) for batch in adapted.batches for row in batch.rows}
    assert (taken, adapted.refusals) == (set(range(len(records))), [])


@pytest.mark.parametrize(
    "other",
    [
        None,
        [],
        "SignInLogs",
        {"category": "Administrative", "properties": {}},
        {"category": ["SignInLogs"]},
        {"records": [{"eventName": "x"}]},
        {"value": []},
        {"appId": "x"},
    ],
)
def test_other_records_are_not_recognised(other):
    assert not recognises(other)

"""Random events that are likely to touch one another: few names, few ids, every hazard."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from typing import Any

from tests.factories import token_event, tool_call

START = datetime(2026, 11, 19, 8, 0, tzinfo=UTC)
_AGENTS = ("web", "planner", "coder", "mailer")
_SUBJECTS = ("alice", "bob", None)
_ISSUERS = ("https://idp.test", "https://sts.test", None)
_SCOPES = ("crm.read", "crm.write", "crm.*", "mail.send", "openid")
_OPS = ("issue", "issue", "exchange", "exchange", "refresh", "assume", "delegate", "rotate")
_OTHERS = ("use", "introspect", "revoke", "consent_grant", "consent_revoke", "deny")


class Dice:
    """A seeded source of events; `size` is how many ids there are to choose from."""

    def __init__(self, seed: int, size: int, tenant: str = "default") -> None:
        self._r = random.Random(seed)
        self._size = size
        self._tenant = tenant
        self._count = 0

    def events(self, count: int) -> list[dict[str, Any]]:
        return [self._event() for _ in range(count)]

    def _maybe(self, value: Any, share: float = 0.5) -> Any:
        return value if self._r.random() < share else None

    def _id(self) -> str:
        return f"t{self._r.randrange(self._size)}"

    def _ref(self) -> dict[str, Any]:
        issuer = self._r.choices(_ISSUERS, (8, 3, 1))[0]
        kind = self._r.choices(("jti", "access_key_id", "ath"), (8, 1, 1))[0]
        prefix = "ASIA" if kind == "access_key_id" else ""
        return {"issuer": issuer, "kind": kind, "id": prefix + self._id()}

    def _chain(self) -> list[dict[str, Any]]:
        depth = self._r.choices((0, 1, 2, 3), (5, 3, 2, 1))[0]
        issuer = self._maybe("https://idp.test")
        return [{"issuer": issuer, "subject": self._r.choice(_AGENTS)} for _ in range(depth)]

    def _scopes(self) -> list[str]:
        return self._r.sample(_SCOPES, self._r.randrange(4))

    def _shared(self) -> dict[str, Any]:
        r = self._r
        self._count += 1
        return {
            "event_id": f"{self._tenant}-{self._count}",
            "tenant_id": self._tenant,
            "source": f"test://source-{r.randrange(3)}",
            "event_time": START + timedelta(seconds=r.randrange(7200)),
            "trace_id": self._maybe(f"trace-{r.randrange(self._size)}", 0.3),
            "span_id": self._maybe(f"span-{r.randrange(self._size)}", 0.5),
            "parent_span_id": self._maybe(f"span-{r.randrange(self._size)}", 0.5),
            "txn_id": self._maybe(f"txn-{r.randrange(self._size)}", 0.15),
            "session_id": self._maybe(f"session-{r.randrange(self._size)}", 0.2),
            "task_id": self._maybe(f"task-{r.randrange(self._size)}", 0.1),
            "cnf_thumbprint": self._maybe(f"key-{r.randrange(self._size)}", 0.1),
            "subject_id": r.choices(_SUBJECTS, (5, 3, 1))[0],
            "subject_issuer": r.choices(_ISSUERS, (6, 1, 2))[0],
        }

    def _event(self) -> dict[str, Any]:
        return self._call() if self._r.random() < 0.35 else self._token()

    def _call(self) -> dict[str, Any]:
        r = self._r
        ref = self._ref() if r.random() < 0.7 else {"issuer": None, "kind": None, "id": None}
        return tool_call(
            **self._shared(),
            observer=r.choice(("gateway", "agent_runtime", "resource_server")),
            phase=r.choice(("single", "pre", "post")),
            call_id=self._maybe(r.choice(("1", "2", f"call-number-{r.randrange(9):08}")), 0.4),
            agent_id=r.choice(_AGENTS),
            actor_id=self._maybe(r.choice(_AGENTS), 0.2),
            required_scopes=self._scopes(),
            presented_scopes=self._scopes(),
            credential_issuer=ref["issuer"],
            credential_kind=ref["kind"],
            credential_id=ref["id"],
        )

    def _token(self) -> dict[str, Any]:
        r, own, shared = self._r, self._ref(), self._shared()
        op = r.choice(_OPS) if r.random() < 0.75 else r.choice(_OTHERS)
        roles = ("subject", "subject", "actor", "refresh", "delegation")
        parents = [
            {"role": r.choice(roles), **self._ref()} for _ in range(r.choice((0, 0, 1, 1, 2)))
        ]
        return token_event(
            **shared,
            op=op,
            observer=r.choice(("authz_server", "authz_server", "gateway", "agent_runtime")),
            outcome="failure" if r.random() < 0.05 else "success",
            credential_issuer=own["issuer"],
            credential_kind=own["kind"],
            credential_id=own["id"],
            credential_aliases=[self._ref()] if r.random() < 0.15 else [],
            actor_id=self._maybe(r.choice(_AGENTS), 0.3),
            client_id=self._maybe(r.choice(_AGENTS)),
            grant_type=self._maybe(r.choice(("authorization_code", "client_credentials")), 0.3),
            act_chain=self._chain(),
            parents=parents if op in _OPS else [],
            scopes=self._scopes(),
            scope_known=r.random() < 0.9,
            scope_dialect=self._maybe("dot", 0.2),
            audience=[r.choice(_AGENTS)] if r.random() < 0.2 else [],
            issued_at=self._maybe(shared["event_time"], 0.3),
            expires_at=self._maybe(shared["event_time"] + timedelta(minutes=r.randrange(90)), 0.6),
            auth_time=self._maybe(shared["event_time"], 0.1),
            family_id=self._maybe(f"family-{r.randrange(self._size)}", 0.1),
            consent_id=self._maybe(f"consent-{r.randrange(self._size)}", 0.1),
            delegation_record_id=self._maybe(self._id(), 0.05),
            revoke_target=self._maybe(r.choice(("token", "family", "client", "subject", "agent"))),
            revoke_cascade=r.random() < 0.3,
        )

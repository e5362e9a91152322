"""The credentials of one slice of ordinary traffic, as arrays, and their token events.

Children live at most 900 s, never outlive their parent and never hold more than
it; the presenter of a token is its actor; the subject stays the same.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipeline.demo.columns import (
    SECOND,
    Columns,
    Ints,
    choose,
    constant,
    family_batch,
    hex_ids,
    lists_of,
    pick,
    prefixed,
    times,
    two_lists,
)
from pipeline.demo.company import (
    AUTHZ,
    AUTHZ_SOURCE,
    CLOUD_SOURCE,
    IDP,
    LEVELS,
    PEOPLE,
    TENANT,
    TRUST_DOMAIN,
    WORKS,
)
from pipeline.demo.profiles import (
    AGENT_TOKENS,
    CLOUD_KEY,
    CLOUD_ROOT,
    FOREIGN,
    PROFILES,
    SERVICE,
    STATIC_KEY,
)

Mask = npt.NDArray[np.bool_]
ACTOR_TOKEN_SHARE = 0.5
DEPTH_SHARES = (0.15, 0.25, 0.30, 0.20, 0.10)
PAIRS = pa.list_(pa.struct([("issuer", pa.string()), ("subject", pa.string())]))
TEXTS = pa.list_(pa.string())


@dataclass(frozen=True)
class Slice:
    """A stretch of time to fill: microseconds since 1970 and how many tasks start in it."""

    begin: int
    end: int
    tasks: int


@dataclass(frozen=True)
class Credentials:
    """Struct of arrays; -1 stands for none.  `at[task, level]` finds a credential's row."""

    profile: Ints
    task: Ints
    person: Ints
    issued: Ints
    expires: Ints
    parent: Ints
    limiter: Ints
    at: Ints
    ids: pa.Array
    trace: pa.Array
    session: pa.Array

    def seen_issued(self) -> Mask:
        """Return which credentials have an issuing event: keys and foreign tokens have none."""
        seen: Mask = (self.profile != STATIC_KEY) & (self.profile != FOREIGN)
        return seen


def make_credentials(rng: np.random.Generator, span: Slice) -> Credentials:
    """Return the credentials whose tasks start in the slice."""
    worked = _work_credentials(rng, span)
    loners = _lone_credentials(rng, span, int(worked["task"].max()) + 1)
    columns = {name: np.concatenate([worked[name], loners[name]]) for name in worked}
    cloud = np.flatnonzero(columns["profile"] == CLOUD_KEY)
    columns["parent"][cloud] = cloud - 1
    columns["limiter"] = _limiters(rng, columns)
    count, tasks = len(columns["profile"]), int(columns["task"].max()) + 1
    at = np.full((span.tasks, LEVELS), -1, dtype=np.int64)
    own = np.arange(len(worked["profile"]))
    at[worked["task"], worked["profile"] % LEVELS] = own
    return Credentials(
        **columns,
        at=at,
        ids=_credential_ids(rng, columns["profile"], count),
        trace=hex_ids(rng, tasks),
        session=prefixed("s-", hex_ids(rng, tasks, 16)),
    )


def _work_credentials(rng: np.random.Generator, span: Slice) -> dict[str, Ints]:
    tasks = span.tasks
    work = rng.integers(0, len(WORKS), tasks)
    person = rng.integers(0, len(PEOPLE), tasks)
    depth = rng.choice(LEVELS, tasks, p=DEPTH_SHARES)
    issued = np.empty((tasks, LEVELS), dtype=np.int64)
    expires = np.empty((tasks, LEVELS), dtype=np.int64)
    issued[:, 0] = rng.integers(span.begin, span.end, tasks) // SECOND * SECOND
    expires[:, 0] = issued[:, 0] + 3600 * SECOND
    lives = rng.choice((300, 600, 900), (tasks, LEVELS)) * SECOND
    waits = rng.integers(2, 60, (tasks, LEVELS)) * SECOND
    for level in range(1, LEVELS):
        issued[:, level] = issued[:, level - 1] + waits[:, level]
        child = issued[:, level] + lives[:, level]
        expires[:, level] = np.minimum(child, expires[:, level - 1])
    exists = np.arange(LEVELS)[None, :] <= depth[:, None]
    task, place = np.nonzero(exists)
    rows = np.arange(len(task))
    return {
        "profile": work[task] * LEVELS + place,
        "task": task,
        "person": person[task],
        "issued": issued[exists],
        "expires": expires[exists],
        # Rows run task by task and level by level: a parent stands just before its child.
        "parent": np.where(place > 0, rows - 1, -1),
    }


def _lone_credentials(rng: np.random.Generator, span: Slice, first_task: int) -> dict[str, Ints]:
    """Return the credentials that no person stands behind, each a task of its own."""
    each = max(span.tasks // 25, 1)
    # Agents renew their own token every 50 minutes: one is alive whenever a task needs it.
    hours = np.arange(span.begin // SECOND * SECOND, span.end, 3000 * SECOND)
    pair = np.tile([CLOUD_ROOT, CLOUD_KEY], each)
    profile = np.concatenate(
        [
            np.full(each, SERVICE),
            pair,
            [STATIC_KEY],
            np.full(max(each // 2, 1), FOREIGN),
            np.repeat(list(AGENT_TOKENS.values()), len(hours)),
        ]
    )
    count = len(profile)
    issued = rng.integers(span.begin, span.end, count) // SECOND * SECOND
    keys = np.flatnonzero(profile == CLOUD_KEY)
    # A source that falls silent holds back every rule about what is absent: the cloud speaks last.
    issued[keys[-1] - 1] = span.end // SECOND * SECOND - 60 * SECOND
    issued[keys] = issued[keys - 1] + 30 * SECOND
    issued[profile == STATIC_KEY] = span.begin
    tokens = profile >= min(AGENT_TOKENS.values())
    issued[tokens] = np.tile(hours, len(AGENT_TOKENS))
    lives = np.array([max(PROFILES[p].lives_s) for p in profile]) * SECOND
    task = first_task + np.arange(count)
    task[keys] = task[keys - 1]
    return {
        "profile": profile,
        "task": task,
        "person": np.full(count, -1),
        "issued": issued,
        "expires": issued + lives,
        "parent": np.full(count, -1),
    }


def _limiters(rng: np.random.Generator, columns: dict[str, Ints]) -> Ints:
    """Return for half of the exchanges the live workload token of the requesting agent."""
    limiter = np.full(len(columns["profile"]), -1)
    wanted = (columns["parent"] >= 0) & (columns["person"] >= 0)
    wanted &= rng.random(len(limiter)) < ACTOR_TOKEN_SHARE
    for agent, number in AGENT_TOKENS.items():
        tokens = np.flatnonzero(columns["profile"] == number)
        holders = np.array([profile.holder == agent for profile in PROFILES])
        rows = np.flatnonzero(wanted & holders[columns["profile"]])
        place = np.searchsorted(columns["issued"][tokens], columns["issued"][rows], "right") - 1
        found = tokens[np.maximum(place, 0)]
        alive = (place >= 0) & (columns["expires"][found] > columns["issued"][rows] + SECOND)
        limiter[rows] = np.where(alive, found, -1)
    return limiter


def _credential_ids(rng: np.random.Generator, profile: Ints, count: int) -> pa.Array:
    ids = hex_ids(rng, count)
    keys = prefixed("ASIA", pa.compute.utf8_upper(hex_ids(rng, count, 16)))
    ids = choose(profile == CLOUD_KEY, keys, ids)
    return choose(profile == STATIC_KEY, constant("key-metrics-1", count), ids)


def issuing_events(rng: np.random.Generator, creds: Credentials) -> pa.RecordBatch:
    """Return one token event per credential that is seen issued, in the credentials' order."""
    rows = np.flatnonzero(creds.seen_issued())
    return family_batch("token_event", len(rows), _issuing_columns(rng, creds, rows))


def _issuing_columns(rng: np.random.Generator, creds: Credentials, rows: Ints) -> Columns:
    profile, count = creds.profile[rows], len(rows)
    cloud = profile == CLOUD_KEY
    human = creds.person[rows] >= 0
    root = human & (creds.parent[rows] < 0)
    columns = identity_columns(creds, rows) | credential_columns(creds, rows)
    issued, expires = times(creds.issued[rows]), times(creds.expires[rows])
    return columns | {
        "event_id": prefixed("t-", hex_ids(rng, count, 24)),
        "source": choose(cloud, constant(CLOUD_SOURCE, count), constant(AUTHZ_SOURCE, count)),
        "event_time": times(creds.issued[rows] + rng.integers(0, 900_000, count)),
        "observer": choose(cloud, constant("cloud_audit", count), constant("authz_server", count)),
        "op": pick([p.op for p in PROFILES], profile),
        "outcome": constant("success", count),
        "token_type": pick([p.token_type for p in PROFILES], profile),
        "grant_type": pick([p.grant for p in PROFILES], profile),
        "client_id": pick([p.holder for p in PROFILES], profile),
        "may_act": pick(_may_act(), profile, PAIRS),
        "scopes": pick([list(p.scopes) for p in PROFILES], profile, TEXTS),
        "scope_known": pa.array(~cloud),
        "requested_scopes": pick([list(p.scopes) for p in PROFILES], profile, TEXTS),
        "scope_dialect": choose(cloud, constant("aws", count), constant("exact", count)),
        "audience": pick([list(p.audience) for p in PROFILES], profile, TEXTS),
        "issued_at": issued,
        "expires_at": expires,
        "auth_time": choose(root, issued, None),
        "parents": _parents(creds, rows),
        "family_id": choose(human, prefixed("f-", creds.session.take(creds.task[rows])), None),
        "consent_id": choose(root, prefixed("c-", creds.session.take(creds.task[rows])), None),
        "max_depth": choose(root, constant(4, count, pa.int32()), None),
        "instruction_source": choose(human, constant("user", count), constant("agent", count)),
    }


def _may_act() -> list[list[dict[str, str]] | None]:
    return [
        [{"issuer": AUTHZ, "subject": p.next_actor}] if p.next_actor else None for p in PROFILES
    ]


def _parents(creds: Credentials, rows: Ints) -> pa.Array:
    count = len(rows)
    lists = []
    cloud = creds.profile[rows] == CLOUD_KEY
    roles = choose(cloud, constant("source", count), constant("subject", count))
    for role, parent in ((roles, creds.parent[rows]), (None, creds.limiter[rows])):
        members = {
            "role": constant("actor", count) if role is None else role,
            "issuer": constant(AUTHZ, count),
            "kind": constant("jti", count),
            "id": creds.ids.take(pa.array(np.maximum(parent, 0))),
        }
        lists.append(lists_of(members, parent >= 0))
    return two_lists(lists[0], lists[1])


def identity_columns(creds: Credentials, rows: Ints) -> Columns:
    """Return the envelope, subject and actor columns that calls and token events share."""
    profile, task, person = creds.profile[rows], creds.task[rows], creds.person[rows]
    count, human = len(rows), person >= 0
    own = pick([p.subject for p in PROFILES], profile)
    people = pick(PEOPLE, np.maximum(person, 0))
    subject = choose(human, people, own)
    acts = [[{"issuer": AUTHZ, "subject": a} for a in p.acts] for p in PROFILES]
    actor = pick([p.acts[0] if p.acts else None for p in PROFILES], profile)
    acted = np.array([bool(p.acts) for p in PROFILES])[profile]
    named = np.array([p.subject is not None for p in PROFILES])[profile]
    kinds = choose(human, constant("human", count), constant("workload", count))
    issuers = choose(human, constant(IDP, count), constant(AUTHZ, count))
    return {
        "tenant_id": constant(TENANT, count),
        "trust_domain": constant(TRUST_DOMAIN, count),
        "environment": constant("prod", count),
        "business_unit": pick([p.unit for p in PROFILES], profile),
        "trace_id": creds.trace.take(pa.array(task)),
        "session_id": creds.session.take(pa.array(task)),
        "subject_id": subject,
        "subject_issuer": choose(human | named, issuers, None),
        "subject_kind": choose(human | named, kinds, None),
        "actor_id": actor,
        "actor_issuer": choose(acted, constant(AUTHZ, count), None),
        "actor_convention": choose(acted, constant("act", count), constant("none", count)),
        "act_chain": pick(acts, profile, PAIRS),
    }


def credential_columns(creds: Credentials, rows: Ints) -> Columns:
    """Return the three columns that name a credential."""
    profile = creds.profile[rows]
    return {
        "credential_issuer": pick([p.issuer for p in PROFILES], profile),
        "credential_kind": pick([p.kind for p in PROFILES], profile),
        "credential_id": creds.ids.take(pa.array(rows)),
    }


def closing_events(rng: np.random.Generator, creds: Credentials, share: float) -> pa.RecordBatch:
    """Return revocations of a share of the people's grants, after their last possible use."""
    roots = np.flatnonzero((creds.person >= 0) & (creds.parent < 0))
    rows = roots[rng.random(len(roots)) < share]
    count = len(rows)
    columns = identity_columns(creds, rows) | credential_columns(creds, rows)
    columns |= {
        "event_id": prefixed("r-", hex_ids(rng, count, 24)),
        "source": constant(AUTHZ_SOURCE, count),
        "event_time": times(creds.issued[rows] + 1300 * SECOND),
        "observer": constant("authz_server", count),
        "op": constant("revoke", count),
        "outcome": constant("success", count),
        "client_id": pick([p.holder for p in PROFILES], creds.profile[rows]),
        "revoke_target": constant("token", count),
        "revoke_reason": constant("task_done", count),
    }
    return family_batch("token_event", count, columns)

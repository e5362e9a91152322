"""The tool calls and secret events of one slice of ordinary traffic.

A call is made by its token's actor, within its token's life, and needs a scope
that the token holds; the few that ask for more are denied.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.demo.columns import (
    SECOND,
    Columns,
    Ints,
    choose,
    constant,
    family_batch,
    hex_ids,
    numbered,
    pick,
    prefixed,
    take_rows,
    times,
)
from pipeline.demo.company import (
    AUTHZ,
    CLOUD_SOURCE,
    CLOUD_TOOL,
    GATEWAY_SOURCE,
    RUNTIME_SOURCE,
    SCANNER_SOURCE,
    TENANT,
    TRUST_DOMAIN,
    VAULT_SOURCE,
    WORKS,
    Tool,
    workload,
)
from pipeline.demo.credentials import (
    TEXTS,
    Credentials,
    Slice,
    credential_columns,
    identity_columns,
)
from pipeline.demo.profiles import CLOUD_KEY, FOREIGN, PROFILES, SERVICE, STATIC_KEY

TOOLS: tuple[Tool, ...] = tuple(dict.fromkeys(t for p in PROFILES for t in p.tools))
SERVERS = {CLOUD_TOOL: "s3.amazonaws.com"}
OUTCOMES = ("success", "failure", "timeout", "denied")
OUTCOME_SHARES = (0.93, 0.04, 0.01, 0.02)
LONERS = (SERVICE, CLOUD_KEY, STATIC_KEY, FOREIGN)
LONER_SHARES = (0.04, 0.03, 0.02, 0.01)
OBSERVED_TWICE, WITHOUT_CREDENTIAL, PROOF_SHARE = 0.06, 0.03, 0.3
DAY = 86_400 * SECOND
SECRETS = 24


def make_calls(
    rng: np.random.Generator, creds: Credentials, span: Slice, count: int
) -> pa.RecordBatch:
    """Return exactly `count` calls made with the slice's credentials."""
    twice = int(count * OBSERVED_TWICE)
    rows = _choose_credentials(rng, creds, count - twice)
    calls = _call_columns(rng, creds, rows, _call_times(rng, creds, rows, span))
    batch = family_batch("tool_call", len(rows), calls)
    again = rng.choice(len(rows), twice, replace=False)
    return pa.concat_batches([batch, _seen_by_runtime(rng, take_rows(batch, again))])


def _choose_credentials(rng: np.random.Generator, creds: Credentials, count: int) -> Ints:
    task = rng.integers(0, len(creds.at), count)
    deepest = (creds.at >= 0).sum(axis=1)[task] - 1
    level = np.maximum(deepest - rng.geometric(0.55, count) + 1, 0)
    rows: Ints = creds.at[task, level]
    other = rng.choice(len(LONERS) + 1, count, p=(*LONER_SHARES, 1 - sum(LONER_SHARES)))
    for number, profile in enumerate(LONERS):
        held = np.flatnonzero(creds.profile == profile)
        mine = other == number
        rows[mine] = rng.choice(held, int(mine.sum()))
    return rows


def _call_times(rng: np.random.Generator, creds: Credentials, rows: Ints, span: Slice) -> Ints:
    first = creds.issued[rows] + SECOND
    last = np.minimum(creds.expires[rows] - 2 * SECOND, creds.issued[rows] + 1200 * SECOND)
    known = creds.seen_issued()[rows]
    first = np.where(known, first, span.begin)
    last = np.where(known, last, span.end)
    return (first + rng.random(len(rows)) * (last - first)).astype(np.int64)


def _choose_tools(rng: np.random.Generator, profile: Ints) -> Ints:
    """Return for each call a tool that its profile may use."""
    widest = max(len(p.tools) for p in PROFILES)
    table = np.zeros((len(PROFILES), widest), dtype=np.int64)
    sizes = np.ones(len(PROFILES), dtype=np.int64)
    for number, held in enumerate(PROFILES):
        if held.tools:
            places = [TOOLS.index(tool) for tool in held.tools]
            table[number, : len(places)] = places
            sizes[number] = len(places)
    drawn = (rng.random(len(profile)) * sizes[profile]).astype(np.int64)
    return table[profile, drawn]


def _call_columns(rng: np.random.Generator, creds: Credentials, rows: Ints, when: Ints) -> Columns:
    profile, count = creds.profile[rows], len(rows)
    tool = _choose_tools(rng, profile)
    cloud = profile == CLOUD_KEY
    outcome = rng.choice(len(OUTCOMES), count, p=OUTCOME_SHARES)
    denied = outcome == OUTCOMES.index("denied")
    needed = pick([[t.scope] for t in TOOLS], tool, TEXTS)
    # What is denied asks for more than the token holds: the control working.
    needed = choose(denied, constant(["admin.manage"], count, TEXTS), needed)
    instance = prefixed("i-", creds.session.take(pa.array(creds.task[rows])))
    source = choose(cloud, constant(CLOUD_SOURCE, count), constant(GATEWAY_SOURCE, count))
    columns = identity_columns(creds, rows) | credential_columns(creds, rows)
    columns |= {
        "event_id": prefixed("c-", hex_ids(rng, count, 24)),
        "source": source,
        "event_time": times(when),
        "observer": choose(cloud, constant("cloud_audit", count), constant("gateway", count)),
        "span_id": hex_ids(rng, count, 16),
        "call_id": prefixed("call-", hex_ids(rng, count, 16)),
        "tool_name": pick([t.name for t in TOOLS], tool),
        "operation": pick([t.action for t in TOOLS], tool),
        "outcome": pick(OUTCOMES, outcome),
        "agent_id": pick([p.holder for p in PROFILES], profile),
        "agent_issuer": constant(AUTHZ, count),
        "agent_instance": instance,
        "agent_version": constant("2026.11", count),
        "tool_server": pick([SERVERS.get(t, t.server) for t in TOOLS], tool),
        "tool_protocol": pick([p.protocol for p in PROFILES], profile),
        "resource": pick([t.resource for t in TOOLS], tool),
        "resource_sensitivity": pick([t.sensitivity for t in TOOLS], tool, pa.int32()),
        "action_class": pick([t.action for t in TOOLS], tool),
        "required_scopes": needed,
        "decision_effect": choose(denied, constant("deny", count), constant("allow", count)),
        "decision_policy": constant("gateway-default", count),
        "presented_audience": pick([list(p.audience) for p in PROFILES], profile, TEXTS),
        "presented_scopes": pick([list(p.scopes) for p in PROFILES], profile, TEXTS),
        "workload_id": pick([workload(p.holder) for p in PROFILES], profile),
        "src_ip": numbered("10.0.4.", rng.integers(2, 250, count)),
        "args_hash": hex_ids(rng, count, 64),
        "instruction_source": pick(
            ("user", "agent", "document", "tool_result"),
            rng.choice(4, count, p=(0.5, 0.3, 0.1, 0.1)),
        ),
        "single_use_id": choose(
            rng.random(count) < PROOF_SHARE, prefixed("dpop-", hex_ids(rng, count, 24)), None
        ),
    }
    return _without_credential(rng, creds, rows, columns)


def _without_credential(
    rng: np.random.Generator, creds: Credentials, rows: Ints, columns: Columns
) -> Columns:
    """Turn a few calls into in-process ones, which need no credential."""
    count = len(rows)
    holds_grant = creds.profile[rows] < len(WORKS) * 5
    local = (rng.random(count) < WITHOUT_CREDENTIAL) & holds_grant
    empty = constant([], count, TEXTS)
    changed: dict[str, pa.Array | None] = {
        "source": constant(RUNTIME_SOURCE, count),
        "observer": constant("agent_runtime", count),
        "tool_protocol": constant("function", count),
        "tool_name": constant("scratchpad.note", count),
        "tool_server": None,
        "operation": constant("write", count),
        "resource": None,
        "action_class": constant("write", count),
        "required_scopes": empty,
        "outcome": constant("success", count),
        "decision_effect": constant("none", count),
        "decision_policy": None,
        "presented_audience": empty,
        "presented_scopes": empty,
        "credential_issuer": None,
        "credential_kind": None,
        "credential_id": None,
        "single_use_id": None,
    }
    return columns | {name: choose(local, new, columns[name]) for name, new in changed.items()}


def _seen_by_runtime(rng: np.random.Generator, calls: pa.RecordBatch) -> pa.RecordBatch:
    """Return the same calls as the agent's own runtime reports them."""
    count = calls.num_rows
    later = pc.add(
        calls["event_time"].cast(pa.int64()), pa.array(rng.integers(1_000, 90_000, count))
    )
    changed = {
        "event_id": prefixed("o-", hex_ids(rng, count, 24)),
        "source": constant(RUNTIME_SOURCE, count),
        "event_time": times(later.to_numpy(zero_copy_only=False)),
        "observer": constant("agent_runtime", count),
        "phase": constant("post", count),
        "span_id": hex_ids(rng, count, 16),
        "parent_span_id": calls["span_id"],
        "decision_effect": constant("none", count),
        # The proof belongs to the request at the gateway; the runtime does not see it.
        "single_use_id": constant(None, count, pa.string()),
    }
    arrays = [changed.get(field.name, calls[field.name]) for field in calls.schema]
    return pa.RecordBatch.from_arrays(arrays, schema=calls.schema)


def make_secret_events(
    rng: np.random.Generator, span: Slice, now: int, reads: int
) -> pa.RecordBatch:
    """Return one inventory of the company's static secrets and some reads of them."""
    which = np.concatenate([np.arange(SECRETS), rng.integers(0, SECRETS, reads)])
    count = len(which)
    read = np.arange(count) >= SECRETS
    when = np.where(read, rng.integers(span.begin, span.end, count), span.begin)
    # The age follows from the secret's number, so that every inventory says the same.
    rotated = now - (1 + which % 20) * DAY
    holders = sorted({p.holder for p in PROFILES[:15]})
    holder = which % len(holders)
    reader = pick(holders, holder)
    columns = {
        "event_id": prefixed("s-", hex_ids(rng, count, 24)),
        "source": choose(read, constant(VAULT_SOURCE, count), constant(SCANNER_SOURCE, count)),
        "event_time": times(when),
        "observer": choose(read, constant("secret_store", count), constant("scanner", count)),
        "tenant_id": constant(TENANT, count),
        "trust_domain": constant(TRUST_DOMAIN, count),
        "environment": constant("prod", count),
        "op": choose(read, constant("read", count), constant("inventory", count)),
        "secret_id": numbered("kv/app/", which),
        "secret_version": constant("3", count),
        "secret_kind": constant("client_secret", count),
        "store": constant("vault", count),
        "bound_identity_id": reader,
        "bound_identity_issuer": constant(AUTHZ, count),
        "accessed_by_id": choose(read, reader, None),
        "accessed_by_issuer": choose(read, constant(AUTHZ, count), None),
        "created_at": times(rotated - 120 * DAY),
        "last_rotated_at": times(rotated),
        "expires_at": times(rotated + 60 * DAY),
        "consumers": pick([[h] for h in holders], holder, TEXTS),
        "fingerprint": numbered("fp-", which),
        "snapshot_complete": choose(read, None, constant(True, count, pa.bool_())),
    }
    return family_batch("secret_event", count, columns)

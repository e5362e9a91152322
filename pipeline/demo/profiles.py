"""Every kind of credential that ordinary traffic uses, as pools indexed by profile.

A profile is one row: who holds it, what it allows, where it may be used, how it
was made.  The generator gives each credential a profile number and takes every
column from these pools by that number.
"""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.demo.company import (
    AGENTS,
    AUTHZ,
    CLOUD,
    CLOUD_TOOL,
    INDEX_AUDIENCE,
    INDEX_SCOPES,
    INDEX_TOOL,
    KEYS,
    LEVELS,
    METRICS_TOOL,
    PARTNER,
    PARTNER_TOOL,
    WORKS,
    Tool,
    Work,
    ceiling,
)


@dataclass(frozen=True)
class Profile:
    """What all credentials of one kind have in common; `lives_s` are their lifetimes."""

    holder: str
    op: str
    grant: str
    scopes: tuple[str, ...]
    audience: tuple[str, ...]
    tools: tuple[Tool, ...]
    lives_s: tuple[int, ...]
    acts: tuple[str, ...] = ()
    next_actor: str | None = None
    issuer: str = AUTHZ
    kind: str = "jti"
    token_type: str = "access_token"  # noqa: S105 - the name of a type
    unit: str = "engineering"
    protocol: str = "mcp_http"
    subject: str | None = None


def _acts(work: Work, level: int) -> tuple[str, ...]:
    """Return the act chain of a level, current actor first, an actor once per change."""
    chain: list[str] = []
    for actor in work.actors[1 : level + 1]:
        if not chain or chain[0] != actor:
            chain.insert(0, actor)
    return tuple(chain)


def _work_profile(work: Work, level: int) -> Profile:
    following = work.actors[level + 1] if level + 1 < LEVELS else None
    return Profile(
        holder=work.actors[level],
        op="exchange" if level else "issue",
        grant="urn:ietf:params:oauth:grant-type:token-exchange" if level else "authorization_code",
        scopes=work.scopes[level],
        audience=work.audiences[level],
        tools=tuple(work.tools[i] for i in work.tools_at(level)),
        lives_s=(300, 600, 900) if level else (3600,),
        acts=_acts(work, level),
        next_actor=following,
        unit=work.unit,
    )


PROFILES: tuple[Profile, ...] = (
    *(_work_profile(work, level) for work in WORKS for level in range(LEVELS)),
    Profile(
        "indexer",
        "issue",
        "client_credentials",
        INDEX_SCOPES,
        INDEX_AUDIENCE,
        (INDEX_TOOL,),
        (1800, 3600),
    ),
    Profile(
        "infra",
        "issue",
        "client_credentials",
        ("cloud.assume",),
        ("https://sts.acme.example",),
        (),
        (3600,),
        subject="infra",
    ),
    Profile(
        "infra",
        "assume",
        "assume_role",
        (),
        (),
        (CLOUD_TOOL,),
        (900,),
        issuer=CLOUD,
        kind="access_key_id",
        token_type="aws_session",  # noqa: S106 - the name of a type
        protocol="cloud_api",
        subject="infra",
    ),
    Profile(
        "metrics",
        "use",
        "",
        ("metrics.write",),
        ("https://metrics.acme.example",),
        (METRICS_TOOL,),
        (0,),
        issuer=KEYS,
        kind="api_key_id",
        protocol="http",
    ),
    Profile(
        "partner-orders",
        "use",
        "",
        ("orders.read",),
        ("https://orders.acme.example",),
        (PARTNER_TOOL,),
        (0,),
        issuer=PARTNER,
        protocol="http",
    ),
    *(
        Profile(
            agent,
            "issue",
            "client_credentials",
            ceiling(agent),
            (AUTHZ,),
            (),
            (3600,),
            token_type="workload_token",  # noqa: S106 - the name of a type
            subject=agent,
        )
        for agent in AGENTS[:8]
    ),
)

SERVICE, CLOUD_ROOT, CLOUD_KEY, STATIC_KEY, FOREIGN = range(15, 20)
AGENT_TOKENS = {
    profile.holder: number for number, profile in enumerate(PROFILES) if number > FOREIGN
}


def work_profile(work: int, level: int) -> int:
    """Return the profile number of a level of a kind of work."""
    return work * LEVELS + level

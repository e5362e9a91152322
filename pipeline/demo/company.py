"""The company whose traffic the generator writes: people, agents, work and its limits.

Data only.  `registry/` beside this file says the same to the detections; a test
holds the two together.
"""

from __future__ import annotations

from dataclasses import dataclass

TENANT = "acme"
TRUST_DOMAIN = "acme.example"
IDP = "https://idp.acme.example"
AUTHZ = "https://as.acme.example"
PARTNER = "https://as.partner.example"
CLOUD = "sts.amazonaws.com"
KEYS = "https://keys.acme.example"

GATEWAY_SOURCE = "urn:acme:gateway"
AUTHZ_SOURCE = "urn:acme:as"
RUNTIME_SOURCE = "urn:acme:agent-runtime"
CLOUD_SOURCE = "urn:acme:cloudtrail"
VAULT_SOURCE = "urn:acme:vault"
SCANNER_SOURCE = "urn:acme:secret-scanner"

PEOPLE = tuple(
    f"{name}@acme.example"
    for name in (
        *("alice", "bob", "carol", "dave", "erin", "frank", "grace", "heidi", "ivan", "judy"),
        *("mallory", "niaj", "olivia", "peggy", "quentin", "rupert", "sybil", "trent", "uma"),
        *("victor", "wendy", "xavier", "yvonne", "zoe"),
    )
)
UNITS = ("engineering", "support", "finance")


@dataclass(frozen=True)
class Tool:
    """One tool and what a call of it needs."""

    name: str
    scope: str
    action: str
    resource: str
    sensitivity: int
    served_by: str = ""
    """The service that offers it, where that is not the first part of its name."""

    @property
    def server(self) -> str:
        """Return the resource server, in the form that audiences have."""
        return f"https://{self.served_by or self.name.split('.')[0]}.acme.example"


@dataclass(frozen=True)
class Work:
    """One kind of task: who acts at each level, and what each level may still do.

    Level 0 is the person's own grant, held by the first agent; each further level
    is one exchange.  The last level keeps the actor and only narrows.
    """

    name: str
    unit: str
    actors: tuple[str, ...]
    scopes: tuple[tuple[str, ...], ...]
    audiences: tuple[tuple[str, ...], ...]
    tools: tuple[Tool, ...]

    def tools_at(self, level: int) -> list[int]:
        """Return the positions of the tools that a level's scopes allow."""
        return [i for i, tool in enumerate(self.tools) if tool.scope in self.scopes[level]]


FEATURE = Work(
    "feature",
    "engineering",
    ("planner", "planner", "coder", "deployer", "deployer"),
    (
        ("tickets.read", "repo.read", "repo.write", "build.run", "deploy.stage"),
        ("tickets.read", "repo.read", "repo.write", "build.run", "deploy.stage"),
        ("repo.read", "repo.write", "build.run", "deploy.stage"),
        ("repo.read", "build.run", "deploy.stage"),
        ("repo.read", "build.run"),
    ),
    (
        ("https://tickets.acme.example", "https://repo.acme.example", "https://ci.acme.example"),
        ("https://tickets.acme.example", "https://repo.acme.example", "https://ci.acme.example"),
        ("https://repo.acme.example", "https://ci.acme.example"),
        ("https://repo.acme.example", "https://ci.acme.example"),
        ("https://repo.acme.example", "https://ci.acme.example"),
    ),
    (
        Tool("tickets.search", "tickets.read", "read", "ticket/board", 1),
        Tool("repo.get_file", "repo.read", "read", "repo/web", 1),
        Tool("repo.open_pull", "repo.write", "write", "repo/web", 1),
        Tool("ci.run_tests", "build.run", "write", "ci/web", 1),
        Tool("ci.deploy_stage", "deploy.stage", "write", "stage/web", 2),
    ),
)
SUPPORT = Work(
    "support",
    "support",
    ("support", "support", "researcher", "mailer", "mailer"),
    (
        ("tickets.read", "tickets.write", "crm.read", "docs.read", "mail.draft"),
        ("tickets.read", "tickets.write", "crm.read", "docs.read", "mail.draft"),
        ("crm.read", "docs.read", "mail.draft"),
        ("crm.read", "docs.read", "mail.draft"),
        ("docs.read", "mail.draft"),
    ),
    (
        ("https://tickets.acme.example", "https://crm.acme.example", "https://mail.acme.example"),
        ("https://tickets.acme.example", "https://crm.acme.example", "https://mail.acme.example"),
        ("https://crm.acme.example", "https://mail.acme.example"),
        ("https://crm.acme.example", "https://mail.acme.example"),
        ("https://crm.acme.example", "https://mail.acme.example"),
    ),
    (
        Tool("tickets.get", "tickets.read", "read", "ticket/queue", 1),
        Tool("tickets.reply", "tickets.write", "write", "ticket/queue", 1),
        Tool("crm.lookup", "crm.read", "read", "crm/customer", 2),
        Tool("docs.search", "docs.read", "read", "docs/handbook", 0, "crm"),
        Tool("mail.save_draft", "mail.draft", "write", "mail/drafts", 1),
    ),
)
CLOSING = Work(
    "closing",
    "finance",
    ("analyst", "analyst", "researcher", "reporter", "reporter"),
    (
        ("ledger.read", "docs.read", "reports.write", "warehouse.query"),
        ("ledger.read", "docs.read", "reports.write", "warehouse.query"),
        ("ledger.read", "reports.write", "warehouse.query"),
        ("reports.write", "warehouse.query"),
        ("reports.write",),
    ),
    (
        ("https://ledger.acme.example", "https://warehouse.acme.example"),
        ("https://ledger.acme.example", "https://warehouse.acme.example"),
        ("https://ledger.acme.example", "https://warehouse.acme.example"),
        ("https://warehouse.acme.example",),
        ("https://warehouse.acme.example",),
    ),
    (
        Tool("ledger.list_entries", "ledger.read", "read", "ledger/2026", 2),
        Tool("docs.search", "docs.read", "read", "docs/policies", 0, "ledger"),
        Tool("reports.save", "reports.write", "write", "reports/closing", 1, "warehouse"),
        Tool("warehouse.select", "warehouse.query", "read", "warehouse/finance", 2),
    ),
)
WORKS = (FEATURE, SUPPORT, CLOSING)
LEVELS = 5

# Agents that act on their own, without a person behind them.
AUTONOMOUS = ("indexer", "infra")
STATIC_KEY_AGENTS = ("metrics",)
AGENTS = (
    "planner",
    "coder",
    "deployer",
    "support",
    "researcher",
    "mailer",
    "analyst",
    "reporter",
    "billing",
    *AUTONOMOUS,
    *STATIC_KEY_AGENTS,
    "exporter-a",
    "exporter-b",
)

INDEX_SCOPES = ("search.index",)
INDEX_AUDIENCE = ("https://search.acme.example", "https://mail.acme.example")
INDEX_TOOL = Tool("search.put_document", "search.index", "write", "search/docs", 0)
CLOUD_TOOL = Tool("s3:GetObject", "s3:GetObject", "read", "arn:aws:s3:::acme-artifacts", 1)
METRICS_TOOL = Tool("metrics.push", "metrics.write", "write", "metrics/app", 0)
PARTNER_TOOL = Tool("orders.status", "orders.read", "read", "orders/partner", 1)


def workload(agent: str) -> str:
    """Return the SPIFFE id that all instances of an agent share."""
    return f"spiffe://{TRUST_DOMAIN}/agent/{agent}"


def ceiling(agent: str) -> tuple[str, ...]:
    """Return every scope that ordinary work lets an agent hold, sorted."""
    held = {
        s
        for work in WORKS
        for a, scopes in zip(work.actors, work.scopes, strict=True)
        if a == agent
        for s in scopes
    }
    if agent == "indexer":
        held.update(INDEX_SCOPES)
    return tuple(sorted(held))

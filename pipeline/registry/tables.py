"""The `reg_*` tables: what rules and the chain build join, with fixed Arrow types.

Limits of the class are filled in here, so no query has to know about classes.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pyarrow as pa

from pipeline.registry.columns import ALWAYS, SCHEMAS
from pipeline.registry.decisions import Row, Sections, decide
from pipeline.registry.owners import owner_rows
from pipeline.registry.periods import (
    Version,
    class_periods,
    exception_periods,
    identity_periods,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pipeline.registry.read import Entry

_ISSUER_DEFAULTS = {
    "has_hierarchy": False,
    "bare_wildcard": False,
    "foreign_without_logs": False,
    "single_use": False,
    "revocation_cascades": True,
}


def build_tables(sections: Sections) -> dict[str, pa.Table]:
    """Return every `reg_*` table; a section that is not there gives an empty one.

    Those with periods know no version but this one; see `period_tables`.
    """
    agents = sections.get("agents", [])
    decisions = decide(sections)
    rows: dict[str, Iterable[Row]] = {
        "reg_identities": [said.now for said in decisions.identities.values()],
        "reg_classes": [said.now for said in decisions.classes.values()],
        "reg_owners": owner_rows(sections),
        "reg_aliases": _owned(agents, "aliases"),
        "reg_credential_ids": _owned(agents, "credential_ids"),
        "reg_names": _names(agents),
        "reg_ignored_clients": _plain(sections, "ignored_clients"),
        "reg_break_glass": _owned(agents, "break_glass"),
        "reg_group_members": [
            {"group_name": entry.name, "member": member}
            for entry in sections.get("groups", [])
            for member in entry.values["members"]
        ],
        "reg_role_edges": _plain(sections, "role_edges"),
        "reg_resource_aliases": [
            {"server": entry.name, "alias": alias}
            for entry in sections.get("resource_servers", [])
            for alias in entry.values["aliases"]
        ],
        "reg_egress": [
            {"identity_id": row.get("identity"), "ip_prefix": row["ip_prefix"]}
            for row in _plain(sections, "egress")
        ],
        "reg_sources": _named(sections, "sources", "source"),
        "reg_people": _named(sections, "people", "principal"),
        "reg_signoffs": _plain(sections, "signoffs"),
        "reg_trust_edges": _plain(sections, "trust_edges"),
        "reg_delegation_records": [
            {"status": "active"} | row for row in _named(sections, "delegation_records", "id")
        ],
        "reg_scope_implications": [
            row | {"implies": implied}
            for row in _plain(sections, "implications")
            for implied in row["implies"]
        ],
        "reg_scope_tiers": _plain(sections, "tiers"),
        "reg_scope_maps": _plain(sections, "maps"),
        "reg_issuers": [_ISSUER_DEFAULTS | row for row in _named(sections, "issuers", "issuer")],
        "reg_identity_maps": _plain(sections, "identity_maps"),
        "reg_suppressions": [
            row | {"predicate": json.dumps(row["predicate"], sort_keys=True)}
            for row in _named(sections, "suppressions", "id")
        ],
    }
    alone = period_tables([Version("", ALWAYS[0], decisions)])
    return {name: alone[name] if name in alone else _table(name, rows[name]) for name in SCHEMAS}


def period_tables(versions: Sequence[Version]) -> dict[str, pa.Table]:
    """Return the tables whose rows say when they held, oldest version first."""
    identities = identity_periods(versions)
    return {
        "reg_identities_as_of": _table("reg_identities_as_of", identities),
        "reg_classes_as_of": _table("reg_classes_as_of", class_periods(versions)),
        "reg_static_exceptions": _table("reg_static_exceptions", exception_periods(identities)),
    }


def _table(name: str, rows: Iterable[Row]) -> pa.Table:
    return pa.Table.from_pylist(list(rows), schema=SCHEMAS[name])


def _names(agents: list[Entry]) -> list[Row]:
    names = {(agent.name, None, agent.name) for agent in agents}
    names |= {(a["identity_id"], a.get("issuer"), a["subject"]) for a in _owned(agents, "aliases")}
    return [
        {"identity_id": identity, "issuer": issuer, "name": name}
        for identity, issuer, name in sorted(names, key=lambda n: (n[0], n[1] or "", n[2]))
    ]


def _owned(agents: list[Entry], key: str) -> list[Row]:
    return [
        entry.values | {"identity_id": agent.name}
        for agent in agents
        for entry in agent.values.get(key, [])
    ]


def _plain(sections: Sections, section: str) -> list[Row]:
    return [entry.values for entry in sections.get(section, [])]


def _named(sections: Sections, section: str, name: str) -> list[Row]:
    return [entry.values | {name: entry.name} for entry in sections.get(section, [])]

"""One name of the registry with all that follows from it, as a person wants to read it."""

from __future__ import annotations

from datetime import timedelta
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from pipeline.errors import QueryError
from pipeline.registry.check import find_warnings, signoff_state
from pipeline.registry.columns import ALWAYS
from pipeline.registry.decisions import plain, scope_hash
from pipeline.registry.owners import ROLES, Answering
from pipeline.registry.shapes import LIMITS

if TYPE_CHECKING:
    from datetime import datetime

    from pipeline.registry.decisions import Row, Sections
    from pipeline.registry.load import Registry
    from pipeline.registry.read import Entry

_SIMPLE = {
    "people": "person",
    "groups": "group",
    "issuers": "issuer",
    "resource_servers": "resource server",
    "delegation_records": "delegation record",
    "sources": "source",
    "suppressions": "suppression",
}
_OTHERWISE = (
    "history",
    *ROLES.values(),
    "static_secret_exceptions",
    "static_secret_exception_until",
)


def show(registry: Registry, name: str, as_of: datetime) -> list[Row]:
    """Return everything that bears this name, an alias or a credential id included.

    Raises:
        QueryError: nothing does; it names what comes near.
    """
    sections = registry.sections
    found = [
        _identity(registry, agent, as_of)
        for agent in sections.get("agents", [])
        if name in _names(agent)
    ]
    found += [
        _class(sections, entry, as_of)
        for entry in sections.get("classes", [])
        if entry.name == name
    ]
    found += [
        _simple(sections, section, entry, as_of)
        for section in _SIMPLE
        for entry in sections.get(section, [])
        if entry.name == name
    ]
    if not found:
        near = get_close_matches(name, sorted(_all_names(sections)), n=3)
        hint = f"; did you mean {' or '.join(near)}?" if near else ""
        raise QueryError(f'the registry has nothing named "{name}"{hint}')
    return found


def _names(agent: Entry) -> set[str]:
    aliases = {entry.values["subject"] for entry in agent.values.get("aliases", [])}
    held = {entry.values["id"] for entry in agent.values.get("credential_ids", [])}
    return {agent.name} | aliases | held


def _all_names(sections: Sections) -> set[str]:
    names = {e.name for s in ("classes", *_SIMPLE) for e in sections.get(s, [])}
    return names.union(*(_names(agent) for agent in sections.get("agents", [])))


def _identity(registry: Registry, agent: Entry, as_of: datetime) -> Row:
    sections = registry.sections
    classes = {entry.name: entry for entry in sections.get("classes", [])}
    own = classes.get(agent.values.get("class", ""))
    return {
        **_head("identity", agent),
        "is": {
            key: plain(value)
            for key, value in agent.values.items()
            if key not in LIMITS and key not in _OTHERWISE
        },
        "limits": _limits(agent, own),
        "owners": _owners(sections, agent),
        "class": _class(sections, own, as_of) if own else None,
        "exceptions": _exceptions(registry, agent.name, as_of),
        "history": _history(registry, agent.name),
        "warnings": _warnings(sections, agent, as_of),
    }


def _limits(agent: Entry, own: Entry | None) -> Row:
    limits = {}
    for key in LIMITS:
        for entry, said_by in ((agent, "the agent"), (own, f"class {own.name}" if own else "")):
            if entry is not None and key in entry.values:
                limits[key] = {"value": entry.values[key], "said_by": said_by}
                break
    return limits


def _owners(sections: Sections, agent: Entry) -> list[Row]:
    answering = Answering(sections)
    named = [(role, agent.values.get(key)) for role, key in ROLES.items()]
    if "backup_owner" in agent.values:
        named.append(("backup", agent.values["backup_owner"]))
    return [
        {
            "role": role,
            "owner": owner,
            "is_accountable": answering.is_accountable(owner),
            "state": answering.describe(owner),
        }
        for role, owner in named
    ]


def _class(sections: Sections, entry: Entry, as_of: datetime) -> Row:
    signed = [
        plain(s.values) | {"state": signoff_state(s, entry, as_of)}
        for s in sections.get("signoffs", [])
        if s.values["class"] == entry.name
    ]
    valid = {s.get("role") for s in signed if s["state"] == "valid"}
    return {
        **_head("class", entry),
        "is": {key: value for key, value in entry.values.items() if key not in LIMITS},
        "limits": {k: {"value": v} for k, v in entry.values.items() if k in LIMITS},
        "scope_hash": scope_hash(entry.values),
        "signoffs": signed,
        "roles_missing": [r for r in entry.values.get("signoff_roles", []) if r not in valid],
        "used_by": [
            agent.name
            for agent in sections.get("agents", [])
            if agent.values.get("class") == entry.name
        ],
    }


def _exceptions(registry: Registry, name: str, as_of: datetime) -> list[Row]:
    rows = registry.tables()["reg_static_exceptions"].to_pylist()
    return [
        {key: value for key, value in row.items() if key != "identity_id"}
        | {
            "since": _start(row["since"]),
            "days_left": max(0, -((as_of - row["until"]) // timedelta(days=1))),
        }
        for row in rows
        if row["identity_id"] == name
    ]


def _history(registry: Registry, name: str) -> list[Row]:
    """Return each period with what was otherwise than in the present state, newest first."""
    now = {r["identity_id"]: r for r in registry.tables()["reg_identities"].to_pylist()}[name]
    rows = registry.tables()["reg_identities_as_of"].to_pylist()
    return [
        {
            "from": _start(row["valid_from"]),
            "to": None if row["valid_to"] == ALWAYS[1] else row["valid_to"],
            "otherwise": {key: row[key] for key in now if row[key] != now[key]},
        }
        for row in reversed(rows)
        if row["identity_id"] == name
    ]


def _simple(sections: Sections, section: str, entry: Entry, as_of: datetime) -> Row:
    answering = Answering(sections)
    owner = entry.values.get("owner")
    owners = [
        {
            "role": "owner",
            "owner": owner,
            "is_accountable": answering.is_accountable(owner),
            "state": answering.describe(owner),
        }
    ]
    return {
        **_head(_SIMPLE[section], entry),
        "is": plain(entry.values),
        "owners": owners if owner else [],
        "warnings": _warnings(sections, entry, as_of),
    }


def _warnings(sections: Sections, entry: Entry, as_of: datetime) -> list[str]:
    inner = [e for v in entry.values.values() if isinstance(v, list) for e in v]
    lines = {*entry.lines.values(), entry.line}
    lines |= {line for e in inner if hasattr(e, "lines") for line in (*e.lines.values(), e.line)}
    return [
        warned.message
        for warned in find_warnings(sections, as_of)
        if warned.file == entry.file and warned.line in lines
    ]


def _head(kind: str, entry: Entry) -> Row:
    return {"type": kind, "id": entry.name, "file": entry.file, "line": entry.line}


def _start(time: Any) -> Any:
    return None if time == ALWAYS[0] else time

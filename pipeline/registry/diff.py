"""What changed between two registries, entry by entry, and what of it widens authority.

A change widens when something is allowed, or passes unseen, that was not before:
that is what a reviewer must look at first.  Agents are compared with what they
inherit, so that a change of class shows what it does to each of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pipeline.registry.decisions import plain, scope_hash
from pipeline.registry.shapes import FILES, LIMITS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pipeline.registry.decisions import Row, Sections
    from pipeline.registry.load import Registry
    from pipeline.registry.read import Entry

# What tells the entries of a list apart; all others are named.
_NAMED_BY = {
    "ignored_clients": ("issuer", "subject"),
    "signoffs": ("class", "version", "role", "approver", "signed_at"),
    "trust_edges": ("from_domain", "to_domain", "issuer"),
    "role_edges": ("source", "target", "account"),
    "egress": ("identity", "ip_prefix"),
    "identity_maps": ("from_issuer", "from_subject", "to_issuer", "to_subject"),
    "implications": ("issuer", "audience", "scope"),
    "tiers": ("issuer", "audience", "scope"),
    "maps": (
        *("from_issuer", "from_audience", "from_scope"),
        *("to_issuer", "to_audience", "to_scope"),
    ),
}
# Sections whose every new entry allows or hides something.
_GRANTING = frozenset(
    (
        *("agents", "ignored_clients", "trust_edges", "role_edges", "delegation_records"),
        *("identity_maps", "implications", "maps", "suppressions", "egress", "resource_servers"),
    )
)


def _more(old: Any, new: Any) -> bool:
    return not set(new or []) <= set(old or [])


def _more_or_unlimited(old: Any, new: Any) -> bool:
    return old is not None and (new is None or _more(old, new))


def _fewer(old: Any, new: Any) -> bool:
    return _more(new, old)


def _higher(old: Any, new: Any) -> bool:
    return new is not None and (old is None or new > old)


def _higher_or_unlimited(old: Any, new: Any) -> bool:
    return old is not None and (new is None or new > old)


def _lower_or_none(old: Any, new: Any) -> bool:
    return old is not None and (new is None or new < old)


def _on(old: Any, new: Any) -> bool:
    return bool(new) and not old


def _off(old: Any, new: Any) -> bool:
    return _on(new, old)


def _unforbidden(old: Any, new: Any) -> bool:
    return old is False and new is not False


def _active(old: Any, new: Any) -> bool:
    return old not in (None, "active") and new in (None, "active")


def _taken_for_human(old: Any, new: Any) -> bool:
    return bool(old != "human" and new == "human")


def _gone(old: Any, new: Any) -> bool:
    return bool(old is not None and old != new)


def _any(_old: Any, _new: Any) -> bool:
    return True


def _new_entries(old: Any, new: Any) -> bool:
    return any(entry not in (old or []) for entry in new or [])


_LIMIT_WIDENS: Mapping[str, Callable[[Any, Any], bool]] = {
    **dict.fromkeys(
        (
            *("expected_tools", "expected_audiences", "scope_ceiling"),
            *("allowed_parents", "allowed_children"),
        ),
        _more_or_unlimited,
    ),
    **dict.fromkeys(
        ("max_depth", "max_fanout", "max_ttl_s", "max_renewal_s"), _higher_or_unlimited
    ),
    **dict.fromkeys(
        (
            *("human_root_required", "jit_required", "pop_required"),
            *("source_identity_required", "delegation_record_required"),
        ),
        _off,
    ),
    **dict.fromkeys(("ambient_tools", "approved_combinations"), _more),
    "approval_required_for": _fewer,
    "static_secret_allowed": _unforbidden,
    "background_sync": _on,
}
_WIDENS: Mapping[str, Mapping[str, Callable[[Any, Any], bool]]] = {
    "agents": {
        **_LIMIT_WIDENS,
        **dict.fromkeys(
            (
                *("business_units", "delegate_for", "vendor_accounts", "shared_units"),
                *("environments", "approved_secrets", "reentry_allowed_with"),
            ),
            _more,
        ),
        **dict.fromkeys(
            (
                *("static_secret_exception_until", "vendor_exception_until"),
                "impersonation_allowed_until",
            ),
            _higher,
        ),
        # Whoever bears a registered name is judged as the agent whose name it is.
        **dict.fromkeys(
            ("static_secret_exceptions", "break_glass", "aliases", "credential_ids"), _new_entries
        ),
        "kind": _taken_for_human,
        **dict.fromkeys(("is_broker", "pass_through", "seasonal"), _on),
        **dict.fromkeys(("valid_until", "review_due_at"), _higher_or_unlimited),
        "risk_tier": lambda old, new: old == "high" and new != "high",
        "status": _active,
        # Whoever rewrites the past may excuse it.
        "history": _any,
    },
    "classes": {
        **_LIMIT_WIDENS,
        "signoff_roles": _fewer,
        "risk_tier": lambda old, new: old == "high" and new != "high",
    },
    "issuers": {
        "max_ttl_s": _higher_or_unlimited,
        **dict.fromkeys(("bare_wildcard", "foreign_without_logs", "has_hierarchy"), _on),
        **dict.fromkeys(("single_use", "revocation_cascades"), _off),
    },
    "trust_edges": {
        "allowed_scopes": _more_or_unlimited,
        "valid_from": _lower_or_none,
        "expires_at": _higher_or_unlimited,
    },
    "role_edges": {"expires_at": _higher_or_unlimited},
    "delegation_records": {
        **dict.fromkeys(("scopes", "audience"), _more_or_unlimited),
        **dict.fromkeys(("principal", "delegate", "business_unit"), _any),
        "not_before": _lower_or_none,
        "not_after": _higher_or_unlimited,
        "status": _active,
    },
    "implications": {"implies": _more},
    "tiers": {"tier": _lower_or_none},
    "groups": {"members": _more},
    "resource_servers": {"aliases": _more},
    # A source that may be silent for longer hides what happens meanwhile.
    "sources": {
        **dict.fromkeys(("expected_interval_s", "grace_s"), _higher_or_unlimited),
        "paired_with": _gone,
    },
    "suppressions": {
        **dict.fromkeys(("rule", "predicate"), _any),
        "expires_at": _higher_or_unlimited,
    },
}


def diff(old: Registry, new: Registry) -> list[Row]:
    """Return one row per entry that was added, removed or changed, in the order of the files.

    Each has `section`, `name`, `change`, `fields` (old and new value of each key that
    differs), `widens` (the keys of them that widen authority) and `needs_signoff`.
    """
    rows = []
    for section in (name for shape in FILES.values() for name in shape):
        before, after = _entries(old.sections, section), _entries(new.sections, section)
        for name in [*before, *(name for name in after if name not in before)]:
            row = _compare(section, before.get(name), after.get(name))
            if row is not None:
                rows.append({"section": section, "name": name} | row)
    return rows


def _entries(sections: Sections, section: str) -> dict[str, Row]:
    entries = sections.get(section, [])
    keys = _NAMED_BY.get(section)
    if keys is None:
        return {entry.name: _values(sections, section, entry) for entry in entries}
    return {
        " ".join(str(entry.values[key]) for key in keys if key in entry.values): plain(entry.values)
        for entry in entries
    }


def _values(sections: Sections, section: str, entry: Entry) -> Row:
    values: Row = plain(entry.values)
    if section == "agents":
        by_name = {e.name: e.values for e in sections.get("classes", [])}
        inherited = by_name.get(values.get("class", ""), {})
        values = {k: v for k, v in inherited.items() if k in LIMITS} | values
    return values


def _compare(section: str, old: Row | None, new: Row | None) -> Row | None:
    if old == new:
        return None
    before, after = old or {}, new or {}
    fields = {
        key: {"old": before.get(key), "new": after.get(key)}
        for key in sorted(before.keys() | after.keys())
        if before.get(key) != after.get(key)
    }
    change = "added" if old is None else "removed" if new is None else "changed"
    return {
        "change": change,
        "fields": fields,
        "widens": _widening(section, change, fields),
        "needs_signoff": section == "classes"
        and new is not None
        and (old is None or scope_hash(before) != scope_hash(after)),
    }


def _widening(section: str, change: str, fields: Mapping[str, Mapping[str, Any]]) -> list[str]:
    if change == "added":
        return sorted(fields) if section in _GRANTING else []
    # A suppression, a trust edge or an agent that goes allows less; a lost class, tier or
    # issuer may allow more, and each of their limits is compared with none.
    if change == "removed" and section in _GRANTING:
        return []
    widens = _WIDENS.get(section, {})
    return [
        key
        for key, value in fields.items()
        if key in widens and widens[key](value["old"], value["new"])
    ]

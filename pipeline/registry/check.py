"""What is wrong with a registry whose files are well formed, and what soon will be.

Errors need no clock: a name that does not exist, dates in the wrong order, one
alias claimed twice.  Warnings are as of a time: an exception that has run out,
an owner who resolves to nobody, a sign-off that no longer fits its class.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from difflib import get_close_matches
from typing import TYPE_CHECKING

from pipeline.errors import RegistryError
from pipeline.registry.decisions import scope_hash
from pipeline.registry.owners import ROLES, Answering
from pipeline.registry.shapes import FILES

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator
    from datetime import datetime

    from pipeline.registry.decisions import Sections
    from pipeline.registry.read import Entry

LONGEST_SUPPRESSION = timedelta(days=180)
# As GO-03 counts unless told otherwise: an approval ages even where it names a later end.
_SIGNOFF_LASTS = {"normal": timedelta(days=365), "high": timedelta(days=180)}

# Lists of entries within an agent that are checked like sections of their own.
_NESTED = ("history", "break_glass", "static_secret_exceptions")
_IN_ORDER = {
    "agents": (("registered_at", "valid_until"),),
    "history": (("registered_at", "valid_until"),),
    "break_glass": (("since", "until"),),
    "static_secret_exceptions": (("since", "until"),),
    "signoffs": (("signed_at", "expires_at"),),
    "trust_edges": (("valid_from", "expires_at"),),
    "delegation_records": (("not_before", "not_after"),),
}
# Dates at which something stops to hold, and what that is.
_ENDS = {
    "agents": {
        "static_secret_exception_until": "its exception for static secrets",
        "vendor_exception_until": "its exception as a vendor's agent",
        "impersonation_allowed_until": "its leave to impersonate",
        "valid_until": "its registration",
        "review_due_at": "the time for its review",
    },
    "static_secret_exceptions": {"until": "this exception for a static secret"},
    "trust_edges": {"expires_at": "this trust edge"},
    "role_edges": {"expires_at": "this role edge"},
    "delegation_records": {"not_after": "this delegation record"},
    "suppressions": {"expires_at": "this suppression"},
}
_OVER = ("decommissioned", "revoked", "expired")


@dataclass(frozen=True)
class Warned:
    """One thing that is no fault of the files, with the line to look at."""

    file: str
    line: int
    message: str

    def __str__(self) -> str:
        """Return it as one line, as errors are printed."""
        return f"{self.file}:{self.line}: warning: {self.message}"


def find_errors(sections: Sections, unread: Collection[str] = ()) -> list[RegistryError]:
    """Return every fault that the shape of a file cannot show.

    Names of the sections in `unread`, whose own fault is told, are believed.
    """
    return [
        *_dangling(sections, unread),
        *_claimed_twice(sections),
        *_out_of_order(sections),
        *_same_end_twice(sections),
        *_too_long(sections),
    ]


def find_warnings(sections: Sections, as_of: datetime) -> list[Warned]:
    """Return what has run out as of a time, or leads to nobody, by file and line."""
    found = [
        *_ended(sections, as_of),
        *_unowned(sections),
        *_unknown_members(sections),
        *_ambiguous(sections),
        *_signoffs(sections, as_of),
    ]
    return sorted(found, key=lambda warned: (warned.file, warned.line))


def _every(sections: Sections) -> Iterator[tuple[str, Entry]]:
    """Yield every entry with the name of the section or list that it stands in."""
    for section, entries in sections.items():
        for entry in entries:
            yield section, entry
            if section == "agents":
                yield from ((key, inner) for key in _NESTED for inner in entry.values.get(key, []))


def _dangling(sections: Sections, unread: Collection[str]) -> Iterator[RegistryError]:
    names = {section: {e.name for e in entries} for section, entries in sections.items()}
    shapes = {name: key.entry or {} for shape in FILES.values() for name, key in shape.items()}
    shapes |= {key: shapes["agents"][key].entry or {} for key in _NESTED}
    for section, entry in _every(sections):
        for key, declared in shapes[section].items():
            target = declared.refers_to
            if target is None or target in unread:
                continue
            value = entry.values.get(key) or []
            for name in [value] if isinstance(value, str) else value:
                if name not in names.get(target, set()):
                    yield _no_such(entry, key, name, target, names.get(target, set()))


def _no_such(entry: Entry, key: str, name: str, target: str, known: set[str]) -> RegistryError:
    message = f'"{key}" names "{name}", which {target}.yaml does not have{_near(name, known)}'
    return RegistryError(entry.file, entry.line_of(key), message)


def _near(name: str | None, known: Iterable[str]) -> str:
    near = get_close_matches(name or "", sorted(known), n=1)
    return f'; did you mean "{near[0]}"?' if near else ""


def _claimed_twice(sections: Sections) -> Iterator[RegistryError]:
    """Yield an error for each alias or credential that two identities claim."""
    first: dict[tuple[str | None, ...], tuple[str, int]] = {}
    for agent in sections.get("agents", []):
        for key in ("aliases", "credential_ids"):
            for entry in agent.values.get(key, []):
                claim = (key, *(entry.values.get(k) for k in ("issuer", "kind", "id", "subject")))
                owner, line = first.setdefault(claim, (agent.name, entry.line))
                if line != entry.line or owner != agent.name:
                    shown = entry.values.get("subject") or entry.values.get("id")
                    message = f'"{shown}" already belongs to "{owner}", line {line}'
                    yield RegistryError(entry.file, entry.line, message)


def _out_of_order(sections: Sections) -> Iterator[RegistryError]:
    for section, entry in _every(sections):
        for earlier, later in _IN_ORDER.get(section, ()):
            start, end = entry.values.get(earlier), entry.values.get(later)
            if start and end and not start < end:
                message = f'"{later}" must be after "{earlier}"'
                yield RegistryError(entry.file, entry.line_of(later), message)


def _same_end_twice(sections: Sections) -> Iterator[RegistryError]:
    for agent in sections.get("agents", []):
        seen: set[datetime] = set()
        for state in agent.values.get("history", []):
            until = state.values.get("until")
            if until in seen:
                message = 'two states of one history have the same "until"'
                yield RegistryError(state.file, state.line_of("until"), message)
            seen.add(until)


def _too_long(sections: Sections) -> Iterator[RegistryError]:
    for entry in sections.get("suppressions", []):
        created, expires = entry.values.get("created_at"), entry.values.get("expires_at")
        # Not by adding to a date: the last day of the calendar is a date too.
        if created and expires and not timedelta() < expires - created <= LONGEST_SUPPRESSION:
            message = '"expires_at" must lie within 180 days after "created_at"'
            yield RegistryError(entry.file, entry.line_of("expires_at"), message)


def _ended(sections: Sections, as_of: datetime) -> Iterator[Warned]:
    for section, entry in _every(sections):
        if entry.values.get("status") in _OVER:
            continue
        for key, what in _ENDS.get(section, {}).items():
            end = entry.values.get(key)
            if end and end <= as_of:
                message = f'{what} ended on {end:%Y-%m-%d} ("{key}")'
                yield Warned(entry.file, entry.line_of(key), message)


def _unowned(sections: Sections) -> Iterator[Warned]:
    answering = Answering(sections)
    wanted = {
        "suppressions": ("owner",),
        "sources": ("owner",),
        "static_secret_exceptions": ("approved_by",),
    }
    for section, entry in _every(sections):
        keys: tuple[str, ...] = wanted.get(section, ())
        if section == "agents" and entry.values.get("status") != "decommissioned":
            keys = (*ROLES.values(), "backup_owner")
        for key in keys:
            owner = entry.values.get(key)
            # A source or a backup may be left without; the three owners may not.
            is_needed = key in ROLES.values()
            if (owner or is_needed) and answering.is_accountable(owner) is False:
                shown = f'"{key}" "{owner}"' if owner else f'"{key}"'
                near = "" if owner in answering.names else _near(owner, answering.names)
                message = f"{shown} leads to nobody: {answering.describe(owner)}{near}"
                yield Warned(entry.file, entry.line_of(key), message)


def _unknown_members(sections: Sections) -> Iterator[Warned]:
    people = {entry.name for entry in sections.get("people", [])}
    for group in sections.get("groups", []) if people else []:
        for name in group.values.get("members", []):
            if name not in people:
                message = f'"members" names "{name}", whom people.yaml does not have'
                line = group.line_of("members")
                yield Warned(group.file, line, message + _near(name, people))


def _ambiguous(sections: Sections) -> Iterator[Warned]:
    """Yield a warning for each alias for any issuer that is another agent's own name."""
    agents = {agent.name: agent for agent in sections.get("agents", [])}
    for agent in agents.values():
        for alias in agent.values.get("aliases", []):
            other = agents.get(alias.values.get("subject", ""), agent)
            if other is not agent and not alias.values.get("issuer"):
                message = f'"{other.name}" is the name of another agent, line {other.line}'
                yield Warned(alias.file, alias.line, f"{message}: give the alias its issuer")


def _signoffs(sections: Sections, as_of: datetime) -> Iterator[Warned]:
    classes = {entry.name: entry for entry in sections.get("classes", [])}
    in_force: set[tuple[str, str | None]] = set()
    for signed in sections.get("signoffs", []):
        state = signoff_state(signed, classes[signed.values["class"]], as_of)
        if state == "valid":
            in_force.add((signed.values["class"], signed.values.get("role")))
        elif state.startswith("of "):
            key = "version" if state.startswith("of version") else "scope_hash"
            yield Warned(signed.file, signed.line_of(key), f"this sign-off is {state}")
    for entry in classes.values():
        for role in entry.values.get("signoff_roles", []):
            if (entry.name, role) not in in_force:
                message = f'class "{entry.name}" has no sign-off in force by "{role}"'
                yield Warned(entry.file, entry.line_of("signoff_roles"), message)


def signoff_state(signed: Entry, of: Entry, as_of: datetime) -> str:
    """Return `valid`, or in words why this sign-off does not hold for the class as of a time."""
    given, version = signed.values, of.values.get("version")
    lasts = _SIGNOFF_LASTS[of.values.get("risk_tier", "normal")]
    end = given["signed_at"] + min(lasts, given["expires_at"] - given["signed_at"])
    if end <= as_of:
        return f"expired since {end:%Y-%m-%d}"
    if given["signed_at"] > as_of:
        return f"not before {given['signed_at']:%Y-%m-%d}"
    if given.get("version") not in (None, version):
        return f'of version "{given["version"]}", the class is at "{version}"'
    wanted = scope_hash(of.values)
    if given.get("scope_hash") not in (None, wanted):
        return f"of scope_hash {given['scope_hash']}, the class is at {wanted}"
    return "valid"

"""Who answers for an identity: its three owners, and whether each can be reached."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipeline.registry.decisions import Row, Sections

ROLES = {
    "application": "owner_application",
    "iam": "owner_iam",
    "platform": "owner_platform",
}
"""The role of an owner, and the key of agents.yaml that names it."""


def owner_rows(sections: Sections) -> list[Row]:
    """Return one row per identity and role; `is_accountable` null where it is not known."""
    answers = Answering(sections)
    return [
        {
            "identity_id": agent.name,
            "role": role,
            "owner": agent.values.get(key),
            "backup_owner": agent.values.get("backup_owner"),
            "is_accountable": answers.is_accountable(agent.values.get(key)),
        }
        for agent in sections.get("agents", [])
        for role, key in ROLES.items()
    ]


class Answering:
    """The people and groups of one registry: who of them can be held to answer."""

    def __init__(self, sections: Sections) -> None:
        self._people: dict[str, str] = {
            e.name: e.values["status"] for e in sections.get("people", [])
        }
        self._groups = {e.name: e.values["members"] for e in sections.get("groups", [])}

    @property
    def names(self) -> set[str]:
        """Return every name that an owner may bear."""
        return {*self._people, *self._groups}

    def is_accountable(self, owner: str | None) -> bool | None:
        """Return whether an owner is an active person or a group with an active member.

        Nobody is not.  Where the registry names no people at all, whoever is named
        is not known, which is not the same.
        """
        if owner is None:
            return False
        if not self._people:
            return None
        members = self._groups.get(owner, [owner])
        return any(self._people.get(member) == "active" for member in members)

    def describe(self, owner: str | None) -> str:
        """Return in a word or two whether this owner answers, and why not."""
        if owner is None:
            return "nobody is named"
        if not self._people:
            return "not known: people.yaml names nobody"
        if owner in self._groups:
            active = sum(self._people.get(m) == "active" for m in self._groups[owner])
            return f"group with {active} active of {len(self._groups[owner])}"
        return self._people.get(owner, "neither in people nor in groups")

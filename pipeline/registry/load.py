"""Load the policy folder: every fault at once, or tables that rules can join.

Reads files and nothing else; no clock: whether an exception has run out is for
the rules to say, as of the time that they look at.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.errors import RegistryError, RegistryErrors
from pipeline.registry.check import find_errors
from pipeline.registry.read import Reader
from pipeline.registry.shapes import FILES
from pipeline.registry.tables import build_tables, period_tables

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pyarrow as pa

    from pipeline.registry.decisions import Sections
    from pipeline.registry.periods import Version


@dataclass(frozen=True)
class Registry:
    """The policy of one moment.

    `policy_version` is 16 hex digits over the folder's files, "none" without a
    folder; everything that a job writes under this policy carries it.
    """

    policy_version: str
    _tables: dict[str, pa.Table]
    sections: Sections = field(default_factory=dict, repr=False, compare=False)
    """The entries of each section as written, with their lines."""

    def tables(self) -> dict[str, pa.Table]:
        """Return every `reg_*` table by name, empty ones included."""
        return dict(self._tables)

    def with_history(self, versions: Sequence[Version]) -> Registry:
        """Return this registry with the periods of all versions, oldest first, this one last."""
        return replace(self, _tables=self._tables | period_tables(versions))


def load_registry(folder: str | Path | None) -> Registry:
    """Return the registry of a folder; without one, an empty registry.

    Raises:
        RegistryErrors: every fault of every file, with file and line.
    """
    path = Path(folder) if folder is not None else None
    if path is None or not path.exists():
        return Registry("none", build_tables({}))
    if not path.is_dir():
        raise RegistryErrors([RegistryError(str(path), 1, "the registry must be a folder")])
    files = sorted(file for file in path.iterdir() if file.suffix.lower() in {".yaml", ".yml"})
    errors: list[RegistryError] = []
    sections: Sections = {}
    unread: set[str] = set()
    digest = hashlib.sha256()
    for file in files:
        reader = Reader(str(file))
        try:
            content = file.read_bytes()
        except OSError as error:
            reader.errors.append(RegistryError(str(file), 1, f"not readable: {error.strerror}"))
            content = b""
            reader.unread |= set(FILES.get(file.name, ()))
        digest.update(f"{file.name}\0{len(content)}\0".encode() + content)
        if file.name in FILES:
            sections |= reader.sections(content, FILES[file.name])
        else:
            reader.errors.append(_unknown_file(file))
            meant = _nearest_file(file)
            # What it says is not known, unless the right file is there too.
            reader.unread |= set() if (path / meant) in files else set(FILES.get(meant, ()))
        errors += reader.errors
        unread |= reader.unread
    errors += find_errors(sections, unread)
    if errors:
        raise RegistryErrors(sorted(errors, key=lambda error: (error.file, error.line)))
    return Registry(digest.hexdigest()[:16], build_tables(sections), sections)


def _unknown_file(file: Path) -> RegistryError:
    near = _nearest_file(file)
    hint = f'; did you mean "{near}"?' if near else f"; known are {', '.join(FILES)}"
    return RegistryError(str(file), 1, f"unknown file{hint}")


def _nearest_file(file: Path) -> str:
    return next(iter(get_close_matches(file.name.lower(), FILES, n=1)), "")

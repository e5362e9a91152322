"""The registry that goes with a corpus: the demo's, and what the plantings need to be known."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import yaml

from pipeline.demo.columns import SECOND
from pipeline.demo.policy import REGISTRY, moved

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from pipeline.demo.corpus.plot import Plot

Files = dict[str, dict[str, Any]]


def registry_files(plots: Iterable[Plot]) -> Files:
    """Return file name to content of the merged registry; names never meet."""
    plots = list(plots)
    now = datetime.fromtimestamp(max(plot.end for plot in plots) // SECOND, UTC)
    merged: Files = {
        path.name: yaml.safe_load(moved(path.read_text(encoding="utf-8"), now)) or {}
        for path in sorted(REGISTRY.glob("*.yaml"))
    }
    for plot in plots:
        for file, sections in plot.facts.items():
            held = merged.setdefault(file, {})
            for section, entries in sections.items():
                if isinstance(entries, dict):
                    held.setdefault(section, {}).update(entries)
                else:
                    held.setdefault(section, []).extend(entries)
    return merged


def write_registry(files: Files, folder: Path) -> None:
    """Write the files as YAML that `load_registry` takes."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        # Deterministic, and quick enough for thousands of entries.
        text = yaml.dump(content, Dumper=_Dumper, sort_keys=True, allow_unicode=True)
        (folder / name).write_text(text, encoding="utf-8")


class _Dumper(getattr(yaml, "CSafeDumper", yaml.SafeDumper)):  # type: ignore[misc]
    """Writes times with their offset, and never an alias for an equal list."""

    def ignore_aliases(self, data: Any) -> bool:
        """Return true: a reader should see what an agent may do where it stands."""
        del data
        return True


def _time(dumper: Any, moment: datetime) -> Any:
    text = moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return dumper.represent_scalar("tag:yaml.org,2002:timestamp", text)


_Dumper.add_representer(datetime, _time)

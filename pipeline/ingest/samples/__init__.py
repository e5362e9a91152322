"""Records in each source's own form, made by us: `NAME.jsonl`, or `.json` for one document.

A sample tells one small story with every kind of row that its source gives.  Wherever
the source writes secrets, tokens or arguments it says `do-not-store`, which no table
may hold.
"""

from __future__ import annotations

from pathlib import Path

_FOLDER = Path(__file__).parent


def sample_path(name: str) -> Path | None:
    """Return the sample of a source, None where it has none."""
    return next((p for p in sorted(_FOLDER.glob(f"{name}.*")) if p.suffix in _ENDINGS), None)


_ENDINGS = (".json", ".jsonl")

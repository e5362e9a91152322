"""Put a commit on the platter.

delta-rs renames data files and links log entries but never calls fsync, so a
power cut could take back what was acknowledged.  Local disks only.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING
from urllib.parse import unquote

if TYPE_CHECKING:
    from pathlib import Path


def sync_commit(table: Path, version: int) -> None:
    """Sync the files that a commit added, its log entry, and the folders of both."""
    log = table / "_delta_log"
    entry = log / f"{version:020d}.json"
    added = [
        table / unquote(action["add"]["path"])
        for line in entry.read_text(encoding="utf-8").splitlines()
        if '"add"' in line[:10]
        for action in [json.loads(line)]
    ]
    checkpoints = [log / f"{version:020d}.checkpoint.parquet", log / "_last_checkpoint"]
    files = [*added, entry]
    if checkpoints[0].exists():
        files += checkpoints
    for path in files:
        _sync(path)
    for folder in {path.parent for path in added} | {log, table}:
        _sync(folder)


def replace_file(path: Path, content: str) -> None:
    """Write a whole file or none of it."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.write_text(content, encoding="utf-8")
    _sync(partial)
    partial.replace(path)
    _sync(path.parent)


def sync_file(path: Path) -> None:
    """Sync one file and its folder."""
    _sync(path)
    _sync(path.parent)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

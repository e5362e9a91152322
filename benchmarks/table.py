"""Rows of results and how they are shown, with the machine named."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

PACKAGES = (
    "confluent-kafka",
    "pyarrow",
    "pyruhvro",
    "deltalake",
    "duckdb",
    "networkx",
    "rustworkx",
)


@dataclass(frozen=True)
class Row:
    """One measured thing."""

    what: str
    measured: str
    ratio: str


def machine() -> str:
    """Return the machine and the versions in one line."""
    cpu = next(
        (
            line.split(":", 1)[1].strip()
            for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
            if line.startswith("model name")
        ),
        platform.processor(),
    )
    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    packages = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    return (
        f"{os.cpu_count()} cores ({cpu}), {memory_gib:.0f} GiB, Python "
        f"{platform.python_version()}, load {os.getloadavg()[0]:.1f} at the start; {packages}"
    )


def markdown(title: str, head: str, rows: list[Row]) -> str:
    """Return a section with one table; `head` says when and where it was measured."""
    lines = [f"## {title}", "", head, "", "| what | measured | ratio |", "| --- | --- | --- |"]
    lines += [f"| {row.what} | {row.measured} | {row.ratio} |" for row in rows]
    return "\n".join(lines) + "\n"

"""Run all measurements, print them, and write `benchmarks/results.md`.

python -m benchmarks [--only ingest,sources,chains,rules,kills] [--scale 0.1]
"""

from __future__ import annotations

import argparse
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.chains import run_chains
from benchmarks.ingest import run_ingest
from benchmarks.rules import run_rules
from benchmarks.sources import run_sources
from benchmarks.table import Row, machine, markdown
from tests.integration.kafka import kafka_node
from tests.integration.kills import Killing, kill_at_random

HEAD = "# Results\n\nTrust the ratios, which are of one run; not the rates.\n"
RESULTS = Path(__file__).parent / "results.md"
KILL_EVENTS, KILLS = 500_000, 100


def run_kills(scale: float) -> list[Row]:
    """Kill consumers at random while events flow through a real broker."""
    plan = Killing(int(KILL_EVENTS * scale), max(int(KILLS * scale), 5), seed=5)
    with kafka_node() as kafka, tempfile.TemporaryDirectory(prefix="delegraph-kills-") as folder:
        killed = kill_at_random(kafka, Path(folder), plan)
    return [
        Row(
            f"{killed.kills} kills (SIGKILL) of one of two `delegraph ingest` over "
            f"{plan.events:,} events",
            f"{killed.lost} lost, {killed.doubled} doubled, in {killed.seconds:.0f} s",
            f"{killed.progressed} kills after progress",
        )
    ]


PARTS = {
    "ingest": ("Ingest, Avro on a real Apache Kafka", run_ingest),
    "sources": ("Sources, from values to rows", run_sources),
    "chains": ("Chain build", run_chains),
    "rules": ("All rules over one history", run_rules),
    "kills": ("Kill test", run_kills),
}


def main() -> None:
    """Measure; a part that is left out keeps what it had in the results."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--only", default=",".join(PARTS), help="parts, parted by commas")
    parser.add_argument("--scale", type=float, default=1.0, help="share of the full size")
    parser.add_argument("--no-write", action="store_true", help="only print")
    chosen = parser.parse_args()
    head = f"Measured {datetime.now(UTC):%Y-%m-%d %H:%M}Z at scale {chosen.scale:g} on {machine()}."
    known = read_sections(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
    print(HEAD)
    for name in chosen.only.split(","):
        title, run = PARTS[name]
        known[title] = markdown(title, head, run(chosen.scale))
        print(known[title], flush=True)
    if not chosen.no_write:
        listed = [known[title] for title, _ in PARTS.values() if title in known]
        RESULTS.write_text("\n".join([HEAD, *listed]), encoding="utf-8")


def read_sections(text: str) -> dict[str, str]:
    """Return the sections of a results file by their titles."""
    _, *parts = text.split("\n## ")
    return {part.partition("\n")[0]: f"## {part.rstrip()}\n" for part in parts}


if __name__ == "__main__":
    main()

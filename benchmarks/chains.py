"""Chain build against NetworkX and rustworkx on the same generated forest.

All start from the same Parquet file of token events.  The two libraries are
given the work twice: only root and depth of every credential, and besides the
columns that a chain of ours has: path of ids and actors, scopes widened at the
hop, effective scopes, earliest expiry.  Ours is the whole build: it also folds
events, resolves aliases, judges ends and status, and publishes Delta tables.
"""

from __future__ import annotations

import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import networkx as nx
import pyarrow as pa
import pyarrow.parquet as pq
import rustworkx as rx

from benchmarks.table import Row
from pipeline.chains import build_chains
from pipeline.chains.build import prepare
from pipeline.chains.resolve import resolve
from pipeline.chains.scope import choose_scope
from pipeline.chains.steps import CONTEXT, run
from pipeline.demo.generate import Stream, generate
from pipeline.demo.policy import REGISTRY
from pipeline.events.complete import to_table_batch
from pipeline.ingest.batch import TopicPartition
from pipeline.lake import open_lake
from pipeline.registry import load_registry

if TYPE_CHECKING:
    from collections.abc import Callable

EVENTS = 1_200_000
NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
COLUMNS = ["op", "credential_id", "parents", "actor_id", "scopes", "expires_at"]
ISSUING = ("issue", "exchange", "assume")
LINEAGE = ("subject", "source")

Event = dict[str, Any]


def run_chains(scale: float) -> list[Row]:
    """Build once in every way, per token."""
    with tempfile.TemporaryDirectory(prefix="delegraph-bench-") as name:
        folder = Path(name)
        tokens = _write_tokens(folder, int(EVENTS * scale))
        ours_s, chains = _ours(folder)
        walk_s = _walk(folder)
        found = {
            what: _timed(way, folder / "tokens.parquet")
            for what, way in (
                ("NetworkX, root and depth", networkx_roots),
                ("NetworkX, a chain's columns", networkx_chains),
                ("rustworkx, root and depth", rustworkx_roots),
                ("rustworkx, a chain's columns", rustworkx_chains),
            )
        }
    rows = [
        Row("token events, credentials", f"{tokens:,}, {chains:,}", ""),
        Row("our whole build", f"{ours_s / chains * 1e6:.1f} us per credential", ""),
        Row("of which the walk from the roots", f"{walk_s / chains * 1e6:.1f} us", ""),
    ]
    for what, (took_s, count) in found.items():
        each_us = took_s / count * 1e6
        ratio = f"our build takes {ours_s / took_s:.2f}x, our walk {walk_s / took_s:.2f}x its time"
        rows.append(Row(what, f"{each_us:.1f} us per credential", ratio))
    return rows


def _write_tokens(folder: Path, events: int) -> int:
    """Put the token events of a stream into a lake and into one Parquet file."""
    lake = open_lake(str(folder / "lake"), create=True)
    place = TopicPartition("agent.token_events", 0)
    offset = lake.offsets("token_events", [place])[place] + 1
    batches = []
    for arrived in generate(Stream(events, 1, NOW)):
        batch = next(a.batch for a in arrived if a.family == "token_event")
        rows = to_table_batch(
            "token_event",
            batch,
            adapter="native",
            topic=place.topic,
            partition=place.partition,
            offsets=range(offset, offset + batch.num_rows),
            ingest_time=NOW,
        )
        offset += batch.num_rows
        batches.append(rows)
    stored = pa.Table.from_batches(batches)
    lake.append("token_events", stored, {place: offset - 1})
    pq.write_table(stored.select(COLUMNS), folder / "tokens.parquet")
    return stored.num_rows


def _ours(folder: Path) -> tuple[float, int]:
    lake, registry = open_lake(str(folder / "lake")), load_registry(REGISTRY)
    began = time.monotonic()
    report = build_chains(lake, registry, NOW, full=True)
    return time.monotonic() - began, report.chains


def _walk(folder: Path) -> float:
    """Return the seconds of the walk alone, on a connection where all before it is done."""
    lake, registry = open_lake(str(folder / "lake")), load_registry(REGISTRY)
    with lake.connect_build() as session:
        prepare(session.con, registry)
        run(session.con, CONTEXT, as_of=NOW)
        choose_scope(session, registry.policy_version, full=True)
        resolve(session.con)
        began = time.monotonic()
        run(session.con, ("51_walk",))
        return time.monotonic() - began


def _timed(way: Callable[[Path], dict[Any, Any]], path: Path) -> tuple[float, int]:
    began = time.monotonic()
    found = way(path)
    return time.monotonic() - began, len(found)


def _read(path: Path) -> tuple[dict[str, Event], list[tuple[str, str]]]:
    """Return each credential's event by id, and the links from parent to child."""
    rows = [row for row in pq.read_table(path).to_pylist() if row["op"] in ISSUING]
    links = [
        (parent["id"], row["credential_id"])
        for row in rows
        for parent in row["parents"]
        if parent["role"] in LINEAGE
    ]
    return {row["credential_id"]: row for row in rows}, links


def _begin(event: Event, key: str) -> Event:
    return {
        "root": key,
        "depth": 0,
        "credential_path": [key],
        "actor_path": [event["actor_id"]],
        "effective": set(event["scopes"]),
        "widened": set(),
        "expires_at": event["expires_at"],
    }


def _follow(parent: Event, event: Event, key: str) -> Event:
    scopes, changed = set(event["scopes"]), event["actor_id"] != parent["actor_path"][-1]
    return {
        "root": parent["root"],
        "depth": parent["depth"] + changed,
        "credential_path": [*parent["credential_path"], key],
        "actor_path": [*parent["actor_path"], event["actor_id"]],
        "effective": parent["effective"] & scopes,
        "widened": scopes - parent["effective"],
        "expires_at": min(parent["expires_at"], event["expires_at"]),
    }


def networkx_roots(path: Path) -> dict[str, tuple[str, int]]:
    """Return root and depth of each credential."""
    events, links = _read(path)
    graph = nx.DiGraph(links)
    graph.add_nodes_from(events)
    found: dict[str, tuple[str, int]] = {}
    for key in nx.topological_sort(graph):
        parent = next(iter(graph.pred[key]), None)
        found[key] = (found[parent][0], found[parent][1] + 1) if parent else (key, 0)
    return found


def networkx_chains(path: Path) -> dict[str, Event]:
    """Return the columns of each credential's chain."""
    events, links = _read(path)
    graph = nx.DiGraph(links)
    graph.add_nodes_from(events)
    found: dict[str, Event] = {}
    for key in nx.topological_sort(graph):
        parent = next(iter(graph.pred[key]), None)
        found[key] = (
            _follow(found[parent], events[key], key) if parent else _begin(events[key], key)
        )
    return found


def _rustworkx(path: Path) -> tuple[dict[str, Event], list[str], rx.PyDiGraph]:
    events, links = _read(path)
    keys = list(events)
    graph = rx.PyDiGraph()
    number = dict(zip(keys, graph.add_nodes_from(keys), strict=True))
    graph.add_edges_from_no_data([(number[parent], number[child]) for parent, child in links])
    return events, keys, graph


def rustworkx_roots(path: Path) -> dict[int, tuple[int, int]]:
    """Return root and depth of each credential."""
    _, _, graph = _rustworkx(path)
    found: dict[int, tuple[int, int]] = {}
    for node in rx.topological_sort(graph):
        parents = graph.predecessor_indices(node)
        found[node] = (
            (found[parents[0]][0], found[parents[0]][1] + 1) if len(parents) else (node, 0)
        )
    return found


def rustworkx_chains(path: Path) -> dict[int, Event]:
    """Return the columns of each credential's chain."""
    events, keys, graph = _rustworkx(path)
    found: dict[int, Event] = {}
    for node in rx.topological_sort(graph):
        parents = graph.predecessor_indices(node)
        key = keys[node]
        found[node] = (
            _follow(found[parents[0]], events[key], key)
            if len(parents)
            else _begin(events[key], key)
        )
    return found

"""The demo: plant the stories, run the whole pipeline, show what it found.

Read this first: it is the stage in order.  An embedded broker, the generator,
the real consumer, chains, rules, and one signed webhook to a receiver that
verifies it.  Everything stays on this machine.
"""

from __future__ import annotations

import base64
import json
import secrets
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.alerts import send_alerts
from pipeline.alerts.receive import Receiver
from pipeline.alerts.sinks.webhook import Webhook
from pipeline.chains import build_chains
from pipeline.chains.show import load_chain
from pipeline.config import IngestConfig, KafkaConfig, Secret
from pipeline.demo.broker import KEEPS_BYTES, embedded_broker
from pipeline.demo.generate import Stream, default_now
from pipeline.demo.judge import is_right, judge
from pipeline.demo.policy import write_policy
from pipeline.demo.produce import Outlet, produce
from pipeline.detections.ledger import Window
from pipeline.detections.rule import read_rules
from pipeline.detections.run import run_detections
from pipeline.errors import ConfigError, LakeError, RuleErrors
from pipeline.ingest.run import Control, ingest_topics
from pipeline.investigate.text import render_path
from pipeline.lake import Lake, open_lake
from pipeline.registry import load_registry

if TYPE_CHECKING:
    from datetime import datetime

    import duckdb

DEFAULT_EVENTS = 6_000
DEFAULT_SEED = 7
DEFAULT_FOLDER = "./demo-lake"
MARKER = "delegraph-demo.json"

Say = Callable[[str], None]


@dataclass(frozen=True)
class Demo:
    """What to show: how many events, from which seed, ending when, into which folder."""

    events: int = DEFAULT_EVENTS
    seed: int = DEFAULT_SEED
    folder: Path = Path(DEFAULT_FOLDER)
    now: datetime = field(default_factory=default_now)


@dataclass(frozen=True)
class DemoReport:
    """What came out; `findings` are rows of the view of that name."""

    lake: Path
    events: int
    dead_letters: int
    findings: list[dict[str, Any]]
    stories: list[dict[str, Any]]
    """Each planted story or twin with `found`, the codes of the rules that fired on its events."""
    strangers: list[dict[str, Any]]
    """Findings about ordinary traffic, which is benign."""
    verified_alerts: int
    elapsed_s: float

    @property
    def is_right(self) -> bool:
        """Return whether every story was found, and no twin and nobody else accused."""
        return all(is_right(story) for story in self.stories) and not self.strangers


def run_demo(demo: Demo, say: Say) -> DemoReport:
    """Run everything, telling each step and the outcome through `say`.

    Raises:
        ConfigError: fewer events than the stories need.
        LakeError: the folder holds something that is not a demo lake.
    """
    began = time.monotonic()
    stream = Stream(demo.events, demo.seed, demo.now)
    lake = fresh_lake(demo)
    say(f"broker     embedded, on loopback; {demo.events:,} events, seed {demo.seed}")
    rows = fill_lake(lake, stream, lambda line: say(f"ingest     {line}"))
    registry = load_registry(write_policy(demo.folder / "registry", demo.now))
    built = build_chains(lake, registry, demo.now)
    say(f"chains     {built.credentials:,} credentials, {built.call_links:,} calls linked")
    # Our own rules are checked by their tests; checking them here would cost three seconds.
    rules, faults = read_rules()
    if faults:
        raise RuleErrors(faults)
    report = run_detections(lake, registry, rules=rules, window=Window(), now=demo.now)
    report.raise_failed()
    say(f"detect     {len(rules)} rules, {report.findings.num_rows} findings")
    verified = send_signed(lake)
    say(f"alert      {verified} signed webhooks received and verified on loopback")
    with lake.connect(comments=False) as con:
        findings = _rows(con, FINDINGS)
        stories, strangers = judge(con, stream)
        shown = _first_chain(con, findings)
    done = DemoReport(
        lake=demo.folder,
        events=sum(rows.values()),
        dead_letters=rows["dead_letters"],
        findings=findings,
        stories=stories,
        strangers=strangers,
        verified_alerts=verified,
        elapsed_s=time.monotonic() - began,
    )
    for line in summary(done, shown):
        say(line)
    return done


def fresh_lake(demo: Demo) -> Lake:
    """Return an empty lake in the folder; an earlier demo's lake there goes, nothing else does.

    Raises:
        LakeError: the folder holds something that is not a demo lake.
    """
    folder = demo.folder
    if (folder / MARKER).is_file():
        shutil.rmtree(folder)
    elif folder.is_dir() and any(folder.iterdir()):
        raise LakeError(f"{folder}: is not a demo lake, so it is left alone; name another --lake")
    elif folder.exists() and not folder.is_dir():
        raise ConfigError(f"{folder}: is a file; name a folder")
    lake = open_lake(str(folder), create=True)
    about = {"events": demo.events, "seed": demo.seed, "now": demo.now.isoformat()}
    (folder / MARKER).write_text(json.dumps(about) + "\n", encoding="utf-8")
    return lake


def fill_lake(lake: Lake, stream: Stream, say: Say) -> dict[str, int]:
    """Send the stream through an embedded broker into the lake; return new rows by table."""
    rows: dict[str, int] = {}
    began = time.monotonic()
    with embedded_broker() as bootstrap:
        config = KafkaConfig(bootstrap=bootstrap, group="delegraph-demo")
        for sent in produce(stream, Outlet(bootstrap)):
            # The embedded broker forgets silently: each slice is read before the next is sent.
            if max(sent.by_partition.values(), default=0) > KEEPS_BYTES:
                raise ConfigError("the embedded broker cannot hold a slice; use --bootstrap")
            limits = IngestConfig(batch_age_s=60.0)
            report = ingest_topics(config, lake, limits=limits, control=Control(once=True))
            for table, count in report.rows.items():
                rows[table] = rows.get(table, 0) + count
    total, took_s = sum(rows.values()), time.monotonic() - began
    say(f"{total:,} records through Kafka's protocol into Delta tables, {total / took_s:,.0f}/s")
    return rows


def send_signed(lake: Lake) -> int:
    """Send the findings that alert to a receiver of our own; return how many it verified."""
    secret = "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()
    with Receiver(secret) as receiver:
        sink = Webhook("demo", Secret(receiver.url), Secret(secret), allow_private=True)
        send_alerts(lake, [sink], describe=chain_as_text)
        return len(receiver.received)


QUESTION = "SELECT root_principal, count(*) AS calls FROM calls GROUP BY ALL ORDER BY ALL"
FINDINGS = """
SELECT finding_id, rule_code, severity, title, entity, credential_key, event_uids, status
FROM findings WHERE status = 'open' ORDER BY severity DESC, rule_code, entity
"""


def _rows(con: duckdb.DuckDBPyConnection, query: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = con.sql(query).to_arrow_table().to_pylist()
    return rows


def chain_as_text(con: duckdb.DuckDBPyConnection, key: str) -> str | None:
    """Return the chain behind a credential, call or finding as text; None if there is none."""
    path = load_chain(con, key)
    return render_path(path) if path else None


def _first_chain(con: duckdb.DuckDBPyConnection, findings: list[dict[str, Any]]) -> str:
    """Return the chain behind the widened scope, or behind the first finding that has one."""
    keyed = [finding for finding in findings if finding["credential_key"]]
    keyed.sort(key=lambda finding: finding["rule_code"] != "PC-01")
    return (chain_as_text(con, keyed[0]["finding_id"]) if keyed else None) or ""


def summary(report: DemoReport, chain: str) -> list[str]:
    """Return the lines that end the demo: stories, findings, one chain, what to try next."""
    lines = ["", "planted stories and their benign twins"]
    for story in report.stories:
        mark = "ok   " if is_right(story) else "WRONG"
        what = "twin " if story["twin"] else "story"
        codes = " ".join(story["found"]) or "-"
        lines.append(f"  {mark} {what} {story['story']}  {story['title']:<52} {codes}")
    lines += ["", f"{'SEV':<4}{'RULE':<7}{'FINDING':<12}TITLE"]
    lines += [
        f"{f['severity']:<4}{f['rule_code']:<7}{f['finding_id'][:10]:<12}{f['title'][:90]}"
        for f in report.findings
    ]
    lines += ["", chain] if chain else []
    lake = f"--lake {report.lake}"
    first = next((f["finding_id"][:10] for f in report.findings if f["rule_code"] == "PC-01"), "ID")
    return [
        *lines,
        "",
        f"{report.events:,} events in {report.elapsed_s:.1f} s.  Try next:",
        f"  delegraph findings show {first} {lake}",
        f"  delegraph registry show concierge --registry {report.lake}/registry",
        f"  delegraph sql {lake} '{QUESTION}'",
        f'  duckdb -init "$(delegraph connect {lake})"',
    ]

"""`delegraph run`: everything, continuously, in one process.

The ingest loop has a thread of its own; APScheduler starts the jobs, each of
them the function that its one-shot command calls.  A job that fails is logged
and tried again at its next turn; ingest that fails ends the process.
"""

from __future__ import annotations

import gc
import threading
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import click
from apscheduler.schedulers.background import BackgroundScheduler

from pipeline.alerts import load_sinks, send_alerts
from pipeline.chains import build_chains
from pipeline.cli import log_from
from pipeline.cli.alerts import describe
from pipeline.cli.detect import overridden, rules_to_run
from pipeline.cli.ingest import tell
from pipeline.cli.options import finish, the_lake, the_registry, with_registry
from pipeline.detections.ledger import Window
from pipeline.detections.run import catch_up, run_detections
from pipeline.errors import PipelineError
from pipeline.ingest.run import Control, IngestReport, ingest_topics, stop_on_signals
from pipeline.log import get_log

if TYPE_CHECKING:
    from collections.abc import Callable

    from pipeline.alerts.sinks import Sink
    from pipeline.config import Config
    from pipeline.detections.rule import Rule
    from pipeline.lake import Lake

# Watermarks move with the clock, so that absence rules speak although nothing comes in.
AT_LEAST_EVERY_S = 60.0
EXIT_FAILED_RULE = 3

_log = get_log(__name__)


@click.command()
@click.option("--once", is_flag=True, help="Take what is there now, run each job once, end.")
@with_registry
def command(config: Config, once: bool) -> None:
    """Ingest, build chains, detect and alert until SIGTERM.

    Exits 3 when a rule failed in the last detection.
    """
    log_from("INFO")
    service = Service(
        config,
        the_lake(config, create=True),
        overridden(config, rules_to_run(config.detect.rules), config.detect.rules),
        load_sinks(config.alerts),
    )
    # A fault in the policy files shows now, not at the first build.
    the_registry(config)
    with stop_on_signals() as stop:
        report = run_once(service, stop) if once else run_until(service, stop)
    tell(report)
    finish(EXIT_FAILED_RULE if service.failed_rules else 0)


@dataclass
class Service:
    """The jobs and what they know of one another."""

    config: Config
    lake: Lake
    rules: list[Rule]
    sinks: list[Sink]
    records: int = 0
    """Records stored so far."""
    built: tuple[int, float] = (-1, 0.0)
    """Records that the last build covered, and when it began."""
    detected: tuple[int, float] = field(default=(-1, 0.0))
    failed_rules: int = 0

    def took(self, report: IngestReport) -> None:
        """Note that records were stored; called by the ingest loop."""
        self.records = report.records

    def build(self) -> None:
        """Build chains if records came, or the clock has moved on."""
        covered = (self.records, time.monotonic())
        if not _is_due(self.built, covered):
            return
        report = build_chains(self.lake, the_registry(self.config), datetime.now(UTC))
        self.built = covered
        _log.info("chains built", **report.as_dict())

    def detect(self) -> None:
        """Run the rules if chains were built since the last time."""
        if self.built == self.detected:
            return
        covered, now = self.built, datetime.now(UTC)
        registry = the_registry(self.config)
        lookback = timedelta(hours=self.config.detect.lookback_h)
        if lookback:
            window = Window(now - lookback)
            report = run_detections(self.lake, registry, rules=self.rules, window=window, now=now)
        else:
            # One look over everything: the ledger also learns which windows it closed.
            report = catch_up(self.lake, registry, rules=self.rules, now=now)
        self.detected, self.failed_rules = covered, len(report.failed)
        for error in report.failed:
            _log.error("rule failed", rule=error)
        _log.info(
            "rules ran", windows=report.runs.num_rows, changed_findings=report.changes.num_rows
        )

    def alert(self) -> None:
        """Send what is due."""
        if self.sinks:
            send_alerts(self.lake, self.sinks, describe=describe)

    def compact(self) -> None:
        """Merge small files and delete what nobody reads any more."""
        tables = self.lake.compact()
        _log.info("lake compacted", tables=len(tables), deleted_files=self.lake.vacuum())

    def jobs(self) -> list[tuple[Callable[[], None], float]]:
        """Return every job and the seconds between two of its runs, in the order of the road."""
        schedule = self.config.schedule
        return [
            (self.build, schedule.build_s),
            (self.detect, schedule.detect_s),
            (self.alert, schedule.alert_s),
            (self.compact, schedule.compact_s),
        ]


def _is_due(done: tuple[int, float], now: tuple[int, float]) -> bool:
    return now[0] != done[0] or now[1] - done[1] >= AT_LEAST_EVERY_S


def run_once(service: Service, stop: threading.Event) -> IngestReport:
    """Take what is there now and run each job once."""
    report = ingest(service, Control(once=True, stop=stop, on_progress=service.took))
    for job, _ in service.jobs():
        job()
    return report


def run_until(service: Service, stop: threading.Event) -> IngestReport:
    """Run everything until `stop` is set or the ingest fails; every job that began is finished."""
    scheduler = _schedule(service)
    outcome: list[IngestReport | BaseException] = []

    def take() -> None:
        try:
            outcome.append(ingest(service, Control(stop=stop, on_progress=service.took)))
        except BaseException as error:  # noqa: BLE001 - raised again below, in the main thread
            outcome.append(error)
        finally:
            stop.set()

    thread = threading.Thread(target=take, name="ingest")
    scheduler.start()
    thread.start()
    _log.info("running", lake=service.lake.uri, bootstrap=service.config.kafka.bootstrap)
    stop.wait()
    thread.join()
    scheduler.shutdown(wait=True)
    if isinstance(outcome[0], BaseException):
        raise outcome[0]
    return outcome[0]


def ingest(service: Service, control: Control) -> IngestReport:
    """Read the configured topics into the lake."""
    config = service.config
    return ingest_topics(config.kafka, service.lake, limits=config.ingest, control=control)


def _schedule(service: Service) -> Any:
    scheduler = BackgroundScheduler(timezone=UTC)
    for job, every_s in service.jobs():
        scheduler.add_job(
            _guarded(job),
            "interval",
            seconds=every_s,
            id=job.__name__,
            # A late job runs once, not once for every turn that it missed.
            coalesce=True,
            max_instances=1,
            misfire_grace_time=None,
        )
    return scheduler


def _guarded(job: Callable[[], None]) -> Callable[[], None]:
    def run() -> None:
        try:
            job()
        except PipelineError as error:
            _log.error("job failed; it is tried again", job=job.__name__, error=error)
        # The ingest loop has switched the automatic collection off.
        gc.collect()

    return run

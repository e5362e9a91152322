"""`delegraph doctor`: what is wrong, and what to do about it."""

from __future__ import annotations

import contextlib
import logging
import platform
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import click
import httpx
from confluent_kafka import Consumer, KafkaException
from confluent_kafka import TopicPartition as Partition

from pipeline import __version__
from pipeline.alerts import load_sinks
from pipeline.cli import say
from pipeline.cli.options import finish, json_option, the_lake, the_registry, with_config
from pipeline.cli.output import listing, utc, write_json
from pipeline.errors import PipelineError
from pipeline.ingest.batch import ANCHOR, TopicPartition

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pipeline.config import Config, KafkaConfig
    from pipeline.lake import Lake

TIMEOUT_S = 3.0
STALE = timedelta(minutes=1)
AHEAD = timedelta(minutes=5)
LIBRARIES = ("duckdb", "deltalake", "pyarrow", "pyruhvro", "confluent-kafka")
EXIT_FAULT, EXIT_SOURCE = 2, 4


@dataclass(frozen=True)
class Check:
    """One thing that was looked at."""

    name: str
    is_ok: bool
    detail: str
    fix: str = ""
    is_source: bool = False
    """Whether it lies outside: then the exit code is that of an unreachable source."""


@click.command()
@click.option("--offline", is_flag=True, help="Leave broker and schema registry alone.")
@click.option("--quiet", is_flag=True, help="Say only what is wrong.")
@json_option
@with_config
def command(config: Config, offline: bool, quiet: bool, as_json: bool) -> None:
    """Check versions, configuration, lake, policy registry, broker and schema registry.

    Exits 2 where something here is wrong, 4 where only a source does not answer.
    """
    checks = list(run_checks(config, offline=offline))
    if as_json:
        write_json(listing("doctor", None, [vars(check) for check in checks], None))
    for check in checks if not as_json else []:
        if not (quiet and check.is_ok):
            click.echo(f"{'ok   ' if check.is_ok else 'FAULT'}  {check.name:16} {check.detail}")
        if not check.is_ok:
            click.echo(f"       {'':16} fix: {check.fix}")
    faults = [check for check in checks if not check.is_ok]
    say(f"{len(faults)} of {len(checks)} checks found a fault")
    here = any(not check.is_source for check in faults)
    finish((EXIT_FAULT if here else EXIT_SOURCE) if faults else 0)


def run_checks(config: Config, *, offline: bool) -> Iterator[Check]:
    """Look at everything once; a fault stops nothing."""
    yield _versions()
    yield _try("alert sinks", "correct the table that is named", lambda: _sinks(config))
    yield _try("policy registry", "correct the lines that are named", lambda: _registry(config))
    lake: Lake | None = None
    with contextlib.suppress(PipelineError):
        lake = the_lake(config)
    fix = "run: delegraph ingest, or name another with --lake"
    yield _try("lake", fix, lambda: f"{the_lake(config).uri}")
    if lake:
        yield from _lake_checks(lake, datetime.now(UTC))
    if not offline:
        yield from _broker(config.kafka, lake)
        yield _schema_registry(config.kafka.registry_url)


def _versions() -> Check:
    libraries = ", ".join(f"{name} {version(name)}" for name in LIBRARIES)
    detail = f"delegraph {__version__}, Python {platform.python_version()}, {libraries}"
    return Check("versions", is_ok=True, detail=detail)


def _try(name: str, fix: str, look: Callable[[], str]) -> Check:
    try:
        return Check(name, is_ok=True, detail=look())
    except PipelineError as error:
        return Check(name, is_ok=False, detail=str(error), fix=fix)


def _sinks(config: Config) -> str:
    return ", ".join(sink.name for sink in load_sinks(config.alerts)) or "none configured"


def _registry(config: Config) -> str:
    registry = the_registry(config)
    known = registry.tables()["reg_identities"].num_rows
    return f"{known} identities, policy version {registry.policy_version}"


def _lake_checks(lake: Lake, now: datetime) -> Iterator[Check]:
    with lake.connect(comments=False) as con:
        newest, ingested, unbuilt, failed, dead = _row(con.execute(_LAKE))
        letters = _row(con.execute("SELECT count(*) FROM dead_letters"))[0]
    detail = f"newest event {_time(newest)}, last ingest {_time(ingested)}"
    yield Check("events", ingested is not None, detail, "run: delegraph ingest")
    if newest is not None:
        yield Check(
            "clock",
            newest <= now + AHEAD,
            f"now {utc(now)}",
            "an event lies in the future: set the clock here, or at its source",
        )
    # A build follows the ingest at some distance.
    behind = unbuilt > 0 and ingested < now - STALE
    detail = f"{unbuilt} events are not in them yet"
    yield Check("chains", not behind, detail, "run: delegraph chains build")
    yield Check("rules", not failed, f"{failed} failed in their last run", "run: delegraph detect")
    yield Check("outbox", not dead, f"{dead} dead deliveries", "FROM deliveries says why")
    # They are kept on purpose: worth a look, no fault.
    yield Check("dead letters", is_ok=True, detail=f"{letters}; see: delegraph dead-letters ls")


def _row(found: Any) -> tuple[Any, ...]:
    row: tuple[Any, ...] = found.fetchone()
    return row


def _time(moment: datetime | None) -> str:
    return utc(moment) if moment else "never"


def _broker(kafka: KafkaConfig, lake: Lake | None) -> Iterator[Check]:
    silent = logging.getLogger("delegraph.doctor.silent")
    silent.addHandler(logging.NullHandler())
    silent.propagate = False
    settings = {
        "bootstrap.servers": kafka.bootstrap,
        "group.id": kafka.group,
        **{name: secret.reveal() for name, secret in kafka.security.items()},
    }
    consumer = Consumer(settings, logger=silent)
    try:
        topics = consumer.list_topics(timeout=TIMEOUT_S).topics
        yield Check("broker", is_ok=True, detail=kafka.bootstrap)
        for topic, adapter in sorted(kafka.topics.items()):
            if topic not in topics:
                fix = "create it, or correct [kafka.topics]"
                yield Check(f"topic {topic}", False, "does not exist", fix, is_source=True)
                continue
            lag = _lag(consumer, topic, list(topics[topic].partitions), lake)
            yield Check(f"topic {topic}", is_ok=True, detail=f"adapter {adapter}, lag {lag}")
    except KafkaException:
        fix = "start it, or correct [kafka] bootstrap and security"
        detail = f"no answer from {kafka.bootstrap} within {TIMEOUT_S:.0f} s"
        yield Check("broker", False, detail, fix, is_source=True)
    finally:
        consumer.close()


def _lag(consumer: Any, topic: str, partitions: list[int], lake: Lake | None) -> int:
    places = [TopicPartition(topic, number) for number in partitions]
    stored = lake.offsets(ANCHOR, places) if lake else dict.fromkeys(places, -1)
    lag = 0
    for place in places:
        low, high = consumer.get_watermark_offsets(Partition(*place), timeout=TIMEOUT_S)
        lag += max(0, high - max(low, stored[place] + 1))
    return lag


def _schema_registry(url: str) -> Check:
    if not url:
        return Check("schema registry", is_ok=True, detail="none configured")
    fix = "start it, or correct [kafka] registry_url"
    try:
        status = httpx.get(f"{url.rstrip('/')}/subjects", timeout=TIMEOUT_S).status_code
    except (httpx.HTTPError, httpx.InvalidURL):
        return Check("schema registry", False, "does not answer", fix, is_source=True)
    return Check("schema registry", status == httpx.codes.OK, f"HTTP {status}", fix, is_source=True)


_LAKE = """
SELECT
    (SELECT max(last_event_time) FROM watermarks),
    (SELECT max(newest) FROM (
        SELECT max(ingest_time) AS newest FROM tool_calls
        UNION ALL SELECT max(ingest_time) FROM token_events
        UNION ALL SELECT max(ingest_time) FROM secret_events)),
    (SELECT (SELECT count(*) FROM tool_calls) + (SELECT count(*) FROM token_events)
        + (SELECT count(*) FROM secret_events) - coalesce(sum(events), 0) FROM coverage),
    (SELECT count(*) FROM (
        SELECT arg_max(state, started_at) AS state FROM runs GROUP BY rule_id)
        WHERE state = 'failed'),
    (SELECT count(*) FROM outbox WHERE state = 'dead')
"""

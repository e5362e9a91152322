"""`delegraph alerts`: send what is due, try a sink."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from pipeline.alerts import load_sinks, send_alerts
from pipeline.alerts.alert import trial_alert
from pipeline.alerts.outbox import after, delivery_of
from pipeline.alerts.run import record
from pipeline.alerts.sinks import choose
from pipeline.chains.show import load_chain
from pipeline.cli import say
from pipeline.cli.options import the_lake, with_config
from pipeline.cli.output import write_json
from pipeline.errors import DeliveryError
from pipeline.investigate.text import render_path

if TYPE_CHECKING:
    import duckdb

    from pipeline.config import Config


@click.group()
def command() -> None:
    """Send alerts, try a sink."""


@command.command()
@with_config
def send(config: Config) -> None:
    """Tell each sink what it does not know yet, and try again what is due.

    Prints what it did as one JSON object.
    """
    sinks = load_sinks(config.alerts)
    if not sinks:
        say("no sink is configured: add [[alerts.sinks]] to delegraph.toml")
    report = send_alerts(the_lake(config), sinks, describe=describe)
    for name in report.disabled:
        say(f"{name} wants no more alerts (410); bring it back: delegraph alerts test --to {name}")
    write_json(vars(report))


@command.command()
@click.option("--to", "name", required=True, metavar="SINK", help="Name of the sink.")
@click.option("--dry-run", is_flag=True, help="Print the body and send nothing.")
@with_config
def test(config: Config, name: str, dry_run: bool) -> None:
    """Send a marked test alert; success enables a sink that had answered 410."""
    now = datetime.now(UTC)
    alert = trial_alert(name, now)
    if dry_run:
        click.echo(alert.body)
        return
    sink = choose(load_sinks(config.alerts), name)
    lake = the_lake(config, create=True)
    delivery = delivery_of(alert, name, now)
    outcome = sink.send(delivery.delivery_id, delivery.body, now)
    # A test is not tried again: it stands in the log, not in the outbox.
    record(lake, [], [after(delivery, outcome, now)[1]])
    if not outcome.delivered:
        raise DeliveryError(name, outcome.error or "not delivered", retryable=not outcome.gone)
    say(f"{name} took the test alert (HTTP {outcome.status_code})")


def describe(con: duckdb.DuckDBPyConnection, credential_key: str) -> str | None:
    """Return a credential's chain as text for an alert."""
    path = load_chain(con, credential_key)
    return render_path(path) if path else None

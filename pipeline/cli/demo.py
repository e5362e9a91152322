"""`delegraph demo`: the whole pipeline on planted stories, or only their events."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from pipeline.cli import say
from pipeline.cli.options import MOMENT, finish, json_option
from pipeline.demo.corpus.folder import write_registry
from pipeline.demo.corpus.score import (
    CORPUS_END,
    CORPUS_EVENTS,
    PLACES,
    as_json_text,
    as_markdown,
    as_report,
    score_corpus,
)
from pipeline.demo.generate import Stream, default_now
from pipeline.demo.produce import WRITERS, Outlet, produce, write_files
from pipeline.demo.run import DEFAULT_EVENTS, DEFAULT_FOLDER, DEFAULT_SEED, Demo, run_demo

EXIT_WRONG = 1


class Count(click.ParamType[int]):
    """A whole number; `1e6` and `1_000_000` are fine."""

    name = "count"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the number."""
        try:
            number = float(value)
            if number == int(number) and number > 0:
                return int(number)
        except (ValueError, OverflowError):
            pass
        return self.fail(f"{value!r} is not a whole number above 0", param, ctx)


@click.command()
@click.option(
    "--events",
    type=Count(),
    metavar="N",
    help=f"How many [{DEFAULT_EVENTS}; {CORPUS_EVENTS} with the corpus].",
)
@click.option("--seed", type=int, default=DEFAULT_SEED, show_default=True)
@click.option("--lake", "lake_path", metavar="DIR", help=f"Folder of the lake [{DEFAULT_FOLDER}].")
@click.option("--now", type=MOMENT, metavar="TIME", help="When the stories end [this hour].")
@click.option("--produce", "only_produce", is_flag=True, help="Send the events to --bootstrap.")
@click.option("--bootstrap", default="127.0.0.1:9092", show_default=True, metavar="HOST:PORT")
@click.option(
    "--write", type=click.Path(path_type=Path), metavar="DIR", help="Write files instead."
)
@click.option("--kind", type=click.Choice(sorted(WRITERS)), default="jsonl", show_default=True)
@click.option("--corpus", is_flag=True, help="Plant every detection's stories instead of five.")
@click.option("--places", type=Count(), default=PLACES, show_default=True, metavar="N")
@click.option(
    "--registry", "policy", type=click.Path(path_type=Path), metavar="DIR", help="The corpus's."
)
@click.option("--score", is_flag=True, help="Print each rule's precision and recall on the corpus.")
@click.option("--require", type=click.FloatRange(0, 1), metavar="SHARE", help="Exit 1 below it.")
@click.option("--markdown", is_flag=True, help="The scores as a Markdown table.")
@json_option
def command(
    *,
    events: int | None,
    seed: int,
    lake_path: str | None,
    now: datetime | None,
    only_produce: bool,
    bootstrap: str,
    write: Path | None,
    kind: str,
    corpus: bool,
    places: int,
    policy: Path | None,
    score: bool,
    require: float | None,
    markdown: bool,
    as_json: bool,
) -> None:
    """Plant five stories among ordinary traffic and show what is found.

    Runs on an embedded broker, offline, and exits 1 when a story was missed or a
    benign twin accused.  With --produce or --write it only makes the events.
    With --score it plants the corpus, every story of every detection with benign
    twins, and holds all stable rules against the truth.
    """
    moment = (now or (CORPUS_END if score else default_now())).astimezone(UTC)
    with_corpus = corpus or score or policy is not None
    many = events or (CORPUS_EVENTS if with_corpus else DEFAULT_EVENTS)
    stream = Stream(many, seed, moment, places if with_corpus else 0)
    if policy:
        write_registry(stream.corpus().registry(), policy)
        say(f"registry of the corpus in {policy}")
    if write or only_produce:
        if write:
            for path in write_files(stream, write, kind):
                click.echo(str(path))
        if only_produce:
            _produce(stream, bootstrap)
        return
    before = click.get_current_context().find_root().params.get("lake_path")
    folder = Path(lake_path or before or DEFAULT_FOLDER)
    if score:
        scored = score_corpus(stream, folder, say)
        show = as_json_text if as_json else as_markdown if markdown else as_report
        click.echo(show(scored))
        finish(EXIT_WRONG if require is not None and not scored.meets(require) else 0)
        return
    report = run_demo(Demo(many, seed, folder, moment), click.echo)
    finish(0 if report.is_right else EXIT_WRONG)


def _produce(stream: Stream, bootstrap: str) -> None:
    records = 0
    for sent in produce(stream, Outlet(bootstrap)):
        records = sent.records
    say(f"{records} events acknowledged by {bootstrap}")

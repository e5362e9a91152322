"""The `delegraph` command: one module per noun, loaded when it is named.

stdout is data, stderr is messages.  Every error that the pipeline raises on
purpose is one line and an exit code; a bug is one line too, and its traceback
is shown where DELEGRAPH_DEBUG is set.
"""

from __future__ import annotations

import difflib
import importlib
import logging
import os
import sys
import traceback
from typing import TYPE_CHECKING, NoReturn

import click

from pipeline import __version__
from pipeline.errors import PipelineError
from pipeline.log import configure_logging, mask_secrets, one_line

if TYPE_CHECKING:
    from collections.abc import Sequence

# Module and help: what `delegraph --help` shows without importing any of them.
COMMANDS = {
    "demo": ("demo", "Plant stories, run the whole pipeline on an embedded broker."),
    "doctor": ("doctor", "Check versions, broker, registry, lake; name a fix for each fault."),
    "ingest": ("ingest", "Take events from Kafka or files into the lake."),
    "sources": ("sources", "List the formats that are read, print samples, try a file."),
    "run": ("run", "Ingest, build, detect and alert continuously."),
    "chains": ("chains", "Build and show delegation chains."),
    "rules": ("rules", "List, test, lint and try the detection rules."),
    "detect": ("detect", "Run the rules."),
    "findings": ("findings", "List, show, accept and close findings."),
    "alerts": ("alerts", "Send alerts, try a sink."),
    "sql": ("sql", "Ask the lake one SELECT."),
    "connect": ("connect", "Print the init script that opens the lake in any DuckDB client."),
    "coverage": ("coverage", "Say how complete the data is; check that every source speaks."),
    "lake": ("lake", "Compact, expire, verify, describe the lake."),
    "dead-letters": ("dead_letters", "List and replay the records that could not be taken."),
    "registry": ("registry", "Check, show and compare policy registries."),
    "config": ("config", "Show the effective configuration."),
}

EXIT_BUG = 70
EXIT_INTERRUPTED = 130


class Commands(click.Group):
    """Finds a command's module by its name."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """Return the commands in the order in which one meets them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a command; an unknown one is a usage error that names the nearest."""
        if cmd_name not in COMMANDS:
            close = difflib.get_close_matches(cmd_name, COMMANDS, n=1)
            hint = f" Did you mean {close[0]!r}?" if close else ""
            raise click.UsageError(f"No such command {cmd_name!r}.{hint}", ctx)
        module = importlib.import_module(f"{__name__}.{COMMANDS[cmd_name][0]}")
        command: click.Command = module.command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """Write the list of commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


@click.group(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Begin with `delegraph demo`; every command has --help.",
)
@click.option("--lake", "lake_path", metavar="DIR", help="Folder or URL of the lake [./lake].")
@click.option("--config", "config_path", metavar="FILE", help="Configuration [delegraph.toml].")
@click.version_option(__version__, prog_name="delegraph")
def cli(lake_path: str | None, config_path: str | None) -> None:
    """Say who was behind what AI agents did, from Kafka to findings."""
    del lake_path, config_path  # read by the commands: see options.py


def main(args: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and end the process with its exit code."""
    log_from("WARNING")
    sys.exit(run(args))


def log_from(level: str) -> None:
    """Log from this level on, unless DELEGRAPH_LOG names another."""
    named = os.environ.get("DELEGRAPH_LOG", "").upper()
    configure_logging(named if named in logging.getLevelNamesMapping() else level)


def run(args: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    try:
        code = cli.main(args, prog_name="delegraph", standalone_mode=False)
        sys.stdout.flush()
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        say("interrupted")
        return EXIT_INTERRUPTED
    except PipelineError as error:
        say(f"error: {error}")
        return error.exit_code
    except BrokenPipeError:
        # `| head` has seen enough; Python must not complain again when it closes stdout.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:  # noqa: BLE001 - the last wall: a traceback may quote values
        if os.environ.get("DELEGRAPH_DEBUG"):
            traceback.print_exc()
        say(f"bug: {type(error).__name__}: {error}; DELEGRAPH_DEBUG=1 shows where")
        return EXIT_BUG
    return code if isinstance(code, int) else 0


def say(text: str) -> None:
    """Write a message for people to stderr; what it quotes moves no cursor."""
    lines = mask_secrets(text).split("\n")
    click.echo("\n".join(one_line(line) for line in lines), err=True)

"""Options that many commands share, and the configuration that they lead to."""

from __future__ import annotations

import dataclasses
import difflib
import functools
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pipeline.config import YAML_ENDINGS, Config, RegistryConfig, load_config
from pipeline.errors import ConfigError
from pipeline.ingest.recognise import AUTO
from pipeline.ingest.sources import adapter_names
from pipeline.lake import Lake, open_lake
from pipeline.log import one_line
from pipeline.registry import Registry, load_registry

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_AGO = re.compile(r"(\d+)([smhdw])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


class Moment(click.ParamType[datetime]):
    """RFC 3339, a date (midnight UTC), or an age such as `24h` or `7d`."""

    name = "time"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> datetime:
        """Return the time in UTC; one without an offset is UTC."""
        if isinstance(value, datetime):
            return value
        ago = _AGO.fullmatch(value)
        try:
            if ago:
                return datetime.now(UTC) - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
            time = datetime.fromisoformat(value)
        except (ValueError, OverflowError):
            self.fail(f"{value!r} is not RFC 3339, a date, or an age such as 24h, 7d", param, ctx)
        return time.astimezone(UTC) if time.tzinfo else time.replace(tzinfo=UTC)


MOMENT = Moment()


class AdapterName(click.ParamType[str]):
    """`auto`, a source of the package, or a YAML file of the user's."""

    name = "adapter"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the name as given; whether a YAML file can be read is known when it is."""
        known = [AUTO, *adapter_names()]
        if value not in known and not value.endswith(YAML_ENDINGS):
            close = difflib.get_close_matches(value, known, n=1)
            hint = f" Did you mean {close[0]!r}?" if close else ""
            self.fail(f"no adapter {value!r};{hint} there are {', '.join(known)}", param, ctx)
        return str(value)


ADAPTER = AdapterName()


class ManyValues(click.Command):
    """A command whose repeatable options take several values after one name.

    The shell expands `--from *.json` to one name and many values; click knows only
    one value per name.
    """

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the arguments after giving every value its own option name."""
        names = {
            name
            for param in self.params
            if isinstance(param, click.Option) and param.multiple
            for name in param.opts
        }
        return super().parse_args(ctx, spread(args, names))


def spread(args: Sequence[str], names: set[str]) -> list[str]:
    """Return the arguments with the option name repeated before each of its values."""
    spread_args: list[str] = []
    current: str | None = None
    values = 0
    for place, arg in enumerate(args):
        if arg == "--":
            return [*spread_args, *args[place:]]
        if arg.startswith("-") and arg != "-":
            current, values = (arg if arg in names else None), 0
        elif current is not None:
            values += 1
            if values > 1:
                spread_args.append(current)
        spread_args.append(arg)
    return spread_args


def with_config(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command `--lake` and `--config`, and pass it the effective `config`."""

    @click.option("--lake", "lake_path", metavar="DIR", help="Folder or URL of the lake [./lake].")
    @click.option("--config", "config_path", metavar="FILE", help="TOML [delegraph.toml].")
    @functools.wraps(command)
    def wrapper(*args: Any, lake_path: str | None, config_path: str | None, **rest: Any) -> Any:
        # The same options may stand before the command's name.
        before = click.get_current_context().find_root().params
        config = load_config(config_path or before.get("config_path"))
        path = lake_path or before.get("lake_path")
        if path:
            config = dataclasses.replace(config, lake=dataclasses.replace(config.lake, path=path))
        return command(*args, config=config, **rest)

    return wrapper


def with_registry(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command `--registry`; it wins over the configuration's folder."""

    @click.option("--registry", "registry_folder", metavar="DIR", help="Folder of policy YAML.")
    @functools.wraps(command)
    def wrapper(*args: Any, config: Config, registry_folder: str | None = None, **rest: Any) -> Any:
        if registry_folder:
            config = dataclasses.replace(config, registry=RegistryConfig(registry_folder))
        return command(*args, config=config, **rest)

    return with_config(wrapper)


as_of_option = click.option(
    "--as-of",
    type=MOMENT,
    default=lambda: datetime.now(UTC),
    show_default="now",
    metavar="TIME",
    help="The time it is taken to be: RFC 3339, a date, 24h, 7d.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="JSON instead of a table.")


class Words(click.ParamType[str]):
    """Text that says something: a reason that stands in a history must not be empty."""

    name = "text"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the text on one line."""
        text = one_line(str(value)).strip()
        return text or self.fail("must not be empty", param, ctx)


WORDS = Words()
limit_option = click.option(
    "--limit", type=click.IntRange(1), default=100, show_default=True, help="Rows at most."
)
instance_option = click.option(
    "--instance",
    metavar="NAME",
    help="Cluster, vault or gateway of vendor records that do not name theirs.",
)
after_option = click.option("--after", default=0, hidden=True, type=click.IntRange(0))


def the_lake(config: Config, *, create: bool = False) -> Lake:
    """Open the configured lake."""
    return open_lake(config.lake.path, create=create)


def the_registry(config: Config) -> Registry:
    """Load the configured registry, empty where none is configured.

    Raises:
        ConfigError: there is no such folder.  Without its policy a run would refute what
            it found yesterday and tell nobody.
        RegistryErrors: every fault of every file.
    """
    folder = config.registry.folder
    if folder and not Path(folder).exists():
        raise ConfigError(f"{folder}: there is no registry folder there")
    return load_registry(folder or None)


def finish(code: int) -> None:
    """End the command with an exit code other than 0."""
    if code:
        click.get_current_context().exit(code)

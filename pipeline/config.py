"""The configuration: one TOML file, then `DELEGRAPH__SECTION__KEY` overrides.

An unknown key is an error that names it and the nearest right one.  Secrets come
inline, from a file (`secret_file`) or from a variable (`secret_env`), are read at
once and never stand in a repr.  Relative paths in the file start at its folder.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import os
import tomllib
import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from pipeline.errors import ConfigError

DEFAULT_FILE = "delegraph.toml"
PREFIX = "DELEGRAPH__"
YAML_ENDINGS = (".yaml", ".yml")
_PATH = {"path": True}
_MASK = "***"

T = TypeVar("T")


class Secret:
    """A text that shows itself only to who asks for it by name."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """Return the text itself; never pass it to a log, an error or a table."""
        return self._text

    def __repr__(self) -> str:
        return f"Secret({_MASK!r})" if self._text else "Secret('')"

    __str__ = __repr__

    def __bool__(self) -> bool:
        return bool(self._text)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other.reveal() == self._text

    def __hash__(self) -> int:
        return hash(self._text)


@dataclass(frozen=True)
class LakeConfig:
    """Where the history lies."""

    path: str = field(default="./lake", metadata=_PATH)
    """Folder or object-store URL."""
    keep_days: int = 0
    """Days of history that `lake expire` keeps; 0 keeps all."""


def _default_topics() -> dict[str, str]:
    return dict.fromkeys(
        ("agent.tool_calls", "agent.token_events", "agent.secret_events"), "native"
    )


@dataclass(frozen=True)
class KafkaConfig:
    """Where events come from."""

    bootstrap: str = "127.0.0.1:9092"
    """Comma-separated `host:port`."""
    group: str = "delegraph"
    """Consumer group; part of what makes an offset unique in the lake."""
    registry_url: str = ""
    """Schema registry; empty means that no record uses schema-registry framing."""
    topics: Mapping[str, str] = field(default_factory=_default_topics, metadata=_PATH)
    """Topic to the adapter that reads it: a source, a YAML file of your own, or `auto`."""
    instances: Mapping[str, str] = field(default_factory=dict)
    """Topic to the cluster, vault or gateway that its records are of, where they do not say it."""
    security: Mapping[str, Secret] = field(default_factory=dict)
    """librdkafka properties as they are named there, such as `sasl.password`."""


@dataclass(frozen=True)
class IngestConfig:
    """When buffered events are committed, and when reading pauses."""

    batch_rows: int = 30_000
    """Rows after which a batch is committed."""
    batch_bytes: int = 64 * 1024 * 1024
    """Bytes of raw values after which a batch is committed."""
    batch_age_s: float = 2.0
    """Seconds after which a batch is committed, full or not."""
    sources: tuple[str, ...] = field(default=(), metadata=_PATH)
    """YAML files of your own that `auto` asks before the sources of the package."""


@dataclass(frozen=True)
class RegistryConfig:
    """Policy as code."""

    folder: str = field(default="", metadata=_PATH)
    """Folder of YAML files; empty is an empty registry."""


@dataclass(frozen=True)
class ChainsConfig:
    """How chains are built."""

    mark_every_s: float = 60.0
    """Seconds between two searches for duplicates while events stream in."""


@dataclass(frozen=True)
class DetectConfig:
    """Which rules run."""

    rules: tuple[str, ...] = field(default=(), metadata=_PATH)
    """Folders of own rules, besides those of the package."""
    lookback_h: float = 0.0
    """Hours of event time that `delegraph run` looks back at; 0 is the whole history."""
    parameters: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """`[detect.parameters.RULE_ID]`: values in place of the rule's defaults."""


@dataclass(frozen=True)
class SinkTable:
    """One `[[alerts.sinks]]` table as written; the sink's own module reads its options."""

    name: str
    kind: str = "webhook"
    options: Mapping[str, Any] = field(default_factory=dict, repr=False)
    folder: str = ""
    """Folder against which a `*_file` option is resolved."""


@dataclass(frozen=True)
class AlertsConfig:
    """Who is told."""

    min_severity: int = 3
    """Findings below this severity (1 to 5) alert nobody."""
    sinks: tuple[SinkTable, ...] = ()


@dataclass(frozen=True)
class ScheduleConfig:
    """Seconds between two runs of a job in `delegraph run`."""

    build_s: float = 5.0
    detect_s: float = 5.0
    alert_s: float = 2.0
    compact_s: float = 600.0


@dataclass(frozen=True)
class Config:
    """The effective configuration."""

    lake: LakeConfig = LakeConfig()
    kafka: KafkaConfig = field(default_factory=KafkaConfig)
    ingest: IngestConfig = IngestConfig()
    registry: RegistryConfig = RegistryConfig()
    chains: ChainsConfig = ChainsConfig()
    detect: DetectConfig = DetectConfig()
    alerts: AlertsConfig = AlertsConfig()
    schedule: ScheduleConfig = ScheduleConfig()


@dataclass(frozen=True)
class Place:
    """Where a table stands, for messages and for relative paths."""

    file: str
    section: str
    folder: str = ""
    environ: Mapping[str, str] = field(default_factory=dict, repr=False)

    def fault(self, key: str, message: str) -> ConfigError:
        """Return the error that names file and key."""
        name = ".".join(part for part in (self.section, key) if part)
        return ConfigError(f"{self.file}: {name}: {message}")


def load_config(path: str | Path | None = None, environ: Mapping[str, str] | None = None) -> Config:
    """Return the configuration of `path`, or of `DELEGRAPH_CONFIG`, or of `delegraph.toml` here.

    The last may be absent; a file that was named must exist.
    """
    environ = os.environ if environ is None else environ
    named = path or environ.get("DELEGRAPH_CONFIG")
    file = Path(named or DEFAULT_FILE)
    table: dict[str, Any] = {}
    if named or file.is_file():
        table = _read_toml(file)
    folder = "" if file.parent == Path() else str(file.parent)
    place = Place(str(file), "", folder, environ)
    return read_options(Config, _override(table, environ), place)


def _read_toml(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file}: is not TOML: {error}") from None


@dataclass(frozen=True)
class _FromEnvironment:
    """A value of the environment, which is text whatever its field is."""

    text: str


def _override(table: dict[str, Any], environ: Mapping[str, str]) -> dict[str, Any]:
    merged = {
        key: dict(value) if isinstance(value, dict) else value for key, value in table.items()
    }
    for name in sorted(environ):
        if not name.startswith(PREFIX):
            continue
        keys = name.removeprefix(PREFIX).lower().split("__")
        place = Place(name, "")
        if len(keys) < 2 or not all(keys):  # noqa: PLR2004 - a section and a key
            raise place.fault("", "an override is named DELEGRAPH__SECTION__KEY")
        section = merged.setdefault(keys[0], {})
        if not isinstance(section, dict):
            raise place.fault("", f"{keys[0]} is not a section of the file")
        _set(section, keys[1:], environ[name])
    return merged


def _set(section: dict[str, Any], keys: list[str], text: str) -> None:
    if len(keys) == 1:
        section[keys[0]] = _FromEnvironment(text)
        return
    # A shell cannot name `sasl.password`: SASL_PASSWORD stands for it.
    inner = dict(section.get(keys[0]) or {})
    inner["__".join(keys[1:]).replace("_", ".")] = _FromEnvironment(text)
    section[keys[0]] = inner


def read_options(cls: type[T], table: Mapping[str, Any], place: Place) -> T:
    """Return the frozen dataclass `cls` filled from a table.

    Raises:
        ConfigError: An unknown key, a value of the wrong type, a missing value.
    """
    hints = get_type_hints(cls)
    fields = {f.name: f for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
    values: dict[str, Any] = {}
    for key, value in table.items():
        target, resolve = _target(key, hints)
        if target is None:
            raise place.fault(key, "unknown key" + _nearest(key, hints))
        if target in values:
            raise place.fault(key, f"give one of {target}, {target}_file and {target}_env")
        where = dataclasses.replace(place, section=_join(place.section, target))
        from_file = not isinstance(value, _FromEnvironment)
        is_path = from_file and bool(fields[target].metadata.get("path"))
        values[target] = _convert(resolve(value, key, place), hints[target], where, is_path=is_path)
    for name, declared in fields.items():
        needed = declared.default is declared.default_factory is dataclasses.MISSING
        if needed and name not in values:
            raise place.fault(name, "is required")
    return cls(**values)


def _join(section: str, key: str) -> str:
    return f"{section}.{key}" if section else key


def _nearest(key: str, names: Mapping[str, Any]) -> str:
    close = difflib.get_close_matches(key, list(names), n=1, cutoff=0.5)
    if close:
        return f"; did you mean {close[0]!r}?"
    return f"; known here: {', '.join(sorted(names))}" if names else ""


_Resolver = Callable[[Any, str, Place], Any]


def _target(key: str, hints: Mapping[str, Any]) -> tuple[str | None, _Resolver]:
    """Return the field that a key fills, and how its value is found."""
    if key in hints:
        return key, lambda value, _key, _place: value
    for suffix, resolve in (("_file", _from_file), ("_env", _from_variable)):
        name = key.removesuffix(suffix)
        if name != key and hints.get(name) is Secret:
            return name, resolve
    return None, lambda value, _key, _place: value


def _from_file(value: Any, key: str, place: Place) -> str:
    if isinstance(value, _FromEnvironment):
        value = value.text
    elif isinstance(value, str):
        value = _resolve(value, place)
    else:
        raise place.fault(key, "must be the path of a file")
    try:
        return Path(value).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        raise place.fault(key, f"cannot read {value}") from None


def _from_variable(value: Any, key: str, place: Place) -> str:
    name = value.text if isinstance(value, _FromEnvironment) else value
    if not isinstance(name, str) or not place.environ.get(name):
        raise place.fault(key, f"the environment has no variable {name}")
    return place.environ[name]


def _resolve(text: str, place: Place) -> str:
    if not text or "://" in text or not place.folder:
        return text
    return str(Path(place.folder) / Path(text).expanduser())


def _convert(value: Any, hint: Any, place: Place, *, is_path: bool = False) -> Any:
    """Return a value as the type of its field."""
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        if not isinstance(value, Mapping):
            raise place.fault("", "must be a table")
        return read_options(hint, value, place)
    if hint is Secret:
        return Secret(_scalar(value, str, place))
    origin, inner = get_origin(hint), get_args(hint)
    if origin is tuple and inner[0] is SinkTable:
        return _sinks(value, place)
    if origin is tuple:
        parts = [_scalar(part, str, place) for part in _listed(value, place)]
        return tuple(_resolve(part, place) if is_path else part for part in parts)
    if origin is Mapping:
        mapping = _mapping(value, inner[1], place)
        return _with_paths(mapping, place) if is_path else mapping
    converted = _scalar(value, hint, place)
    return _resolve(converted, place) if is_path else converted


def _listed(value: Any, place: Place) -> list[Any]:
    if isinstance(value, _FromEnvironment):
        return [part.strip() for part in value.text.split(",") if part.strip()]
    if not isinstance(value, list):
        raise place.fault("", "must be a list")
    return value


def _mapping(value: Any, hint: Any, place: Place) -> Mapping[str, Any]:
    if isinstance(value, _FromEnvironment):
        pairs = [part.partition("=") for part in _listed(value, place)]
        value = {key.strip(): text.strip() for key, _, text in pairs}
    if not isinstance(value, Mapping):
        raise place.fault("", "must be a table")
    inner = {key: dataclasses.replace(place, section=f"{place.section}.{key}") for key in value}
    return types.MappingProxyType(
        {
            # What has no type here is checked by who knows it.
            key: value[key] if hint is Any else _convert(_plain(value[key]), hint, inner[key])
            for key in value
        }
    )


def _with_paths(mapping: Mapping[str, str], place: Place) -> Mapping[str, str]:
    """Resolve what is a YAML file; the other texts are names."""
    return types.MappingProxyType(
        {
            key: _resolve(text, place) if text.endswith(YAML_ENDINGS) else text
            for key, text in mapping.items()
        }
    )


def _plain(value: Any) -> Any:
    # librdkafka takes all its properties as text, and TOML writers forget quotes.
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, int | float) else value


def _scalar(value: Any, hint: Any, place: Place) -> Any:
    if isinstance(value, _FromEnvironment):
        return _parse(value.text, hint, place)
    fits = isinstance(value, hint) and not (isinstance(value, bool) and hint is not bool)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        value, fits = float(value), True
    if not fits:
        raise place.fault("", f"must be {_KINDS[hint]}, not {type(value).__name__}")
    return _not_negative(value, place)


_KINDS: Mapping[Any, str] = {
    str: "a text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
}


def _parse(text: str, hint: Any, place: Place) -> Any:
    try:
        if hint is bool:
            return {"true": True, "1": True, "false": False, "0": False}[text.strip().lower()]
        return _not_negative(hint(text), place)
    except (KeyError, ValueError):
        raise place.fault("", f"must be {_KINDS[hint]}") from None


def _not_negative(value: Any, place: Place) -> Any:
    if isinstance(value, int | float) and not 0 <= value < float("inf"):
        raise place.fault("", "must not be negative")
    return value


def _sinks(value: Any, place: Place) -> tuple[SinkTable, ...]:
    sinks = []
    for table in _listed(value, place):
        if not isinstance(table, Mapping):
            raise place.fault("", "must be [[alerts.sinks]] tables")
        options = dict(table)
        name, kind = options.pop("name", None), options.pop("kind", "webhook")
        if not isinstance(name, str) or not name or not isinstance(kind, str):
            raise place.fault("name", "every sink has a name")
        sinks.append(SinkTable(name, kind, types.MappingProxyType(options), place.folder))
    names = [sink.name for sink in sinks]
    for name in names:
        if names.count(name) > 1:
            raise place.fault("name", f"two sinks are called {name!r}")
    return tuple(sinks)


def show_config(config: Config) -> str:
    """Return the effective configuration as TOML; every secret is masked."""
    lines: list[str] = []
    for section in dataclasses.fields(config):
        _show_table(section.name, getattr(config, section.name), lines)
    return "\n".join(lines) + "\n"


def _show_table(name: str, table: Any, lines: list[str]) -> None:
    tables: list[tuple[str, Mapping[str, Any]]] = []
    lines += [f"[{name}]"] if not lines else ["", f"[{name}]"]
    for entry in dataclasses.fields(table):
        value = getattr(table, entry.name)
        if isinstance(value, Mapping):
            inner = {key: part for key, part in value.items() if isinstance(part, Mapping)}
            tables += [(f"[{name}.{entry.name}.{_toml_key(key)}]", inner[key]) for key in inner]
            tables += [] if inner else [(f"[{name}.{entry.name}]", value)]
        elif value and isinstance(value, tuple) and isinstance(value[0], SinkTable):
            tables += [(f"[[{name}.{entry.name}]]", _shown_sink(sink)) for sink in value]
        else:
            lines.append(f"{entry.name} = {_toml(value)}")
    for title, shown in tables:
        lines += ["", title] + [f"{_toml_key(key)} = {_toml(shown[key])}" for key in shown]


def _shown_sink(sink: SinkTable) -> dict[str, Any]:
    # Which option is a secret is known to the sink's module alone; a URL often is.
    numbers = {
        key: value if isinstance(value, bool | int | float) else Secret(str(value))
        for key, value in sink.options.items()
    }
    return {"name": sink.name, "kind": sink.kind, **numbers}


def _toml_key(key: str) -> str:
    return key if key.replace("_", "").replace("-", "").isalnum() else json.dumps(key)


def _toml(value: Any) -> str:
    if isinstance(value, Secret):
        return json.dumps(_MASK if value else "")
    return json.dumps(list(value) if isinstance(value, tuple) else value)

"""One line per event on stderr: time, level, where, what, then `key=value`.

Nothing that looks like a usable credential leaves here, and a value can neither
break its line nor move the cursor of a terminal.  Stages log batches and
decisions, never single events.
"""

from __future__ import annotations

import logging
import re
import sys
import time
from typing import TextIO

# The last wall only: `events.redact` has taken credentials out before this.
_CREDENTIAL = re.compile(
    r"eyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]*"  # JWT
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----[^\"']*"
    r"|\b(?:whsec|whsk|gh[pousr]|github_pat|hvs|hvb|glpat|sk|xox[abeoprs])[._-][\w./+=-]{8,}"
    r"|(?<=://)[^/\s:@]+:[^/\s@]+(?=@)"  # user and password of a URL
    r"|[A-Za-z0-9+/]{100,}={0,2}"  # cloud session tokens
)
_ASSIGNED = re.compile(
    r"(?i)\b(bearer\s+|basic\s+|[\w.-]*(?:password|passwd|secret|token|apikey|api_key)[\"']?\s*[=:]\s*[\"']?)"
    r"[^\s\"',;&]{6,}"
)
_MASK = "[redacted]"
_BARE = re.compile(r"[\w./:+@#-]+")


def mask_secrets(text: str) -> str:
    """Return the text with whatever is shaped like a credential masked."""
    return _ASSIGNED.sub(lambda match: match.group(1) + _MASK, _CREDENTIAL.sub(_MASK, text))


def one_line(text: str) -> str:
    """Return the text without control, bidirectional and invisible characters."""
    return "".join(char if char.isprintable() else " " for char in text)


def _value(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.3f}"
    text = one_line(str(value))
    if _BARE.fullmatch(text):
        return text
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


class _LineFormatter(logging.Formatter):
    converter = staticmethod(time.gmtime)  # UTC, like every time of ours

    def format(self, record: logging.LogRecord) -> str:
        """Return one line; an exception keeps its type and text, not its frames."""
        # Frames quote source lines and, in some libraries, the values in them.
        fields = dict(getattr(record, "fields", {}))
        if record.exc_info and record.exc_info[1] is not None:
            error = record.exc_info[1]
            fields["error"] = f"{type(error).__name__}: {error}"
        stamp = self.formatTime(record, "%Y-%m-%dT%H:%M:%S")
        words = [f"{stamp}.{int(record.msecs):03d}Z", record.levelname, record.name]
        words.append(one_line(record.getMessage()))
        words += [f"{key}={_value(value)}" for key, value in fields.items()]
        return mask_secrets(" ".join(words))


class Log:
    """A logger whose details are named values instead of formatted text."""

    def __init__(self, name: str) -> None:
        self._logger = logging.getLogger(name)

    def debug(self, event: str, **fields: object) -> None:
        """Write what only a developer wants to read."""
        self._logger.debug("%s", event, extra={"fields": fields})

    def info(self, event: str, **fields: object) -> None:
        """Write that something was done."""
        self._logger.info("%s", event, extra={"fields": fields})

    def warning(self, event: str, **fields: object) -> None:
        """Write that something needs a look, though the work goes on."""
        self._logger.warning("%s", event, extra={"fields": fields})

    def error(self, event: str, **fields: object) -> None:
        """Write that something was not done."""
        self._logger.error("%s", event, extra={"fields": fields})


def get_log(name: str) -> Log:
    """Return the log of a module; pass `__name__`."""
    return Log(name)


def configure_logging(level: str = "INFO", stream: TextIO | None = None) -> None:
    """Send the log of this program to `stream`, by default stderr; may be called again."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(_LineFormatter())
    for name, least in (("pipeline", level), ("jobs", level), ("apscheduler", "ERROR")):
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.setLevel(least)
        logger.propagate = False

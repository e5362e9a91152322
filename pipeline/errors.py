"""Every error that the pipeline raises on purpose.

    PipelineError
    ├─ ConfigError      file, key; the command exits 2
    ├─ SchemaError      an .avsc or a table that does not fit the contract; exits 2
    ├─ RegistryError    a fault in the policy files, with file and line
    ├─ RegistryErrors   all of them, raised together; exits 2
    ├─ RuleError        a fault in a rule folder, with file and line
    ├─ RuleErrors       all of them, raised together; exits 3
    ├─ SourceError      broker unreachable, topic or file missing, adapter unknown; exits 4
    ├─ LakeError        not our folder, disk full, table missing; exits 2
    │  └─ FencedError   another writer owns the partition now: stop
    ├─ QueryError       SQL that the analyst may not run, or that failed; exits 2
    └─ DeliveryError    sink and attempt; never the URL, never a secret

A message says what failed, where, and what to do.
Bad data is never an error: it is a dead letter, or a chain with a status.
"""

from __future__ import annotations


class PipelineError(Exception):
    """What the command line shows as one line, without a traceback."""

    exit_code = 2


class ConfigError(PipelineError):
    """The configuration names something unknown or impossible."""


class SchemaError(PipelineError):
    """A schema that does not fit the contract."""


class RegistryError(PipelineError):
    """One fault in the policy folder."""

    def __init__(self, file: str, line: int, message: str) -> None:
        super().__init__(f"{file}:{line}: {message}")
        self.file, self.line, self.message = file, line, message


class RegistryErrors(PipelineError):  # noqa: N818 - it holds several errors
    """Every fault of the policy folder, so that one run shows them all."""

    def __init__(self, errors: list[RegistryError]) -> None:
        super().__init__("\n".join(str(error) for error in errors))
        self.errors = errors


class RuleError(PipelineError):
    """One fault in a rule folder, or a rule that failed at run time."""

    exit_code = 3

    def __init__(self, file: str, line: int, message: str) -> None:
        super().__init__(f"{file}:{line}: {message}")
        self.file, self.line, self.message = file, line, message


class RuleErrors(PipelineError):  # noqa: N818 - it holds several errors
    """Every rule that failed; the others have run."""

    exit_code = 3

    def __init__(self, errors: list[RuleError]) -> None:
        super().__init__("\n".join(str(error) for error in errors))
        self.errors = errors


class SourceError(PipelineError):
    """A source of events that cannot be reached or read."""

    exit_code = 4


class LakeError(PipelineError):
    """A lake that cannot be opened or written."""


class FencedError(LakeError):
    """Another writer committed offsets of a partition that we thought ours."""


class QueryError(PipelineError):
    """SQL that was refused or failed."""


class DeliveryError(PipelineError):
    """An alert that a sink did not take."""

    def __init__(self, sink: str, message: str, *, retryable: bool) -> None:
        super().__init__(f"{sink}: {message}")
        self.sink, self.retryable = sink, retryable

"""Load and check the folder of one rule.

A rule is content, not code: a folder `<rule_id>/` with these files.
`pipeline/detections/template/` is one to copy; it runs in the tests.

    rule.toml      what the rule is (keys below)
    rule.sql       one SELECT that returns one row per finding
    count.sql      optional: one SELECT of one number, how many things were examined
    graph.sql      optional: one SELECT of edges that explain one finding (bound: $finding_id,
                   $tenant_id, $credential_key, $entity)
    cases/*.jsonl  small stories; at least one that fires and one benign twin

**rule.toml**, all required unless said otherwise; an unknown key is an error.

    id                the folder's name, snake_case, says the behaviour
    code              code in the catalogue, `PC-01`
    title             one line; a row may carry a better `title` of its own
    version           "major.minor.patch"; a new major version gives new finding ids
    family            PC, SP, LS, BT, GO, TR: the prefix of the code
    maturity          experimental | stable
    maturity_reason   one sentence: why it is not stable yet; required when experimental
    severity          base severity, 1 info to 5 critical
    kind              presence | absence
    why               one paragraph for the analyst
    identity          columns that make a finding the same finding: text, number, boolean, date or
                      lists of text; never a time.  tenant_id belongs to it by itself.
    false_positives   list of sentences
    remediation       one paragraph
    runbook           two or three steps, each with a time window and named columns
    when_gone         optional, default "refuted": what becomes of a finding that a later run over
                      its time no longer returns.  "refuted": it never was true.  "resolved": it was
                      true and has ended (a rotation that was made up for).
    credential_theft  optional, default false: severity is not lowered outside production
    owner_role        optional, default "application": which of an identity's three owners a
                      finding goes to: application, iam, platform
    [needs]           tables: every view that the .sql files read, `reg_*`, `rule_watermarks` and
                      `identity_activity` included; sources: families (tool_call, token_event,
                      secret_event) whose sources must be complete before an absence rule may speak
    [window]          optional.  every_s (3600): how often a scheduler runs it; grace_s (0): how far
                      behind the watermark an absence rule stays
    [parameters.NAME] type (integer, number, text, boolean, texts), default, reason
    [mappings]        lists owasp_asi, owasp_nhi, maestro, nist_govern, attack, atlas; may be empty;
                      each code stands with its exact title in taxonomies.toml

**rule.sql** reads the documented views, `reg_*`, and for absence rules
`rule_watermarks(tenant_id, watermark)`: per tenant, up to when all needed
sources are complete, less `grace_s`, never after `$as_of`.  An absence rule
joins it and returns only what lies before the watermark:

    FROM credentials JOIN rule_watermarks USING (tenant_id) WHERE first_used_at < watermark

`identity_activity(tenant_id, identity_id, name, issuer, first_at, last_at, event_uids)` says
which registered identities were seen and by which name, with the newest events of each.

Bound: every declared parameter as `$name` (each must be used), and at will
`$as_of`, `$from`, `$to` (TIMESTAMPTZ).  A rule sees everything; the engine keeps the
rows whose `last_seen` lies in [from, to), so most rules need neither $from nor $to.
Of a rule with when_gone "resolved" it keeps all rows: a state is judged as of now.
Lists that a row carries are sorted in the SQL: shuffled events must give equal rows.

Columns that a row must have: `tenant_id`, `entity`, `first_seen`, `last_seen`
(TIMESTAMPTZ), `event_uids` (VARCHAR[]), and the identity columns.
Columns that the engine understands, all optional:

    title               VARCHAR, in place of the rule's title
    severity            INTEGER base severity of this row, in place of rule.toml's
    severity_delta      INTEGER added to the base
    confidence          DOUBLE of the finding; else chain_confidence; else that of the chain of
                        credential_key; else 1
    credential_key      VARCHAR: adds chain_path
    possible            BOOLEAN true of some parents only: severity -1, title "Possible: ..."
    action_class        VARCHAR: +1 for admin_iam, delete, payment, secret_read, execute, ...
    resource_sensitivity  INTEGER: ... or for 3 and more, ...
    irreversible        BOOLEAN: ... or if true
    vendor_hosted       BOOLEAN: +1, ...
    cross_domain        BOOLEAN: ... or if true
    environment         VARCHAR: -1 for stage, dev, test, unless credential_theft
    chain_confidence    DOUBLE: -1 below 0.80, -2 below 0.60
    observer            VARCHAR: critical needs one that is not agent_runtime; else that of the
                        issuance of credential_key; unknown is not enough.  And confidence >= 0.95.
    identity_id         VARCHAR registry key whose owner is told; else the entity, else the last
                        actor of chain_path, looked up by alias
    coverage_note       VARCHAR

Every other column goes, with its name, into `summary` (JSON).
The result is clamped to 1..5.  No two rows of one run may share an identity:
`delegraph rules test` refuses it; in production such rows are merged.

**cases/NAME.jsonl**: the first line is one JSON object

    {"name": "...", "as_of": "2026-03-02T12:00:00Z", "expect": [...], "registry": {...}}

`expect` has one object per finding, each naming what must be equal: columns of
`findings` (entity, severity, status, chain_path, ...), identity columns, or keys of the
summary.  Nothing else may be found; `[]` is a benign twin.  `as_of` is optional (one day after
the newest event).  `registry` is optional: file name to the content that the YAML file would
have.  The following lines are contract events as JSON with `family`; the sources count as read
from files, complete at `as_of`.  Each case runs in order, shuffled, and with every event twice.

A fault is a `RuleError` with file and line; all faults of all rules are
raised together as `RuleErrors`.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.errors import RuleError, RuleErrors
from pipeline.events.schema import FAMILIES

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

RULES = Path(__file__).parent / "rules"

CODE_FAMILIES = ("PC", "SP", "LS", "BT", "GO", "TR")
MAPPINGS = ("owasp_asi", "owasp_nhi", "maestro", "nist_govern", "attack", "atlas")
SQL_FILES = ("rule.sql", "count.sql", "graph.sql")
MOST_SEVERE = 5
RUNBOOK_STEPS = (2, 3)
OWNER_ROLES = ("application", "iam", "platform")

Value = str | int | float | bool | list[str]

PARAMETER_TYPES: Mapping[str, tuple[type, ...]] = {
    "integer": (int,),
    "number": (int, float),
    "text": (str,),
    "boolean": (bool,),
    "texts": (list,),
}
_REQUIRED = object()
# Key -> (type, default); nested tables are looked at on their own.
_KEYS: Mapping[str, tuple[type, Any]] = {
    "id": (str, _REQUIRED),
    "code": (str, _REQUIRED),
    "title": (str, _REQUIRED),
    "version": (str, _REQUIRED),
    "family": (str, _REQUIRED),
    "maturity": (str, _REQUIRED),
    "severity": (int, _REQUIRED),
    "kind": (str, _REQUIRED),
    "why": (str, _REQUIRED),
    "identity": (list, _REQUIRED),
    "false_positives": (list, _REQUIRED),
    "remediation": (str, _REQUIRED),
    "runbook": (list, _REQUIRED),
    "when_gone": (str, "refuted"),
    "credential_theft": (bool, False),
    "maturity_reason": (str, ""),
    "owner_role": (str, OWNER_ROLES[0]),
    "needs": (dict, _REQUIRED),
    "window": (dict, {}),
    "parameters": (dict, {}),
    "mappings": (dict, _REQUIRED),
}
# Stands for what is missing or of another type, which is a fault of its own.
_SOUND: Mapping[str, Any] = {
    "id": "",
    "code": "",
    "version": "1.0.0",
    "family": CODE_FAMILIES[0],
    "maturity": "stable",
    "severity": 1,
    "kind": "presence",
    "identity": ["entity"],
    "false_positives": [],
    "runbook": ["", ""],
    "needs": {},
    "mappings": {},
}
_WORDS = {
    "family": CODE_FAMILIES,
    "maturity": ("experimental", "stable"),
    "kind": ("presence", "absence"),
    "when_gone": ("refuted", "resolved"),
    "owner_role": OWNER_ROLES,
}


@dataclass(frozen=True)
class Parameter:
    """One number or word that a rule's SQL takes as `$name`."""

    name: str
    kind: str
    default: Value
    reason: str


@dataclass(frozen=True)
class Rule:
    """One rule as its folder says."""

    folder: Path
    id: str
    code: str
    title: str
    version: str
    family: str
    maturity: str
    severity: int
    kind: str
    why: str
    identity: tuple[str, ...]
    false_positives: tuple[str, ...]
    remediation: str
    runbook: tuple[str, ...]
    when_gone: str
    credential_theft: bool
    maturity_reason: str
    owner_role: str
    tables: tuple[str, ...]
    sources: tuple[str, ...]
    every_s: int
    grace_s: int
    parameters: Mapping[str, Parameter]
    mappings: Mapping[str, tuple[str, ...]]
    sql: Mapping[str, str] = field(repr=False)

    @property
    def major(self) -> int:
        """Return the major version, which finding ids depend on."""
        return int(self.version.split(".")[0])

    @property
    def is_absence(self) -> bool:
        """Return whether the rule must wait for its sources."""
        return self.kind == "absence"

    @property
    def cases(self) -> list[Path]:
        """Return the rule's stories."""
        return sorted(self.folder.glob("cases/*.jsonl"))

    def file(self, name: str) -> str:
        """Return a file's name as messages show it: `deep_chain/rule.sql`."""
        return f"{self.folder.name}/{name}"


def find_rules(folders: Iterable[Path]) -> list[Path]:
    """Return every rule folder below the given ones, by name.

    Raises:
        RuleErrors: a folder is not there.
    """
    found = []
    for folder in folders:
        if not folder.is_dir():
            raise RuleErrors([RuleError(str(folder), 1, "there is no such folder of rules")])
        found += [path.parent for path in folder.glob("*/rule.toml")]
    return sorted(found, key=lambda path: path.name)


def read_rules(
    more: Iterable[Path] = (), *, only: Collection[str] | None = None
) -> tuple[list[Rule], list[RuleError]]:
    """Return our rules and those of more folders, in order of their codes, and all faults.

    `only` names rule ids or codes; one that no rule has is a fault.
    """
    rules: list[Rule] = []
    errors: list[RuleError] = []
    for folder in find_rules([RULES, *more]):
        try:
            rules.append(read_rule(folder))
        except RuleErrors as error:
            errors += error.errors
    first: dict[str, Rule] = {}
    for rule in rules:
        other = first.setdefault(rule.id, rule)
        if other is not rule:
            errors.append(RuleError(str(rule.folder), 1, f"rule id already in {other.folder}"))
    if only is not None:
        known = {name for rule in rules for name in (rule.id, rule.code)}
        errors += [
            RuleError("rules", 1, f'there is no rule "{name}"{nearest(name, known)}')
            for name in only
            if name not in known and not errors
        ]
        rules = [rule for rule in rules if {rule.id, rule.code} & set(only)]
    return sorted(rules, key=lambda rule: (rule.code, rule.id)), errors


def read_rule(folder: Path) -> Rule:
    """Return the rule of a folder, its SQL not yet checked (see check.py).

    Raises:
        RuleErrors: every fault of rule.toml, and files that are missing.
    """
    reader = _Reader(folder, [])
    declared = reader.read()
    sql = {name: reader.open(name) for name in SQL_FILES if (folder / name).exists()}
    if "rule.sql" not in sql:
        reader.fault("id", "there is no rule.sql beside it")
    if reader.errors:
        raise RuleErrors(reader.errors)
    needs, window = declared.pop("needs"), declared.pop("window")
    parameters, mappings = declared.pop("parameters"), declared.pop("mappings")
    plain: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in declared.items()}
    return Rule(
        folder=folder,
        tables=tuple(needs["tables"]),
        sources=tuple(needs.get("sources", [])),
        every_s=window.get("every_s", 3600),
        grace_s=window.get("grace_s", 0),
        parameters={
            name: Parameter(name, p["type"], p["default"], p["reason"])
            for name, p in parameters.items()
        },
        mappings={name: tuple(codes) for name, codes in mappings.items()},
        sql=sql,
        **plain,
    )


def read_text(path: Path, shown: str) -> str:
    """Return the text of a file of a rule.

    Raises:
        RuleError: it cannot be read, or is not UTF-8.
    """
    try:
        content = path.read_bytes()
        return content.decode().replace("\r\n", "\n")
    except OSError as error:
        raise RuleError(shown, 1, f"not readable: {error.strerror}") from error
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise RuleError(shown, line, f"not UTF-8: byte 0x{content[error.start]:02x}") from error


@cache
def taxonomies() -> dict[str, dict[str, str]]:
    """Return code to exact title for each of MAPPINGS, and `renamed`: old code to new."""
    path = Path(__file__).parent / "taxonomies.toml"
    return tomllib.loads(path.read_text(encoding="utf-8"))


def nearest(name: str, known: Iterable[str], alike: float = 0.6) -> str:
    """Return `; did you mean "..."?` for a name that is nearly right, else nothing."""
    near = get_close_matches(name, sorted(known), n=1, cutoff=alike)
    return f'; did you mean "{near[0]}"?' if near else ""


@dataclass
class _Reader:
    """One rule.toml being read; `errors` fills up."""

    folder: Path
    errors: list[RuleError]
    text: str = ""

    def open(self, name: str) -> str:
        """Return the text of a file; one that cannot be read is a fault and empty."""
        try:
            return read_text(self.folder / name, f"{self.folder.name}/{name}")
        except RuleError as error:
            self.errors.append(error)
            return ""

    def fault(self, key: str, message: str) -> None:
        """Record a fault at the first line that mentions a key."""
        mention = re.compile(rf"^\s*(\[[\w.]*\b{re.escape(key)}\]|{re.escape(key)}\s*=)")
        lines = enumerate(self.text.splitlines(), start=1)
        line = next((number for number, line in lines if mention.match(line)), 1)
        self.errors.append(RuleError(f"{self.folder.name}/rule.toml", line, message))

    def read(self) -> dict[str, Any]:
        self.text = self.open("rule.toml")
        if self.errors:
            return {}
        try:
            raw = tomllib.loads(self.text)
        except tomllib.TOMLDecodeError as error:
            line = re.search(r"line (\d+)", str(error))
            at = int(line[1]) if line else self.text.count("\n") + 1
            self.errors.append(RuleError(f"{self.folder.name}/rule.toml", at, str(error)))
            return {}
        declared = {key: default for key, (_, default) in _KEYS.items() if default is not _REQUIRED}
        for key, value in raw.items():
            if key not in _KEYS:
                self.fault(key, f'unknown key "{key}"{nearest(key, _KEYS)}')
            elif type(value) is not _KEYS[key][0]:
                self.fault(key, f'"{key}" must be {_named(_KEYS[key][0])}')
            else:
                declared[key] = value
        missing = [key for key in _KEYS if key not in declared and key not in raw]
        for key in missing:
            self.fault(key, f'the key "{key}" is missing')
        # What is missing or of another type has been told: here it passes.
        self._check({**_SOUND, **declared})
        return declared

    def _check(self, declared: dict[str, Any]) -> None:
        for key, words in _WORDS.items():
            if declared[key] not in words:
                hint = nearest(declared[key], words)
                known = ", ".join(words)
                self.fault(key, f'"{key}" is "{declared[key]}", not one of {known}{hint}')
        for key in ("identity", "false_positives", "runbook"):
            self._check_texts(key, declared[key])
        self._check_names(declared)
        self._check_needs(declared)
        for name, parameter in declared["parameters"].items():
            self._check_parameter(name, parameter)
        if declared["mappings"] is not _SOUND["mappings"]:
            self._check_mappings(declared["mappings"])

    def _check_mappings(self, mappings: Mapping[str, Any]) -> None:
        for key in [key for key in mappings if key not in MAPPINGS]:
            self.fault(key, f'unknown mapping "{key}"{nearest(key, MAPPINGS)}')
        for key in MAPPINGS:
            codes = mappings.get(key, "missing")
            self._check_texts("mappings", codes, f".{key}")
            known = taxonomies()[key]
            for code in [code for code in codes if code not in known] if _are_texts(codes) else []:
                now = taxonomies()["renamed"].get(code)
                hint = f'; it is now "{now}"' if now else nearest(code, known)
                self.fault(key, f'taxonomies.toml has no "{code}" under {key}{hint}')

    def _check_names(self, declared: dict[str, Any]) -> None:
        name, code, family = declared["id"], declared["code"], declared["family"]
        if name and (name != self.folder.name or not re.fullmatch(r"[a-z][a-z0-9_]*", name)):
            self.fault("id", f'"id" must be the folder\'s name in snake_case, {self.folder.name}')
        if family in CODE_FAMILIES and code and not re.fullmatch(rf"{family}-\d\d", code):
            self.fault("code", f'"code" must be the family and two digits, as {family}-01')
        if not re.fullmatch(r"\d+\.\d+\.\d+", declared["version"], re.ASCII):
            self.fault("version", '"version" must be major.minor.patch')
        if declared["maturity"] == "experimental" and not declared["maturity_reason"].strip():
            self.fault("maturity", 'an experimental rule must say why: "maturity_reason"')
        if not 1 <= declared["severity"] <= MOST_SEVERE:
            self.fault("severity", '"severity" must be 1 (info) to 5 (critical)')
        if not declared["identity"]:
            self.fault("identity", '"identity" must name at least one column')
        if len(declared["runbook"]) not in RUNBOOK_STEPS:
            self.fault("runbook", '"runbook" must have two or three steps')

    def _check_needs(self, declared: dict[str, Any]) -> None:
        needs, window = declared["needs"], declared["window"]
        self._check_keys("window", window, ("every_s", "grace_s"))
        if needs is _SOUND["needs"]:
            return
        self._check_keys("needs", needs, ("tables", "sources"))
        tables, sources = needs.get("tables", "missing"), needs.get("sources", [])
        self._check_texts("tables", tables)
        self._check_texts("sources", sources)
        for family in sources if _are_texts(sources) else []:
            if family not in FAMILIES:
                self.fault("sources", f'unknown family "{family}"{nearest(family, FAMILIES)}')
        for key, value in window.items():
            if type(value) is not int or value < 0:
                self.fault(key, f'"{key}" must be a whole number of seconds')
        if declared["kind"] == "absence":
            if not sources:
                self.fault("needs", "an absence rule must name the sources that it waits for")
            if not isinstance(tables, list) or "rule_watermarks" not in tables:
                self.fault("tables", "an absence rule must read rule_watermarks")

    def _check_parameter(self, name: str, declared: Any) -> None:
        keys = ("type", "default", "reason")
        if not isinstance(declared, dict) or set(declared) != set(keys):
            self.fault(name, f'parameter "{name}" must have exactly {", ".join(keys)}')
            return
        types = PARAMETER_TYPES.get(str(declared["type"]))
        if types is None:
            known = ", ".join(PARAMETER_TYPES)
            self.fault(name, f'parameter "{name}" has no type among {known}')
        elif type(declared["default"]) not in types:
            self.fault(name, f'the default of "{name}" is not of type {declared["type"]}')
        if name in {"as_of", "from", "to"}:
            self.fault(name, f"${name} is bound by the engine; choose another name")

    def _check_keys(self, key: str, given: Mapping[str, Any], known: tuple[str, ...]) -> None:
        for name in given:
            if name not in known:
                self.fault(name, f'unknown key "{name}" in [{key}]{nearest(name, known)}')

    def _check_texts(self, key: str, value: Any, part: str = "") -> None:
        if not _are_texts(value):
            self.fault(key, f'"{key}{part}" must be a list of texts')


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _named(kind: type) -> str:
    names = {str: "text", int: "a whole number", bool: "true or false", list: "a list"}
    return names.get(kind, "a table")

"""Values of `[detect.parameters.RULE_ID]` in place of the defaults of a rule's parameters.

Takes rules and the configuration; leaves rules.  An override is part of the
rule's version: its windows are run anew, and a finding that goes because of it
says that the rule changed.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from typing import TYPE_CHECKING, Any

from pipeline.detections.rule import PARAMETER_TYPES, Rule, nearest
from pipeline.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence


def override(
    rules: Sequence[Rule], given: Mapping[str, Mapping[str, Any]], known: Collection[str]
) -> list[Rule]:
    """Return the rules with the given values; `known` are the ids of all rules there are.

    Raises:
        ConfigError: a rule or a parameter that does not exist, or a value of another type.
    """
    for rule_id in given:
        if rule_id not in known:
            raise ConfigError(
                f'detect.parameters: there is no rule "{rule_id}"{nearest(rule_id, known)}'
            )
    return [_with(rule, given[rule.id]) if given.get(rule.id) else rule for rule in rules]


def _with(rule: Rule, given: Mapping[str, Any]) -> Rule:
    parameters = dict(rule.parameters)
    for name, value in given.items():
        where = f"detect.parameters.{rule.id}.{name}"
        if name not in parameters:
            raise ConfigError(f"{where}: unknown parameter{nearest(name, parameters)}")
        if not _is_of(parameters[name].kind, value):
            raise ConfigError(f"{where}: must be of type {parameters[name].kind}")
        parameters[name] = dataclasses.replace(parameters[name], default=value)
    values = json.dumps(dict(given), sort_keys=True)
    digest = hashlib.sha256(values.encode()).hexdigest()[:8]
    return dataclasses.replace(rule, parameters=parameters, version=f"{rule.version}+{digest}")


def _is_of(kind: str, value: Any) -> bool:
    if type(value) not in PARAMETER_TYPES[kind]:
        return False
    return kind != "texts" or all(isinstance(item, str) for item in value)

"""A rule's numbers may be set by the configuration; what does not fit is said."""

from __future__ import annotations

import pytest

from pipeline.config import load_config, show_config
from pipeline.detections.parameters import override
from pipeline.detections.rule import read_rule
from pipeline.errors import ConfigError
from tests.detections.folders import write_rule

DECLARED = (
    '[parameters.calls_min]\ntype = "integer"\ndefault = 3\nreason = "r"\n'
    '[parameters.words]\ntype = "texts"\ndefault = ["a"]\nreason = "r"'
)


@pytest.fixture
def rule(tmp_path):
    return read_rule(write_rule(tmp_path, extra=DECLARED))


def test_a_given_value_takes_the_place_of_the_default_and_shows_in_the_version(rule):
    (changed,) = override([rule], {"denied": {"calls_min": 5}}, {"denied"})
    (same,) = override([rule], {"denied": {"calls_min": 5}}, {"denied"})

    assert changed.parameters["calls_min"].default == 5
    assert changed.parameters["words"].default == ["a"]
    assert changed.version == same.version != rule.version
    assert changed.major == rule.major
    assert override([rule], {}, {"denied"}) == [rule]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"denid": {}}, 'there is no rule "denid"; did you mean "denied"'),
        ({"denied": {"call_min": 5}}, 'call_min: unknown parameter; did you mean "calls_min"'),
        ({"denied": {"calls_min": "5"}}, "denied.calls_min: must be of type integer"),
        ({"denied": {"calls_min": True}}, "denied.calls_min: must be of type integer"),
        ({"denied": {"words": [1]}}, "denied.words: must be of type texts"),
    ],
)
def test_what_does_not_fit_is_named_with_the_nearest_right_name(rule, given, message):
    with pytest.raises(ConfigError, match=message):
        override([rule], given, {"denied"})


def test_the_configuration_brings_them_typed_and_shows_them_again(tmp_path):
    file = tmp_path / "delegraph.toml"
    file.write_text('[detect.parameters.denied]\ncalls_min = 5\nwords = ["x", "y"]\n')

    config = load_config(file)
    file.write_text(show_config(config))

    given = {"denied": {"calls_min": 5, "words": ["x", "y"]}}
    assert {k: dict(v) for k, v in config.detect.parameters.items()} == given
    assert load_config(file).detect == config.detect

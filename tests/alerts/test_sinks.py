import base64

import pytest

from pipeline.alerts.sinks import choose, kinds, load_sinks, options_of
from pipeline.config import AlertsConfig, SinkTable
from pipeline.errors import ConfigError

SECRET = "whsec_" + base64.b64encode(b"s" * 32).decode()
GOOD = {"url": "https://hooks.example/T0KEN", "secret_env": "HOOK_SECRET"}
ENVIRON = {"HOOK_SECRET": SECRET}


def load(kind="webhook", **options):
    return load_sinks(AlertsConfig(4, (SinkTable("soc", kind, options),)), ENVIRON)


def test_a_sink_is_made_from_its_table():
    (sink,) = load(**GOOD, timeout_s=3)

    assert (sink.name, sink.min_severity, sink.timeout_s) == ("soc", 4, 3.0)
    assert choose([sink], "soc") is sink


def test_a_sinks_own_threshold_wins():
    assert load(**GOOD, min_severity=5)[0].min_severity == 5


@pytest.mark.parametrize(
    ("kind", "change", "message"),
    [
        ("pigeon", {}, "no sink of kind 'pigeon'; there is webhook"),
        ("../webhook", {}, "no sink of kind"),
        ("webhook", {"urls": "x"}, "unknown key; did you mean 'url'"),
        ("webhook", {"url": "http://hooks.example/T0KEN"}, "url: the URL must begin with https"),
        ("webhook", {"secret_env": "NOT_SET"}, "no variable NOT_SET"),
        ("webhook", {"timeout_s": "long"}, "timeout_s: must be a number"),
    ],
)
def test_a_wrong_table_is_an_error_that_keeps_its_secrets(kind, change, message):
    with pytest.raises(ConfigError, match=message) as caught:
        load(kind, **(GOOD | change))

    assert "T0KEN" not in str(caught.value)


def test_a_wrong_secret_is_an_error_that_does_not_quote_it():
    with pytest.raises(ConfigError, match="secret: must be whsec_") as caught:
        load(url="https://hooks.example/", secret="hunter22hunter22")

    assert "hunter22" not in str(caught.value)


def test_an_unknown_name_says_which_there_are():
    with pytest.raises(ConfigError, match="known: soc"):
        choose(load(**GOOD), "sok")


@pytest.mark.parametrize("kind", kinds())
def test_every_kind_of_sink_has_a_name_and_a_threshold(kind):
    assert {"name", "min_severity"} <= set(options_of(kind))

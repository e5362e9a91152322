import dataclasses

import pytest

from pipeline.config import Config, Place, Secret, SinkTable, load_config, read_options, show_config
from pipeline.errors import ConfigError


def write(tmp_path, text):
    file = tmp_path / "delegraph.toml"
    file.write_text(text, encoding="utf-8")
    return file


def test_no_file_and_no_overrides_give_the_defaults(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    assert load_config(environ={}) == Config()


def test_a_named_file_that_is_absent_is_an_error(tmp_path):
    with pytest.raises(ConfigError, match=r"absent\.toml: cannot be read"):
        load_config(tmp_path / "absent.toml", {})


def test_the_environment_names_the_file(tmp_path):
    file = write(tmp_path, '[kafka]\ngroup = "audit"\n')

    assert load_config(environ={"DELEGRAPH_CONFIG": str(file)}).kafka.group == "audit"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[kafka]\nbootstap = "x"\n', r"kafka\.bootstap: unknown key; did you mean 'bootstrap'"),
        ("[kafak]\n", r"kafak: unknown key; did you mean 'kafka'"),
        ('[kafka]\nbootstrap_file = "x"\n', r"kafka\.bootstrap_file: unknown key"),
        ("[ingest]\nbatch_rows = true\n", r"ingest\.batch_rows: must be a whole number, not bool"),
        ("[ingest]\nbatch_rows = -1\n", r"ingest\.batch_rows: must not be negative"),
        ('[ingest]\nbatch_rows = "many"\n', r"ingest\.batch_rows: must be a whole number"),
        ("[ingest]\nbatch_age_s = nan\n", r"ingest\.batch_age_s: must not be negative"),
        ("kafka = 3\n", r"kafka: must be a table"),
        ('[detect]\nrules = "mine"\n', r"detect\.rules: must be a list"),
        ('[[alerts.sinks]]\nkind = "webhook"\n', r"every sink has a name"),
        (
            '[[alerts.sinks]]\nname = "a"\n[[alerts.sinks]]\nname = "a"\n',
            r"two sinks are called 'a'",
        ),
        ("[kafka\n", r"is not TOML"),
    ],
)
def test_a_fault_names_file_and_key(tmp_path, text, message):
    with pytest.raises(ConfigError, match=r"delegraph\.toml: .*" + message):
        load_config(write(tmp_path, text), {})


def test_an_override_wins_over_the_file(tmp_path):
    file = write(tmp_path, '[kafka]\nbootstrap = "one:1"\n[ingest]\nbatch_age_s = 1\n')
    environ = {
        "DELEGRAPH__KAFKA__BOOTSTRAP": "two:2",
        "DELEGRAPH__INGEST__BATCH_AGE_S": "0.5",
        "DELEGRAPH__DETECT__RULES": "a, b",
        "DELEGRAPH__KAFKA__SECURITY__SASL_PASSWORD": "hunter22",
        "DELEGRAPH__KAFKA__TOPICS": "trail=cloudtrail,agents=native",
    }

    config = load_config(file, environ)

    assert config.kafka.bootstrap == "two:2"
    assert config.ingest.batch_age_s == 0.5
    assert config.detect.rules == ("a", "b")
    assert config.kafka.security["sasl.password"].reveal() == "hunter22"
    assert dict(config.kafka.topics) == {"trail": "cloudtrail", "agents": "native"}


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("DELEGRAPH__KAFKA__BOOTSTAP", "x", "did you mean 'bootstrap'"),
        ("DELEGRAPH__KAFKA", "x", "DELEGRAPH__SECTION__KEY"),
        ("DELEGRAPH__INGEST__BATCH_ROWS", "many", "must be a whole number"),
    ],
)
def test_a_wrong_override_is_an_error(tmp_path, name, value, message):
    with pytest.raises(ConfigError, match=message):
        load_config(write(tmp_path, ""), {name: value})


def test_paths_of_the_file_start_at_its_folder(tmp_path):
    file = write(
        tmp_path,
        '[lake]\npath = "hist"\n[registry]\nfolder = "policy"\n[detect]\nrules = ["mine"]\n',
    )

    config = load_config(file, {})

    assert config.lake.path == str(tmp_path / "hist")
    assert config.registry.folder == str(tmp_path / "policy")
    assert config.detect.rules == (str(tmp_path / "mine"),)


def test_an_object_store_url_is_left_alone(tmp_path):
    file = write(tmp_path, '[lake]\npath = "s3://bucket/lake"\n')

    assert load_config(file, {}).lake.path == "s3://bucket/lake"


NO_SECRET = Secret("")


@dataclasses.dataclass(frozen=True)
class Options:
    url: Secret
    keys: Secret = NO_SECRET


def test_a_secret_comes_inline_from_a_file_or_from_a_variable(tmp_path):
    (tmp_path / "url.txt").write_text("https://a.example/hook\n", encoding="utf-8")
    place = Place("f", "alerts.sinks.soc", str(tmp_path), {"SOC_URL": "https://b.example"})

    urls = [
        read_options(Options, table, place).url.reveal()
        for table in ({"url": "https://c"}, {"url_file": "url.txt"}, {"url_env": "SOC_URL"})
    ]

    assert urls == ["https://c", "https://a.example/hook", "https://b.example"]


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({}, "url: is required"),
        ({"url": "a", "url_env": "B"}, "give one of url"),
        ({"url_env": "B"}, "the environment has no variable B"),
        ({"url_file": "none.txt"}, r"cannot read .*none\.txt"),
        ({"url": "a", "key": "b"}, "did you mean 'keys'"),
    ],
)
def test_a_secret_that_cannot_be_had_is_an_error(tmp_path, table, message):
    with pytest.raises(ConfigError, match=message):
        read_options(Options, table, Place("f", "sink", str(tmp_path), {}))


def test_no_secret_stands_in_a_repr_or_in_config_show(tmp_path):
    file = write(
        tmp_path,
        '[kafka.security]\n"sasl.password" = "hunter22"\n'
        '[[alerts.sinks]]\nname = "soc"\nurl = "https://hook.example/T0KEN"\n'
        'secret = "whsec_c2VjcmV0"\nallow_private = true\n',
    )

    config = load_config(file, {})

    for text in (repr(config), str(config), show_config(config)):
        assert "hunter22" not in text
        assert "T0KEN" not in text
        assert "whsec_" not in text
    assert "allow_private = true" in show_config(config)


def test_config_show_can_be_read_again(tmp_path):
    shown = show_config(load_config(write(tmp_path, '[kafka]\nregistry_url = "http://r"\n'), {}))

    assert load_config(write(tmp_path, shown), {}).kafka.registry_url == "http://r"


def test_sinks_keep_their_options_unread(tmp_path):
    file = write(tmp_path, '[[alerts.sinks]]\nname = "soc"\nurl_file = "u"\n')

    (sink,) = load_config(file, {}).alerts.sinks

    assert sink == SinkTable("soc", "webhook", {"url_file": "u"}, str(tmp_path))


def test_the_yaml_file_of_an_adapter_starts_at_the_folder_and_a_name_is_a_name(tmp_path):
    text = """
[ingest]
sources = ["own/gateway.yaml"]
[kafka.topics]
"vault" = "vault_audit"
"gateway" = "own/gateway.yaml"
[kafka.instances]
"vault" = "prod"
"""

    config = load_config(write(tmp_path, text), {})

    own = str(tmp_path / "own/gateway.yaml")
    assert config.ingest.sources == (own,)
    assert dict(config.kafka.topics) == {"vault": "vault_audit", "gateway": own}
    assert dict(config.kafka.instances) == {"vault": "prod"}

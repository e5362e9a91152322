"""The compose file and the image, read as a parser reads them; nothing is started."""

import re
from pathlib import Path

import pytest
import yaml

from pipeline.config import load_config
from pipeline.events.schema import TABLES

ROOT = Path(__file__).parents[2]
SERVICES = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))["services"]
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8").splitlines()


def test_the_broker_is_apache_kafka_in_kraft_mode_with_a_health_check():
    kafka = SERVICES["kafka"]

    assert kafka["image"].startswith("apache/kafka:4.")
    assert set(kafka["environment"]["KAFKA_PROCESS_ROLES"].split(",")) == {"broker", "controller"}
    assert "zookeeper" not in str(SERVICES).lower()
    assert "kafka-broker-api-versions.sh" in kafka["healthcheck"]["test"][-1]


def test_every_topic_of_the_contract_is_created_before_the_pipeline_starts():
    script = SERVICES["topics"]["command"][0]

    assert set(re.findall(r"agent\.\w+", script)) == {f"agent.{table}" for table in TABLES.values()}
    assert SERVICES["topics"]["depends_on"]["kafka"]["condition"] == "service_healthy"


def test_the_pipeline_waits_for_broker_registry_and_topics():
    conditions = {
        name: wait["condition"] for name, wait in SERVICES["pipeline"]["depends_on"].items()
    }

    assert conditions == {
        "kafka": "service_healthy",
        "registry": "service_healthy",
        "topics": "service_completed_successfully",
    }


def test_the_lake_outlives_its_container():
    volumes = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))["volumes"]

    assert "lake" in volumes
    assert "lake:/lake" in SERVICES["pipeline"]["volumes"]


def test_the_overrides_of_the_compose_file_are_known_keys(tmp_path):
    (tmp_path / "empty.toml").touch()

    config = load_config(tmp_path / "empty.toml", SERVICES["pipeline"]["environment"])

    assert config.lake.path == "/lake"
    assert config.kafka.bootstrap == "kafka:19092"


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_images_are_pinned_and_ports_stay_on_loopback(name):
    service = SERVICES[name]

    assert "build" in service or re.search(r":\d+\.\d+\.\d+$", service["image"])
    assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))


def test_the_image_runs_as_an_ordinary_user():
    users = [line.split()[1] for line in DOCKERFILE if line.startswith("USER ")]

    assert users
    assert users[-1].split(":")[0] not in {"root", "0"}


def test_the_image_is_the_small_one_and_carries_no_build_stage():
    bases = [line.split()[1] for line in DOCKERFILE if line.startswith("FROM ")]

    assert len(bases) == 2
    assert bases[-1].endswith("-slim")


def test_what_the_image_copies_is_let_through_by_the_ignore_file():
    allowed = {
        line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line[0] == "!"
    }
    copied = {
        word
        for line in DOCKERFILE
        if line.startswith("COPY ") and "--from" not in line
        for word in line.split()[1:-1]
    }

    assert copied <= allowed

"""One real Apache Kafka node (KRaft) on loopback, from Maven Central's jars.

The jars are copied once into the repository's git-ignored `.cache/`; every node
has a fresh storage folder and random ports, and is ended by its process id.
Used by the integration tests and by `benchmarks/`.
"""

from __future__ import annotations

import base64
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import uuid
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient, NewTopic

if TYPE_CHECKING:
    from collections.abc import Iterator

CACHE = Path(__file__).parents[2] / ".cache"
KAFKA_VERSION = "4.1.1"
LOG4J_VERSION = "2.25.1"

POM = f"""<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>delegraph</groupId><artifactId>kafka-node</artifactId><version>1</version>
  <dependencies>
    <dependency>
      <groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId>
      <version>{KAFKA_VERSION}</version>
    </dependency>
    <dependency>
      <groupId>org.apache.logging.log4j</groupId><artifactId>log4j-slf4j-impl</artifactId>
      <version>{LOG4J_VERSION}</version>
    </dependency>
  </dependencies>
</project>
"""

LOG4J = """
Configuration:
  status: error
  appenders: {Console: {name: STDOUT, PatternLayout: {pattern: "%d %p %c{1} %m%n"}}}
  Loggers: {Root: {level: warn, AppenderRef: [{ref: STDOUT}]}}
"""


@dataclass(frozen=True)
class KafkaNode:
    """A running node: where clients reach it, its process id and its own output."""

    bootstrap: str
    pid: int
    log: Path

    def create_topics(self, partitions: dict[str, int]) -> None:
        """Create topics that keep dated test data for ever."""
        admin = AdminClient({"bootstrap.servers": self.bootstrap})
        wanted = [
            NewTopic(name, count, 1, config={"retention.ms": "-1"})
            for name, count in partitions.items()
        ]
        for future in admin.create_topics(wanted).values():
            future.result(30)


def fetch_jars() -> Path:
    """Return the folder of the broker's jars, copied by Maven on first use."""
    home = CACHE / f"kafka-{KAFKA_VERSION}"
    libs = home / "libs"
    if (home / "complete").exists():
        return libs
    maven = shutil.which("mvn")
    if maven is None or shutil.which("java") is None:
        raise FileNotFoundError("the integration tests need mvn and java (17 or newer) on the PATH")
    home.mkdir(parents=True, exist_ok=True)
    (home / "pom.xml").write_text(POM, encoding="utf-8")
    goal = ["dependency:copy-dependencies", f"-DoutputDirectory={libs}", "-DincludeScope=runtime"]
    subprocess.run([maven, "-B", "-q", *goal], cwd=home, check=True, timeout=600)
    (home / "complete").touch()
    return libs


def free_port() -> int:
    """Return a loopback port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _java(libs: Path, config: Path, heap_mb: int) -> list[str]:
    return [
        "java",
        f"-Xmx{heap_mb}m",
        f"-Xms{heap_mb}m",
        "-XX:+UseSerialGC",
        f"-Dlog4j2.configurationFile={config}",
        "-cp",
        f"{libs}{os.sep}*",
    ]


def _properties(folder: Path, client_port: int, controller_port: int) -> str:
    settings = {
        "process.roles": "broker,controller",
        "node.id": 1,
        "controller.quorum.voters": f"1@127.0.0.1:{controller_port}",
        "listeners": f"PLAINTEXT://127.0.0.1:{client_port},"
        f"CONTROLLER://127.0.0.1:{controller_port}",
        "advertised.listeners": f"PLAINTEXT://127.0.0.1:{client_port}",
        "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
        "controller.listener.names": "CONTROLLER",
        "inter.broker.listener.name": "PLAINTEXT",
        "log.dirs": folder / "data",
        "offsets.topic.replication.factor": 1,
        "offsets.topic.num.partitions": 3,
        "transaction.state.log.replication.factor": 1,
        "transaction.state.log.min.isr": 1,
        "share.coordinator.state.topic.replication.factor": 1,
        "share.coordinator.state.topic.min.isr": 1,
        "group.initial.rebalance.delay.ms": 0,
        # Killed members must be missed within seconds, not within the usual 45.
        "group.min.session.timeout.ms": 1000,
        "auto.create.topics.enable": "false",
        # Events are dated by the generator: retention by time would delete them.
        "log.retention.ms": -1,
        "message.max.bytes": 16_000_000,
        "replica.fetch.max.bytes": 16_000_000,
    }
    return "".join(f"{key}={value}\n" for key, value in settings.items())


def _format(java: list[str], properties: Path) -> None:
    # A cluster id is a UUID in 22 letters; asking Kafka's own tool costs a second JVM.
    cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode()[:22].replace("-", "A")
    command = [*java, "kafka.tools.StorageTool", "format", "-t", cluster, "-c", str(properties)]
    subprocess.run(command, check=True, capture_output=True, timeout=120)


def _wait_until_ready(bootstrap: str, process: subprocess.Popen[bytes], log: Path) -> None:
    admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"Kafka ended with {process.returncode}: {log.read_text()[-2000:]}")
        try:
            if admin.list_topics(timeout=1).brokers:
                return
        except KafkaException:
            continue
    raise TimeoutError(f"Kafka did not answer within 60 s: {log.read_text()[-2000:]}")


def stop(process: subprocess.Popen[bytes]) -> None:
    """End a process that we started, by its id."""
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(20)


@contextmanager
def kafka_node(heap_mb: int = 768) -> Iterator[KafkaNode]:
    """Format and start one node; end it and remove its storage on leaving."""
    libs = fetch_jars()
    folder = Path(tempfile.mkdtemp(prefix="delegraph-kafka-"))
    config, properties, log = folder / "log4j2.yaml", folder / "server.properties", folder / "log"
    config.write_text(LOG4J, encoding="utf-8")
    client_port, controller_port = free_port(), free_port()
    properties.write_text(_properties(folder, client_port, controller_port), encoding="utf-8")
    _format(_java(libs, config, 128), properties)
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*_java(libs, config, heap_mb), "kafka.Kafka", str(properties)],
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            bootstrap = f"127.0.0.1:{client_port}"
            _wait_until_ready(bootstrap, process, log)
            yield KafkaNode(bootstrap, process.pid, log)
        finally:
            stop(process)
            shutil.rmtree(folder, ignore_errors=True)

"""One real schema registry (Apicurio, in memory) on loopback, from Maven Central's archive.

It serves the interface that confluent-kafka's registry client speaks.  Version
2.6 is the last one that runs on Java 17.
"""

from __future__ import annotations

import shutil
import subprocess
import tarfile
import tempfile
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tests.integration.kafka import CACHE, free_port, stop

if TYPE_CHECKING:
    from collections.abc import Iterator

VERSION = "2.6.13.Final"
ARTIFACT = f"io.apicurio:apicurio-registry-app:{VERSION}:tar.gz:all"


def fetch_registry() -> Path:
    """Return the unpacked application, copied by Maven on first use."""
    home = CACHE / f"apicurio-{VERSION}"
    if (home / "complete").exists():
        return home
    maven = shutil.which("mvn")
    if maven is None or shutil.which("java") is None:
        raise FileNotFoundError("the integration tests need mvn and java (17 or newer) on the PATH")
    home.mkdir(parents=True, exist_ok=True)
    goal = ["dependency:copy", f"-Dartifact={ARTIFACT}", f"-DoutputDirectory={home}"]
    subprocess.run([maven, "-B", "-q", *goal], cwd=home, check=True, timeout=600)
    archive = next(home.glob("*.tar.gz"))
    with tarfile.open(archive) as packed:
        packed.extractall(home, filter="data")
    archive.unlink()
    (home / "complete").touch()
    return home


@contextmanager
def schema_registry() -> Iterator[str]:
    """Start a registry and give the URL for a registry client; it ends with the block."""
    home = fetch_registry()
    jar = next(home.rglob("*-runner.jar"))
    port = free_port()
    folder = Path(tempfile.mkdtemp(prefix="delegraph-registry-"))
    settings = {"quarkus.http.host": "127.0.0.1", "quarkus.http.port": port}
    command = ["java", "-Xmx384m", "-XX:+UseSerialGC"]
    command += [f"-D{key}={value}" for key, value in settings.items()]
    log = folder / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*command, "-jar", str(jar)],
            cwd=folder,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            url = f"http://127.0.0.1:{port}/apis/ccompat/v7"
            _wait_until_ready(url, process, log)
            yield url
        finally:
            stop(process)
            shutil.rmtree(folder, ignore_errors=True)


def _wait_until_ready(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"the registry ended: {log.read_text()[-2000:]}")
        try:
            with urllib.request.urlopen(f"{url}/subjects", timeout=2):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    raise TimeoutError(f"the registry did not answer within 90 s: {log.read_text()[-2000:]}")

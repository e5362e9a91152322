"""The wheel holds everything that the command needs, and works away from the repository."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

pytestmark = pytest.mark.integration  # the build backend comes from the package index


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", folder, ROOT]
    subprocess.run(command, check=True)
    (built,) = folder.glob("*.whl")
    return built


def test_the_wheel_carries_every_file_of_the_package(wheel):
    packed = set(zipfile.ZipFile(wheel).namelist())
    tracked = subprocess.run(
        ["git", "ls-files", "pipeline", "jobs"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    schemas = {f"pipeline/events/avro/{path.name}" for path in ROOT.glob("schemas/avro/*.avsc")}

    assert len(schemas) == 3
    assert (set(tracked.stdout.split()) | schemas) - packed == set()


def test_the_unpacked_wheel_runs_the_demo_and_its_rules(wheel, tmp_path):
    site = tmp_path / "site"
    zipfile.ZipFile(wheel).extractall(site)
    environ = os.environ | {"PYTHONPATH": str(site)}

    def run(*args):
        command = [sys.executable, "-m", "pipeline", *args]
        done = subprocess.run(
            command, cwd=tmp_path, env=environ, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    where = [sys.executable, "-c", "import pipeline; print(pipeline.__file__)"]
    found = subprocess.run(
        where, cwd=tmp_path, env=environ, capture_output=True, text=True, check=True
    )

    assert Path(found.stdout.strip()).is_relative_to(site)
    assert "planted stories" in run("demo", "--lake", "lake")
    assert "PC-01" in run("rules", "ls")

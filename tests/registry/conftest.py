"""Registries made of text, one argument per file."""

import pytest

from pipeline.registry import load_registry


@pytest.fixture
def write(tmp_path):
    """Write files into a folder of their own and return its path."""

    def make(**files):
        folder = tmp_path / f"registry-{len(list(tmp_path.iterdir()))}"
        folder.mkdir()
        for name, text in files.items():
            (folder / f"{name}.yaml").write_text(text, encoding="utf-8")
        return folder

    return make


@pytest.fixture
def load(write):
    """Write files and load them."""
    return lambda **files: load_registry(write(**files))

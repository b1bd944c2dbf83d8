"""What tests share: where models lie, and which folders of further graphs this machine has."""

from __future__ import annotations

import os
from pathlib import Path

import hypothesis
import pytest

from tests.commands import Commands

ROOT = Path(__file__).resolve().parent.parent

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # workers that share cores wait for each other's threads otherwise
os.environ["ONNXPRUNE_CACHE"] = ""  # no test finds what another has stored, or leaves anything in the user's home

# Deadlines fail on a busy machine; derandomised runs fail on the change that breaks them, not on a later one.
hypothesis.settings.register_profile("onnxprune", deadline=None, derandomize=True)
hypothesis.settings.load_profile("onnxprune")


def _folder(variable: str, name: str) -> Path:
    """The folder that the environment names, or one beside the checkout; the test is skipped where there is none."""
    named = os.environ.get(variable)
    folder = Path(named) if named else ROOT.parent / "shared" / name
    if not folder.is_dir():
        if named:
            pytest.fail(f"{variable} is {named}, which is no folder")
        pytest.skip(f"set {variable} to the folder of {name} files to run this test")
    return folder


@pytest.fixture(scope="session")
def root() -> Path:
    """The root of the checkout."""
    return ROOT


@pytest.fixture(scope="session")
def models() -> Path:
    """The folder of real models and data."""
    return ROOT / "models"


@pytest.fixture(scope="session")
def zoo() -> Path:
    """The folder of architecture graphs without weights (`INDEX.json`, `skel/`, `hydrate.py`)."""
    return _folder("ONNXPRUNE_ZOO", "zoo")


@pytest.fixture(scope="session")
def assets() -> Path:
    """The folder of trained models and data sets that `models/` was chosen from."""
    return _folder("ONNXPRUNE_ASSETS", "assets")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="write what commands print to tests/goldens")


@pytest.fixture
def onnxprune(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Commands:
    """The command line: `onnxprune("prune", model, "-o", out).code`."""
    monkeypatch.setenv("COLUMNS", "120")
    return Commands(capsys)


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory that has the repository's models, and takes what is written."""
    (tmp_path / "models").symlink_to(ROOT / "models")
    (tmp_path / "passes").symlink_to(ROOT / "passes")
    monkeypatch.chdir(tmp_path)
    return tmp_path

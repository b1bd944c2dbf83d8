"""What is installed is what lies here: one top-level name, every package, the pipelines, the types, one version."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path
from typing import Any

import pytest

import onnxprune

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parent.parent
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
VERSION = PROJECT["project"]["version"]
PUBLIC: list[str] = list(getattr(onnxprune, "__all__", ()))
HAS_CLI = (ROOT / "onnxprune" / "cli.py").exists()


def shipped(folder: str, pattern: str) -> set[str]:
    """The files below `folder` by the names that they have in the wheel; the link onnxprune/passes is not followed."""
    link = ROOT / "onnxprune" / "passes"
    found = (path for path in (ROOT / folder).rglob(pattern) if link not in path.parents)
    prefix = "onnxprune/" if folder == "passes" else ""
    return {prefix + path.relative_to(ROOT).as_posix() for path in found}


def run(*command: str | Path, cwd: Path = ROOT) -> str:
    """What `command` prints; where it fails, what it said."""
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_every_package_is_listed() -> None:
    """The list in pyproject.toml is the packages on disk, in order: nothing is discovered, so nothing may be missed."""
    on_disk = {
        name.rpartition("/")[0] for name in shipped("onnxprune", "__init__.py") | shipped("passes", "__init__.py")
    }
    assert PROJECT["tool"]["setuptools"]["packages"] == sorted(name.replace("/", ".") for name in on_disk)


def test_every_folder_of_code_is_a_package() -> None:
    """No folder holds modules without an __init__.py: it would be left out of the wheel."""
    modules = shipped("onnxprune", "*.py") | shipped("passes", "*.py")
    assert {f"{name.rpartition('/')[0]}/__init__.py" for name in modules} <= modules


def test_the_link_is_relative() -> None:
    """onnxprune/passes leads to ../passes in every clone, wherever it lies."""
    link = ROOT / "onnxprune" / "passes"
    assert link.is_symlink()
    assert Path(os.readlink(link)) == Path("..", "passes")


def test_public_names_are_sorted_and_there() -> None:
    """Each name in `__all__` can be imported, and they stand in order."""
    assert sorted(set(PUBLIC)) == PUBLIC
    assert [name for name in PUBLIC if not hasattr(onnxprune, name)] == []
    assert PUBLIC or not (ROOT / "onnxprune" / "api.py").exists()


def test_the_changelog_knows_the_version() -> None:
    """The version in pyproject.toml has its section in CHANGELOG.md."""
    assert f"\n## [{VERSION}]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_the_oldest_python_is_said_once() -> None:
    """requires-python, the classifiers, ruff and mypy agree on the oldest Python."""
    prefix = "Programming Language :: Python :: 3."
    minors = [int(c.removeprefix(prefix)) for c in PROJECT["project"]["classifiers"] if c.startswith(prefix)]
    oldest = f"3.{minors[0]}"
    assert minors == list(range(minors[0], minors[-1] + 1))
    assert PROJECT["project"]["requires-python"] == f">={oldest}"
    assert PROJECT["tool"]["ruff"]["target-version"] == f"py{oldest.replace('.', '')}"
    assert PROJECT["tool"]["mypy"]["python_version"] == oldest


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist and the wheel that was built from it, made from a copy without build left-overs."""
    if importlib.util.find_spec("build") is None:
        pytest.skip("needs the package 'build': pip install -e '.[dev]'")
    copy = tmp_path_factory.mktemp("tree")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    for name in ("onnxprune", "passes"):
        shutil.copytree(ROOT / name, copy / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    run(sys.executable, "-m", "build", copy, "--outdir", copy / "dist")
    return copy / "dist"


@pytest.fixture(scope="module")
def wheel(dist: Path) -> Path:
    (path,) = dist.glob("*.whl")
    return path


@pytest.mark.slow
def test_the_wheel_holds_everything_and_nothing_else(wheel: Path) -> None:
    """Modules, pipelines and py.typed are in the wheel, under the one name onnxprune and the project's version."""
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert names == (
        shipped("onnxprune", "*.py") | shipped("passes", "*.py") | shipped("passes", "*.toml") | {"onnxprune/py.typed"}
    )
    assert wheel.name == f"onnxprune-{VERSION}-py3-none-any.whl"
    run(sys.executable, "-m", "check_wheel_contents", wheel)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["*.whl", "*.tar.gz"])
def test_distributions_install_in_a_fresh_environment(dist: Path, kind: str, tmp_path: Path) -> None:
    """Wheel and sdist bring all that they need from the registry: the import works, and so does `onnxprune --help`."""
    (path,) = dist.glob(kind)
    venv.create(tmp_path / "venv", with_pip=True)
    programs = tmp_path / "venv" / ("Scripts" if os.name == "nt" else "bin")
    dependencies = [] if kind == "*.whl" else ["--no-deps"]  # once is enough: they are the same, and big
    run(programs / "python", "-m", "pip", "install", "--quiet", *dependencies, path, cwd=tmp_path)
    assert run(programs / "python", "-c", "import onnxprune; print('yes')", cwd=tmp_path) == "yes\n"
    if "__version__" in PUBLIC:
        printed = run(programs / "python", "-c", "import onnxprune; print(onnxprune.__version__)", cwd=tmp_path)
        assert printed.strip() == VERSION
    if HAS_CLI and kind == "*.whl":
        assert "prune" in run(programs / "onnxprune", "--help", cwd=tmp_path)
        names = sorted(shipped("onnxprune", "*.py") | shipped("passes", "*.py"))
        modules = [name.removesuffix(".py").removesuffix("/__init__").replace("/", ".") for name in names]
        imports = "import " + ", ".join(name for name in modules if not name.endswith(".__main__"))
        run(programs / "python", "-W", "error", "-c", imports, cwd=tmp_path)

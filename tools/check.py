"""Every check of the project, from nothing but Python and the package registry; used by people and by CI alike.

    python3 tools/check.py               in .venv, which is made where there is none
    python3 tools/check.py --venv DIR    in another environment

Installs onnxprune for development, then runs the linter, the formatter's check, the type checker and the tests
(which build and install the distributions too). All run whatever fails; the exit code is 0 only if all passed.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BIN = "Scripts" if os.name == "nt" else "bin"
WORKERS = str(min(4, os.cpu_count() or 1))

CHECKS = {
    "lint": ["ruff", "check"],
    "format": ["ruff", "format", "--check"],
    "types": ["mypy"],
    "tests": ["pytest", "-q", "-n", WORKERS, "--cov", "--cov-report=term:skip-covered"],
}


def environment(folder: Path) -> str:
    """The Python of the virtual environment `folder`, which has onnxprune and all that the checks need."""
    python = str(folder.absolute() / BIN / "python")
    if not Path(python).exists():
        print(f"making {folder}", flush=True)
        venv.create(folder, with_pip=True)
    install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-e", ".[dev]"]
    subprocess.run(install, cwd=ROOT, check=True)
    return python


def main() -> int:
    """0 if every check passed, 1 if not."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--venv", type=Path, default=ROOT / ".venv", help="virtual environment to use or make")
    python = environment(parser.parse_args().venv)
    failed = []
    for name, command in CHECKS.items():
        print(f"--- {name}: {' '.join(command)}", flush=True)
        if subprocess.run([python, "-m", *command], cwd=ROOT, check=False).returncode:
            failed.append(name)
    if failed:
        print(f"FAILED: {', '.join(failed)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

"""Remake `models/` from a folder of downloaded assets, or check that it is what its manifest says.

    python tools/make_models.py ASSETS     copy the models, cut the data sets, check every sha256
    python tools/make_models.py            check only

ASSETS holds `models/*.onnx` and `data/cifar10_lossless.npz` (`x_train`, `y_train`, `x_test`, `y_test`: uint8 images,
samples x height x width x RGB, bit-exact CIFAR-10). The manifest says where each file came from.
"""

from __future__ import annotations

import argparse
import hashlib
import shutil
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

MODELS = Path(__file__).resolve().parent.parent / "models"
CALIBRATION_IMAGES = 256


def write_data(path: Path, arrays: dict[str, npt.NDArray[np.generic]]) -> None:
    """`path` holds `arrays`; a file that holds them already stays as it is (compressed bytes vary with zlib)."""
    if path.exists():
        with np.load(path) as stored:
            if set(stored) == set(arrays) and all(np.array_equal(stored[name], arrays[name]) for name in arrays):
                return
    np.savez_compressed(path, **arrays)  # type: ignore[arg-type]


def make(assets: Path) -> None:
    """Every file that the manifest names lies in `models/`."""
    for entry in manifest()["model"]:
        shutil.copyfile(assets / "models" / entry["file"], MODELS / entry["file"])
    with np.load(assets / "data" / "cifar10_lossless.npz") as cifar:
        chosen = np.sort(np.random.default_rng(0).permutation(len(cifar["x_train"]))[:CALIBRATION_IMAGES])
        calibration = {"input": cifar["x_train"][chosen], "labels": cifar["y_train"][chosen]}
        test = {"input": cifar["x_test"], "labels": cifar["y_test"]}
    write_data(MODELS / "cifar10_calibration.npz", calibration)
    write_data(MODELS / "cifar10_test.npz", test)


def manifest() -> dict[str, list[dict[str, str]]]:
    entries: dict[str, list[dict[str, str]]] = tomllib.loads((MODELS / "MANIFEST.toml").read_text(encoding="utf-8"))
    return entries


def differences() -> list[str]:
    """One line for each file that is missing, unknown or not the file that the manifest describes."""
    found = []
    named = {entry["file"]: entry["sha256"] for entries in manifest().values() for entry in entries}
    on_disk = {path.name for pattern in ("*.onnx", "*.npz") for path in MODELS.glob(pattern)}
    for name in sorted(on_disk - named.keys()):
        found.append(f"{name}: not in the manifest")
    for name, expected in sorted(named.items()):
        path = MODELS / name
        actual = hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else "no such file"
        if actual != expected:
            found.append(f"{name}: sha256 is {actual}, the manifest says {expected}")
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("assets", nargs="?", type=Path, help="folder of downloaded models and data")
    assets: Path | None = parser.parse_args().assets
    if assets is not None:
        make(assets)
    found = differences()
    print("\n".join(found) or "models/ is what its manifest says")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())

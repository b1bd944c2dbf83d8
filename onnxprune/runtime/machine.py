"""Facts about this machine that change what a pruned model costs on it."""

from __future__ import annotations

import os
import platform
import sys
from dataclasses import dataclass
from functools import lru_cache
from importlib import metadata
from pathlib import Path

__all__ = ["SAFE_BLOCK", "Machine", "conv_block", "this_machine"]

SAFE_BLOCK = 16
"""The block that is right everywhere: a multiple of 16 is a multiple of 8 too, so it only prunes more coarsely."""

_CPUINFO = Path("/proc/cpuinfo")


@dataclass(frozen=True, slots=True)
class Machine:
    """Where a measurement was made: processor, cores, convolution block (channels) and runtime version."""

    cpu: str
    cores: int
    conv_block: int
    onnxruntime: str
    system: str

    def __str__(self) -> str:
        cores = f"{self.cores} core{'s' if self.cores != 1 else ''}"
        return (
            f"{self.cpu}, {cores}, {self.system}, onnxruntime {self.onnxruntime}, convolution block {self.conv_block}"
        )


def conv_block(cpuinfo: str | None = None) -> int:
    """The channel block of ONNX Runtime's blocked (NCHWc) convolutions: 16 with AVX-512F, 8 on other Linux machines.

    `cpuinfo` is the text of /proc/cpuinfo (default: this machine's). Where there is none, `SAFE_BLOCK`.
    ONNX Runtime is not imported for it. Source: MLAS, `MLAS_PLATFORM::NchwcBlockSize`.
    """
    text = _read_cpuinfo() if cpuinfo is None else cpuinfo
    if not text:
        return SAFE_BLOCK
    flags = _field(text, "flags")
    return 16 if flags is not None and "avx512f" in flags.split() else 8


@lru_cache(maxsize=1)
def this_machine() -> Machine:
    """The machine this process runs on; read once."""
    text = _read_cpuinfo()
    return Machine(
        cpu=_field(text, "model name") or platform.processor() or platform.machine() or "unknown processor",
        cores=_usable_cores(),
        conv_block=conv_block(text),
        onnxruntime=_runtime_version(),
        system=f"{platform.system()} {platform.machine()}".strip(),
    )


@lru_cache(maxsize=1)
def _read_cpuinfo() -> str:
    try:
        return _CPUINFO.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _field(text: str, name: str) -> str | None:
    """The value of the first line `name : value`, which is the first processor's."""
    for line in text.splitlines():
        key, colon, value = line.partition(":")
        if colon and key.strip() == name:
            return value.strip()
    return None


def _usable_cores() -> int:
    """The logical cores that this process may run on: a container's share, where the system tells it."""
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _runtime_version() -> str:
    """The version of whichever distribution provides onnxruntime, read from its metadata, without importing it."""
    for name in ("onnxruntime", "onnxruntime-gpu", "onnxruntime-directml", "onnxruntime-openvino"):
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return "unknown"

from __future__ import annotations

import onnxruntime
import pytest

from onnxprune.runtime.machine import SAFE_BLOCK, Machine, conv_block, this_machine


@pytest.mark.parametrize(
    ("cpuinfo", "block"),
    [
        ("model name\t: A\nflags\t\t: fpu avx avx2 avx512f avx512dq\n", 16),
        ("model name\t: B\nflags\t\t: fpu avx avx2\n", 8),
        ("flags\t\t: fpu avx2 avx512_vnni_without_f\n", 8),
        ("Features\t: fp asimd\n", 8),
        ("", SAFE_BLOCK),
    ],
)
def test_the_block_follows_the_processor_s_flags(cpuinfo: str, block: int) -> None:
    """16 with AVX-512F, 8 without it, and the multiple of both where nothing is known."""
    assert conv_block(cpuinfo) == block


def test_this_machine_describes_itself_in_one_line() -> None:
    """The line names the processor, the cores and the runtime that is really installed."""
    machine = this_machine()
    assert machine.onnxruntime == onnxruntime.__version__
    assert machine.cores >= 1
    assert machine.conv_block in (8, 16)
    assert "\n" not in str(machine)
    line = str(Machine("A", 1, 8, "1.2", "Linux x86_64"))
    assert line == "A, 1 core, Linux x86_64, onnxruntime 1.2, convolution block 8"

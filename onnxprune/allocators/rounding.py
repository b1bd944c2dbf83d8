"""Which counts a group may keep: the multiples that the runtime computes fastest.

ONNX Runtime's convolutions work on blocks of channels, 16 with AVX-512 and 8 otherwise. Three measurements decide:

* A convolution takes as long as one whose channels fill the last block, so 33 to 48 channels cost the same: what is
  kept beyond a multiple of the block is slow for nothing, and a count is rounded up, never down.
* Input channels that are no multiple of four make the runtime leave the blocked layout for that layer. That costs
  6 to 10 % in a plain convolution and a factor of five to seven in a depthwise one: halving MobileNetV2 at odd counts
  gained nothing at all, at multiples of 4 a factor of 1.74, at multiples of 16 of 1.85.
* A group of 16 channels in steps of 16 has no choice to make at all. With four steps at least in each group, half the
  MACs were worth 1.58x on MobileNetV2 and 1.22x on a CIFAR ResNet-20 (uniform); with two steps at least 1.86x and
  1.41x, and the same accuracy or more at six of eight points tried (docs/benchmarks.md).

Hence `auto`: steps of the block where a group has at least two of them; below that the block is halved, but not
below four, for groups of eight indices and more. What has to be a multiple is the width of an axis. An index of a
group may stand for several indices of it (a head for its 64 columns, a group of a grouped convolution for its
channels); then the group's step is what is missing: block / gcd(block, indices per index).
"""

from __future__ import annotations

from collections.abc import Container, Iterable
from math import gcd
from typing import Literal, TypeAlias

from onnxprune.allocators.allocation import Candidate
from onnxprune.allocators.tying import tied
from onnxprune.dependency import Analysis, Group
from onnxprune.dimensions import Atom, Dimension, count
from onnxprune.errors import UsageError

__all__ = ["RoundTo", "candidates", "multiple_of", "step_of"]

RoundTo: TypeAlias = int | Literal["auto"]

SMALLEST_BLOCK = 4  # below this the runtime leaves its blocked layout
STEPS = 2  # a group should have at least so many steps
SMALL = 8  # a group of fewer indices is not rounded


def candidates(
    analysis: Analysis,
    groups: Iterable[Group],
    round_to: RoundTo = "auto",
    *,
    block: int = 16,
    keep_min: int = 1,
    tie: Iterable[str] = (),
    without: Container[int] = (),
) -> tuple[Candidate, ...]:
    """`groups` as allocators see them; `block` is how many channels the machine's convolutions work on at once.

    Groups whose names match a pattern of `tie` keep equal counts, if they are of one size (see `tied`). The atoms
    `without` are no candidates, but patterns may match them.
    """
    found = []
    for group in groups:
        matrices = [site.dim for site in group.sites if len(analysis.dims(site.tensor)) > 1]
        axes = matrices or [site.dim for site in group.sites]
        step = step_of(group.atom, axes, round_to, block)
        whole = sum(group.size * _growth(group.atom, axis) / axis.size for axis in axes)
        found.append(Candidate(group.atom.id, group.name, group.size, step, min(keep_min, group.size), whole))
    return tied(found, tie, without)


def multiple_of(text: str) -> RoundTo:
    """What a user says of rounding: `auto` or a positive number. `UsageError` for anything else."""
    if text == "auto":
        return "auto"
    if not (text.isascii() and text.isdigit()) or int(text) < 1:
        raise UsageError(f"--round-to {text!r}: expected auto or a positive number")
    return int(text)


def step_of(atom: Atom, axes: Iterable[Dimension], round_to: RoundTo = "auto", block: int = 16) -> int:
    """The multiple of an atom to keep: `round_to` itself, or what the widths of the `axes` that hold it ask for.

    `UsageError` where `round_to` is no multiple.
    """
    if round_to != "auto":
        if round_to < 1:
            raise UsageError(f"counts are rounded to 'auto' or to a multiple of at least 1: found {round_to}")
        return round_to
    if atom.size < SMALL:
        return 1
    growths = {_growth(atom, axis) for axis in axes}
    while block > SMALLEST_BLOCK and atom.size < STEPS * _step(block, growths):
        block //= 2
    return _step(block, growths)


def _step(block: int, growths: Iterable[int]) -> int:
    """The multiple that makes every axis, which grows by one of `growths` with each index, a multiple of `block`."""
    return max(block // gcd(block, growth) for growth in growths)


def _growth(atom: Atom, axis: Dimension) -> int:
    """How many indices of an axis go with one of an atom."""
    return axis.size - count(axis, {atom.id: atom.size - 1})

"""Slopes of convolutions: what flows back is a transposed convolution, a kernel's slope a product of unfolded patches.

    y[n,o,p] = sum over c, k of x[n,c,s p + d k - a] W[o,c,k]

(Dumoulin and Visin, arXiv 1603.07285, chapter 4). Weights have their positions unfolded by one Slice each, for a
product of two matrices is many times faster than a convolution whose kernel is an image.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from math import prod

from onnxprune.gradients.tape import NoSlope, Tape
from onnxprune.model import Node

__all__ = ["Window", "conv", "conv_transpose", "window_of"]

MOST = 64  # positions of a kernel
STEPS = 10  # the opset since which Slice has steps; a pool of windows of one has had them ever since


@dataclass(frozen=True, slots=True)
class Window:
    """The geometry of one convolution over images of sizes `large`, which gives `small`; pads as (begins), (ends)."""

    large: tuple[int, ...]
    small: tuple[int, ...]
    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    begins: tuple[int, ...]
    ends: tuple[int, ...]
    groups: int

    @property
    def attributes(self) -> dict[str, list[int] | int]:
        """As ONNX has them, pads included."""
        return {
            "kernel_shape": list(self.kernel),
            "strides": list(self.strides),
            "dilations": list(self.dilations),
            "pads": [*self.begins, *self.ends],
            "group": self.groups,
        }


def window_of(node: Node, large: tuple[int, ...], small: tuple[int, ...], kernel: tuple[int, ...]) -> Window:
    """The geometry of a Conv, or of a ConvTranspose, whose output is the large image; sizes without batch and channels.

    What pads are not stated follows from the sizes.
    """
    rank = len(kernel)
    strides, dilations = (tuple(node.attributes.get(key, (1,) * rank)) for key in ("strides", "dilations"))
    spans = [d * (k - 1) + 1 for d, k in zip(dilations, kernel, strict=True)]
    auto = node.attributes.get("auto_pad", "NOTSET")
    pads = tuple(node.attributes.get("pads", (0,) * (2 * rank)))
    if auto in ("SAME_UPPER", "SAME_LOWER") or "output_shape" in node.attributes:
        total = [
            max(0, (n - 1) * s + span - size) for n, s, span, size in zip(small, strides, spans, large, strict=True)
        ]
        less = auto == "SAME_UPPER" or (auto == "NOTSET" and node.op_type == "Conv")
        low = [t // 2 if less else t - t // 2 for t in total]
        pads = (*low, *(t - b for t, b in zip(total, low, strict=True)))
    return Window(
        large, small, kernel, strides, dilations, pads[:rank], pads[rank:], int(node.attributes.get("group", 1))
    )


def conv(tape: Tape, node: Node, slope: str) -> dict[int, str]:
    """Conv."""
    data, weight = node.inputs[:2]
    large, small, kernel = tape.shape(data)[2:], tape.shape(node.outputs[0])[2:], tape.shape(weight)[2:]
    window = window_of(node, large, small, kernel)
    found: dict[int, str] = {}
    if tape.wants(data):
        found[0] = _enlarged(tape, slope, weight, window)
    if tape.wants(weight):
        found[1] = _kernel(tape, slope, data, weight, window, tape.shape(node.outputs[0])[1], tape.shape(data)[1])
    return found | _bias(tape, node, slope)


def conv_transpose(tape: Tape, node: Node, slope: str) -> dict[int, str]:
    """ConvTranspose: the roles of what is read and made are swapped."""
    data, weight = node.inputs[:2]
    small, large, kernel = tape.shape(data)[2:], tape.shape(node.outputs[0])[2:], tape.shape(weight)[2:]
    window = window_of(node, large, small, kernel)
    found: dict[int, str] = {}
    if tape.wants(data):
        found[0] = tape.add("Conv", slope, weight, **window.attributes)
    if tape.wants(weight):
        found[1] = _kernel(tape, data, slope, weight, window, tape.shape(data)[1], tape.shape(node.outputs[0])[1])
    return found | _bias(tape, node, slope)


def _bias(tape: Tape, node: Node, slope: str) -> dict[int, str]:
    """The slope of a bias, where there is one that learns: summed over samples and positions."""
    if len(node.inputs) < 3 or not tape.wants(node.inputs[2]):
        return {}
    return {2: tape.assembly.sum(slope, [0, *range(2, len(tape.shape(node.outputs[0])))])}


def _enlarged(tape: Tape, slope: str, weight: str, window: Window) -> str:
    """The slope of the large image. What the last stride has left over read nothing, and has no slope."""
    reached = [
        (n - 1) * s + d * (k - 1) + 1 - a - b
        for n, s, d, k, a, b in zip(
            window.small, window.strides, window.dilations, window.kernel, window.begins, window.ends, strict=True
        )
    ]
    more = [size - n for size, n in zip(window.large, reached, strict=True)]
    if all(n >= 0 for n in more):
        return tape.add("ConvTranspose", slope, weight, output_padding=more, **window.attributes)
    raise NoSlope("pads that no stride uses")


def _kernel(tape: Tape, small: str, large: str, weight: str, window: Window, few: int, many: int) -> str:
    """The slope of a kernel (O, C / groups, ...): the small image (`few` channels) times the shifted large one.

    (N, G, O / G, p) x (N, G, p, C / G k) summed over samples and positions p. The large one has `many` channels.
    """
    rank, groups = len(window.kernel), window.groups
    if prod(window.kernel) > MOST:
        raise NoSlope(weight)
    padded = large
    ends = list(window.ends)
    for k in range(rank):  # a Slice may reach a stride beyond the last position
        span = (window.small[k] - 1) * window.strides[k] + window.dilations[k] * (window.kernel[k] - 1) + 1
        ends[k] = max(ends[k], span - window.large[k] - window.begins[k])
    if any(window.begins) or any(ends):
        pads = [0, 0, *window.begins, 0, 0, *ends]
        padded = (
            tape.add("Pad", large, pads=pads)
            if tape.model.opsets.get("", 1) < 11
            else tape.add("Pad", large, tape.ints(pads))
        )
    places, count = list(product(*map(range, window.kernel))), prod(window.small)
    rows = []
    channels = many // groups
    for place in places:
        starts = [k * d for k, d in zip(place, window.dilations, strict=True)]
        stops = [a + (n - 1) * s + 1 for a, n, s in zip(starts, window.small, window.strides, strict=True)]
        part = _strided(tape, padded, starts, stops, list(window.strides))
        rows.append(tape.add("Reshape", part, tape.ints([0, groups, channels, 1, count])))
    unfolded = rows[0] if len(rows) == 1 else tape.add("Concat", *rows, axis=3)
    right = tape.add("Reshape", unfolded, tape.ints([0, groups, channels * len(places), count]))
    left = tape.add("Reshape", small, tape.ints([0, groups, few // groups, count]))
    made = tape.add("MatMul", left, tape.add("Transpose", right, perm=[0, 1, 3, 2]))
    return tape.like(tape.assembly.sum(made, [0]), weight)


def _strided(tape: Tape, image: str, starts: list[int], stops: list[int], strides: list[int]) -> str:
    """Part of an image, in steps."""
    axes, ones = list(range(2, 2 + len(starts))), [1] * len(starts)
    if tape.model.opsets.get("", 1) >= STEPS or strides == ones:
        return tape.assembly.slice(image, axes, starts, stops, strides)
    return tape.add(
        "MaxPool", tape.assembly.slice(image, axes, starts, stops, ones), kernel_shape=ones, strides=strides
    )

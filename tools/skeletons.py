"""Models of real size with random weights, for measurements that need a shape and not an accuracy.

    python tools/skeletons.py NAME OUT.onnx

Plain inference graphs as exporters write them: norms folded into the convolutions, every node named, opset 17, the
batch dynamic ("N"). Weights are drawn so that activations keep their size through the depth (He), from a fixed seed:
two runs write the same bytes.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, checker, helper, numpy_helper

__all__ = ["SKELETONS", "mobilenetv2", "parameters", "resnet18", "resnet50", "unet"]


class _Graph:
    """A graph being written: each method adds one layer and returns the name of its output."""

    def __init__(self, name: str, image: int) -> None:
        self.name = name
        self.image = image
        self.nodes: list[NodeProto] = []
        self.weights: list[TensorProto] = []
        self.random = np.random.default_rng(0)

    def node(self, op: str, inputs: list[str], name: str, **attributes: object) -> str:
        self.nodes.append(helper.make_node(op, inputs, [f"{name}.out"], name, **attributes))  # type: ignore[arg-type]
        return f"{name}.out"

    def normal(self, name: str, shape: tuple[int, ...], deviation: float) -> str:
        values = self.random.standard_normal(shape, dtype=np.float32) * np.float32(deviation)
        self.weights.append(numpy_helper.from_array(values, name))
        return name

    def conv(
        self,
        x: str,
        name: str,
        cin: int,
        cout: int,
        kernel: int,
        *,
        stride: int = 1,
        group: int = 1,
        gain: float = 2.0,
    ) -> str:
        """A convolution with bias; `gain` 2 keeps the size through a Relu, 1 without one."""
        fan_in = cin // group * kernel * kernel
        w = self.normal(f"{name}.weight", (cout, cin // group, kernel, kernel), (gain / fan_in) ** 0.5)
        b = self.normal(f"{name}.bias", (cout,), 0.01)
        return self.node(
            "Conv",
            [x, w, b],
            name,
            kernel_shape=[kernel, kernel],
            strides=[stride, stride],
            pads=[kernel // 2] * 4,
            group=group,
        )

    def relu(self, x: str, name: str) -> str:
        return self.node("Relu", [x], name)

    def relu6(self, x: str, name: str) -> str:
        bounds = [f"{name}.min", f"{name}.max"]
        self.weights += [
            numpy_helper.from_array(np.array(v, np.float32), n) for v, n in zip((0, 6), bounds, strict=True)
        ]
        return self.node("Clip", [x, *bounds], name)

    def classifier(self, x: str, width: int, classes: int) -> str:
        x = self.node("GlobalAveragePool", [x], "pool")
        x = self.node("Flatten", [x], "flatten")
        w = self.normal("fc.weight", (classes, width), width**-0.5)
        return self.node("Gemm", [x, w, self.normal("fc.bias", (classes,), 0.01)], "fc", transB=1)

    def model(self, output: str, shape: list[int | str]) -> ModelProto:
        self.nodes[-1].output[0] = "output"
        assert output == f"{self.nodes[-1].name}.out"
        image = helper.make_tensor_value_info("input", TensorProto.FLOAT, ["N", 3, self.image, self.image])
        graph = helper.make_graph(
            self.nodes, self.name, [image], [helper.make_tensor_value_info("output", TensorProto.FLOAT, shape)]
        )
        graph.initializer.extend(self.weights)
        model = helper.make_model(
            graph, producer_name="skeletons", opset_imports=[helper.make_opsetid("", 17)], ir_version=8
        )
        checker.check_model(model)
        return model


def resnet18() -> ModelProto:
    """ResNet-18 for ImageNet, 224 x 224: basic blocks (2, 2, 2, 2)."""
    return _resnet("resnet18", _basic, (2, 2, 2, 2), 1)


def resnet50() -> ModelProto:
    """ResNet-50 for ImageNet, 224 x 224: bottlenecks (3, 4, 6, 3), the stride on the 3 x 3 convolution."""
    return _resnet("resnet50", _bottleneck, (3, 4, 6, 3), 4)


def _resnet(
    name: str, block: Callable[[_Graph, str, str, int, int, int], str], depths: tuple[int, ...], expansion: int
) -> ModelProto:
    g = _Graph(name, 224)
    x = g.relu(g.conv("input", "conv1", 3, 64, 7, stride=2), "relu1")
    x = g.node("MaxPool", [x], "maxpool", kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4)
    cin = 64
    for stage, depth in enumerate(depths):
        width = 64 << stage
        for index in range(depth):
            stride = 2 if stage and not index else 1
            prefix, cout = f"layer{stage + 1}.{index}", width * expansion
            y = block(g, x, prefix, cin, width, stride)
            if cin != cout or stride != 1:
                x = g.conv(x, f"{prefix}.downsample", cin, cout, 1, stride=stride, gain=1.0)
            x = g.relu(g.node("Add", [y, x], f"{prefix}.add"), f"{prefix}.relu")
            cin = cout
    return g.model(g.classifier(x, cin, 1000), ["N", 1000])


def _basic(g: _Graph, x: str, prefix: str, cin: int, width: int, stride: int) -> str:
    x = g.relu(g.conv(x, f"{prefix}.conv1", cin, width, 3, stride=stride), f"{prefix}.relu1")
    return g.conv(x, f"{prefix}.conv2", width, width, 3, gain=_BRANCH)


def _bottleneck(g: _Graph, x: str, prefix: str, cin: int, width: int, stride: int) -> str:
    x = g.relu(g.conv(x, f"{prefix}.conv1", cin, width, 1), f"{prefix}.relu1")
    x = g.relu(g.conv(x, f"{prefix}.conv2", width, width, 3, stride=stride), f"{prefix}.relu2")
    return g.conv(x, f"{prefix}.conv3", width, 4 * width, 1, gain=_BRANCH)


_BRANCH = 0.25
"""The gain of the last convolution of a residual branch: small, so that the sums of many blocks do not grow."""


def mobilenetv2() -> ModelProto:
    """MobileNetV2 1.0 for ImageNet, 224 x 224."""
    g = _Graph("mobilenetv2", 224)
    x = g.relu6(g.conv("input", "stem", 3, 32, 3, stride=2), "stem.relu6")
    cin, number = 32, 0
    settings = [
        (1, 16, 1, 1),
        (6, 24, 2, 2),
        (6, 32, 3, 2),
        (6, 64, 4, 2),
        (6, 96, 3, 1),
        (6, 160, 3, 2),
        (6, 320, 1, 1),
    ]
    for expand, cout, repeats, first_stride in settings:
        for index in range(repeats):
            stride = first_stride if index == 0 else 1
            y = _inverted(g, x, f"block{number}", cin, cin * expand, cout, stride)
            x = g.node("Add", [x, y], f"block{number}.add") if stride == 1 and cin == cout else y
            cin, number = cout, number + 1
    x = g.relu6(g.conv(x, "head", cin, 1280, 1), "head.relu6")
    return g.model(g.classifier(x, 1280, 1000), ["N", 1000])


def _inverted(g: _Graph, x: str, prefix: str, cin: int, hidden: int, cout: int, stride: int) -> str:
    if hidden != cin:
        x = g.relu6(g.conv(x, f"{prefix}.expand", cin, hidden, 1), f"{prefix}.expand.relu6")
    x = g.conv(x, f"{prefix}.depthwise", hidden, hidden, 3, stride=stride, group=hidden)
    return g.conv(g.relu6(x, f"{prefix}.depthwise.relu6"), f"{prefix}.project", hidden, cout, 1, gain=1.0)


def unet(classes: int = 2) -> ModelProto:
    """The U-Net of 64, 128, 256, 512 and 1024 channels, padded, 256 x 256, upwards by transposed convolutions."""
    g = _Graph("unet", 256)
    widths = (64, 128, 256, 512, 1024)
    x, cin, skips = "input", 3, []
    for level, width in enumerate(widths):
        if level:
            x = g.node("MaxPool", [x], f"down{level}.pool", kernel_shape=[2, 2], strides=[2, 2])
        x, cin = _double(g, x, f"down{level}", cin, width), width
        skips.append(x)
    for level in reversed(range(len(widths) - 1)):
        width = widths[level]
        w = g.normal(f"up{level}.upsample.weight", (cin, width, 2, 2), cin**-0.5)
        b = g.normal(f"up{level}.upsample.bias", (width,), 0.01)
        x = g.node("ConvTranspose", [x, w, b], f"up{level}.upsample", kernel_shape=[2, 2], strides=[2, 2])
        x = g.node("Concat", [skips[level], x], f"up{level}.concat", axis=1)
        x, cin = _double(g, x, f"up{level}", 2 * width, width), width
    return g.model(g.conv(x, "head", cin, classes, 1, gain=1.0), ["N", classes, 256, 256])


def _double(g: _Graph, x: str, prefix: str, cin: int, cout: int) -> str:
    x = g.relu(g.conv(x, f"{prefix}.conv1", cin, cout, 3), f"{prefix}.relu1")
    return g.relu(g.conv(x, f"{prefix}.conv2", cout, cout, 3), f"{prefix}.relu2")


def parameters(model: ModelProto) -> int:
    """The number of weights: elements of all initializers that are no scalars."""
    return sum(int(np.prod(w.dims)) for w in model.graph.initializer if w.dims)


SKELETONS: dict[str, Callable[[], ModelProto]] = {
    "mobilenetv2": mobilenetv2,
    "resnet18": resnet18,
    "resnet50": resnet50,
    "unet": unet,
}


def main(arguments: list[str]) -> int:
    """Write the model NAME to OUT.onnx."""
    if len(arguments) != 2 or arguments[0] not in SKELETONS:
        print(f"usage: python tools/skeletons.py {'|'.join(SKELETONS)} OUT.onnx", file=sys.stderr)
        return 2
    Path(arguments[1]).write_bytes(SKELETONS[arguments[0]]().SerializeToString())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

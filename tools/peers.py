"""Whether other tools rank the same weights alike: Torch-Pruning's channels, onnxsim's masks. Tables in Markdown.

    python tools/peers.py [--assets FOLDER] [--write docs/benchmarks.md]

Wants `torch`, `torch-pruning` and `onnxsim` beside onnxprune, in an environment of their own. Nothing is tuned: both
get the same weights and the same calibration samples, and each is asked for what its defaults are.

* channels: the inner groups of ResNet-20 (one convolution writes, one reads). `rank` is Spearman's correlation of the
  scores, mean and least over groups; `kept` the share of the better half that is the same.
* masks: `same` is the share of weights on which the masks agree, `kept` the share of what we keep that they keep.
  Chance would give 0.5 at 50 %.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper

from onnxprune.criteria import Evidence, score
from onnxprune.data import Samples, load
from onnxprune.dependency import Analysis, analyse
from onnxprune.layers import Layer, layers_of
from onnxprune.model import Model
from onnxprune.passes.mask import Mask
from onnxprune.unit import Unit

ROOT = Path(__file__).resolve().parent.parent
RESNET, AUTOENCODER = ROOT / "models" / "cifar10_resnet20.onnx", ROOT / "models" / "ad01_autoencoder.onnx"
Array = npt.NDArray[Any]


def spearman(a: Array, b: Array) -> float:
    """The correlation of ranks."""
    first, second = (np.argsort(np.argsort(x)).astype(np.float64) for x in (a, b))
    return float(np.corrcoef(first, second)[0, 1])


def overlap(a: Array, b: Array) -> float:
    """The share of the better half by `a` that is in the better half by `b`."""
    half = len(a) // 2
    return len({*np.argsort(a)[-half:].tolist()} & {*np.argsort(b)[-half:].tolist()}) / half


def inner(analysis: Analysis) -> Iterator[tuple[int, Layer, Layer]]:
    """Groups that one convolution writes and one reads: atom, writer, reader."""
    convolutions = [layer for layer in layers_of(analysis) if layer.op_type == "Conv"]
    for group in analysis.groups:
        axes = {(site.tensor, site.axis) for site in group.sites}
        writers = [layer for layer in convolutions if (layer.weight, 0) in axes]
        readers = [layer for layer in convolutions if (layer.weight, 1) in axes]
        if len(writers) == len(readers) == 1:
            yield group.atom.id, writers[0], readers[0]


def torch_importance(analysis: Analysis, writer: Layer, reader: Layer) -> Array:
    """Torch-Pruning's own group importance of the channels between two convolutions, found by its own graph."""
    import torch
    import torch_pruning

    def module(layer: Layer) -> Any:
        values = analysis.model.array(layer.weight)
        made = torch.nn.Conv2d(values.shape[1], values.shape[0], values.shape[2:], padding=1, bias=False)
        made.weight.data = torch.from_numpy(values.copy())
        return made

    net = torch.nn.Sequential(module(writer), torch.nn.ReLU(), module(reader))
    example = torch.zeros(1, net[0].in_channels, 8, 8)
    graph = torch_pruning.DependencyGraph().build_dependency(net, example_inputs=example)
    indices = list(range(net[0].out_channels))
    group = graph.get_pruning_group(net[0], torch_pruning.prune_conv_out_channels, idxs=indices)
    return np.asarray(torch_pruning.importance.GroupMagnitudeImportance()(group).numpy(), np.float64)


def channels() -> Iterator[str]:
    """Rows of the table of channels."""
    analysis = analyse(Model.load(RESNET))
    settings = {"l2, as it is by default": {}, "l2, --normalise none": {"normalise": "none"}}
    for name, options in settings.items():
        ours = score(Evidence(analysis), "l2", **options).values
        pairs = [(ours[atom], torch_importance(analysis, writer, reader)) for atom, writer, reader in inner(analysis)]
        ranks, kept = [spearman(*pair) for pair in pairs], [overlap(*pair) for pair in pairs]
        yield (
            f"| {name} | Torch-Pruning {version('torch-pruning')}, GroupMagnitudeImportance | {len(pairs)} groups "
            f"| {np.mean(ranks):.3f} ({min(ranks):.3f}) | {np.mean(kept):.3f} |"
        )


def ours(path: Path, samples: Samples, **options: Any) -> dict[str, Array]:
    """The masked weights, by name."""
    unit = Unit(source=Model.load(path), samples=samples)
    masking = (
        Mask(allocation="uniform", **options)
        .run(Unit(source=unit.source, samples=samples, analysis=analyse(unit.source)))
        .masking
    )
    assert masking is not None
    return {weight.weight: masking.model.array(weight.weight) for weight in masking.weights if not weight.why_not}


def theirs(path: Path, samples: Samples, prune: Callable[..., onnx.ModelProto], **options: Any) -> dict[str, Array]:
    """The weights as onnxsim leaves them, by name."""
    batches = list(samples.batches(64))
    made = prune(onnx.load(path), calibration_data=batches, **options)
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in made.graph.initializer}


def masks() -> Iterator[str]:
    """Rows of the table of masks."""
    from onnxsim import pruning

    images = load(str(ROOT / "models" / "cifar10_calibration.npz"), Model.load(RESNET).inputs)
    noise = np.random.default_rng(0).normal(size=(256, 640)).astype(np.float32)
    (wanted,) = Model.load(AUTOENCODER).inputs
    subjects = {
        "cifar10_resnet20 (Conv)": (RESNET, images),
        "ad01_autoencoder (Gemm, noise)": (AUTOENCODER, Samples("noise", {wanted.name: noise})),
    }
    forms: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
        "50 %": ({"granularity": "element", "sparsity": 0.5}, {"sparsity": 0.5}),
        "2:4": ({"granularity": "2:4"}, {"n": 2, "m": 4}),
    }
    peers = {"wanda": pruning.apply_wanda_pruning, "sparsegpt": pruning.apply_sparsegpt_pruning}
    for subject, (path, samples) in subjects.items():
        for criterion, prune in peers.items():
            for form, (own, other) in forms.items():
                a, b = ours(path, samples, criterion=criterion, **own), theirs(path, samples, prune, **other)
                same, kept, change = agreement(a, {name: b[name] for name in a})
                yield f"| {criterion}, {form} | {subject} | {same:.4f} | {kept:.4f} | {change:.1e} |"


def agreement(a: dict[str, Array], b: dict[str, Array]) -> tuple[float, float, float]:
    """Same decisions, the share of what `a` keeps that `b` keeps, and how far kept numbers are apart, relatively."""
    x, y = (np.concatenate([found[name].ravel() for name in a]).astype(np.float64) for found in (a, b))
    both = (x != 0) & (y != 0)
    distance = float(np.linalg.norm((x - y)[both]) / np.linalg.norm(x[both]))
    return float(((x != 0) == (y != 0)).mean()), float(both.sum() / (x != 0).sum()), distance


def markdown() -> str:
    """Both tables."""
    return "\n".join([
        "| ours | theirs | of | rank (least) | kept |", "|---|---|---|---|---|", *channels(), "",
        f"| criterion | model (onnxsim {version('onnxsim')}) | same | kept | distance of kept weights |",
        "|---|---|---|---|---|", *masks(), "",
    ])  # fmt: skip


def main() -> int:
    """0 when both tables were made."""
    from tools.page import written

    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--write", type=Path)
    options = parser.parse_args()
    found = markdown()
    print(found)
    if options.write is not None:
        text = options.write.read_text(encoding="utf-8")
        options.write.write_text(written(text, "peers", found), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())

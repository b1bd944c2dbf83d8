"""Real networks that were pruned in a framework, as a user has them: what can go goes, and the rest is told."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import onnxprune
from onnxprune import cut
from onnxprune.dependency import analyse
from onnxprune.model import Array, Edit, Model
from onnxprune.plan import Plan
from onnxprune.weights import parameters
from tests.lossless.tables import run_both


def with_weights(model: Model, arrays: dict[str, Array]) -> Model:
    edit = Edit(model)
    for name, array in arrays.items():
        edit.replace(name, array)
    return edit.done()


def convolutions(model: Model) -> list[tuple[str, str]]:
    """Weight and bias of every convolution."""
    return [(node.inputs[1], node.inputs[2]) for node in model.nodes if node.op_type == "Conv"]


def smaller_half(weight: Array) -> Array:
    """Which filters `torch.nn.utils.prune.ln_structured(amount=0.5, n=1, dim=0)` sets to zero."""
    norms = np.abs(weight).sum(axis=(1, 2, 3))
    return np.asarray(norms <= np.sort(norms)[len(norms) // 2 - 1])


@pytest.mark.parametrize("name", ["cifar10_resnet20.onnx", "cifar10_resnet56.onnx"])
def test_half_of_the_filters_are_zero(name: str, models: Path) -> None:
    """The first convolution of every block was pruned by half: what goes is what pruning those groups removes."""
    model = Model.load(models / name)
    analysis = analyse(model)
    arrays, keep = {}, {}
    groups = {site.tensor: group for group in analysis.groups for site in group.sites if site.axis == 0}
    for weight, bias in convolutions(model)[1::2]:  # conv1 of each block: nothing but conv2 reads it
        gone = smaller_half(model.array(weight))
        arrays[weight] = model.array(weight) * ~gone[:, None, None, None]
        arrays[bias] = model.array(bias) * ~gone
        keep[groups[weight].atom.id] = ~gone
    pruned = with_weights(model, arrays)
    result = onnxprune.shrink(pruned, rounds=0)
    wanted = cut.shrink(analysis, Plan.of(analysis.groups, keep))
    assert parameters(result.model) == parameters(wanted) < 0.6 * parameters(model)
    assert result.report.removed == {"zero": sum(int((~mask).sum()) for mask in keep.values())}
    assert {g.name: g.kept for g in result.report.groups} == {
        g.name: int(keep[g.atom.id].sum()) if g.atom.id in keep else g.size for g in analysis.groups
    }
    assert result.report.verified
    run_both(pruned, result.model)


def test_all_convolutions_are_pruned_by_half(models: Path) -> None:
    """With the residual stream pruned, too, a channel of it goes where every branch agrees: as the plan says."""
    model = Model.load(models / "cifar10_resnet20.onnx")
    arrays = {}
    for weight, bias in convolutions(model):
        gone = smaller_half(model.array(weight))
        arrays[weight], arrays[bias] = model.array(weight) * ~gone[:, None, None, None], model.array(bias) * ~gone
    pruned = with_weights(model, arrays)
    result = onnxprune.shrink(pruned, rounds=0)
    analysis = analyse(pruned)
    plan = Plan.of(analysis.groups, {
        group.atom.id: np.arange(group.size) < one.kept
        for group, one in zip(analysis.groups, result.report.groups, strict=True)
    })  # fmt: skip
    assert parameters(result.model) == parameters(cut.shrink(analysis, plan)) < 0.5 * parameters(model)
    assert result.report.macs_after < 0.52 * result.report.macs_before


def test_network_slimming(models: Path) -> None:
    """Batch norm scales of zero: without a shift the channel goes; with one it is a constant, which borders keep."""
    model = Model.load(models / "cifar10_resnet20_bn.onnx")
    arrays, shifted = {}, 0
    norms = [node for node in model.nodes if node.op_type == "BatchNormalization"]
    for number, node in enumerate(norms[1::2]):
        scale, shift = model.array(node.inputs[1]).copy(), model.array(node.inputs[2]).copy()
        scale[::2] = 0
        if number % 2:
            shift[::2] = 0
        else:
            shifted += int((shift[::2] > 0).sum())  # Relu makes zeros of the others
        arrays[node.inputs[1]], arrays[node.inputs[2]] = scale, shift
    result = onnxprune.shrink(with_weights(model, arrays), rounds=0)
    halves = sum(len(model.array(node.inputs[1])) // 2 for node in norms[1::2])
    assert result.report.removed == {"zero": halves - shifted}
    assert result.report.left == {"what reads it pads with zeros": shifted}


def test_scattered_zeros_are_no_channels(models: Path) -> None:
    """A random mask of 95 % leaves no filter of a wide layer empty: the report says how many zeros there are."""
    model = Model.load(models / "cifar10_resnet20.onnx")
    random = np.random.default_rng(0)
    arrays = {w: (a := model.array(w)) * (random.random(a.shape) > 0.95) for w, _ in convolutions(model)[7:]}
    result = onnxprune.shrink(with_weights(model, arrays), rounds=0)
    assert result.report.removed == {}
    assert result.report.params_after == result.report.params_before
    assert result.report.nonzero_after < 0.12 * result.report.params_after


def test_a_published_pruned_network(assets: Path) -> None:
    """SqueezeNet after Deep Compression: two thirds of the weights are zero, one channel is never read."""
    result = onnxprune.shrink(assets / "models" / "squeezenet1.0_deepcompression.onnx", rounds=0)
    assert result.report.removed == {"unread": 1}
    assert result.report.params_before - result.report.params_after == 113
    assert result.report.nonzero_after == result.report.nonzero_before - 1  # its bias


def test_trained_networks_have_dead_channels(assets: Path) -> None:
    """MobileNet v1 as it was published holds channels that nothing needs."""
    result = onnxprune.shrink(assets / "models" / "mobilenet_v1_0.5_160.onnx", rounds=0)
    assert result.report.removed == {"constant": 1, "unread": 10}


def test_nothing_to_remove_is_written_as_it_was(models: Path, tmp_path: Path) -> None:
    """Byte for byte, without a stamp."""
    result = onnxprune.shrink(models / "kws_dscnn.onnx", tmp_path / "same.onnx", rounds=0)
    assert result.report.removed == {}
    assert (tmp_path / "same.onnx").read_bytes() == (models / "kws_dscnn.onnx").read_bytes()


def test_what_was_written_is_verified_against_the_original(models: Path, tmp_path: Path) -> None:
    """`verify` compares it with the original itself, and finds out what is not it."""
    model = Model.load(models / "cifar10_resnet20.onnx")
    weight, bias = convolutions(model)[1]
    zeros = {name: model.array(name) * 0 for name in (weight, bias)}
    with_weights(model, zeros).save(tmp_path / "pruned.onnx")
    onnxprune.shrink(tmp_path / "pruned.onnx", tmp_path / "small.onnx", rounds=0)
    assert onnxprune.verify(tmp_path / "pruned.onnx", tmp_path / "small.onnx").passed
    small = Model.load(tmp_path / "small.onnx")
    with_weights(small, {"linear.bias": small.array("linear.bias") + 1}).save(tmp_path / "other.onnx")
    assert not onnxprune.verify(tmp_path / "pruned.onnx", tmp_path / "other.onnx").passed

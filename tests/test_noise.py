"""Random samples fit the model, are the same for the same seed, and are said to be random."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import onnxprune
from onnxprune.data import load
from onnxprune.dependency import analyse
from onnxprune.errors import UsageError
from onnxprune.model import Model
from onnxprune.noise import NOTE, Asked, asked_for, random_samples
from onnxprune.preprocess import Preprocess
from onnxprune.testing import build
from onnxprune.unit import Unit


def test_they_fit_the_model() -> None:
    """Token ids are inside the vocabulary, masks are ones, symbolic sizes have their examples."""
    model = build(
        "input_ids[N,T]:int64, attention_mask[N,T]:int64 -> y\n"
        "e = Gather(E[9,4], input_ids)\nm = Cast<to=1>(attention_mask)\nu = Unsqueeze(m, {2})\ny = Mul(e, u)"
    )
    samples = random_samples(model, analyse(model).shapes.sizes, 50)
    ids, mask = samples.arrays.values()
    assert ids.shape == mask.shape
    assert len(ids) == 50
    assert set(np.unique(ids)) == set(range(9))
    assert (mask == 1).all()
    again = random_samples(model, analyse(model).shapes.sizes, 50)
    assert np.array_equal(again.arrays["input_ids"], ids)


def test_pixels_go_through_the_preprocessing() -> None:
    """Where one is given, numbers are in the range that it makes of pixels; a fixed batch is kept in mind."""
    model = build("x[2,3,4,4] -> y\ny = Relu(x)")
    how = Preprocess(layout="NCHW", scale=1 / 255, mean=(1.0,))
    samples = random_samples(model, {}, 5, preprocess=how)
    assert samples.fixed_batch == 2
    assert samples.arrays["x"].shape == (5, 3, 4, 4)
    assert -1 <= samples.arrays["x"].min() < samples.arrays["x"].max() <= 0
    with pytest.raises(UsageError, match=r"random: input 'x': mean in the preprocessing has 2 values"):
        random_samples(model, {}, 5, preprocess=Preprocess(layout="NCHW", mean=(0.0, 1.0)))


def test_a_model_without_an_axis_of_samples_is_refused() -> None:
    """A number beside the samples is not to be had by chance."""
    proto = build("x[N,4], r[1]:int64 -> y\nf = Cast<to=1>(r)\ny = Mul(x, f)").to_proto()
    del proto.graph.input[1].type.tensor_type.shape.dim[:]
    model = Model.from_proto(proto)
    with pytest.raises(UsageError, match="an input of the model has no axis of samples"):
        random_samples(model, analyse(model).shapes.sizes, 5)


def test_how_many_is_read_off_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At most as many as are asked for elsewhere; a file of the same name is a file."""
    monkeypatch.chdir(tmp_path)
    assert asked_for("random", 256) == Asked("random", 64)
    assert asked_for("random:8", 256) == Asked("random", 8)
    assert asked_for("random:800", 256) == Asked("random", 256)
    assert asked_for("synthetic", 512) == Asked("synthetic", 256)
    assert asked_for("synthetic:8", 256) == Asked("synthetic", 8)
    assert asked_for("data.npz", 256) is None
    with pytest.raises(UsageError, match="random:0: expected at least one sample"):
        asked_for("random:0", 256)
    (tmp_path / "random").write_text("")
    assert asked_for("random", 256) is None


def test_what_is_drawn_is_noise_whatever_a_file_is_called(tmp_path: Path) -> None:
    """Samples of a file are data, even of one called random; those that are drawn say nothing of real inputs."""
    model = build("x[N,3,8,8] -> y\nh = Conv(x, W[8,3,3,3])\ny = Relu(h)")
    drawn = random_samples(model, analyse(model).shapes.sizes, 5)
    np.savez(tmp_path / "random_x.npz", x=drawn.arrays["x"])
    read = load(str(tmp_path / "random_x.npz"), model.inputs)
    assert (drawn.noise, drawn.take(2).noise, read.noise) == (True, True, False)
    assert [Unit(source=model, samples=s).has_data for s in (drawn, read, None)] == [False, True, False]


def test_the_report_says_that_they_are_random() -> None:
    """Whatever was chosen with them."""
    model = build("x[N,3,8,8] -> y\nh = Conv(x, W[8,3,3,3])\nr = Relu(h)\ny = Conv(r, V[4,8,1,1])")
    result = onnxprune.prune(model, sparsity=0.5, calibration="random:4")
    assert NOTE in result.report.notes

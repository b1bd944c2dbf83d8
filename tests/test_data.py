"""Data are checked against the inputs of the model before anything runs, and every refusal says what to do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from onnxprune.data import Array, Samples, load
from onnxprune.errors import OnnxPruneError, UsageError, VerificationFailed
from onnxprune.evaluation import evaluation, top1, top1_of
from onnxprune.preprocess import Preprocess


@dataclass(frozen=True)
class Input:
    """An input of a model, as `data` sees it."""

    name: str
    shape: tuple[int | str | None, ...] | None
    dtype: np.dtype[Any] = field(default_factory=lambda: np.dtype(np.float32))


X = Input("x", ("N", 4))
IMAGE = Input("image", ("N", 3, 2, 2))


def ramp(*shape: int, dtype: str = "float32") -> Array:
    return np.arange(np.prod(shape)).reshape(shape).astype(dtype)


@pytest.fixture
def npz(tmp_path: Path) -> Path:
    return tmp_path / "data.npz"


# What is read


def test_arrays_go_to_the_inputs_that_they_are_named_after(npz: Path) -> None:
    """Each input gets the array of its name, labels are kept apart, arrays of other names are left alone."""
    np.savez(npz, a=ramp(5, 4), b=ramp(5, 2), labels=np.arange(5), c=ramp(7))
    samples = load(str(npz), [Input("b", (None, 2)), Input("a", ("N", 4))])
    assert list(samples.arrays) == ["b", "a"]
    assert len(samples) == 5
    assert samples.labels is not None
    assert samples.labels.tolist() == [0, 1, 2, 3, 4]


def test_a_single_array_serves_a_single_input(npz: Path, tmp_path: Path) -> None:
    """The name of the array does not matter where there is one array and one input, in .npz and .npy alike."""
    np.savez(npz, whatever=ramp(5, 4))
    np.save(tmp_path / "data.npy", ramp(5, 4))
    for path in (npz, tmp_path / "data.npy"):
        assert np.array_equal(load(str(path), [X]).arrays["x"], ramp(5, 4))


def test_numbers_of_the_same_kind_become_the_type_of_the_input(npz: Path) -> None:
    """float64 feeds float32, int32 feeds int64; nothing else is converted silently."""
    np.savez(npz, x=ramp(5, 4, dtype="float64"), ids=ramp(5, 4, dtype="int32"))
    samples = load(str(npz), [X, Input("ids", ("N", 4), np.dtype(np.int64))])
    assert [array.dtype for array in samples.arrays.values()] == [np.float32, np.int64]


def test_an_input_without_a_shape_takes_any(npz: Path) -> None:
    """Where the model does not declare a shape, rank and sizes are left to the runtime, and the batch is free."""
    np.savez(npz, x=ramp(5, 4, 3))
    samples = load(str(npz), [Input("x", None)])
    assert samples.arrays["x"].shape == (5, 4, 3)
    assert samples.fixed_batch is None


def test_an_input_named_labels_is_an_input(npz: Path) -> None:
    """A model that takes its labels as an input gets them there."""
    np.savez(npz, x=ramp(5, 4), labels=ramp(5, dtype="int64"))
    samples = load(str(npz), [X, Input("labels", ("N",), np.dtype(np.int64))])
    assert samples.labels is None
    assert samples.arrays["labels"].tolist() == [0, 1, 2, 3, 4]


def test_a_function_yields_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`module:function` is imported from the working directory and its batches are put together in order."""
    (tmp_path / "my_batches.py").write_text(
        "import numpy as np\n"
        "def two():\n"
        "    for i in range(2):\n"
        "        yield {'x': np.full((3, 4), i, np.float32), 'labels': np.full(3, i)}\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    samples = load("my_batches:two", [X])
    assert samples.arrays["x"][:, 0].tolist() == [0, 0, 0, 1, 1, 1]
    assert samples.labels is not None
    assert samples.labels.tolist() == [0, 0, 0, 1, 1, 1]


# Batches and choices


def test_batches_hold_every_sample_once_in_order() -> None:
    """The last batch is smaller where the number of samples is no multiple of the size."""
    samples = Samples("here", {"x": ramp(5, 1)})
    assert [batch["x"].ravel().tolist() for batch in samples.batches(2)] == [[0, 1], [2, 3], [4]]


def test_a_fixed_batch_is_filled_with_the_last_sample(npz: Path) -> None:
    """A model of batch 3 gets threes whatever size is asked for, and evaluation drops what was added."""
    np.savez(npz, x=ramp(4, 2), labels=np.array([1, 1, 1, 1]))
    samples = load(str(npz), [Input("x", (3, 2))])
    assert [len(batch["x"]) for batch in samples.batches(64)] == [3, 3]
    assert list(samples.batches(64))[1]["x"].tolist() == [[6, 7]] * 3
    assert top1_of(lambda feeds: {"y": feeds["x"]}, samples) == 1.0
    assert len(list(samples.take(3).batches(64))) == 1


def test_take_depends_on_the_seed_alone() -> None:
    """The same seed takes the same samples with their labels; more than there are is all of them."""
    samples = Samples("here", {"x": ramp(50, 1)}, np.arange(50))
    first, again, other = (samples.take(8, seed) for seed in (0, 0, 1))
    assert first.labels is not None
    assert first.arrays["x"].ravel().tolist() == first.labels.tolist() == again.arrays["x"].ravel().tolist()
    assert len(first) == len(set(first.labels.tolist())) == 8
    assert other.arrays["x"].tolist() != first.arrays["x"].tolist()
    assert samples.take(99) is samples


@pytest.mark.parametrize("n", [0, -1])
def test_a_number_of_samples_is_positive(n: int) -> None:
    """No samples, and batches of none, are a mistake in the request."""
    samples = Samples("here", {"x": ramp(5, 1)})
    with pytest.raises(UsageError, match=f"here: asked for {n} samples; expected at least 1"):
        samples.take(n)
    with pytest.raises(UsageError, match=f"here: batch size is {n}; expected at least 1"):
        list(samples.batches(n))


# Preprocessing


def test_pixels_become_what_data_toml_says(npz: Path) -> None:
    """A data.toml beside the file scales, shifts, reverses and transposes uint8 images."""
    pixels = ramp(2, 2, 2, 3, dtype="uint8")
    np.savez(npz, pixels)
    text = 'layout="NCHW"\nchannels="BGR"\nscale="1/2"\nmean=[1, 2, 3]\nstd=4\n'
    npz.with_name("data.toml").write_text(text)
    expected = ((pixels[..., ::-1] / 2.0 - [1, 2, 3]) / 4).transpose(0, 3, 1, 2)
    assert np.array_equal(load(str(npz), [IMAGE]).arrays["image"], expected.astype(np.float32))


def test_a_named_file_comes_before_data_toml(npz: Path, tmp_path: Path) -> None:
    """--preprocess FILE is used instead of the data.toml beside the data, which is not even read."""
    np.savez(npz, ramp(2, 2, 2, 3, dtype="uint8"))
    npz.with_name("data.toml").write_text("not toml")
    (tmp_path / "raw.toml").write_text('layout="NCHW"')
    assert load(str(npz), [IMAGE], tmp_path / "raw.toml").arrays["image"].max() == 23


def test_bytes_that_the_model_wants_stay_bytes(npz: Path) -> None:
    """A uint8 input takes uint8 arrays as they are, even beside a data.toml."""
    np.savez(npz, x=ramp(5, 4, dtype="uint8"))
    npz.with_name("data.toml").write_text("scale=0.5")
    assert np.array_equal(load(str(npz), [Input("x", ("N", 4), np.dtype(np.uint8))]).arrays["x"], ramp(5, 4))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("scale = ", r"data\.toml: not a TOML file: "),
        ("scael = 1", r"data\.toml: unknown key 'scael'; known keys are layout, channels, scale, mean, std"),
        ('layout = "CHW"', r"layout is 'CHW'; expected one of NHWC, NCHW"),
        ('channels = ["RGB"]', r"channels is \['RGB'\]; expected one of RGB, BGR"),
        ('scale = "1/0"', r"scale is '1/0'; expected a finite number or a fraction"),
        ("scale = nan", r"scale is nan; expected a finite number"),
        ("mean = true", r"mean is True; expected a finite number"),
        ('mean = [0.5, "x"]', r"mean is 'x'; expected a finite number"),
        ("mean = []", r"mean is empty; expected one number, or one for each channel"),
        ("std = [1, 0, 1]", r"std is \[1\.0, 0\.0, 1\.0\]: expected no zero"),
        ("std = [1, 2]", r"'image': std in the preprocessing has 2 values, the images 3 channels"),
    ],
)
def test_a_wrong_data_toml_is_named_with_its_key(npz: Path, text: str, message: str) -> None:
    """Each message has the file or the input, the key, what was found and what was expected."""
    np.savez(npz, ramp(2, 2, 2, 3, dtype="uint8"))
    npz.with_name("data.toml").write_text(text)
    with pytest.raises(UsageError, match=message):
        load(str(npz), [IMAGE])


def test_bytes_that_are_no_images_are_refused(npz: Path) -> None:
    """Preprocessing is for samples x height x width x channels."""
    np.savez(npz, ramp(2, 12, dtype="uint8"))
    npz.with_name("data.toml").write_text("scale=2")
    with pytest.raises(UsageError, match=r"'image': expected images, samples x .* found shape \(2, 12\)"):
        load(str(npz), [IMAGE])


def test_a_missing_preprocessing_file_is_told(tmp_path: Path) -> None:
    """The name of the file stands in the message."""
    with pytest.raises(UsageError, match=r"none\.toml: cannot read the preprocessing file: No such file"):
        Preprocess.load(tmp_path / "none.toml")


# What is refused


@pytest.mark.parametrize(
    ("arrays", "inputs", "message"),
    [
        ({"y": ramp(5, 4), "z": ramp(5)}, [X], r"no array for model input 'x'; .* found y, z"),
        ({"labels": ramp(5)}, [X], r"no array for model input 'x'; .* found none"),
        ({"x": ramp(5, 3)}, [X], r"'x': expected shape samples x 4, found 5 x 3"),
        ({"x": ramp(5)}, [X], r"'x': expected shape samples x 4, found 5$"),
        ({"x": ramp(5, 9)}, [Input("x", ("N", None, 2))], r"expected shape samples x any x 2, found 5 x 9"),
        ({"x": np.float32(1)}, [X], r"found a single number"),
        ({"x": ramp(5, 4, dtype="int64")}, [X], r"'x' is int64, the input is float32; convert the array"),
        ({"x": ramp(5, 4, dtype="uint8")}, [X], r"'x' is uint8, the input is float32; expected .* data\.toml"),
        ({"x": np.array([[2**40]])}, [Input("x", ("N", 1), np.dtype(np.int32))], r"values that do not fit int32"),
        ({"x": ramp(0, 4)}, [X], r"'x' has no samples"),
        ({"x": ramp(5, 4), "y": ramp(4, 4)}, [X, Input("y", ("N", 4))], r"'x' has 5 samples, 'y' has 4"),
        ({"x": ramp(5, 4), "labels": ramp(6)}, [X], r"'x' has 5 samples, 'labels' has 6"),
        ({"x": ramp(5)}, [Input("x", ())], r"the input is a single number, without an axis for samples"),
        ({"x": ramp(5, 4)}, [], r"the model has no inputs"),
        (
            {"x": ramp(2, 4), "y": ramp(2, 4)},
            [Input("x", (1, 4)), Input("y", (2, 4))],
            r"do not share a batch size on their first axis: 'x' 1, 'y' 2",
        ),
    ],
)
def test_arrays_that_do_not_fit_are_refused(
    npz: Path, arrays: dict[str, Array], inputs: Sequence[Input], message: str
) -> None:
    """Each message names the input, what was expected and what was found."""
    np.savez(npz, **arrays)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=message):
        load(str(npz), inputs)


def test_preprocessing_without_images_is_refused(npz: Path, tmp_path: Path) -> None:
    """An option that would do nothing is an error, not a surprise."""
    np.savez(npz, ramp(5, 4))
    (tmp_path / "p.toml").write_text("scale=2")
    with pytest.raises(UsageError, match=r"p\.toml: preprocessing is for uint8 images, and .*data\.npz has none"):
        load(str(npz), [X], tmp_path / "p.toml")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("none.npz", None, r"none\.npz: no such file; expected an existing \.npz or \.npy file, a folder"),
        ("none", None, r"none: no such file"),
        ("images.zip", b"", r"images\.zip: unknown kind of data; expected \.npz, \.npy, a folder of images or"),
        ("text.npz", b"hello", r"text\.npz: not readable \.npz data"),
        ("empty.npy", b"", r"empty\.npy: not readable \.npy data"),
        ("cut.npz", b"PK\x03\x04", r"cut\.npz: not readable \.npz data"),
    ],
)
def test_files_that_are_no_data_are_refused(tmp_path: Path, name: str, content: bytes | None, message: str) -> None:
    """A file that is missing, damaged or of another kind is named."""
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(UsageError, match=message):
        load(str(tmp_path / name), [X])


def test_pickled_objects_are_never_loaded(npz: Path) -> None:
    """A data file cannot run code: arrays of Python objects are refused."""
    np.savez(npz, x=np.array([{}], dtype=object))
    with pytest.raises(UsageError, match=r"not readable"):
        load(str(npz), [X])


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("no_such_module:f", r"no_such_module:f: cannot import 'no_such_module': ModuleNotFoundError"),
        ("wrong_data:g", r"'wrong_data' has no function 'g'"),
        ("wrong_data:number", r"expected dicts of arrays named after the model's inputs, found int"),
        ("wrong_data:nothing", r"found nothing"),
        ("wrong_data:fails", r"failed: ZeroDivisionError: "),
        ("wrong_data:uneven", r"dict 1 has \['y'\], the first has \['x'\]"),
        ("wrong_data:ragged", r"the dicts do not go together"),
    ],
)
def test_functions_that_yield_no_data_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, message: str
) -> None:
    """What the user's function did stands in the message."""
    (tmp_path / "wrong_data.py").write_text(
        "number = lambda: 3\n"
        "nothing = lambda: []\n"
        "fails = lambda: 1 / 0\n"
        "uneven = lambda: [{'x': [1]}, {'y': [1]}]\n"
        "ragged = lambda: [{'x': [[1]]}, {'x': [[1, 2]]}]\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UsageError, match=message):
        load(source, [X])


# Evaluation


def test_top1_counts_rows_whose_largest_value_is_at_the_label() -> None:
    """Two of three, whether the classes lie on one axis or are followed by axes of 1."""
    outputs = np.eye(3)
    assert top1(outputs, np.array([0, 1, 0])) == pytest.approx(2 / 3)
    assert top1(outputs.reshape(3, 3, 1, 1), np.array([0, 1, 0])) == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.array([0, 1]), r"expected 3 class numbers, one for each sample, found shape \(2,\)"),
        (np.array([0.0, 1.0, 2.0]), r"found shape \(3,\) of float64"),
        (np.array([0, 1, 3]), r"expected classes 0 to 2, found 0 to 3"),
    ],
)
def test_labels_that_are_no_classes_are_refused(labels: Array, message: str) -> None:
    """A label is the number of a class that the output has."""
    with pytest.raises(UsageError, match=message):
        top1(np.eye(3), labels)


@pytest.mark.parametrize("output", [np.zeros(5), [{"cat": 0.5}] * 5], ids=["scalars", "dicts"])
def test_an_output_that_is_no_table_of_classes_is_refused(output: Array) -> None:
    """top1 reads samples x classes; for another output the user writes the evaluation."""
    samples = Samples("here", {"x": ramp(5, 4)}, np.zeros(5, dtype=int))
    with pytest.raises(UsageError, match=r"expected a first output of samples x classes, found .* module:function"):
        top1_of(lambda feeds: {"y": output}, samples)


def test_data_without_labels_judge_nothing(npz: Path) -> None:
    """The missing labels are told before the model runs."""
    np.savez(npz, x=ramp(5, 4))
    with pytest.raises(UsageError, match=r"data\.npz: no array 'labels'"):
        evaluation(str(npz), [X])


def test_a_function_judges_by_running_the_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`function(run)` may return a number, which gets the function's name, or a dict of numbers."""
    (tmp_path / "my_judge.py").write_text(
        "import numpy as np\n"
        "def total(run): return run({'x': np.ones((1, 4))})['y'].sum()\n"
        "def both(run): return {'a': 1, 'b': 2.5}\n"
        "def word(run): return 'good'\n"
        "def fails(run): raise KeyError('y')\n"
        "def forwards(run): return run({})\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)

    def run(feeds: object) -> dict[str, Array]:
        if not feeds:
            raise VerificationFailed("from below")
        return {"y": np.full(3, 2.0)}

    assert evaluation("my_judge:total", [X])(run) == {"total": 6.0}
    assert evaluation("my_judge:both", [X])(run) == {"a": 1.0, "b": 2.5}
    with pytest.raises(UsageError, match=r"expected a number or a dict of numbers, found 'good'"):
        evaluation("my_judge:word", [X])(run)
    with pytest.raises(UsageError, match=r"my_judge:fails: failed: KeyError: 'y'"):
        evaluation("my_judge:fails", [X])(run)
    with pytest.raises(OnnxPruneError, match="from below"):
        evaluation("my_judge:forwards", [X])(run)

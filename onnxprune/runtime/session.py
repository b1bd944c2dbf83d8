"""A model loaded into ONNX Runtime: named arrays in, named arrays out, and one kind of failure.

This file and nothing else starts an `onnxruntime.InferenceSession`. The import of onnxruntime (0.1 s or more) happens
when the first session is made, not when this module is read.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from onnxprune.runtime.failure import RunFailed
from onnxprune.runtime.feeds import InputSpec

__all__ = ["CPU", "Array", "Options", "Session", "Value"]

Array: TypeAlias = npt.NDArray[Any]
Value: TypeAlias = Any
"""What an output holds: an array, a list of values (a sequence), a dict (a map), or None (an empty optional)."""

CPU = "CPUExecutionProvider"

_QUIET = 4  # only what is fatal is logged: everything else is in the exception

_NATIVE = {
    "float": "float32",
    "double": "float64",
    "float16": "float16",
    "bool": "bool",
    "string": "object",
    **{name: name for name in ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")},
    "complex64": "complex64",
    "complex128": "complex128",
}
"""Element types that numpy has, as ONNX Runtime names them."""

_EXTENDED = {
    "bfloat16": ("bfloat16", 16),
    "float8e4m3fn": ("float8_e4m3fn", 17),
    "float8e4m3fnuz": ("float8_e4m3fnuz", 18),
    "float8e5m2": ("float8_e5m2", 19),
    "float8e5m2fnuz": ("float8_e5m2fnuz", 20),
}
"""Element types that only ml_dtypes has: its name, and the number that onnx.proto gives the type."""


@dataclass(frozen=True, slots=True)
class Options:
    """How a session is made.

    `threads` is the number of intra-op threads, 0 for ONNX Runtime's choice (all cores). Its threads do not spin while
    they wait, so that a session at rest takes nothing from the one that is being timed. `optimise="off"` runs the
    graph as it is written. `profile_prefix` starts the profiler, whose file is named with that prefix.
    """

    threads: int = 1
    providers: tuple[str, ...] = (CPU,)
    optimise: Literal["all", "off"] = "all"
    profile_prefix: Path | None = None


class Session:
    """A loaded model that runs on named arrays; every failure of the runtime is a `RunFailed` with its own words.

    `model` is the serialized model (under 2 GB) or the path of a file; external data is found beside a path only.
    """

    def __init__(self, model: bytes | str | os.PathLike[str], options: Options | None = None) -> None:
        options = options or Options()
        source = model if isinstance(model, bytes) else os.fspath(model)
        try:
            import onnxruntime

            self._session = onnxruntime.InferenceSession(
                source, _session_options(options), providers=_known(options.providers)
            )
        except Exception as error:
            raise RunFailed(_one_line(error)) from error
        inputs = self._session.get_inputs()
        self.inputs: tuple[InputSpec, ...] = tuple(InputSpec(i.name, _dtype(i.type), tuple(i.shape)) for i in inputs)
        outputs = self._session.get_outputs()
        self.outputs: tuple[str, ...] = tuple(output.name for output in outputs)
        element_types = {_element_type(value.type) for value in (*inputs, *outputs)}
        self._by_ort_values = not element_types.isdisjoint(_EXTENDED)

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Value]:
        """The model's outputs by name, in the model's order."""
        try:
            run = self._run_with_ort_values if self._by_ort_values else self._run_with_arrays
            results = run(feeds)
        except Exception as error:
            raise RunFailed(_one_line(error)) from error
        return dict(zip(self.outputs, results, strict=True))

    def end_profiling(self) -> Path:
        """Stop the profiler and return the JSON file that it wrote."""
        return Path(self._session.end_profiling())

    def _run_with_arrays(self, feeds: Mapping[str, Array]) -> list[Value]:
        return list(self._session.run(None, dict(feeds)))

    def _run_with_ort_values(self, feeds: Mapping[str, Array]) -> list[Value]:
        """The way for element types that numpy lacks: in and out as raw memory with the ONNX type told apart."""
        unknown = feeds.keys() - {spec.name for spec in self.inputs}
        if unknown:
            raise ValueError(f"the model has no input '{min(unknown)}'")
        values = {name: _to_ort_value(array) for name, array in feeds.items()}
        return [_from_ort_value(value) for value in self._session.run_with_ort_values(None, values)]


def _session_options(options: Options) -> Any:
    import onnxruntime

    made = onnxruntime.SessionOptions()
    made.intra_op_num_threads = options.threads
    made.inter_op_num_threads = 1
    made.log_severity_level = _QUIET
    made.add_session_config_entry("session.intra_op.allow_spinning", "0")
    made.add_session_config_entry("session.inter_op.allow_spinning", "0")
    level = onnxruntime.GraphOptimizationLevel
    made.graph_optimization_level = level.ORT_ENABLE_ALL if options.optimise == "all" else level.ORT_DISABLE_ALL
    if options.profile_prefix is not None:
        made.enable_profiling = True
        made.profile_file_prefix = os.fspath(options.profile_prefix)
    return made


def _known(providers: tuple[str, ...]) -> list[str]:
    """The providers asked for; one that this build lacks is an error, not a silent fall-back to the processor."""
    import onnxruntime

    available = onnxruntime.get_available_providers()
    for name in providers:
        if name not in available:
            raise ValueError(f"this ONNX Runtime has no provider '{name}'; it has {', '.join(available)}")
    return list(providers)


def _element_type(type_name: str) -> str:
    """`float16` from `seq(tensor(float16))`: the innermost name."""
    return type_name.rpartition("(")[2].rstrip(")")


def _dtype(type_name: str) -> np.dtype[Any]:
    element = _element_type(type_name)
    if element in _NATIVE:
        return np.dtype(_NATIVE[element])
    try:
        import ml_dtypes

        # the 4-bit types have the same name there and here
        dtype: np.dtype[Any] = np.dtype(getattr(ml_dtypes, _EXTENDED[element][0] if element in _EXTENDED else element))
    except (ImportError, AttributeError, TypeError) as error:
        raise RunFailed(f"inputs of type {type_name} have no numpy dtype here; ml_dtypes may add it") from error
    return dtype


def _to_ort_value(array: Array) -> Any:
    from onnxruntime import OrtValue

    for name, number in _EXTENDED.values():
        if array.dtype.name == name:
            raw = np.ascontiguousarray(array).view(np.int16 if array.dtype.itemsize == 2 else np.uint8)
            return OrtValue.ortvalue_from_numpy_with_onnx_type(raw, number)
    return OrtValue.ortvalue_from_numpy(array)


def _from_ort_value(value: Any) -> Value:
    element = _element_type(value.data_type())
    if element not in _EXTENDED:
        return value.numpy()
    dtype, shape = _dtype(value.data_type()), tuple(value.shape())
    raw = ctypes.string_at(value.data_ptr(), int(np.prod(shape, dtype=np.int64)) * dtype.itemsize)
    return np.frombuffer(raw, dtype=dtype).reshape(shape).copy()


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__

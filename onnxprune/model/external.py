"""Tensors that a model stores in files beside it: checked, mapped, and written back beside the new file.

A model file is untrusted: a location that is absolute or leaves the model's folder is refused.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt
from onnx import ModelProto, TensorProto, external_data_helper, helper, numpy_helper

from onnxprune.errors import ModelReadError, OutputNotWritten

__all__ = ["check", "inline", "length", "location", "read", "save", "values"]

ALIGNMENT = 4096  # bytes; lets a runtime map a tensor straight from the file
PROTO_LIMIT = 2**31 - 1  # bytes that one protobuf message may have
SMALL = 1024  # bytes; a smaller tensor stays inside the model file


def _entries(tensor: TensorProto) -> dict[str, str]:
    return {entry.key: entry.value for entry in tensor.external_data}


def location(tensor: TensorProto) -> str:
    """The file that `tensor` is stored in, relative to the model's folder."""
    return _entries(tensor).get("location", "")


def length(tensor: TensorProto) -> int:
    """Bytes that `tensor` occupies outside the model file."""
    if tensor.data_location != TensorProto.EXTERNAL:
        return 0
    stated = _entries(tensor).get("length")
    if stated:
        return int(stated)
    return (
        int(np.prod(tensor.dims, dtype=np.int64)) * np.dtype(helper.tensor_dtype_to_np_dtype(tensor.data_type)).itemsize
    )


def _path(tensor: TensorProto, folder: Path | None, source: str) -> Path:
    location = _entries(tensor).get("location", "")
    if folder is None:
        raise ModelReadError(
            f"{source!r}: tensor {tensor.name!r} is stored in {location!r}, and the model was not read from a file: "
            "pass the path of the model instead"
        )
    root = folder.resolve()
    path = (root / location).resolve()
    if not location or Path(location).is_absolute() or root not in path.parents:
        raise ModelReadError(
            f"{source!r}: tensor {tensor.name!r} points to {location!r}, outside the model's folder: refused"
        )
    return path


def check(tensor: TensorProto, folder: Path | None, source: str) -> None:
    """The data of `tensor` lies inside the model's folder and is long enough."""
    path = _path(tensor, folder, source)
    try:
        size = path.stat().st_size
    except OSError as error:
        raise ModelReadError(
            f"{source!r}: tensor {tensor.name!r} is stored in {_entries(tensor)['location']!r}, which cannot be read: "
            f"{error.strerror}. Put that file beside the model"
        ) from error
    end = int(_entries(tensor).get("offset") or 0) + length(tensor)
    if size < end:
        raise ModelReadError(
            f"{source!r}: tensor {tensor.name!r} ends at byte {end:,} of {path.name!r}, which has {size:,}: "
            "the data file is cut short or belongs to another model"
        )


def read(tensor: TensorProto, folder: Path | None) -> npt.NDArray[Any]:
    """The values of an external tensor: a read-only map of its file where the element type allows."""
    path = _path(tensor, folder, tensor.name)
    dtype = np.dtype(helper.tensor_dtype_to_np_dtype(tensor.data_type))
    offset = int(_entries(tensor).get("offset") or 0)
    size = int(np.prod(tensor.dims, dtype=np.int64))
    if size and length(tensor) == size * dtype.itemsize:
        return np.memmap(path, dtype=dtype, mode="r", offset=offset, shape=tuple(tensor.dims))
    loaded = TensorProto()  # sub-byte element types are packed
    loaded.CopyFrom(tensor)
    external_data_helper.load_external_data_for_tensor(loaded, str(path.parent))
    return numpy_helper.to_array(loaded)


def inline(tensor: TensorProto, array: npt.NDArray[Any]) -> None:
    """Move the values of an external tensor into the message itself."""
    plain = numpy_helper.from_array(np.asarray(array, order="C"), tensor.name)
    tensor.ClearField("external_data")
    tensor.ClearField("data_location")
    tensor.raw_data = plain.raw_data


def values(tensor: TensorProto, folder: Path | None) -> npt.NDArray[Any]:
    """The values of a tensor, wherever it is stored."""
    if tensor.data_location == TensorProto.EXTERNAL:
        return read(tensor, folder)
    return numpy_helper.to_array(tensor)


def save(frame: ModelProto, tensors: Mapping[str, TensorProto], folder: Path | None, path: Path) -> None:
    """Write a model to `path` (and `<name>.data` for what lies outside), completely or not at all."""
    outside = any(t.data_location == TensorProto.EXTERNAL for t in tensors.values())
    spill = outside or frame.ByteSize() + sum(t.ByteSize() for t in tensors.values()) > PROTO_LIMIT
    data_path = path.with_name(path.name + ".data")
    made: list[tuple[Path, Path]] = []
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _temporary(path, made) as file:
            if spill:
                with _temporary(data_path, made) as data:
                    proto = _spilled(frame, tensors, folder, data, data_path.name)
            else:
                proto = ModelProto()
                proto.CopyFrom(frame)
                proto.graph.initializer.extend(tensors.values())
            file.write(proto.SerializeToString())
        for temporary, final in reversed(made):
            os.replace(temporary, final)
    except OSError as error:
        raise OutputNotWritten(
            f"cannot write {str(path)!r}: {error.strerror or error}. The input is untouched; choose another output path"
        ) from error
    finally:
        for temporary, _ in made:
            temporary.unlink(missing_ok=True)


def _temporary(path: Path, made: list[tuple[Path, Path]]) -> IO[bytes]:
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    made.append((Path(name), path))
    umask = os.umask(0)
    os.umask(umask)
    os.chmod(name, 0o666 & ~umask)
    return os.fdopen(handle, "wb")


def _spilled(
    frame: ModelProto, tensors: Mapping[str, TensorProto], folder: Path | None, data: IO[bytes], location: str
) -> ModelProto:
    """The model with every tensor that was (or must be) outside written to `data`, one at a time."""
    proto = ModelProto()
    proto.CopyFrom(frame)
    everything = not any(t.data_location == TensorProto.EXTERNAL for t in tensors.values())
    for tensor in tensors.values():
        written = proto.graph.initializer.add()
        if tensor.data_location != TensorProto.EXTERNAL and not (everything and len(tensor.raw_data) >= SMALL):
            written.CopyFrom(tensor)
            continue
        array = np.asarray(values(tensor, folder), order="C")
        raw = numpy_helper.from_array(array).raw_data
        data.write(b"\0" * (-data.tell() % ALIGNMENT))
        start = data.tell()
        data.write(raw)
        written.name, written.data_type, written.doc_string = tensor.name, tensor.data_type, tensor.doc_string
        written.dims.extend(array.shape)
        written.data_location = TensorProto.EXTERNAL
        for key, value in (("location", location), ("offset", str(start)), ("length", str(len(raw)))):
            written.external_data.add(key=key, value=value)
    return proto

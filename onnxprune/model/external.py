"""Tensors that a model stores in files beside it: checked, mapped, and written back beside the new file.

A model file is untrusted: a location that is absolute or leaves the model's folder is refused.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping, Set
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt
from onnx import GraphProto, ModelProto, TensorProto, external_data_helper, helper, numpy_helper

from onnxprune.errors import ModelReadError, OutputNotWritten

__all__ = ["attribute_tensors", "check", "inline", "length", "location", "read", "save", "values"]

ALIGNMENT = 4096  # bytes; lets a runtime map a tensor straight from the file
PROTO_LIMIT = 2**31 - 1  # bytes that one protobuf message may have
PACKED = {4: ("INT4", "UINT4", "FLOAT4E2M1"), 2: ("INT2", "UINT2")}  # element types by bits
SMALL = 1024  # bytes; a smaller tensor stays inside the model file


def attribute_tensors(graph: GraphProto) -> Iterator[TensorProto]:
    """Every tensor that the nodes of a graph hold, those of their subgraphs included."""
    for node in graph.node:
        for attribute in node.attribute:
            yield from (attribute.t, *attribute.tensors) if attribute.HasField("t") else attribute.tensors
            for inner in (attribute.g, *attribute.graphs) if attribute.HasField("g") else attribute.graphs:
                yield from inner.initializer
                yield from attribute_tensors(inner)


def _entries(tensor: TensorProto) -> dict[str, str]:
    return {entry.key: entry.value for entry in tensor.external_data}


def _is_outside(tensor: TensorProto) -> bool:
    return bool(tensor.data_location == TensorProto.EXTERNAL)


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
    return _bytes(tensor)


def _bytes(tensor: TensorProto) -> int:
    """Bytes that the values of `tensor` take where they are stored; types below a byte are packed."""
    elements = int(np.prod(tensor.dims, dtype=np.int64))
    kind = TensorProto.DataType.Name(tensor.data_type)
    bits = next((b for b in (2, 4) if kind in PACKED[b]), None)
    if bits is not None:
        return -(-elements * bits // 8)
    return elements * np.dtype(helper.tensor_dtype_to_np_dtype(tensor.data_type)).itemsize


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
    entries = _entries(tensor)
    numbers = [entries.get(key) or "0" for key in ("offset", "length")]
    if not all(number.isdecimal() for number in numbers):
        raise ModelReadError(
            f"{source!r}: tensor {tensor.name!r} is stored at offset {numbers[0]!r} with length {numbers[1]!r}: "
            "expected two whole numbers"
        )
    wanted = _bytes(tensor)
    if entries.get("length") and int(numbers[1]) != wanted:
        raise ModelReadError(
            f"{source!r}: tensor {tensor.name!r} of shape {tuple(tensor.dims)} is stored in {int(numbers[1]):,} bytes, "
            f"expected {wanted:,}"
        )
    end = int(numbers[0]) + length(tensor)
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


def save(
    frame: ModelProto, tensors: Mapping[str, TensorProto], outside: Set[str], folder: Path | None, path: Path
) -> None:
    """Write a model to `path` (and `<name>.data` for what lies outside), completely or not at all.

    Outside lies what is named in `outside` or was never read in; and all but the smallest, where the file would
    otherwise be larger than a protobuf message may be.
    """
    spilled = {name for name, t in tensors.items() if name in outside or _is_outside(t)}
    inside = frame.ByteSize() + sum(t.ByteSize() for name, t in tensors.items() if name not in spilled)
    if inside > PROTO_LIMIT:
        spilled |= {name for name, tensor in tensors.items() if len(tensor.raw_data) >= SMALL}
    data_path = path.with_name(path.name + ".data")
    made: list[tuple[Path, Path]] = []
    renamed: list[Path] = []
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _temporary(path, made) as file:
            if spilled or any(map(_is_outside, attribute_tensors(frame.graph))):
                with _temporary(data_path, made) as data:
                    proto = _spilled(frame, tensors, spilled, folder, data, data_path.name)
            else:
                proto = ModelProto()
                proto.CopyFrom(frame)
                proto.graph.initializer.extend(tensors.values())
            file.write(proto.SerializeToString())
        for temporary, final in reversed(made):
            os.replace(temporary, final)
            renamed.append(final)
        renamed.clear()
    except OSError as error:
        raise OutputNotWritten(
            f"cannot write {str(path)!r}: {error.strerror or error}. The input is untouched; choose another output path"
        ) from error
    finally:
        for leftover in (*(temporary for temporary, _ in made), *renamed):
            leftover.unlink(missing_ok=True)


def _temporary(path: Path, made: list[tuple[Path, Path]]) -> IO[bytes]:
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    made.append((Path(name), path))
    umask = os.umask(0)
    os.umask(umask)
    os.chmod(name, 0o666 & ~umask)
    return os.fdopen(handle, "wb")


def _spilled(
    frame: ModelProto,
    tensors: Mapping[str, TensorProto],
    spilled: Set[str],
    folder: Path | None,
    data: IO[bytes],
    location: str,
) -> ModelProto:
    """The model with every tensor that is named, or that a node holds outside, written to `data`, one at a time."""
    proto = ModelProto()
    proto.CopyFrom(frame)
    work = [(tensor, tensor) for tensor in attribute_tensors(proto.graph) if _is_outside(tensor)]
    for name, tensor in tensors.items():
        written = proto.graph.initializer.add()
        if name in spilled:  # copied field by field: its bytes may be most of the memory there is
            written.name, written.data_type, written.doc_string = tensor.name, tensor.data_type, tensor.doc_string
            written.dims.extend(tensor.dims)
            work.append((tensor, written))
        else:
            written.CopyFrom(tensor)
    for tensor, written in work:
        array = np.asarray(values(tensor, folder), order="C")
        raw = numpy_helper.from_array(array).raw_data
        data.write(b"\0" * (-data.tell() % ALIGNMENT))
        start = data.tell()
        data.write(raw)
        del written.external_data[:]
        written.data_location = TensorProto.EXTERNAL
        for key, value in (("location", location), ("offset", str(start)), ("length", str(len(raw)))):
            written.external_data.add(key=key, value=value)
    return proto

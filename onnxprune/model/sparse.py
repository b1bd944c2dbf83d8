"""Sparse constants: what they hold, and a sparse constant that holds other values. What was sparse stays sparse."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import SparseTensorProto, TensorProto, numpy_helper

__all__ = ["dense", "sparse"]

Array = npt.NDArray[Any]


def dense(stored: SparseTensorProto) -> Array:
    """The values of a sparse constant, zeros included."""
    values, indices = numpy_helper.to_array(stored.values), numpy_helper.to_array(stored.indices)
    array = np.zeros(tuple(stored.dims), values.dtype)
    if indices.ndim == 2:  # one row of coordinates for each value
        array[tuple(indices.T)] = values
    else:
        array.reshape(-1)[indices] = values
    return array


def sparse(array: Array, like: SparseTensorProto) -> SparseTensorProto:
    """`array` as a sparse constant, its indices written as those of `like`."""
    places = np.flatnonzero(array)
    values = numpy_helper.from_array(np.asarray(array).reshape(-1)[places], like.values.name)
    rows = len(like.indices.dims) == 2
    where = np.stack(np.unravel_index(places, array.shape), axis=1) if rows else places
    indices: TensorProto = numpy_helper.from_array(where.astype(np.int64), like.indices.name)
    return SparseTensorProto(values=values, indices=indices, dims=array.shape)

"""CHIP: an index is important if its feature maps cannot be made up of those of the others."""

from __future__ import annotations

import numpy as np

from onnxprune.criteria.activations import Activation, judged, maps
from onnxprune.criteria.criterion import Criterion, Sites
from onnxprune.criteria.evidence import Evidence
from onnxprune.dimensions import Vector
from onnxprune.model import Array

__all__ = ["CHIP", "chip", "independence"]

_NODES = np.exp(np.arange(-20, 20, 0.4))  # where the integral is evaluated, in units of the largest singular value

_NEGLIGIBLE = 1e-14  # of the largest s^2: below, it is rounding


def chip(evidence: Evidence) -> Sites:
    """How much the nuclear norm of all maps falls when one is zeroed: Sui et al., CHIP, NeurIPS 2021.

    (arXiv 2110.13981.) The maps of a sample are the rows of a matrix, indices x positions; the mean over samples
    counts. Where an index has one number for each sample, samples take the place of positions. Of indices that go
    together, the mean counts.
    """

    def along(activation: Activation) -> Vector | None:
        if not evidence.statistics.has(activation.maps):
            return None
        values = evidence.statistics.maps(activation.tensor, activation.axis, activation.maps.samples)
        stacked = [values.T] if values.ndim == 2 else [sample.reshape(len(sample), -1) for sample in values]
        return np.asarray(np.mean([independence(matrix) for matrix in stacked], axis=0))

    return judged(evidence, along)


def independence(matrix: Array) -> Vector:
    """For every row a of A, |A|_* - |A without a|_*, float64 (rows,), from one decomposition.

    With A = U S V', det(x + A'A - aa') = det(x + A'A) (1 - a'(x + A'A)^-1 a), and sqrt(e) is an integral over
    e / (e + x). Together, and with x = t^2, the fall of the nuclear norm is

        1/pi * integral from 0 to infinity of -log(1 - sum_j u_j^2 s_j^2 / (s_j^2 + t^2)) dt

    for row u of U. Over log t the trapezoidal rule converges exponentially, so that all rows cost one matrix product
    instead of one decomposition each.
    """
    matrix = matrix.astype(np.float64)
    wide = matrix.shape[0] <= matrix.shape[1]
    energies, vectors = np.linalg.eigh(matrix @ matrix.T if wide else matrix.T @ matrix)  # s^2, and U or V
    if energies[-1] <= 0:
        return np.zeros(len(matrix))
    known = energies > _NEGLIGIBLE * energies[-1]
    energies, vectors = energies[known], vectors[:, known]
    squares = np.square(vectors if wide else matrix @ vectors / np.sqrt(energies))
    times = np.sqrt(energies[-1]) * _NODES
    rest = np.maximum(1 - squares.sum(axis=1), 0)  # what U does not span
    parts = np.square(times) / (energies[:, None] + np.square(times))
    within = np.clip(squares @ parts + rest[:, None], 1e-300, 1)  # 1 - sum, without taking a difference
    return np.asarray(-np.log(within) @ times * np.log(_NODES[1] / _NODES[0]) / np.pi)


CHIP = Criterion(
    "chip", "how much the nuclear norm of all maps falls without one: NeurIPS 2021 (arXiv 2110.13981)", chip, maps,
    "samples",
)  # fmt: skip

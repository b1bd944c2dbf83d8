"""Pictures of nothing: what is drawn has what natural signals have in common, and shows nothing.

Half of them are noise whose amplitude falls with frequency (Field, 1987: natural images go by 1/f), so that neighbours
are alike at all scales; half are cells of one value each, as a scene is made of surfaces, under a little of such noise.
Networks learn from such processes what they would from photographs, nearly (Baradad et al., Learning to See by Looking
at Noise, NeurIPS 2021, arXiv 2106.05963). Channels share most of what they show, as colours do.
"""

from __future__ import annotations

from math import prod
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

__all__ = ["pictures"]

Array: TypeAlias = npt.NDArray[Any]
FALL = 1.2  # amplitude is 1 / frequency to this power; a little above that of photographs
OWN = 0.3  # what each channel has of its own, beside 1 of what all share
LEVEL = 0.7  # how far the mean of a picture is from that of all
GRAIN = 0.3  # of noise on cells
CELLS = (2, 64)  # in a picture, at least and at most


def pictures(count: int, channels: int, sizes: tuple[int, ...], generator: np.random.Generator) -> Array:
    """float64 of shape (count, channels, *sizes), of mean about 0 and variance 1; one axis of `sizes` is a signal."""
    half = count // 2
    clouds = _clouds(count, channels, sizes, generator)
    made = np.concatenate([clouds[:half], _cells(count - half, channels, sizes, generator) + GRAIN * clouds[half:]])
    for part in (made[:half], made[half:]):
        part /= max(float(part.std()), 1e-9)
    return np.asarray(made[generator.permutation(count)])


def _clouds(count: int, channels: int, sizes: tuple[int, ...], generator: np.random.Generator) -> Array:
    axes = tuple(range(2, 2 + len(sizes)))
    steps = np.meshgrid(*(np.fft.fftfreq(size) for size in sizes), indexing="ij")
    frequency = np.sqrt(sum(np.square(step) for step in steps))
    frequency = np.maximum(frequency, 1 / max(sizes, default=1))
    white = np.fft.fftn(generator.standard_normal((count, channels + 1, *sizes)), axes=axes)
    found = np.fft.ifftn(white / frequency**FALL, axes=axes).real
    found /= np.maximum(found.std(axis=axes, keepdims=True), 1e-9)
    found += LEVEL * generator.standard_normal((count, channels + 1, *[1] * len(sizes)))
    mixed = found[:, :1] + OWN * found[:, 1:]
    return np.asarray(mixed / max(float(mixed.std()), 1e-9))


def _cells(count: int, channels: int, sizes: tuple[int, ...], generator: np.random.Generator) -> Array:
    places = np.stack(np.meshgrid(*map(np.arange, sizes), indexing="ij"), axis=-1).reshape(prod(sizes), -1)
    found = np.empty((count, channels, prod(sizes)))
    for picture in found:
        cells = round(np.exp(generator.uniform(*np.log(CELLS))))
        centres = generator.random((cells, places.shape[1])) * np.asarray(sizes)
        nearest, least = np.zeros(len(places), np.intp), np.full(len(places), np.inf)
        for cell, centre in enumerate(centres):
            far = np.square(places - centre).sum(axis=1)
            nearest[far < least] = cell
            least = np.minimum(least, far)
        colours = generator.standard_normal((1, cells)) + OWN * generator.standard_normal((channels, cells))
        picture[:] = colours[:, nearest]
    return found.reshape(count, channels, *sizes)

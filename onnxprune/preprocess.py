"""Images as they are stored become tensors as the model wants them: what a `data.toml` says.

    layout = "NCHW"                  # what the model wants: "NHWC" (default, as stored) or "NCHW"
    channels = "BGR"                 # reverse the last axis: "RGB" (default, as stored) or "BGR"; "L" for grey images
    scale = "1/255"                  # a number or a fraction in quotes, default 1
    mean = [0.485, 0.456, 0.406]     # a number or one for each channel, in the model's channel order, default 0
    std = [0.229, 0.224, 0.225]      # likewise, default 1

and, for files of images (arrays have their size already),

    size = 256                       # resize: the shorter side, or [height, width]
    crop = 224                       # then cut out of the middle: a square, or [height, width]
    resample = "bilinear"            # how to resize: "nearest", "bilinear" (default), "bicubic" or "lanczos"

The result is `(x * scale - mean) / std`. It is computed in float64 for each of the 256 values of each channel and
rounded once, so it is the same on every machine.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import numpy.typing as npt

from onnxprune.errors import UsageError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = ["Preprocess"]

KEYS = ("layout", "channels", "scale", "mean", "std", "size", "crop", "resample")


@dataclass(frozen=True)
class Preprocess:
    """`(x * scale - mean) / std` of uint8 images, in the layout and channel order that the model wants.

    `scale` multiplies pixel values (0 to 255); `mean` and `std` are in scaled units, one for all channels or one each.
    """

    layout: str = "NHWC"
    channels: str = "RGB"
    scale: float = 1.0
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    size: tuple[int, ...] = ()
    crop: tuple[int, ...] = ()
    resample: str = "bilinear"

    @classmethod
    def load(cls, path: Path) -> Preprocess:
        """The preprocessing that the TOML file `path` describes; UsageError names the key that is wrong."""
        try:
            table = tomllib.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise UsageError(f"{path}: cannot read the preprocessing file: {error.strerror or error}") from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise UsageError(f"{path}: not a TOML file: {error}") from error
        return cls.from_table(table, str(path))

    @classmethod
    def from_table(cls, table: Mapping[str, object], where: str) -> Preprocess:
        """The preprocessing that `table` describes; `where` is its name in errors."""
        unknown = sorted(table.keys() - set(KEYS))
        if unknown:
            raise UsageError(f"{where}: unknown key '{unknown[0]}'; known keys are {', '.join(KEYS)}")
        std = _numbers(table.get("std", 1.0), "std", where)
        if 0.0 in std:
            raise UsageError(f"{where}: std is {list(std)}: expected no zero, as values are divided by it")
        return cls(
            layout=_choice(table.get("layout", "NHWC"), ("NHWC", "NCHW"), "layout", where),
            channels=_choice(table.get("channels", "RGB"), ("RGB", "BGR", "L"), "channels", where),
            scale=_number(table.get("scale", 1.0), "scale", where),
            mean=_numbers(table.get("mean", 0.0), "mean", where),
            std=std,
            size=_lengths(table.get("size"), "size", where),
            crop=_lengths(table.get("crop"), "crop", where),
            resample=_choice(
                table.get("resample", "bilinear"), ("nearest", "bilinear", "bicubic", "lanczos"), "resample", where
            ),
        )

    def resized(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of an image after `size`; with one number, its proportions stay."""
        if len(self.size) == 2:
            return self.size[0], self.size[1]
        if not self.size:
            return height, width
        short = min(height, width)
        return height * self.size[0] // short, width * self.size[0] // short

    def cropped(self, height: int, width: int) -> tuple[int, int, int, int]:
        """Top, left, height and width of what `crop` cuts out of the middle of an image."""
        if not self.crop:
            return 0, 0, height, width
        high, wide = self.crop[0], self.crop[-1]
        return round((height - high) / 2), round((width - wide) / 2), high, wide

    def __call__(self, images: npt.NDArray[np.uint8], dtype: np.dtype[np.generic]) -> npt.NDArray[np.generic]:
        """`images` (samples x height x width x channels, uint8) as `dtype`, in `self.layout`.

        ValueError: not four axes, or values of mean or std that do not match the number of channels.
        """
        if images.ndim != 4:
            raise ValueError(f"expected images, samples x height x width x channels, found shape {images.shape}")
        count = images.shape[-1]
        for name, values in (("mean", self.mean), ("std", self.std)):
            if len(values) not in (1, count):
                raise ValueError(f"{name} in the preprocessing has {len(values)} values, the images {count} channels")
        ordered = images[..., ::-1] if self.channels == "BGR" else images
        levels = np.arange(256, dtype=np.float64)[:, None] * self.scale
        table = np.broadcast_to((levels - np.array(self.mean)) / np.array(self.std), (256, count)).astype(dtype)
        channels = [table[ordered[..., c], c] for c in range(count)]
        return np.stack(channels, axis=1 if self.layout == "NCHW" else -1)


def _choice(value: object, choices: tuple[str, ...], key: str, where: str) -> str:
    if value not in choices:
        raise UsageError(f"{where}: {key} is {value!r}; expected one of {', '.join(choices)}")
    return str(value)


def _lengths(value: object, key: str, where: str) -> tuple[int, ...]:
    """One or two positive whole numbers; none where nothing is said."""
    if value is None:
        return ()
    values = value if isinstance(value, list) else [value]
    if len(values) not in (1, 2) or not all(type(n) is int and n > 0 for n in values):
        raise UsageError(f"{where}: {key} is {value!r}; expected a number of pixels, or [height, width]")
    return tuple(values)


def _number(value: object, key: str, where: str) -> float:
    if isinstance(value, (int, float, str)) and not isinstance(value, bool):
        try:
            number = float(Fraction(value))
        except (ValueError, ZeroDivisionError, OverflowError):
            pass  # nan, inf, 1/0 and plain words are told below, like any other value
        else:
            return number
    raise UsageError(f'{where}: {key} is {value!r}; expected a finite number or a fraction such as "1/255"')


def _numbers(value: object, key: str, where: str) -> tuple[float, ...]:
    values = value if isinstance(value, list) else [value]
    if not values:
        raise UsageError(f"{where}: {key} is empty; expected one number, or one for each channel")
    return tuple(_number(item, key, where) for item in values)

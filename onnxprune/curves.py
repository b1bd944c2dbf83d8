"""What a model loses when one group alone loses indices: a value for each group, to show and to store."""

from __future__ import annotations

import csv
import io
from dataclasses import asdict, dataclass

from onnxprune.jsontext import json_text

__all__ = ["PASSES", "SCHEMA_VERSION", "GroupCurve", "Point", "Sensitivity"]

SCHEMA_VERSION = 1
PASSES = ("analyse", "calibrate", "select", "score")
"""The passes whose options a curve depends on."""


@dataclass(frozen=True, slots=True)
class Point:
    """For the fraction `asked`, `kept` indices stay, so `removed` of them are gone, and the model loses `loss`."""

    asked: float
    removed: float
    kept: int
    loss: float


@dataclass(frozen=True, slots=True)
class GroupCurve:
    """One group of `size` indices; its points ascend in what is removed."""

    name: str
    kind: str
    size: int
    points: tuple[Point, ...]

    @property
    def mean(self) -> float:
        """The mean loss over what was tried: how sensitive the group is."""
        return sum(point.loss for point in self.points) / len(self.points) if self.points else 0.0


@dataclass(frozen=True)
class Sensitivity:
    """The curves of all groups, in the order of the model.

    `measure` says what a loss is: `KL` and `relative` are divergences of the outputs on `samples` samples of `of` (see
    `onnxprune.divergence`), `drop of NAME` is that of a metric on `of` (then `samples` is 0). Which indices go is
    chosen by `criterion`.
    """

    model: str
    measure: str
    of: str
    samples: int
    criterion: str
    ratios: tuple[float, ...]
    groups: tuple[GroupCurve, ...]
    notes: tuple[str, ...] = ()

    def ranked(self) -> list[GroupCurve]:
        """The groups, from the most to the least sensitive."""
        return sorted(self.groups, key=lambda group: -group.mean)

    def to_json(self) -> str:
        """The curves as JSON."""
        return json_text({"schema_version": SCHEMA_VERSION, **asdict(self)})

    def to_csv(self) -> str:
        """One row for each point of each curve."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(("group", "kind", "size", "kept", "removed", "loss"))
        for group in self.groups:
            writer.writerows((group.name, group.kind, group.size, p.kept, p.removed, p.loss) for p in group.points)
        return text.getvalue()

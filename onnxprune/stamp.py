"""What a pruned model carries of how it was made, so that anyone can prove it again: its plan, its origin.

It lies in `metadata_props` under `onnxprune`, as JSON: for each group that was cut, its place and its keep mask (bits,
first index first, in hex). A place is where in the weights a group is first met, `weight[axis]+offset`: the names of
groups are for readers, and may read better in a later version. Then, where there are any, the kinds of fixed dimensions
that were open, whether nodes without a rule were probed, and the residual branches that were dropped; of masked
weights, the granularity and how many numbers are not zero; and whether weights were repaired.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from onnxprune.branches import Branch, branches_of
from onnxprune.dependency import Analysis, Group
from onnxprune.dimensions import Mask, keep_mask
from onnxprune.errors import UsageError, VerificationFailed
from onnxprune.model import Model
from onnxprune.plan import Plan

__all__ = ["KEY", "check_origin", "dropped_of", "plan_of", "read", "stamped"]

KEY = "onnxprune"
FORMAT = 1


def stamped(
    model: Model,
    analysis: Analysis,
    plan: Plan,
    dropped: Sequence[str] = (),
    *,
    original: Model | None = None,
    masks: Mapping[str, tuple[str, int]] | None = None,
    repaired: bool = False,
) -> Model:
    """`model` with the stamp of how it was made from the analysed one; `dropped` names Adds that lost a branch.

    Where weights were masked or repaired first, `masks` says by weight how, and `original` is the model before that.
    """
    kept = {
        place_of(group): np.packbits(plan.keep[group.atom.id]).tobytes().hex()
        for group in analysis.groups
        if group.atom.id in plan.keep
    }
    stamp: dict[str, Any] = {
        "format": FORMAT,
        "original": (original or analysis.model).digest,
        "sizes": dict(analysis.shapes.sizes),
        "keep": kept,
    }
    if analysis.allow:
        stamp["allow"] = sorted(analysis.allow)
    if analysis.prober is not None:
        stamp["probe"] = True
    if dropped:
        stamp["dropped"] = list(dropped)
    if repaired:
        stamp["repaired"] = True
    if masks:
        stamp["masks"] = {name: list(mask) for name, mask in masks.items()}
    return model.with_metadata({KEY: json.dumps(stamp)})


def place_of(group: Group) -> str:
    """Where in the weights the group's first index is first met."""
    site = group.sites[0]
    first = np.arange(group.size) != 0
    offset = int(np.argmin(keep_mask(site.dim, {group.atom.id: first})))
    return f"{site.tensor}[{site.axis}]+{offset}"


def read(model: Model) -> Mapping[str, Any]:
    """The stamp of a pruned model; `UsageError` where it has none that we can read."""
    text = model.metadata.get(KEY)
    if text is None:
        raise UsageError(
            f"{model.source!r} does not say how it was pruned (no {KEY!r} in its metadata): it was not written by "
            "onnxprune, or a later tool removed its metadata"
        )
    damaged = f"{model.source!r}: its {KEY!r} metadata is damaged, so it does not say how it was pruned"
    try:
        stamp = json.loads(text)
    except json.JSONDecodeError as error:
        raise UsageError(f"{damaged}: {error}") from error
    if not isinstance(stamp, dict) or "format" not in stamp:
        raise UsageError(f"{damaged}: expected an object with a format, found {text[:40]!r}")
    if stamp["format"] != FORMAT:
        raise UsageError(
            f"{model.source!r}: its {KEY!r} metadata is of format {stamp['format']!r}, this version reads {FORMAT}: "
            "use the version of onnxprune that wrote it"
        )
    sizes, keep = stamp.get("sizes"), stamp.get("keep")
    if (
        not isinstance(stamp.get("original"), str)
        or not isinstance(sizes, dict)
        or not all(isinstance(size, int) and size > 0 for size in sizes.values())
        or not isinstance(keep, dict)
        or not all(isinstance(bits, str) for bits in keep.values())
        or not all(isinstance(stamp.setdefault(key, []), list) for key in ("allow", "dropped"))
        or not all(isinstance(stamp.setdefault(key, False), bool) for key in ("probe", "repaired"))
        or not isinstance(stamp.setdefault("masks", {}), dict)
        or not all(isinstance(m, list) and [type(part) for part in m] == [str, int] for m in stamp["masks"].values())
    ):
        raise UsageError(f"{damaged}: expected the digest of the original, sizes and keep masks")
    return stamp


def check_origin(model: Model, original: Model) -> None:
    """`original` is what the stamp of `model` says that it was made from; `VerificationFailed` if not."""
    digest = read(model)["original"]
    if digest != original.digest:
        raise VerificationFailed(
            f"{model.source!r} was not made from {original.source!r}, or that was changed since: the digest of its "
            f"original is {digest[:16]}..., this one's is {original.digest[:16]}..."
        )


def dropped_of(model: Model, analysis: Analysis) -> list[Branch]:
    """The branches that the stamp of `model` says were dropped; `VerificationFailed` for one that there is not."""
    branches = {analysis.model.nodes[branch.node].name: branch for branch in branches_of(analysis)}
    stated = read(model)["dropped"]
    for name in stated:
        if name not in branches:
            raise VerificationFailed(f"{model.source!r} states a dropped branch into {name!r}, where there is none")
    return [branches[name] for name in stated]


def plan_of(model: Model, analysis: Analysis) -> Plan:
    """The plan that the stamp of `model` states, for the analysed original.

    Errors: `VerificationFailed` where the original is another model than the one that was pruned.
    """
    stamp = read(model)
    check_origin(model, analysis.model)
    groups = {place_of(group): group for group in analysis.groups}
    keep = {}
    for place, text in stamp["keep"].items():
        group = groups.get(place)
        if group is None:
            raise VerificationFailed(
                f"{model.source!r} states a cut at {place!r}, which this version of onnxprune does not find as a group "
                "of the original: use the version that wrote it"
            )
        keep[group.atom.id] = _mask(model, place, text, group.size)
    return Plan.of(analysis.groups, keep)


def _mask(model: Model, place: str, text: str, size: int) -> Mask:
    try:
        bits = np.unpackbits(np.frombuffer(bytes.fromhex(text), dtype=np.uint8))
    except ValueError:
        bits = np.zeros(0, dtype=np.uint8)
    if not size <= bits.size < size + 8:
        raise UsageError(
            f"{model.source!r}: its {KEY!r} metadata is damaged: the mask at {place!r} is not one of {size} bits"
        )
    return bits[:size].astype(np.bool_)

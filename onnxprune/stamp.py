"""What a pruned model carries of how it was made, so that anyone can prove it again: its plan, its origin.

It lies in `metadata_props` under `onnxprune`, as JSON: for each group that was cut, its name and its keep mask (bits,
first index first, in hex).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from onnxprune.dependency import Analysis
from onnxprune.errors import UsageError, VerificationFailed
from onnxprune.model import Model
from onnxprune.plan import Plan

__all__ = ["KEY", "plan_of", "stamped"]

KEY = "onnxprune"
FORMAT = 1


def stamped(model: Model, analysis: Analysis, plan: Plan) -> Model:
    """`model` with the stamp of the plan that made it from the analysed one."""
    kept = {
        group.name: np.packbits(plan.keep[group.atom.id]).tobytes().hex()
        for group in analysis.groups
        if group.atom.id in plan.keep
    }
    stamp = {"format": FORMAT, "original": analysis.model.digest, "sizes": dict(analysis.shapes.sizes), "keep": kept}
    return model.with_metadata({KEY: json.dumps(stamp)})


def read(model: Model) -> Mapping[str, Any]:
    """The stamp of a pruned model; `UsageError` where it has none that we can read."""
    text = model.metadata.get(KEY)
    if text is None:
        raise UsageError(
            f"{model.source!r} does not say how it was pruned (no {KEY!r} in its metadata): it was not written by "
            "onnxprune, or a later tool removed its metadata"
        )
    try:
        stamp = json.loads(text)
    except json.JSONDecodeError as error:
        raise UsageError(f"{model.source!r}: its {KEY!r} metadata is damaged: {error}") from error
    if not isinstance(stamp, dict) or stamp.get("format") != FORMAT:
        raise UsageError(f"{model.source!r}: its {KEY!r} metadata is not of format {FORMAT}")
    return stamp


def plan_of(model: Model, analysis: Analysis) -> Plan:
    """The plan that the stamp of `model` states, for the analysed original.

    Errors: `VerificationFailed` where the original is another model than the one that was pruned.
    """
    stamp = read(model)
    if stamp["original"] != analysis.model.digest:
        raise VerificationFailed(
            f"{model.source!r} was not made from {analysis.model.source!r}: the digest of its original is "
            f"{stamp['original'][:16]}..., this one's is {analysis.model.digest[:16]}..."
        )
    groups = {group.name: group for group in analysis.groups}
    keep = {}
    for name, text in stamp["keep"].items():
        group = groups.get(name)
        if group is None:
            raise VerificationFailed(f"{model.source!r} states a cut of {name!r}, which is no group of the original")
        bits = np.unpackbits(np.frombuffer(bytes.fromhex(text), dtype=np.uint8))
        keep[group.atom.id] = bits[: group.size].astype(np.bool_)
    return Plan.of(analysis.groups, keep)

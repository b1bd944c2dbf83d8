"""Repair of pruned models without a training framework: closed forms on a few hundred unlabelled samples."""

from onnxprune.recovery.merging import folded
from onnxprune.recovery.reconstruct import Repair
from onnxprune.recovery.refitting import Refitted, refitted, with_weights
from onnxprune.recovery.restoring import restored
from onnxprune.recovery.standing import Shift, norms_of, put_back, shift_of, stand_in

__all__ = [
    "Refitted",
    "Repair",
    "Shift",
    "folded",
    "norms_of",
    "put_back",
    "refitted",
    "restored",
    "shift_of",
    "stand_in",
    "with_weights",
]

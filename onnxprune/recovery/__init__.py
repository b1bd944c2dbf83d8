"""Repair of pruned models without a training framework: from a few hundred unlabelled samples."""

from onnxprune.recovery.merging import folded
from onnxprune.recovery.reconstruct import Repair
from onnxprune.recovery.refitting import Refitted, refitted, with_weights
from onnxprune.recovery.restoring import restored
from onnxprune.recovery.standing import Shift, norms_of, put_back, shift_of, stand_in
from onnxprune.recovery.together import Together, together

__all__ = [
    "Refitted",
    "Repair",
    "Shift",
    "Together",
    "folded",
    "norms_of",
    "put_back",
    "refitted",
    "restored",
    "shift_of",
    "stand_in",
    "together",
    "with_weights",
]

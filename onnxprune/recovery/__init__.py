"""Repair of pruned models without a training framework: closed forms on a few hundred unlabelled samples."""

from onnxprune.recovery.merging import folded
from onnxprune.recovery.reconstruct import Repair
from onnxprune.recovery.refitting import Refitted, refitted, with_weights
from onnxprune.recovery.restoring import restored

__all__ = ["Refitted", "Repair", "folded", "refitted", "restored", "with_weights"]

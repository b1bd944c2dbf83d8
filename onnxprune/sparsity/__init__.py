"""Masks below the channel: which weights live and die together, how much of each layer goes, and the masked model."""

from onnxprune.sparsity.allocation import ALLOCATIONS
from onnxprune.sparsity.checking import LayerSparsity, sparsity_of
from onnxprune.sparsity.choosing import Target, chosen, skipped
from onnxprune.sparsity.embedding import embedded, unmet
from onnxprune.sparsity.granularity import Granularity, Lanes, granularity_of
from onnxprune.sparsity.masking import Choice, Masked, Masking, mask
from onnxprune.sparsity.reordering import Reordering, reordering

__all__ = [
    "ALLOCATIONS",
    "Choice",
    "Granularity",
    "Lanes",
    "LayerSparsity",
    "Masked",
    "Masking",
    "Reordering",
    "Target",
    "chosen",
    "embedded",
    "granularity_of",
    "mask",
    "reordering",
    "skipped",
    "sparsity_of",
    "unmet",
]

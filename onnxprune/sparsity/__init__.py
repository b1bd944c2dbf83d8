"""Masks below the channel: which weights live and die together, how much of each layer goes, and the masked model."""

from onnxprune.sparsity.allocation import ALLOCATIONS
from onnxprune.sparsity.choosing import Target, chosen
from onnxprune.sparsity.embedding import embedded, unmet
from onnxprune.sparsity.granularity import Granularity, granularity_of
from onnxprune.sparsity.masking import Masked, Masking, mask

__all__ = [
    "ALLOCATIONS",
    "Granularity",
    "Masked",
    "Masking",
    "Target",
    "chosen",
    "embedded",
    "granularity_of",
    "mask",
    "unmet",
]

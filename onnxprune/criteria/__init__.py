"""Which indices of a group matter: criteria, each a pure function from an analysed model to scores."""

from onnxprune.criteria.registry import CRITERIA, Criterion, criterion_of, score
from onnxprune.criteria.scores import Scores

__all__ = ["CRITERIA", "Criterion", "Scores", "criterion_of", "score"]

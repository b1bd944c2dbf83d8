"""Which indices of a group matter: criteria, each a pure function from what is known of a model to scores."""

from onnxprune.criteria.criterion import Criterion, Elements, Select, Sites, Solve
from onnxprune.criteria.evidence import Divergence, Evidence
from onnxprune.criteria.registry import CRITERIA, criterion_of, resolved, score
from onnxprune.criteria.scores import Scores
from onnxprune.criteria.sites import AGGREGATIONS, NORMALISATIONS, SiteScore

__all__ = [
    "AGGREGATIONS",
    "CRITERIA",
    "NORMALISATIONS",
    "Criterion",
    "Divergence",
    "Elements",
    "Evidence",
    "Scores",
    "Select",
    "SiteScore",
    "Sites",
    "Solve",
    "criterion_of",
    "resolved",
    "score",
]

"""Regression criteria: which indices the outputs of their readers can be made without.

All three ask how well the output of a layer is reproduced by fewer inputs. They differ in how they search, and in
whether the weights that stay may change. `least-squares` is the one of them that looks at each index by itself; taken
one after the other, with everything solved anew in between, it is `obs`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from onnxprune.criteria.criterion import Criterion, Sites
from onnxprune.criteria.evidence import Evidence
from onnxprune.criteria.reading import inputs_of_consumers, marginal, scored, weighed
from onnxprune.criteria.scores import Scores
from onnxprune.dimensions import Vector
from onnxprune.solvers import Reader, interactions, lasso_path, leave_one_out, thinet

__all__ = ["LASSO", "LEAST_SQUARES", "THINET"]


def _thinet(evidence: Evidence) -> Scores:
    """The error of the sum of what went, weights as they are, one index after the other."""

    def judge(readers: Sequence[Reader]) -> Vector:
        order, totals = thinet(interactions(readers)[0])
        return marginal(order, np.diff(totals, prepend=0.0))

    return scored(evidence, "thinet", judge)


def _lasso(evidence: Evidence) -> Scores:
    """The penalty at which the gate of an index closes for good."""
    return scored(evidence, "lasso", lasso_path)


def _least_squares(evidence: Evidence) -> Sites:
    """The error that is left if one index goes and the weights of all others are solved for anew."""
    return weighed(evidence, lambda reader: leave_one_out([reader]))


THINET = Criterion(
    "thinet", "greedy, by what the next layer loses: Luo et al., ICCV 2017 (arXiv 1707.06342)", _thinet,
    inputs_of_consumers, "samples",
)  # fmt: skip
LASSO = Criterion(
    "lasso", "gates under an L1 penalty, and reconstruction in turn: He et al., ICCV 2017 (arXiv 1707.06168)", _lasso,
    inputs_of_consumers, "samples",
)  # fmt: skip
LEAST_SQUARES = Criterion(
    "least-squares",
    "what the next layer loses after least squares: Kamma & Wada, REAP, IEICE 2021 (10.1587/transinf.2020EDP7049)",
    _least_squares, inputs_of_consumers, "samples",
)  # fmt: skip

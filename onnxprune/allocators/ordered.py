"""Scores in ascending order, so that what goes first comes first; tied groups as one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from onnxprune.allocators.allocation import Problem
from onnxprune.dimensions import Vector
from onnxprune.errors import UsageError

__all__ = ["along_scores", "ordered_scores"]


def ordered_scores(problem: Problem) -> dict[int, Vector]:
    """By candidate's atom, its scores from the lowest up, float64 of shape (size,); `UsageError` where there are none.

    Of tied groups each keeps its own best, so the k-th lowest of all of them go together: their mean.
    """
    missing = [c.name for c in problem.candidates if any(atom not in problem.scores for atom in c.atoms)]
    if missing:
        raise UsageError(f"groups can only be compared by scores, which {', '.join(map(repr, missing[:5]))} lack")
    return {c.atom: np.mean([np.sort(problem.scores[atom]) for atom in c.atoms], axis=0) for c in problem.candidates}


def along_scores(problem: Problem) -> Problem:
    """The problem with its curves in the shape of its scores between measured counts, where there are both."""
    scored = [c for c in problem.candidates if all(atom in problem.scores for atom in c.atoms)]
    ordered = ordered_scores(replace(problem, candidates=scored)) if problem.curves else {}
    finer = {atom: problem.curves[atom].along(ordered[c.atom]) for c in scored for atom in c.atoms
             if atom in problem.curves}  # fmt: skip
    return replace(problem, curves={**problem.curves, **finer}) if finer else problem

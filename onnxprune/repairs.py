"""The ways to repair a pruned model, by the names that a user gives them; `recovery` is where they are."""

from __future__ import annotations

__all__ = ["FITTED", "METHODS"]

FITTED = ("norm", "reconstruct", "joint")  # those that are fitted to samples
METHODS = ("auto", "none", *FITTED, "merge")

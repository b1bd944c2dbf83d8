"""Every error that onnxprune raises on purpose, each with the exit code that the command line ends with.

    OnnxPruneError                  1
    ├── GateNotMet                  1   a target, gate or promise that was asked for was not met
    ├── UsageError                  2   a wrong option, pattern, file name or pipeline
    ├── ModelReadError              3   the file is not a model that we can read
    ├── PassFailed                  4   a pass could not do its work (names the pass and those that ran before)
    │   └── OutputNotWritten        4   the result could not be written where it was asked for
    └── VerificationFailed          5   run(mask) and run(shrink) differ, or could not be compared

A message says what happened, where, what was expected, what was found and what to do. A group that is left
alone is not an error: it is a value in the report.
"""

from __future__ import annotations

from typing import ClassVar

__all__ = [
    "GateNotMet",
    "ModelReadError",
    "OnnxPruneError",
    "OutputNotWritten",
    "PassFailed",
    "UsageError",
    "VerificationFailed",
]


class OnnxPruneError(Exception):
    """The root: catch this to catch everything that onnxprune raises on purpose."""

    exit_code: ClassVar[int] = 1


class GateNotMet(OnnxPruneError):
    """The run did its work, and a target or gate that the user asked for was not met."""


class UsageError(OnnxPruneError):
    """The request itself is wrong: an option, a pattern, a path, a pipeline."""

    exit_code: ClassVar[int] = 2


class ModelReadError(OnnxPruneError):
    """The input file cannot be read as an ONNX model."""

    exit_code: ClassVar[int] = 3


class PassFailed(OnnxPruneError):
    """A pass could not do its work; the message names the pass and the passes that ran before it."""

    exit_code: ClassVar[int] = 4


class OutputNotWritten(PassFailed):
    """The result could not be written; nothing is left at the output path."""


class VerificationFailed(OnnxPruneError):
    """The pruned model is not proven to be the model that it claims to be, so it was not written."""

    exit_code: ClassVar[int] = 5

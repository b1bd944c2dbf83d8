"""What each operator says of the dimensions that it touches: one small function per operator family.

A rule is a pure generator of facts. It sees shapes, known numbers and attributes; it never sees types, so the order
of the nodes cannot matter, and it never edits.
"""

from onnxprune.rules import (  # noqa: F401 - each import fills the registry
    attention,
    contraction,
    control_flow,
    elementwise,
    equivalents,
    fused_attention,
    indexing,
    joining,
    microsoft,
    movement,
    nature,
    normalization,
    quantized,
    recurrent,
    reduction,
    spatial,
)
from onnxprune.rules.registry import Registry, Rule, registry, rule

__all__ = ["Registry", "Rule", "registry", "rule"]

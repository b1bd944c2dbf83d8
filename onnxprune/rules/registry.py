"""Which rule speaks for an operator: one table, filled by `@rule`, looked up by domain, name and opset."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import TypeAlias

from onnxprune.rules.call import Call
from onnxprune.rules.facts import Fact, Fixed

__all__ = ["Registry", "Rule", "RuleFunction", "fixed_by_nature", "registry", "rule"]

RuleFunction: TypeAlias = Callable[[Call], Iterator[Fact]]


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule for the versions `since` to `until` (inclusive; None: no end) of one operator.

    `nature` is the reason why nothing that such a node touches can be pruned, whatever its attributes; "" elsewhere.
    """

    domain: str
    op_type: str
    since: int
    until: int | None
    function: RuleFunction
    nature: str = ""

    def covers(self, opset: int) -> bool:
        """Whether the rule speaks for this opset version."""
        return self.since <= opset and (self.until is None or opset <= self.until)


class Registry:
    """Rules by operator; two rules for one version of an operator are a mistake, found when the second is added."""

    def __init__(self, group: str = "") -> None:
        self._rules: dict[tuple[str, str], list[Rule]] = {}
        self._group = group

    def add(self, new: Rule) -> None:
        """Add a rule; `ValueError` when a version would have two."""
        known = self._rules.setdefault((new.domain, new.op_type), [])
        for other in known:
            if other.covers(new.since) or new.covers(other.since):
                raise ValueError(f"two rules for {new.domain or 'ai.onnx'}::{new.op_type}, opset {new.since}")
        known.append(new)

    def find(self, domain: str, op_type: str, opset: int) -> Rule | None:
        """The rule for this version of an operator, or None; other packages are asked for domains that are not ours."""
        if domain and self._group and not any(known == domain for known, _ in self._rules):
            self._load_others()
        return next((r for r in self._rules.get((domain, op_type), ()) if r.covers(opset)), None)

    def _load_others(self) -> None:
        """Import, once, the modules in which other packages register rules."""
        group, self._group = self._group, ""
        for entry in entry_points(group=group):
            entry.load()

    def __iter__(self) -> Iterator[Rule]:
        for known in self._rules.values():
            yield from known


registry = Registry(group="onnxprune.rules")


def rule(
    *op_types: str, since: int = 1, until: int | None = None, domain: str = ""
) -> Callable[[RuleFunction], RuleFunction]:
    """Register a function as the rule of one or several operators."""

    def register(function: RuleFunction) -> RuleFunction:
        for op_type in op_types:
            registry.add(Rule(domain, op_type, since, until, function))
        return function

    return register


def fixed_by_nature(*op_types: str, reason: str, since: int = 1, domain: str = "") -> None:
    """Register operators that no cut can pass through, with the reason; their shapes need not be known."""

    def nothing_passes(n: Call) -> Iterator[Fact]:
        yield from (Fixed(dim, f"{n.op_type} {reason}") for dim in n.all_axes())

    for op_type in op_types:
        registry.add(Rule(domain, op_type, since, None, nothing_passes, reason))

"""Groups that are to stay alike: one candidate for all of a size, which keep equal counts."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from math import lcm

from onnxprune.allocators.allocation import Candidate
from onnxprune.errors import UsageError

__all__ = ["tied", "told_ties"]


def tied(
    candidates: Sequence[Candidate], patterns: Iterable[str], without: Container[int] = ()
) -> tuple[Candidate, ...]:
    """`candidates`, with those of one size whose names match one pattern as one, in the place of the first.

    What several patterns join is one, too. It keeps a multiple of all their steps and at least the largest of their
    minimums, and makes up the axes of all. `UsageError` where a pattern matches no two groups of one size; those of the
    atoms `without` count for that, and are left out afterwards.
    """
    first = {candidate.atom: candidate.atom for candidate in candidates}  # the first one that each is tied to
    for pattern in patterns:
        alike: dict[int, list[Candidate]] = {}
        for candidate in candidates:
            if fnmatchcase(candidate.name, pattern):
                alike.setdefault(candidate.size, []).append(candidate)
        if all(len(found) < 2 for found in alike.values()):
            raise UsageError(_complaint(candidates, pattern, alike))
        for found in alike.values():
            joined = {first[candidate.atom] for candidate in found}
            head = next(c.atom for c in candidates if c.atom in joined)
            first = {atom: head if own in joined else own for atom, own in first.items()}
    together: dict[int, list[Candidate]] = {}
    for candidate in candidates:
        if candidate.atom not in without:
            together.setdefault(first[candidate.atom], []).append(candidate)
    return tuple(_joined(found) for found in together.values())


def told_ties(candidates: Iterable[Candidate], counts: Mapping[int, int]) -> list[str]:
    """A sentence for every candidate that is several groups."""
    return [
        f"tied: {c.name} and {len(c.tied)} more of its size keep {counts[c.atom]} of {c.size} each"
        for c in candidates
        if c.tied
    ]


def _joined(found: Sequence[Candidate]) -> Candidate:
    if len(found) == 1:
        return found[0]
    return replace(
        found[0],
        step=lcm(*(c.step for c in found)),
        minimum=max(c.minimum for c in found),
        axes=sum(c.axes for c in found),
        tied=tuple(c.atom for c in found[1:]),
    )


def _complaint(candidates: Sequence[Candidate], pattern: str, alike: dict[int, list[Candidate]]) -> str:
    what = ", ".join(f"{found[0].name} ({size})" for size, found in alike.items()) or "none"
    names = ", ".join(f"{c.name} ({c.size})" for c in candidates[:8])
    more = ", ..." if len(candidates) > 8 else ""
    return (
        f"--tie {pattern!r}: expected two groups of one size at least, matched {what}; groups are "
        f"{names or 'none'}{more} (see 'onnxprune inspect')"
    )

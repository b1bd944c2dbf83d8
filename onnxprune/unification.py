"""Which dimensions are the same: unification of dimension expressions, with refinement.

`same(x, y)` makes two expressions one dimension, as types are made one in type inference. Where their structures
differ, both are refined to the common one:

1. an atom becomes whatever it meets;
2. two sums are aligned at the union of their boundaries; a part that a boundary crosses is split there;
3. a product that a boundary crosses is split in its outer factor, and, where the boundary falls inside one outer
   index, in its inner factors too: `(a x b)` cut at `i * |b| + r` is `a' x b  +  b[:r]  +  b[r:]  +  a'' x b`;
4. two products are aligned factor by factor, first from the outer side, then from the inner one, each time at the
   greatest common divisor of the two factors that meet;
5. what is left of two products then (4 x 9 against 9 x 4 has no common refinement) is fixed, with the reason.

So a result is never wrong, only less prunable. The structure cannot loop: factors of size 1 and parts of size 0 are
dropped when an expression is made, hence every proper part of an expression is smaller than it, and an atom never
meets an expression of its own size that contains it. Every split makes strictly smaller pieces.

`fix(x, cause)` says that no index of `x` may go. A cause is an opaque value that comes back from `cause_of`.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import gcd, prod
from typing import Generic, TypeVar

from onnxprune.dimensions import Atom, Dimension, Pick, Product, Sum

__all__ = ["Unification"]

Cause = TypeVar("Cause")


class _Variable:
    """A dimension in the making: an atom until a form is bound to it; `parent` leads to the one it was united with."""

    __slots__ = ("children", "is_sum", "number", "parent", "size")

    def __init__(self, size: int, number: int) -> None:
        self.size = size
        self.number = number
        self.parent: _Variable | None = None
        self.children: tuple[_Variable, ...] | None = None
        self.is_sum = False


class Unification(Generic[Cause]):
    """The dimensions of one analysis, and which of them are the same.

    Expressions go in with the caller's own atom ids (`Atom(id, size)`; equal ids are one atom) and come out of
    `resolve` with atoms that stand for whole classes of them.
    """

    def __init__(self) -> None:
        self._variables: dict[int, _Variable] = {}
        self._causes: dict[_Variable, Cause] = {}
        self._resolved: dict[_Variable, Dimension] = {}
        self._made = 0
        self._dropped: list[_Variable] = []  # units that a product left out: what they decide is not seen any more

    # -- what callers say -------------------------------------------------------------------------------------

    def same(self, x: Dimension, y: Dimension, cause: Cause) -> None:
        """State that `x` and `y` are one dimension; where that cannot be, both are fixed with `cause`."""
        self._resolved.clear()
        work = [(self._enter(x), self._enter(y))]
        while work:
            a, b = work.pop()
            a, b = _find(a), _find(b)
            if a is b:
                continue
            if a.size != b.size:
                self._fix(a, cause)
                self._fix(b, cause)
            elif a.children is None or b.children is None:
                self._bind(a, b)
            elif a.is_sum or b.is_sum:
                self._align_sums(a, b, work)
                b.parent = a
            else:
                self._align_products(a, b, work, cause)
                b.parent = a

    def fix(self, x: Dimension, cause: Cause) -> None:
        """State that no index of `x` may be removed, because of `cause`; the first cause is kept."""
        self._fix(self._enter(x), cause)

    # -- what callers ask -------------------------------------------------------------------------------------

    def resolve(self, x: Dimension) -> Dimension:
        """The expression of `x` in atoms that stand for classes; equal dimensions give equal expressions."""
        return self._resolve(self._enter(x))

    def cause_of(self, atom: Atom) -> Cause | None:
        """Why an atom of a resolved expression is fixed, or None where it is free."""
        variable = self._variables.get(atom.id)
        return None if variable is None else self._causes.get(_find(variable))

    def dropped(self) -> frozenset[int]:
        """The resolved ids of units that stood in a product: nothing of the product shows them any more."""
        return frozenset(_find(unit).number for unit in self._dropped if _find(unit).children is None)

    # -- making -----------------------------------------------------------------------------------------------

    def _new(self, size: int) -> _Variable:
        self._made -= 1  # our own atoms count down from -1, the caller's ids are never negative
        variable = _Variable(size, self._made)
        self._variables[self._made] = variable
        return variable

    def _enter(self, x: Dimension) -> _Variable:
        if isinstance(x, Atom):
            variable = self._variables.get(x.id)
            if variable is None:
                variable = self._variables[x.id] = _Variable(x.size, x.id)
            return variable
        if isinstance(x, Sum):
            return self._sum([self._enter(part) for part in x.parts])
        if isinstance(x, Pick):
            raise TypeError("a pick is what comes of unification, not what goes in")
        return self._product([self._enter(factor) for factor in x.factors])

    def _sum(self, parts: Sequence[_Variable]) -> _Variable:
        parts = [part for part in parts if part.size]
        if len(parts) == 1:
            return parts[0]
        made = self._new(sum(part.size for part in parts))
        if parts:
            made.children, made.is_sum = tuple(parts), True
        return made

    def _product(self, factors: Sequence[_Variable]) -> _Variable:
        size = prod(factor.size for factor in factors)
        self._dropped.extend(factor for factor in factors if factor.size == 1)
        factors = [factor for factor in factors if factor.size != 1]
        if len(factors) == 1:
            return factors[0]
        made = self._new(size)
        if factors and size:
            made.children = tuple(factors)
        return made

    # -- changing ---------------------------------------------------------------------------------------------

    def _bind(self, a: _Variable, b: _Variable) -> None:
        """Case 1: the younger atom, or the one that is an atom, becomes the other."""
        if a.children is not None or (b.children is None and _older(a, b)):
            a, b = b, a
        a.parent = b
        cause = self._causes.pop(a, None)
        if cause is not None:
            self._fix(b, cause)

    def _fix(self, x: _Variable, cause: Cause) -> None:
        stack, seen = [x], set()
        while stack:
            variable = _find(stack.pop())
            if variable.children is None:
                self._causes.setdefault(variable, cause)
            elif variable not in seen:
                seen.add(variable)
                stack.extend(variable.children)

    def _become(self, atom: _Variable, children: Sequence[_Variable], is_sum: bool) -> None:
        """An atom takes a form; what was fixed stays fixed in its children."""
        atom.children, atom.is_sum = tuple(children), is_sum
        cause = self._causes.pop(atom, None)
        if cause is not None:
            for child in children:
                self._fix(child, cause)

    def _split(self, x: _Variable, at: int) -> tuple[_Variable, _Variable]:
        """Cases 2 and 3: `x` as the sum of its first `at` indices and the rest, 0 < at < |x|."""
        x = _find(x)
        if x.children is None:
            self._become(x, (self._new(at), self._new(x.size - at)), is_sum=True)
        elif not x.is_sum:
            self._distribute(x, at)
        before: list[_Variable] = []
        after: list[_Variable] = []
        start = 0
        for part in self._flat(x, want_sum=True):
            end = start + part.size
            if start < at < end:
                left, right = self._split(part, at - start)
                before.append(left)
                after.append(right)
            else:
                (before if end <= at else after).append(part)
            start = end
        return self._sum(before), self._sum(after)

    def _distribute(self, x: _Variable, at: int) -> None:
        """Case 3: the product `x` becomes a sum with a boundary at `at`."""
        outer, *inner = self._flat(x, want_sum=False)
        rest = self._product(inner)
        whole, within = divmod(at, rest.size)
        parts: list[_Variable] = []
        if whole:
            first, outer = self._split(outer, whole)
            parts.append(self._product([first, rest]))
        if within:
            if outer.size > 1:
                _, outer = self._split(outer, 1)
                tail = [self._product([outer, rest])]
            else:
                tail = []
            parts.extend(self._split(rest, within))
            parts.extend(tail)
        else:
            parts.append(self._product([outer, rest]))
        x.children, x.is_sum = tuple(parts), True

    def _factor(self, x: _Variable, outer: int, work: list[tuple[_Variable, _Variable]]) -> tuple[_Variable, _Variable]:
        """A factor of a product, an atom or a sum, as `outer x (|x| / outer)`; a sum is unified with that product."""
        made = self._new(outer), self._new(x.size // outer)
        if x.children is None:
            self._become(x, made, is_sum=False)
        else:
            work.append((x, self._product(made)))
        return made

    def _flat(self, x: _Variable, want_sum: bool) -> list[_Variable]:
        """The parts (or factors) of `x`, none of which is itself a sum (or product)."""
        flat: list[_Variable] = []
        stack = [x]
        while stack:
            variable = _find(stack.pop())
            if variable.children is not None and variable.is_sum == want_sum:
                stack.extend(reversed(variable.children))
            else:
                flat.append(variable)
        return flat

    # -- aligning ---------------------------------------------------------------------------------------------

    def _align_sums(self, x: _Variable, y: _Variable, work: list[tuple[_Variable, _Variable]]) -> None:
        """Cases 2 and 3: both sides are cut at the union of their boundaries, then paired part by part."""
        left = self._flat(x, want_sum=True)[::-1]
        right = self._flat(y, want_sum=True)[::-1]
        while left and right:
            a, b = left.pop(), right.pop()
            if a.size > b.size:
                a, more = self._split(a, b.size)
                left.append(more)
            elif b.size > a.size:
                b, more = self._split(b, a.size)
                right.append(more)
            work.append((a, b))

    def _align_products(
        self, x: _Variable, y: _Variable, work: list[tuple[_Variable, _Variable]], cause: Cause
    ) -> None:
        """Cases 4 and 5: factors are paired from both ends; a core without common refinement is fixed."""
        left, right = self._flat(x, want_sum=False), self._flat(y, want_sum=False)
        while left and right:
            if self._pair(left, right, work, inner=False) or self._pair(left, right, work, inner=True):
                continue
            sides = (left, right)  # case 5: up to the next boundary that both have, nothing may be cut
            sizes = [1, 1]
            while sizes[0] != sizes[1] or sizes[0] == 1:
                side = 0 if sizes[0] <= sizes[1] else 1
                factor = sides[side].pop(0)
                sizes[side] *= factor.size
                self._fix(factor, cause)

    def _pair(
        self, left: list[_Variable], right: list[_Variable], work: list[tuple[_Variable, _Variable]], inner: bool
    ) -> bool:
        """Take one common factor off the outer (or inner) end of both lists; False where they have none."""
        end = -1 if inner else 0
        a, b = _find(left[end]), _find(right[end])
        common = gcd(a.size, b.size)
        if common == 1:
            return False
        taken = []
        for factors, factor in ((left, a), (right, b)):
            if factor.size == common:
                factors.pop(end)
                taken.append(factor)
                continue
            outer, rest = self._factor(factor, factor.size // common if inner else common, work)
            factors[end], keep = (outer, rest) if inner else (rest, outer)
            taken.append(keep)
        work.append((taken[0], taken[1]))
        return True

    # -- reading ----------------------------------------------------------------------------------------------

    def _resolve(self, x: _Variable) -> Dimension:
        root = _find(x)
        known = self._resolved.get(root)
        if known is None:
            if root.children is None:
                known = Atom(root.number, root.size)
            elif root.is_sum:
                known = Sum(tuple(self._resolve(part) for part in self._flat(root, want_sum=True)))
            else:
                known = _merge([self._resolve(factor) for factor in self._flat(root, want_sum=False)])
            self._resolved[root] = known
        return known


def _merge(factors: list[Dimension]) -> Dimension:
    """The product in its one form: an outermost sum is distributed, `(a + b) x c = a x c + b x c`."""
    outer, rest = factors[0], tuple(factors[1:])
    if not rest:
        return outer
    if not isinstance(outer, Sum):
        return Product(tuple(factors))
    parts: list[Dimension] = []
    for part in outer.parts:
        inner = part.factors if isinstance(part, Product) else (part,) if part.size > 1 else ()
        merged = _merge([*inner, *rest])
        parts.extend(merged.parts if isinstance(merged, Sum) else (merged,))
    return Sum(tuple(parts))


def _find(x: _Variable) -> _Variable:
    root = x
    while root.parent is not None:
        root = root.parent
    while x.parent is not None:
        x.parent, x = root, x.parent
    return root


def _older(a: _Variable, b: _Variable) -> bool:
    """The caller's atoms before our own, then by age: so that names do not depend on the order of splits."""
    return (a.number < 0, abs(a.number)) < (b.number < 0, abs(b.number))

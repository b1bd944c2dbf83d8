"""Units that rules told apart become one decision per index again, where they always go together."""

from __future__ import annotations

import numpy as np

from onnxprune.dimensions import Atom, Pick, Product, Sum, count, countable, keep_mask, project
from onnxprune.families import Families

UNITS = tuple(Atom(id, 1) for id in range(5))
AXIS = Sum(UNITS)


def reordered(*order: int) -> Sum:
    return Sum(tuple(UNITS[k] for k in order))


def test_units_that_always_go_together_are_a_family_in_each_order() -> None:
    """The axis itself is the family; a permutation of it is a pick."""
    order = reordered(2, 0, 1, 4, 3)
    families = Families([AXIS, order], lambda unit: True)
    assert families.rewrite(AXIS) == Atom(0, 5)
    assert families.rewrite(order) == Pick(Atom(0, 5), (2, 0, 1, 4, 3))


def test_a_part_is_a_family_of_its_own() -> None:
    """What one sum holds and another does not is decided apart, so that neither can be emptied."""
    part = reordered(3, 1)
    families = Families([AXIS, part], lambda unit: True)
    axis, picked = families.rewrite(AXIS), families.rewrite(part)
    assert isinstance(axis, Sum)
    assert isinstance(picked, Pick)
    assert picked.atom.size == 2
    keep = {picked.atom.id: np.array([False, True])}
    assert keep_mask(axis, keep).sum() == 4 == count(axis, {picked.atom.id: 1})
    assert keep_mask(picked, keep).tolist() == [True, False]


def test_units_that_may_not_be_cut_stay_units() -> None:
    """A unit that is fixed, or stands alone or in a product, is in no family."""
    alone = UNITS[4]
    families = Families([AXIS, alone, Product((UNITS[3], Atom(9, 7)))], lambda unit: unit.id != 0)
    rewritten = families.rewrite(AXIS)
    assert rewritten == Sum((UNITS[0], Atom(1, 2), UNITS[3], UNITS[4]))


def test_picks_are_counted_and_scored_as_their_atom() -> None:
    """Sizes follow from counts alone; values of an axis go to the index that each position holds."""
    family = Atom(0, 3)
    twice = Sum((Pick(family, (2, 0)), Atom(7, 4), Pick(family, (1, 1, 0, 2))))
    assert countable(twice) == Sum((Atom(7, 4), family, family))
    assert count(twice, {0: 1}) == 6
    totals: dict[int, np.ndarray[tuple[int, ...], np.dtype[np.float64]]] = {}
    project(Pick(family, (2, 0, 1)), np.array([1.0, 2.0, 3.0]), totals)
    assert totals[0].tolist() == [2.0, 3.0, 1.0]
    project(Pick(family, (2, 0, 1)), np.array([9.0, 0.0, 0.0]), totals, np.maximum)
    assert totals[0].tolist() == [2.0, 3.0, 9.0]

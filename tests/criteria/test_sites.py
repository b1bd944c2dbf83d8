"""From sites to one score: every normalisation and every aggregation, against numbers worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from onnxprune.criteria import AGGREGATIONS, NORMALISATIONS, Evidence, SiteScore, score
from onnxprune.criteria.sites import aggregated
from onnxprune.errors import UsageError
from tests.criteria.nets import net

ONE = SiteScore("w", 0, np.array([1.0, 2.0, 3.0]), 10)
TWO = SiteScore("v", 1, np.array([4.0, 0.0, 2.0]), 4)
SILENT = SiteScore("z", 0, np.zeros(3), 4)

NORMALISED: dict[str, list[float]] = {
    "none": [1, 2, 3],
    "mean": [0.5, 1, 1.5],  # over 2
    "max": [1 / 3, 2 / 3, 1],
    "standardise": [-np.sqrt(1.5), 0, np.sqrt(1.5)],  # the variance is 2/3
    "per-parameter": [0.1, 0.2, 0.3],
    "lamp": [1 / 14, 4 / 13, 1],  # 1 / (1 + 4 + 9), 4 / (4 + 9), 9 / 9
}
AGGREGATED: dict[str, list[float]] = {
    "mean": [2.5, 1, 2.5],
    "sum": [5, 2, 5],
    "max": [4, 2, 3],
    "product": [4, 0, 6],
    "first": [1, 2, 3],
}


@pytest.mark.parametrize("name", NORMALISATIONS)
def test_normalisations(name: str) -> None:
    """One site, worked out by hand; a silent site stays silent."""
    np.testing.assert_allclose(aggregated([ONE], "mean", name), NORMALISED[name])
    assert not aggregated([SILENT], "mean", name).any()


@pytest.mark.parametrize("name", AGGREGATIONS)
def test_aggregations(name: str) -> None:
    """Two sites as they are, worked out by hand."""
    np.testing.assert_allclose(aggregated([ONE, TWO], name, "none"), AGGREGATED[name])


def test_the_default_weighs_sites_equally() -> None:
    """Each over its mean, then the mean: (0.5 + 2) / 2, (1 + 0) / 2, (1.5 + 1) / 2."""
    np.testing.assert_allclose(aggregated([ONE, TWO]), [1.25, 0.5, 1.25])


def test_unknown_names_are_usage_errors() -> None:
    """With the names that there are."""
    with pytest.raises(UsageError, match=r"--aggregate 'median': expected one of mean, sum, max, product, first"):
        aggregated([ONE], "median")
    with pytest.raises(UsageError, match=r"--normalise 'size': expected one of none, mean"):
        aggregated([ONE], "mean", "size")


@pytest.mark.parametrize("aggregate", AGGREGATIONS)
@pytest.mark.parametrize("normalise", NORMALISATIONS)
def test_options_reach_the_sites(aggregate: str, normalise: str) -> None:
    """The norm of each site's slices, made one by both options; 27 numbers of one weight go with a channel, ..."""
    analysis = net("convolutions")
    found = score(Evidence(analysis), "l2", aggregate=aggregate, normalise=normalise)
    first, second, third = (analysis.model.array(name).astype(np.float64) for name in ("W1", "D", "W2"))
    sites = [
        SiteScore("W1", 0, np.linalg.norm(first.reshape(6, -1), axis=1), 27),
        SiteScore("D", 0, np.linalg.norm(second.reshape(6, -1), axis=1), 9),
        SiteScore("W2", 1, np.linalg.norm(third.reshape(8, 6), axis=0), 8),
    ]
    expected = aggregated(sites, aggregate, normalise)
    np.testing.assert_allclose(found.values[analysis.groups[0].atom.id], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("option", [{"aggregate": "max"}, {"normalise": "none"}])
def test_options_that_say_nothing_to_a_criterion_are_refused(option: dict[str, str]) -> None:
    """`similarity` and its like make scores for the whole model; to take the option and ignore it would mislead."""
    evidence = Evidence(net("convolutions"))
    for criterion in ("bn-scale", "lamp", "random", "similarity"):
        assert score(evidence, criterion, aggregate="mean", normalise="mean").criterion == criterion
        with pytest.raises(UsageError, match="can be compared over the whole model as they are"):
            score(evidence, criterion, **option)

"""What the graph computes for a criterion is what numpy computes for it from the tensors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from onnxprune.calibration import gather
from onnxprune.criteria import CRITERIA, score
from onnxprune.data import Samples
from onnxprune.dependency import analyse
from onnxprune.model import Model
from tests.criteria.naive import evidence, samples
from tests.criteria.nets import NETS, net

MEASURED = ("activation-mean", "activation-variance", "apoz", "bn-scale", "chip", "correlation", "entropy", "hrank",
            "mutual-information", "wanda")  # fmt: skip


@pytest.mark.parametrize("criterion", MEASURED)
def test_the_graph_answers_what_criteria_ask(criterion: str) -> None:
    """On every net, samples merged with positions included; nothing is left unanswered."""
    for name in NETS:
        analysis = net(name)
        feeds = samples(analysis, 40)
        found = gather(CRITERIA[criterion], analysis, Samples("samples", feeds))
        assert not found.statistics.unanswered
        ours, plain = score(found, criterion), score(evidence(analysis, criterion, feeds), criterion)
        assert ours.missing == plain.missing
        for atom, values in plain.values.items():
            np.testing.assert_allclose(ours.values[atom], values, rtol=1e-3, atol=1e-5, err_msg=name)


def test_a_criterion_of_weights_takes_samples_where_there_are_some(models: Path) -> None:
    """bn-scale measures folded norms then, and asks for nothing where the norms are still there."""
    folded = analyse(Model.load(models / "cifar10_resnet20.onnx"))
    given = Samples("samples", {info.name: np.zeros((2, 3, 32, 32), np.float32) for info in folded.model.inputs})
    criterion = CRITERIA["bn-scale"]
    assert score(gather(criterion, folded, None), "bn-scale").missing
    assert not score(gather(criterion, folded, given), "bn-scale").missing
    normed = analyse(Model.load(models / "cifar10_resnet20_bn.onnx"))
    assert not gather(criterion, normed, given).statistics.answers

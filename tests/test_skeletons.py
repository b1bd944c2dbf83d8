from __future__ import annotations

from pathlib import Path

import onnx
import pytest

from tools.skeletons import SKELETONS, main, parameters


@pytest.mark.parametrize(
    ("name", "count"),
    [  # as published, less the scale and shift of the norms, plus the biases that they leave in the convolutions
        ("resnet18", 11_689_512 - 4_800),
        ("resnet50", 25_557_032 - 26_560),
        ("mobilenetv2", 3_504_872 - 17_056),
        ("unet", 31_037_698 - 5_888),
    ],
)
def test_parameter_counts_are_the_published_ones(name: str, count: int) -> None:
    """Every skeleton has the size of the network that it is named after, to the last weight, and unique node names."""
    model = SKELETONS[name]()
    assert parameters(model) == count
    names = [node.name for node in model.graph.node]
    assert len(set(names)) == len(names)
    assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "N"


def test_the_command_writes_a_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A known name is written; anything else is a usage error that lists the names."""
    out = tmp_path / "m.onnx"
    assert main(["mobilenetv2", str(out)]) == 0
    onnx.checker.check_model(onnx.load(out))
    assert main(["resnet19", str(out)]) == 2
    assert "mobilenetv2|resnet18" in capsys.readouterr().err

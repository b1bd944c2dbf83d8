"""Why: what an axis is, the path to what fixes it, the path that couples two names."""

from __future__ import annotations

import pytest

from onnxprune.dependency import analyse
from onnxprune.errors import UsageError
from onnxprune.explanation import coupling, dependency_graph, explain
from onnxprune.testing import build

RESIDUAL = """
    x[N,3,8,8] -> y
    a = Conv<pads=[1,1,1,1]>(x, A[8,3,3,3], A_bias[8])
    b = Conv<pads=[1,1,1,1]>(a, B[8,8,3,3])
    s = Add(a, b)
    c = Conv(s, C[16,8,1,1])
    t = Softmax<axis=1>(c)
    y = Conv(t, D[4,16,1,1])
"""


def test_a_prunable_axis_names_its_group_and_what_it_cuts() -> None:
    analysis = analyse(build(RESIDUAL))
    (first,) = explain(analysis, "A_bias")
    assert first.sentence == "A_bias[0], 8 indices: prunable, group 'A'; cuts A[0], A_bias[0], B[0], B[1], C[1]"
    assert first.path == ()


def test_a_fixed_axis_shows_the_path_to_the_reason() -> None:
    analysis = analyse(build(RESIDUAL))
    found = next(e for e in explain(analysis, "C") if e.sentence.startswith("C[0]"))
    assert "fixed, Softmax 'Softmax_4' says: " in found.sentence
    assert str(found.path[0]) == "C[0]  --  Conv Conv_3  --  c[1]"
    assert found.path[0].source == ("C", 0)


def test_two_names_are_coupled_by_a_shortest_path() -> None:
    analysis = analyse(build(RESIDUAL))
    found = next(e for e in coupling(analysis, "B", "C") if "B[0]" in e.sentence)
    assert found.sentence == "B[0] and C[1] share 8 indices"
    assert [step.node for step in found.path] == ["Conv_1", "Add_2", "Conv_3"]
    assert [step.op_type for step in found.path] == ["Conv", "Add", "Conv"]


def test_names_that_share_nothing() -> None:
    analysis = analyse(build(RESIDUAL))
    (found,) = coupling(analysis, "A", "D")
    assert found.sentence == "A and D share no dimension"


def test_what_is_shared_and_fixed_is_said_to_be_fixed() -> None:
    analysis = analyse(build(RESIDUAL))
    (found,) = coupling(analysis, "C", "D")
    assert found.sentence.startswith("C[0] and D[1] share 16 indices, which are fixed: ")


def test_nodes_and_groups_are_names_too() -> None:
    """A node stands for its weights and outputs, a group for its first site; a name of both is the tensor's."""
    analysis = analyse(build(RESIDUAL))
    assert any(e.sentence.startswith("s[1]") for e in explain(analysis, "Add_2"))
    assert [e.sentence.split(",")[0] for e in explain(analysis, "A")] == ["A[0]", "A[1]", "A[2]", "A[3]"]
    both = coupling(analysis, "Conv_0", "Conv_3")
    assert any(e.sentence.startswith("A[0] and C[1] share 8") for e in both)


def test_parts_of_an_axis_are_explained_one_by_one() -> None:
    model = build("""
        x[N,3,8,8] -> y
        a = Conv(x, A[4,3,1,1])
        b = Conv(x, B[6,3,1,1])
        j = Concat<axis=1>(a, b)
        y = Conv(j, C[2,10,1,1])
    """)
    parts = [e.sentence for e in explain(analyse(model), "C") if e.sentence.startswith("C[1]")]
    assert [p.split(":")[0] for p in parts] == [
        "C[1], 10 indices, of which 4 as [4] 6",
        "C[1], 10 indices, of which 6 as 4 [6]",
    ]
    assert "group 'A'" in parts[0]
    assert "group 'B'" in parts[1]


def test_a_name_that_is_none_brings_up_those_that_are_close() -> None:
    analysis = analyse(build(RESIDUAL))
    with pytest.raises(UsageError, match=r"no group, tensor or node 'A_bia' in .*; did you mean 'A_bias'"):
        explain(analysis, "A_bia")
    with pytest.raises(UsageError, match="see 'onnxprune inspect'"):
        coupling(analysis, "A", "zzzzzzzz")


def test_the_graph_has_an_edge_for_every_fact() -> None:
    graph = dependency_graph(analyse(build(RESIDUAL)))
    assert {data["node"] for _, _, data in graph.edges(("s", 1), data=True)} == {2, 3}

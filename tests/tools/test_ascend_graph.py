"""Read compiled graphs, and estimate the memory of their tensors. All expected numbers are typed by hand."""

import pytest
from graph_text import node, subgraph, write_graph

from ascend_checks.ir import TensorType, read_graph
from ascend_checks.memory import estimate_memory


@pytest.fixture
def read(tmp_path):
    return lambda *subgraphs: read_graph(write_graph(tmp_path / "graph.ir", *subgraphs))


def test_nodes_have_types_inputs_and_the_innermost_line_outside_of_mindspore(read):
    graph = read(
        subgraph(
            "1_main",
            node(0, "Exp", line=12),
            node(1, "BatchNorm", [0], "Tuple[Tensor[Float16]*2,Tensor[Int32]], TupleShape((2, 4), (4), ())"),
        )
    )
    first, second = graph.nodes
    assert (first.primitive, first.source) == ("Exp", "examples/det/ssd/ssd/models/net.py:12")
    assert first.outputs == (TensorType("Float32", (2, 4)),)
    assert second.inputs == (0,) and first.arguments == ("",) and second.arguments == ("%0",)
    assert second.outputs == (TensorType("Float16", (2, 4)), TensorType("Float16", (4,)), TensorType("Int32", ()))
    assert graph.parameters["image"] == TensorType("UInt8", (2, 8, 8, 3))
    assert graph.parameters["conv.weight"] == TensorType("Float32", (4, 3, 3, 3))


def test_dynamic_sizes_are_negative(read):
    text = node(0, "Exp", output="Tensor[Float32], (-1, 4)").replace(
        "      # Full", "      : (S:[s1<[1,inf]>, 4]) -> (S:[s1<[1,inf]>, 4])\n      # Full"
    )
    assert read(subgraph("1_main", text)).nodes[0].outputs == (TensorType("Float32", (-1, 4)),)


def test_a_file_without_a_graph_is_refused(tmp_path):
    with pytest.raises(ValueError, match="graph.ir"):
        read_graph(write_graph(tmp_path / "graph.ir"))


PARAMETER_BYTES = 2 * 8 * 8 * 3 + 4 * 4 * 3 * 3 * 3


def test_a_tensor_lives_until_its_last_reader(read):
    small, large = "Tensor[Float32], (10)", "Tensor[Float32], (100)"
    graph = read(
        subgraph(
            "1_main",
            node(0, "Exp", output=large),  # 400 bytes, read by 1 and 2
            node(1, "Exp", [0], small),  # 40
            node(2, "Exp", [0], small),  # 40: 480 bytes exist here
            node(3, "Add", [1, 2], large),  # 400 and the two small ones: 480 again
            node(4, "Exp", [3], large),  # 800: the peak
            node(5, "Exp", [4], small),
        )
    )
    memory = estimate_memory(graph, views=())
    assert (memory.parameter_bytes, memory.peak_bytes) == (PARAMETER_BYTES, 800)
    assert memory.total_bytes == PARAMETER_BYTES + 800
    assert [(tensor.primitive, tensor.type.num_bytes) for tensor in memory.largest] == [("Add", 400), ("Exp", 400)]


def test_views_keep_the_memory_of_their_input(read):
    large = "Tensor[Float32], (100)"
    nodes = [node(0, "Exp", output=large), node(1, "Reshape", [0], large), node(2, "Exp", [1], large)]
    assert estimate_memory(read(subgraph("1_main", *nodes)), views=("Reshape",)).peak_bytes == 800
    assert estimate_memory(read(subgraph("1_main", *nodes)), views=()).peak_bytes == 800
    # Tensor 0 exists until node 3 has read its view.
    nodes = [*nodes, node(3, "Add", [1, 2], large)]
    assert estimate_memory(read(subgraph("1_main", *nodes)), views=("Reshape",)).peak_bytes == 1200


def test_a_branch_adds_its_own_peak(read):
    large = "Tensor[Float32], (100)"
    call = node(2, "X", [0], "Tensor[Float32], ()").replace("PrimFunc_X", "%1[@FuncUnion(2_true, 3_false)]")
    entry = subgraph("1_main", node(0, "Exp", output=large), node(1, "Switch", [0], "Func, NoShape"), call)
    branches = [
        subgraph("2_true", node(0, "Exp", output="Tensor[Float32], (50)")),
        subgraph("3_false", node(0, "Exp", output=large)),
    ]
    assert estimate_memory(read(entry, *branches), views=("Switch",)).peak_bytes == 400 + 4 + 400


def test_parameters_that_are_updated_in_place_need_no_other_memory(read):
    graph = read(subgraph("1_main", node(0, "Assign", output="Ref[Tensor[Float32]], (100), ref_key=w, is_parameter")))
    assert estimate_memory(graph, views=()).peak_bytes == 0

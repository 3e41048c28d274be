"""Rules for graphs on Ascend: each fault is planted once, by hand and in compiled networks; tiny recipes have none."""

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import mindspore
import pytest
from graph_text import node, subgraph, write_graph

import ascend_check
from ascend_checks.ir import read_graph
from ascend_checks.rules import Expected, count_kernels, find_faults, read_primitives

ROOT = Path(__file__).resolve().parents[2]
TRAINING = Expected(amp_level="O2", is_training=True, accumulates=False, is_frozen=False, max_kernels=9)
INFERENCE = dataclasses.replace(TRAINING, is_training=False, amp_level="O0")
HALF = "Tensor[Float16], (2, 4)"


@pytest.fixture
def faults_of(tmp_path):
    def find(*nodes, expected=TRAINING, more=()):
        graph = read_graph(write_graph(tmp_path / "graph.ir", subgraph("1_main", *nodes), *more))
        return find_faults(graph, read_primitives(), expected)

    return find


def test_a_sound_graph_has_no_faults(faults_of):
    nodes = [
        node(0, "Conv2D", output=HALF),
        node(1, "Cast", [0]),
        node(2, "ArgMaxWithValue", [1], "Tuple[Tensor[Int64],Tensor[Float32]], TupleShape((2), (2))"),
        node(3, "Conv2DBackpropFilter", [1], HALF),
        node(4, "Switch", [1], "Func, NoShape"),
    ]
    assert faults_of(*nodes) == []


@pytest.mark.parametrize(
    "nodes, word",
    [
        ([node(0, "LessScalar", line=5)], "net.py:5: LessScalar"),
        ([node(0, "InplaceAddExt", line=5)], "net.py:5: InplaceAddExt"),
        ([node(0, "MaxPool3DWithArgmax", line=5)], "net.py:5: MaxPool3DWithArgmax"),
        ([node(0, "Unheard", line=5)], "net.py:5: Unheard"),
        ([node(0, "Exp", output="Tensor[Float32], (-1, 4)")], "Float32 (-1, 4)"),
        ([node(0, "Exp", output="Tensor[Float64], (2, 4)")], "float64"),
        ([node(0, "Add", output="Tensor[Int64], (2, 4)")], "int64"),
        ([node(0, "Conv2D"), node(1, "Conv2DBackpropFilter", output=HALF)], "float32"),
        ([node(0, "Mul", output=HALF).replace("net.py", "losses.py")], "losses.py:1: Mul"),
        ([node(i, "Conv2D", output=HALF) for i in range(2)] + [node(2, "Conv2DBackpropFilter", output=HALF)], "twice"),
        ([node(i, "Switch", output="Func, NoShape") for i in range(2)], "2 branches"),
        ([node(0, "X", output="Ref[Tensor[Float32]], (), ref_key=w").replace("PrimFunc_X", "%9")], "net.py:1"),
        ([node(i, "Exp") for i in range(10)], "10 kernels"),
    ],
)
def test_a_planted_fault_is_found(nodes, word, faults_of):
    (fault,) = faults_of(*nodes)
    assert word in fault


def test_a_write_to_a_cast_is_found(faults_of):
    cast = node(1, "Cast", ["%para5_norm.moving_mean", "I64(42)"], HALF)

    def norm(mean, is_training):
        arguments = ["%0", "%para3_norm.gamma", "%para4_norm.beta", mean, "%para6_norm.moving_variance", is_training]
        return node(2, "BatchNorm", [*arguments, "F32(0.1)"], HALF, line=7)

    (fault,) = faults_of(cast, norm("%1", "Bool(1)"))
    assert "net.py:7: BatchNorm" in fault
    assert faults_of(cast, norm("%1", "Bool(0)")) == faults_of(cast, norm("%para5_norm.moving_mean", "Bool(1)")) == []
    (fault,) = faults_of(cast, node(2, "AssignAdd", ["%1", "%0"], line=8))
    assert "net.py:8: AssignAdd" in fault


def test_a_loop_is_found(faults_of):
    loop = subgraph("2_while", node(0, "Partial", output="Func, NoShape").replace("()", "(@2_while)"))
    (fault,) = faults_of(more=[loop])
    assert "2_while" in fault


def test_faults_depend_on_the_expected_properties(faults_of):
    two_branches = [node(i, "Switch", output="Func, NoShape") for i in range(2)]
    assert faults_of(*two_branches, expected=dataclasses.replace(TRAINING, accumulates=True)) == []
    assert len(faults_of(*two_branches, expected=INFERENCE)) == 1
    assert faults_of(node(0, "Conv2D"), expected=INFERENCE) == []
    assert len(faults_of(node(0, "Conv2D", output=HALF), expected=INFERENCE)) == 1
    frozen = dataclasses.replace(TRAINING, is_frozen=True)
    assert faults_of(node(0, "Conv2D", output=HALF), expected=frozen) == []


def test_equal_faults_of_a_line_are_listed_once(faults_of):
    nodes = [node(number, "LessScalar", line=line) for number, line in enumerate((5, 5, 6))]
    assert len(faults_of(*nodes)) == 2


def test_views_do_not_count_as_kernels(tmp_path):
    nodes = [node(0, "Exp"), node(1, "Reshape", [0]), node(2, "TupleGetItem", [1]), node(3, "Exp", [2])]
    graph = read_graph(write_graph(tmp_path / "graph.ir", subgraph("1_main", *nodes)))
    assert count_kernels(graph, read_primitives()) == {"Exp": 2}


GE_LIBRARIES = (
    "plugin/ascend/libmindspore_ascend_res_manager.so",
    "plugin/ascend/libmindspore_graph_ir.so",
    "libmindspore_ge_backend.so",
    "libmindspore_backend_common.so",
)


def test_primitives_are_those_of_the_installed_package():
    """Names of over 8 letters are stored as text in the libraries; the compiler may store shorter ones as numbers."""
    libraries = Path(mindspore.__file__).parent / "lib"
    if not (libraries / GE_LIBRARIES[0]).is_file():
        pytest.skip("this package of MindSpore has no libraries for Ascend")
    content = b"".join((libraries / name).read_bytes() for name in GE_LIBRARIES)
    groups = read_primitives().groups
    for name in (*groups["adapter"], *groups["expander"]):
        assert len(name) <= 8 or name.encode() in content, name
    assert [name for name in groups["kbk"] if name.encode() in content] == []
    kernels = libraries / "plugin/ascend/custom_aicpu_ops/op_impl/cpu/config/cust_aicpu_kernel.json"
    listed = kernels.read_text()
    assert [name for name in groups["aicpu"] if f'"{name}"' not in listed] == []


PLANTED = {
    "LessThanNumber": "LessScalar",
    "AddInPlace": "InplaceAddExt",
    "DynamicShape": "(-1, 2, 8, 8)",
    "Float64": "float64",
    "PaddedPooling": "MaxPool3DWithArgmax",
    "ReturnedParameter": "returns a parameter",
}


@pytest.mark.slow
def test_faults_are_found_in_compiled_networks(tmp_path):
    script = ROOT / "tests" / "jobs" / "planted_faults.py"
    environment = {"MS_DEV_SAVE_GRAPHS": "1", "MS_DEV_SAVE_GRAPHS_PATH": str(tmp_path), "GLOG_v": "3"}
    subprocess.run([sys.executable, script], env={**os.environ, **environment}, cwd=tmp_path, timeout=100)
    paths = sorted(tmp_path.rglob("*_validate_*.ir"), key=lambda path: path.stat().st_mtime_ns)
    for (network, word), path in zip(PLANTED.items(), paths, strict=True):
        assert network in path.read_text(encoding="utf-8", errors="replace")
        faults = find_faults(read_graph(path), read_primitives(), INFERENCE)
        assert any(word in fault and "tests/jobs/planted_faults.py:" in fault for fault in faults), faults


def test_all_recipes_are_checked_by_default():
    names = {Path(path).name for path in ascend_check.shipped_recipes()}
    assert {"ssd_mobilenetv2.yaml", "ssdlite_mobilenetv2.yaml", "ssd_shapes.yaml"} <= names


RECIPES = {
    "extras": "__BASE__: {root}/tests/tiny.yaml",
    "convs": "__BASE__: {root}/examples/det/ssd/ssd_resnet50.yaml\nbackbone: resnet18\nnum_classes: 4",
    "fpn": "__BASE__: {root}/examples/det/ssd/ssd_resnet50_fpn.yaml\nbackbone: resnet18\nnum_classes: 4\n"
    "fpn_channels: 32\nnum_addition_layers: 1\nbatch_size: 2",
}


@pytest.mark.slow
@pytest.mark.parametrize(
    "recipe, soc, variants",
    [
        ("extras", "910A", ["accumulate+ema+clip+dynamic+task_aligned+adamw"]),
        ("convs", "910B", ["plain"]),
        ("fpn", "910B", ["inference"]),
    ],
)
def test_a_small_recipe_of_each_kind_has_no_faults(recipe, soc, variants, tmp_path):
    path = tmp_path / f"{recipe}.yaml"
    path.write_text(RECIPES[recipe].format(root=ROOT))
    command = [sys.executable, "tools/ascend_check.py", "--config", path, "--soc", soc, "--variants", *variants]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=280)
    assert result.returncode == 0, result.stdout + result.stderr
    rows = [line.split(" | ") for line in result.stdout.splitlines() if line.startswith(f"| {recipe} |")]
    assert [(row[1], row[2]) for row in rows] == [(soc, variant) for variant in variants]
    assert "primitives: " in result.stdout and " Conv2D " in result.stdout


def test_an_unknown_variant_is_refused():
    command = [sys.executable, "tools/ascend_check.py", "--config", "tests/tiny.yaml", "--variants", "plane"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100)
    assert result.returncode == 2 and "plane" in result.stderr and "Traceback" not in result.stderr


@pytest.fixture
def run_command(without_progress):
    """run_command("--soc", "910B", …) returns the CompletedProcess of ascend_check.py, without lines of progress."""

    def run(*arguments):
        command = [sys.executable, ROOT / "tools" / "ascend_check.py", *map(str, arguments)]
        result = subprocess.run(command, capture_output=True, text=True, timeout=300)
        result.stderr = without_progress(result.stderr)
        return result

    return run


@pytest.mark.parametrize(
    "arguments, place",
    [
        (["--config", "missing.yaml"], "missing.yaml"),
        (["--config", ROOT / "tests" / "tiny.yaml", "--max_gt", "0"], "--max_gt"),
    ],
)
def test_mistakes_are_reported_before_the_table(arguments, place, run_command):
    result = run_command(*arguments)
    assert result.returncode == 2 and result.stdout == ""
    assert result.stderr.startswith(f"error: {place}: ") and result.stderr.count("\n") == 1


def test_a_network_that_cannot_be_created_is_reported_as_in_training(tmp_path, run_command):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(f"__BASE__: {ROOT / 'tests' / 'tiny.yaml'}\nbackbone: mobilenet_v9\n")
    result = run_command("--config", recipe, "--soc", "910B", "--variants", "inference")
    assert result.returncode == 2
    assert result.stderr.startswith("error: backbone: ") and result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "stderr, expected",
    [
        ("", ""),
        ("Killed\n", ""),
        ("Traceback (most recent call last):\n  File\nValueError: first.\n\n---\n- Call Stack\n", "first"),
        ("KeyError: 'a'\n\nDuring handling …\n\nmindspore.common.SomeError: second\nmore\n", "second"),
    ],
)
def test_the_reason_is_that_of_the_last_exception(stderr, expected):
    assert ascend_check.error_reason(stderr) == expected

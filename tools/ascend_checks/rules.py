"""Rules for graphs that an Ascend NPU must be able to compile and run."""

from __future__ import annotations

import collections
import dataclasses
from pathlib import Path

import yaml

from .ir import Graph, Node

PRIMITIVES_PATH = Path(__file__).with_name("primitives.yaml")
# Primitives whose int64 outputs are indices that the graph casts at once.
INT64_INDICES = ("ArgMaxWithValue", "Gather", "TopK")
# Beginnings of the names of primitives that compute the layers of a network and their gradients.
NETWORK_KERNELS = ("Conv2D", "BatchNorm", "ReLU", "Relu", "BiasAdd", "HSwish", "HSigmoid", "MaxPool", "ResizeBilinear")
# Positions of the arguments that a primitive writes. BatchNorm writes only in training.
WRITTEN = {"BatchNorm": (3, 4), "Assign": (0,), "AssignAdd": (0,), "ApplyMomentum": (0, 1), "Adam": (0, 1, 2)}
LOSS_FILES = ("losses.py", "hard_negatives.py", "target_assigner.py", "box_coder.py")


@dataclasses.dataclass(frozen=True)
class Primitives:
    """Groups of primitives by their support in Ascend's backends. primitives.yaml explains the groups."""

    groups: dict[str, dict[str, str | None]]

    def group_of(self, primitive: str) -> str | None:
        """Return the name of the primitive's group, or None if the primitive is unknown."""
        return next((name for name, members in self.groups.items() if primitive in members), None)

    @property
    def views(self) -> set[str]:
        """Return the primitives that launch no kernel."""
        return {*self.groups["structure"], *self.groups["view"]}


def read_primitives() -> Primitives:
    """Read primitives.yaml."""
    return Primitives(yaml.safe_load(PRIMITIVES_PATH.read_text(encoding="utf-8"))["groups"])


@dataclasses.dataclass(frozen=True)
class Expected:
    """Properties that a graph must have.

    amp_level: mixed precision level of the recipe
    is_training: True for a training step
    accumulates: True if the training step accumulates gradients
    is_frozen: True if a part of the network is not trained
    max_kernels: maximum number of kernels
    """

    amp_level: str
    is_training: bool
    accumulates: bool
    is_frozen: bool
    max_kernels: int


def count_kernels(graph: Graph, primitives: Primitives) -> collections.Counter[str]:
    """Count the nodes that launch a kernel, by primitive."""
    views = primitives.views | {"call"}
    return collections.Counter(node.primitive for node in graph.nodes if node.primitive not in views)


def is_network_kernel(primitive: str) -> bool:
    """Return True for the kernels of layers, whose number is given by the network."""
    return primitive.startswith(NETWORK_KERNELS)


def find_faults(graph: Graph, primitives: Primitives, expected: Expected) -> list[str]:
    """Check a graph, and return one line for each fault. Equal faults of the same source line are listed once."""
    faults: list[str] = []
    for node in graph.nodes:
        reasons = [*_primitive_faults(node, primitives), *_type_faults(node, expected)]
        faults += [f"{node.source}: {node.primitive}: {reason}" for reason in reasons]
    faults += _copy_faults(graph)
    faults += _structure_faults(graph, expected)
    num_kernels = count_kernels(graph, primitives).total()
    if num_kernels > expected.max_kernels:
        faults.append(f"the graph launches {num_kernels:,} kernels, more than {expected.max_kernels:,}")
    return list(dict.fromkeys(faults))


def _primitive_faults(node: Node, primitives: Primitives) -> list[str]:
    group = primitives.group_of(node.primitive)
    if node.primitive == "call" or group in ("structure", "view", "adapter", "expander"):
        return []
    if group is None:
        return ["primitives.yaml does not list the primitive, so its support on NPUs is unknown"]
    note = primitives.groups[group][node.primitive]
    reasons = {
        "kbk": "the GE backend (jit level O2) cannot compile the primitive",
        "aicpu": "an NPU runs the primitive on its AI CPU, which is slow",
        "refused": "the primitive is not safe under the GE backend",
    }
    return [reasons[group] + (f". {note}" if note else "")]


def _type_faults(node: Node, expected: Expected) -> list[str]:
    faults = []
    dtypes = {tensor.dtype for tensor in node.outputs}
    if any(-1 in tensor.shape or -2 in tensor.shape for tensor in node.outputs):
        faults.append(f"the shape {node.outputs[0]} is dynamic")
    if "Float64" in dtypes:
        faults.append("the output is float64")
    if "Int64" in dtypes and node.primitive not in (*INT64_INDICES, "TupleGetItem", "MakeTuple", "Depend", "Cast"):
        faults.append("the output is int64")
    uses_float16 = expected.amp_level in ("O2", "O3")
    if node.primitive.startswith("Conv2D") and ("Float16" in dtypes) != uses_float16:
        faults.append(f"the output is {'float32' if uses_float16 else 'float16'} at AMP level {expected.amp_level}")
    if "Float16" in dtypes and node.primitive not in ("Cast", "TupleGetItem", "MakeTuple", "Depend"):
        innermost = Path(node.source.rpartition(":")[0]).name
        if innermost in LOSS_FILES:
            faults.append("the loss or the target assignment computes in float16")
    return faults


def _copy_faults(graph: Graph) -> list[str]:
    """Check that primitives write to parameters, not to casts of them, whose values are lost."""
    faults = []
    for subgraph in graph.subgraphs:
        casts = {f"%{node.number}" for node in subgraph.nodes if node.primitive == "Cast"}
        for node in subgraph.nodes:
            written = {node.arguments[i] for i in WRITTEN.get(node.primitive, ()) if i < len(node.arguments)}
            if written & casts and (node.primitive != "BatchNorm" or "Bool(1)" in node.arguments):
                faults.append(
                    f"{node.source}: {node.primitive}: writes to a cast of a parameter, which stays unchanged"
                )
    return faults


def _structure_faults(graph: Graph, expected: Expected) -> list[str]:
    """Check the number of convolutions, and the control flow."""
    faults = []
    count = collections.Counter(node.primitive for node in graph.nodes)
    if expected.is_training and not expected.is_frozen and count["Conv2D"] != count["Conv2DBackpropFilter"]:
        faults.append(
            f"the graph has {count['Conv2D']} convolutions, but {count['Conv2DBackpropFilter']} gradients of filters. "
            "It computes a part of the forward pass twice"
        )
    max_switches = expected.is_training + expected.accumulates
    if count["Switch"] > max_switches:
        faults.append(f"the graph has {count['Switch']} branches instead of at most {max_switches}")
    faults += [
        f"{node.source}: a branch returns a parameter, which the GE backend does not support"
        for node in graph.nodes
        if node.primitive == "call" and "Ref[" in node.output_text
    ]
    faults += [
        f"the graph contains a loop, {subgraph.name}, which the GE backend does not support"
        for subgraph in graph.subgraphs
        if subgraph.calls_itself
    ]
    return faults

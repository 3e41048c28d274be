"""Estimate the device memory of a compiled graph from the shapes and lifetimes of its tensors."""

from __future__ import annotations

import dataclasses
from collections.abc import Container, Sequence

from .ir import Graph, Node, Subgraph, TensorType


@dataclasses.dataclass(frozen=True)
class LiveTensor:
    """A tensor in memory at the peak.

    type: data type and shape
    primitive: primitive that computed the tensor
    source: "file:line" of the code that created the primitive
    """

    type: TensorType
    primitive: str
    source: str


@dataclasses.dataclass(frozen=True)
class MemoryEstimate:
    """Estimated device memory of a graph.

    parameter_bytes: weights, optimizer state and inputs of the graph
    peak_bytes: largest sum of the bytes of all other tensors that exist at the same time
    largest: the largest tensors at the peak, in descending order of bytes
    """

    parameter_bytes: int
    peak_bytes: int
    largest: tuple[LiveTensor, ...]

    @property
    def total_bytes(self) -> int:
        return self.parameter_bytes + self.peak_bytes


def estimate_memory(graph: Graph, views: Container[str], num_largest: int = 5) -> MemoryEstimate:
    """Estimate the memory of a graph whose nodes are executed in the order of the IR.

    A tensor exists from the node that computes it to the last node that reads it. Workspaces of kernels, fragmentation
    and reordering by the backend are not counted.

    views: primitives whose outputs share the memory of an input
    num_largest: number of tensors to list
    """
    parameter_bytes = sum(parameter.num_bytes for parameter in graph.parameters.values())
    entry, *branches = graph.subgraphs
    branch_peak = max((_peak(branch, views)[0] for branch in branches), default=0)
    peak, live = _peak(entry, views, call_bytes=branch_peak)
    largest = sorted(live, key=lambda tensor: -tensor.type.num_bytes)[:num_largest]
    return MemoryEstimate(parameter_bytes, peak, tuple(largest))


def _peak(subgraph: Subgraph, views: Container[str], call_bytes: int = 0) -> tuple[int, list[LiveTensor]]:
    """Return the largest number of bytes that exist at the same time, and the tensors at that moment.

    call_bytes: bytes that the call of another subgraph needs
    """
    nodes = subgraph.nodes
    owners = _find_owners(nodes, views)
    last_read = {}
    for position, node in enumerate(nodes):
        for number in node.inputs:
            for owner in owners.get(number, ()):
                last_read[owner] = position
    by_number = {node.number: node for node in nodes}
    expiring: dict[int, list[int]] = {}
    for number, position in last_read.items():
        expiring.setdefault(position, []).append(number)
    current, peak, peak_position = 0, 0, 0
    for position, node in enumerate(nodes):
        current += _bytes(node) if owners[node.number] == (node.number,) else 0
        here = current + (call_bytes if node.primitive == "call" else 0)
        if here > peak:
            peak, peak_position = here, position
        current -= sum(_bytes(by_number[number]) for number in expiring.get(position, ()))
        if node.number not in last_read and owners[node.number] == (node.number,):
            current -= _bytes(node)  # nothing reads the result
    live = [
        LiveTensor(tensor, node.primitive, node.source)
        for position, node in enumerate(nodes[: peak_position + 1])
        if owners[node.number] == (node.number,) and last_read.get(node.number, position) >= peak_position
        for tensor in node.outputs
    ]
    return peak, live


def _find_owners(nodes: Sequence[Node], views: Container[str]) -> dict[int, tuple[int, ...]]:
    """Return {number of a node: numbers of the nodes whose memory contains the node's outputs}."""
    owners: dict[int, tuple[int, ...]] = {}
    for node in nodes:
        if node.primitive in views:
            owners[node.number] = tuple(
                dict.fromkeys(owner for number in node.inputs for owner in owners.get(number, ()))
            )
        else:
            owners[node.number] = (node.number,)
    return owners


def _bytes(node: Node) -> int:
    return 0 if "Ref[" in node.output_text else sum(tensor.num_bytes for tensor in node.outputs)

"""Append decoding, the selection of candidates, and NMS to an ONNX model, with ONNX's own operators.

MindSpore 2.10 cannot export these parts: onnxruntime does not load its TopK.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from .onnx_network import LOGITS_NAME, OFFSETS_NAME

POSTPROCESS_PREFIX = "post_"  # of the names of all nodes in this file
BOXES_NAME, SCORES_NAME, LABELS_NAME = "boxes", "scores", "labels"
ALL_BOXES_NAME, ALL_SCORES_NAME = "all_boxes", "all_scores"  # of all anchors, for comparisons


@dataclasses.dataclass(frozen=True)
class NmsSettings:
    """Settings of hard NMS within each class, see MulticlassNMS."""

    min_score: float
    nms_threshold: float
    max_detections: int


class _GraphBuilder:
    """Append operators to an ONNX graph. Each method that appends an operator returns the name of its output."""

    def __init__(self, graph: onnx.GraphProto):
        self.graph = graph
        self.count = 0

    def constant(self, value: np.ndarray | Sequence[int] | int | float) -> str:
        """Store a constant. Python integers become int64, and Python floats become float32."""
        array = np.asarray(value)
        if not isinstance(value, np.ndarray):
            array = array.astype(np.float32 if array.dtype.kind == "f" else np.int64)
        name = self._new_name("constant")
        self.graph.initializer.append(numpy_helper.from_array(array, name))
        return name

    def add(self, operator: str, inputs: Sequence[str], *, output: str | None = None, **attributes: Any) -> str:
        """Append an operator with one output."""
        name = output or self._new_name(operator.lower())
        node_name = name if output is None else f"{POSTPROCESS_PREFIX}{output}"
        self.graph.node.append(helper.make_node(operator, list(inputs), [name], name=node_name, **attributes))
        return name

    def top_k(self, values: str, count: int) -> tuple[str, str]:
        """Append TopK along the last axis. Returns the names of the values and of the indices."""
        k = self.constant([count])
        names = self._new_name("topk_values"), self._new_name("topk_indices")
        self.graph.node.append(helper.make_node("TopK", [values, k], list(names), name=names[0], axis=-1))
        return names

    def slice(self, value: str, start: int, end: int) -> str:
        """Append Slice along the last axis."""
        return self.add(
            "Slice", [value, self.constant([start]), self.constant([end]), self.constant([-1]), self.constant([1])]
        )

    def gather_rows(self, rows: str, indices: str, num_columns: int) -> str:
        """Select rows of each image. rows: (B, N, num_columns); indices: (B, T). Returns (B, T, num_columns)."""
        repeated = self.add(
            "Tile", [self.add("Unsqueeze", [indices, self.constant([2])]), self.constant([1, 1, num_columns])]
        )
        return self.add("GatherElements", [rows, repeated], axis=1)

    def _new_name(self, kind: str) -> str:
        self.count += 1
        return f"{POSTPROCESS_PREFIX}{kind}_{self.count}"


def append_postprocess(
    model: onnx.ModelProto,
    anchors_cyxhw: np.ndarray,
    prior_scaling: Sequence[float],
    *,
    num_classes: int,
    softmax: bool,
    top_k: int,
    nms: NmsSettings | None,
) -> None:
    """Append the post-processing to a model with raw predictions, and replace its outputs.

    The new outputs are those of TopKCandidates: `boxes` (B, T, 4) float32, corners y0, x0, y1, x1 as fractions of the
    image size; `scores` (B, T) float32 in descending order; `labels` (B, T) int32. With NMS, T is at most
    max_detections, and entries after the last detection have the score 0.

    model: ONNX model of `convert_network`, which is changed in place
    anchors_cyxhw: (A, 4) float32, anchors as fractions of the image height and width
    prior_scaling: (center_scale, size_scale), SSD's variances
    num_classes: number K of classes, background included
    softmax: True for scores from a softmax over all classes; False for sigmoid scores
    top_k: largest number of candidates
    nms: settings of NMS; None leaves NMS to the program that runs the model
    """
    graph = model.graph
    batch = graph.output[0].type.tensor_type.shape.dim[0]
    batch_size: int | str = batch.dim_param or batch.dim_value
    builder = _GraphBuilder(graph)
    num_anchors, num_object_classes = len(anchors_cyxhw), num_classes - 1
    all_boxes = _decode(builder, anchors_cyxhw, prior_scaling)
    logits = LOGITS_NAME
    scores = builder.add("Softmax", [logits], axis=2) if softmax else builder.add("Sigmoid", [logits])
    all_scores = builder.add("Identity", [builder.slice(scores, 1, num_classes)], output=ALL_SCORES_NAME)

    # Select anchors first, as TopKCandidates does, because sorting all anchors of all classes is slow.
    count = min(top_k, num_anchors)
    _, anchor = builder.top_k(builder.add("ReduceMax", [all_scores], axes=[2], keepdims=0), count)
    rows = builder.gather_rows(all_scores, anchor, num_object_classes)
    pairs = builder.add("Reshape", [rows, builder.constant([0, count * num_object_classes])])
    num_candidates = min(top_k, count * num_object_classes)
    candidate_scores, pair = builder.top_k(pairs, num_candidates)
    row = builder.add("Div", [pair, builder.constant(num_object_classes)])
    class_index = builder.add("Sub", [pair, builder.add("Mul", [row, builder.constant(num_object_classes)])])
    boxes = builder.gather_rows(all_boxes, builder.add("GatherElements", [anchor, row], axis=1), 4)
    num_outputs = num_candidates
    if nms:
        num_outputs = min(nms.max_detections, num_candidates)
        boxes, candidate_scores, class_index = _append_nms(
            builder,
            boxes,
            candidate_scores,
            class_index=class_index,
            num_classes=num_object_classes,
            settings=nms,
            num_outputs=num_outputs,
        )
    builder.add("Identity", [boxes], output=BOXES_NAME)
    builder.add("Identity", [candidate_scores], output=SCORES_NAME)
    label = builder.add("Add", [class_index, builder.constant(1)])
    builder.add("Cast", [label], output=LABELS_NAME, to=TensorProto.INT32)
    del graph.output[:]
    graph.output.extend(
        [
            helper.make_tensor_value_info(BOXES_NAME, TensorProto.FLOAT, [batch_size, num_outputs, 4]),
            helper.make_tensor_value_info(SCORES_NAME, TensorProto.FLOAT, [batch_size, num_outputs]),
            helper.make_tensor_value_info(LABELS_NAME, TensorProto.INT32, [batch_size, num_outputs]),
        ]
    )


def with_all_anchors(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy of a model that also outputs the boxes and the scores of all anchors, for comparisons."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    copy.graph.output.extend(
        [
            helper.make_tensor_value_info(ALL_BOXES_NAME, TensorProto.FLOAT, None),
            helper.make_tensor_value_info(ALL_SCORES_NAME, TensorProto.FLOAT, None),
        ]
    )
    return copy


def _decode(builder: _GraphBuilder, anchors_cyxhw: np.ndarray, prior_scaling: Sequence[float]) -> str:
    """Append the decoding of boxes, see DecodeBoxes. Returns the name of the boxes (B, A, 4)."""
    center_scale, size_scale = prior_scaling
    anchor_sizes = builder.constant(np.ascontiguousarray(anchors_cyxhw[:, 2:]))
    shifts = builder.add("Mul", [builder.slice(OFFSETS_NAME, 0, 2), builder.constant(float(center_scale))])
    centers = builder.add(
        "Add",
        [builder.add("Mul", [shifts, anchor_sizes]), builder.constant(np.ascontiguousarray(anchors_cyxhw[:, :2]))],
    )
    log_ratios = builder.add("Mul", [builder.slice(OFFSETS_NAME, 2, 4), builder.constant(float(size_scale))])
    sizes = builder.add("Mul", [builder.add("Exp", [log_ratios]), anchor_sizes])
    half_sizes = builder.add("Div", [sizes, builder.constant(2.0)])
    corners = [builder.add(operator, [centers, half_sizes]) for operator in ("Sub", "Add")]
    boxes = builder.add("Concat", corners, axis=2)
    return builder.add("Clip", [boxes, builder.constant(0.0), builder.constant(1.0)], output=ALL_BOXES_NAME)


def _append_nms(
    builder: _GraphBuilder,
    boxes: str,
    scores: str,
    *,
    class_index: str,
    num_classes: int,
    settings: NmsSettings,
    num_outputs: int,
) -> tuple[str, str, str]:
    """Append NMS within each class, and the limit on the number of detections.

    boxes, scores, class_index: names of the candidates (B, T, 4), (B, T) and (B, T) int64 from 0
    num_classes: number of object classes
    num_outputs: number D of entries for the detections of an image, at most T
    Returns the names of the boxes (B, D, 4), scores (B, D) and class indices (B, D) of the detections.
    """
    has_area = [  # a box outside the image has no area after clipping
        builder.add("Greater", [builder.slice(boxes, axis + 2, axis + 3), builder.slice(boxes, axis, axis + 1)])
        for axis in (0, 1)
    ]
    valid = builder.add("Squeeze", [builder.add("And", has_area), builder.constant([2])])
    scores = builder.add("Mul", [scores, builder.add("Cast", [valid], to=TensorProto.FLOAT)])
    classes = builder.constant(np.arange(num_classes, dtype=np.int64)[None, :, None])
    is_class = builder.add("Equal", [builder.add("Unsqueeze", [class_index, builder.constant([1])]), classes])
    class_scores = builder.add(  # (B, C, T); candidates of other classes have the score 0
        "Mul",
        [
            builder.add("Cast", [is_class], to=TensorProto.FLOAT),
            builder.add("Unsqueeze", [scores, builder.constant([1])]),
        ],
    )
    # NonMaxSuppression keeps scores above its threshold, and MulticlassNMS also scores that equal min_score.
    threshold = np.nextafter(np.float32(settings.min_score), np.float32(-1))
    kept = builder.add(  # (N, 3): index of the image, class and candidate
        "NonMaxSuppression",
        [
            boxes,
            class_scores,
            builder.constant([settings.max_detections]),
            builder.constant(float(settings.nms_threshold)),
            builder.constant(np.float32(max(threshold, 0)).reshape(1)),
        ],
    )
    places = builder.add("Gather", [kept, builder.constant([0, 2])], axis=1)  # index of the image and candidate
    kept_scores = builder.add(
        "ScatterND",
        [builder.add("Mul", [scores, builder.constant(0.0)]), places, builder.add("GatherND", [scores, places])],
    )
    final_scores, order = builder.top_k(kept_scores, num_outputs)
    return (
        builder.gather_rows(boxes, order, 4),
        final_scores,
        builder.add("GatherElements", [class_index, order], axis=1),
    )

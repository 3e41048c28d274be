"""IoU of all pairs of boxes in a MindSpore graph. The NumPy reference is `ssd.boxes.ops.pairwise_iou`."""

from __future__ import annotations

from collections.abc import Sequence

from mindspore import Tensor, ops


def pairwise_iou(gt_boxes_yxyx: Tensor, corners: Sequence[Tensor], area: Tensor) -> Tensor:
    """Compute the IoU of every ground-truth box with every other box of its image.

    gt_boxes_yxyx: (B, M, 4), corners y0, x0, y1, x1
    corners: y0, x0, y1, x1 of the other boxes, (A,) or (B, 1, A) each, in the unit of the ground-truth boxes
    area: (A,) or (B, 1, A), areas of the other boxes, above 0
    Returns (B, M, A), IoUs 0..1.
    """
    # Compute each coordinate separately, to avoid tensors of shape (B, M, A, 2). Repeat the coordinates first, because
    # MindSpore's CPU backend takes ten times as long for a minimum of tensors with different shapes.
    y0, x0, y1, x1 = ops.split(gt_boxes_yxyx, 1, axis=2)  # (B, M, 1) each
    other_y0, other_x0, other_y1, other_x1 = corners
    height = _overlap(y0, y1, other_low=other_y0, other_high=other_y1)
    width = _overlap(x0, x1, other_low=other_x0, other_high=other_x1)
    intersection = height * width
    return intersection / ((y1 - y0) * (x1 - x0) + area - intersection)


def _overlap(low: Tensor, high: Tensor, other_low: Tensor, other_high: Tensor) -> Tensor:
    """Compute the length of the overlap of all pairs of intervals.

    low, high: (B, M, 1), ends of the intervals
    other_low, other_high: (A,) or (B, 1, A), ends of the other intervals
    Returns (B, M, A), 0 for intervals that do not overlap.
    """
    shape = (low.shape[0], low.shape[1], other_low.shape[-1])
    last_start = ops.maximum(ops.broadcast_to(low, shape), ops.broadcast_to(other_low, shape))
    first_end = ops.minimum(ops.broadcast_to(high, shape), ops.broadcast_to(other_high, shape))
    return ops.maximum(first_end - last_start, 0.0)

"""IoU of all pairs of boxes in a MindSpore graph. The NumPy reference is `ssd.boxes.ops.pairwise_iou`."""

from __future__ import annotations

from collections.abc import Sequence

from mindspore import Tensor, ops


def pairwise_iou(gt_boxes_yxyx: Tensor, sides: Sequence[Tensor], area: Tensor) -> Tensor:
    """Compute the IoU of every ground-truth box with every other box of its image.

    gt_boxes_yxyx: (B, M, 4), corners y0, x0, y1, x1
    sides: corners y0, x0, y1, x1 of the other boxes, (A,) or (B, 1, A) each, in the unit of the ground-truth boxes
    area: (A,) or (B, 1, A), areas of the other boxes, above 0
    Returns (B, M, A), IoUs 0..1.
    """
    # Compute each coordinate separately, to avoid tensors of shape (B, M, A, 2).
    y0, x0, y1, x1 = ops.split(gt_boxes_yxyx, 1, axis=2)  # (B, M, 1) each
    other_y0, other_x0, other_y1, other_x1 = sides
    height = ops.maximum(ops.minimum(y1, other_y1) - ops.maximum(y0, other_y0), 0.0)
    width = ops.maximum(ops.minimum(x1, other_x1) - ops.maximum(x0, other_x0), 0.0)
    intersection = height * width
    return intersection / ((y1 - y0) * (x1 - x0) + area - intersection)

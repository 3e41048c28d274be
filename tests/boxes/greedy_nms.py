"""Hard NMS box by box, which tests compare with the faster one of the package."""

import numpy as np

from ssd.boxes.ops import pairwise_iou


def greedy_nms(boxes, scores, labels, iou_threshold):
    """Return the indices of the kept boxes: no kept box of the same class has an IoU above the threshold with them."""
    kept = []
    for index in np.argsort(-scores, kind="stable"):
        same_class = [other for other in kept if labels[other] == labels[index]]
        if not (pairwise_iou(boxes[index][None], boxes[same_class]) > iou_threshold).any():
            kept.append(index)
    return kept

"""The best overlap of objects with anchors, without comparing all of them.

Of boxes of one shape on a grid, the one whose row and whose column are nearest to the object's centre overlaps it
most: what two intervals share depends on the distance of their middles alone, and never grows with it. So each shape
needs one comparison an object instead of one for each of its places: 40 times as fast for 1,917 anchors.
"""

from __future__ import annotations

import numpy as np


class Overlap:
    """Overlaps of fixed objects with shapes at the places of some anchors.

    boxes_yxyx: (N, 4), 0..1; anchors: of ssd.boxes.anchors, whose places are taken and whose shapes may be others
    """

    def __init__(self, boxes_yxyx: np.ndarray, anchors):
        boxes = np.asarray(boxes_yxyx, dtype=np.float64)
        self.sides = boxes[:, 2:] - boxes[:, :2]
        centers = (boxes[:, 2:] + boxes[:, :2]) / 2
        self.distances = [
            np.stack([_nearest(rows, centers[:, 0]), _nearest(columns, centers[:, 1])], axis=1)
            for rows, columns, _ in _levels(anchors)
        ]

    def best(self, level: int, shapes_hw: np.ndarray) -> np.ndarray:
        """The best IoU of each object with boxes of these shapes at a level. shapes_hw: (S, 2), 0..1 -> (N,)"""
        shared = 1.0
        for axis in (0, 1):
            side, shape = self.sides[:, axis, None], shapes_hw[None, :, axis]
            reach = (side + shape) / 2 - self.distances[level][:, axis, None]
            shared = shared * np.clip(reach, 0, np.minimum(side, shape))
        union = self.sides.prod(axis=1)[:, None] + shapes_hw.prod(axis=1) - shared
        return (shared / union).max(axis=1)


def best_iou(boxes_yxyx: np.ndarray, anchors) -> np.ndarray:
    """The best IoU of each object with any anchor. boxes_yxyx: (N, 4), 0..1, sides above 0; anchors: of
    ssd.boxes.anchors -> (N,) float64"""
    overlap = Overlap(boxes_yxyx, anchors)
    return np.max([overlap.best(level, shapes) for level, (_, _, shapes) in enumerate(_levels(anchors))], axis=0)


def shapes_of(anchors) -> list[np.ndarray]:
    """(S, 2) height and width of the boxes of a place, 0..1, for each level."""
    return [shapes for _, _, shapes in _levels(anchors)]


def _levels(anchors) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Centres of the rows, of the columns, and (S, 2) shapes of each level."""
    levels, start = [], 0
    for (rows, columns), count in zip(anchors.feature_sizes, anchors.num_per_location):
        end = start + rows * columns * count
        boxes = anchors.boxes_cyxhw[start:end].reshape(rows, columns, count, 4).astype(np.float64)
        levels.append((boxes[:, 0, 0, 0], boxes[0, :, 0, 1], boxes[0, 0, :, 2:]))
        start = end
    return levels


def _nearest(places: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Distance of each value to the nearest place. places: ascending"""
    return np.abs(values - places[np.searchsorted((places[1:] + places[:-1]) / 2, values)])

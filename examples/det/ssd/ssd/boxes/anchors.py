"""Anchors: the fixed boxes that the heads' predictions are relative to, computed once from a recipe.

Order is part of the published weights: level by level, rows of the feature map, its columns, the boxes of a location.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from .ops import cyxhw_to_yxyx


class _Anchors:
    """What both kinds share: `.boxes_cyxhw` and `.boxes_yxyx`, (A, 4) float32 in units of the image, not cut off at it;
    `.feature_sizes`, (height, width) of each level; `.num_per_location`, boxes at each location of each level."""

    def __init__(
        self,
        image_size: Sequence[int],
        steps: Sequence[int],
        sizes_per_level: list[list[tuple[float, float]]],
        clip: bool = False,
    ):
        """sizes_per_level: for each level the (height, width) of its boxes, in units of the image; clip: limit centres
        and sizes to 0..1"""
        height, width = image_size
        self.feature_sizes = [(math.ceil(height / step), math.ceil(width / step)) for step in steps]
        self.num_per_location = [len(sizes) for sizes in sizes_per_level]
        levels = []
        for (rows, cols), step, sizes in zip(self.feature_sizes, steps, sizes_per_level):
            cy = (np.arange(rows) + 0.5) * step / height
            cx = (np.arange(cols) + 0.5) * step / width
            boxes = np.empty((rows, cols, len(sizes), 4))
            boxes[..., 0] = cy[:, None, None]
            boxes[..., 1] = cx[None, :, None]
            boxes[..., 2:] = sizes
            levels.append(boxes.reshape(-1, 4))
        boxes_cyxhw = np.concatenate(levels)
        if clip:
            boxes_cyxhw = np.clip(boxes_cyxhw, 0, 1)
        # Rounded to float32 only here, so that corners are not the rounding of a rounding.
        self.boxes_cyxhw = boxes_cyxhw.astype(np.float32)
        self.boxes_yxyx = cyxhw_to_yxyx(boxes_cyxhw).astype(np.float32)

    def __len__(self) -> int:
        return len(self.boxes_cyxhw)


class DefaultBoxes(_Anchors):
    """The default boxes of the SSD paper (arXiv:1512.02325, section 2.2), with the linear scales of TensorFlow's SSD.

    image_size: (height, width) in pixels; steps: pixels between locations, one a level
    min_scale, max_scale: box sizes of the first and last level in units of the image; those between are spaced evenly
    aspect_ratios: for each level the ratios besides 1, each of which gives a box and its transpose. Every level also
        has a square of its own scale and one of the geometric mean with the next level's, except a first level without
        ratios, which has a square of 0.1 and the two boxes of ratio 2 (the reduced lowest layer of TensorFlow's SSD).
    box_sizes: sizes in pixels, one a level and one beyond the last, instead of min_scale and max_scale
    clip: limit centres and sides (not corners) to the image, as NVIDIA's SSD300 does
    """

    def __init__(
        self,
        image_size: Sequence[int],
        steps: Sequence[int],
        min_scale: float,
        max_scale: float,
        aspect_ratios: Sequence[Sequence[float]],
        box_sizes: Sequence[float] | None = None,
        clip: bool = False,
    ):
        last = max(len(steps) - 1, 1)
        scales = [min_scale + (max_scale - min_scale) / last * level for level in range(len(steps))] + [1.0]
        height, width = 1, 1  # scales are shares of each side
        if box_sizes is not None:
            scales, (height, width) = list(box_sizes), image_size
        sizes_per_level = []
        for level, ratios in enumerate(aspect_ratios):
            scale, next_scale = scales[level], scales[level + 1]
            if level == 0 and not ratios and box_sizes is None:
                sizes = [(0.1, 0.1), *self._pair(scale, 2.0)]
            else:
                sizes = [(scale, scale)]
                for ratio in ratios:
                    sizes += self._pair(scale, ratio)
                sizes.append((math.sqrt(scale * next_scale),) * 2)
            sizes_per_level.append([(tall / height, wide / width) for tall, wide in sizes])
        super().__init__(image_size, steps, sizes_per_level, clip)

    @staticmethod
    def _pair(scale: float, ratio: float) -> list[tuple[float, float]]:
        """(height, width) of the wide box of this ratio, then of the tall one."""
        long, short = scale * math.sqrt(ratio), scale / math.sqrt(ratio)
        return [(short, long), (long, short)]


class GridAnchors(_Anchors):
    """The multiscale grid anchors of RetinaNet (arXiv:1708.02002, section 4): sizes follow the step of the level.

    scale: box side over step of the first box; scales_per_octave: sizes 2^(i/n) between two levels
    aspect_ratios: width over height of each box
    """

    def __init__(
        self,
        image_size: Sequence[int],
        steps: Sequence[int],
        scale: float = 4.0,
        scales_per_octave: int = 2,
        aspect_ratios: Sequence[float] = (1.0, 2.0, 0.5),
    ):
        height, width = image_size
        octaves = [2 ** (i / scales_per_octave) for i in range(scales_per_octave)]
        sizes_per_level = [
            [
                (scale * step * octave / math.sqrt(ratio) / height, scale * step * octave * math.sqrt(ratio) / width)
                for ratio in aspect_ratios
                for octave in octaves
            ]
            for step in steps
        ]
        super().__init__(image_size, steps, sizes_per_level)


def create_anchors(cfg) -> DefaultBoxes | GridAnchors:
    """The anchors of a recipe. cfg: Config."""
    if cfg.anchors == "grid":
        return GridAnchors(cfg.image_size, cfg.steps)
    return DefaultBoxes(
        cfg.image_size,
        cfg.steps,
        cfg.min_scale,
        cfg.max_scale,
        cfg.aspect_ratios,
        cfg.box_sizes,
        cfg.clip_default_boxes,
    )

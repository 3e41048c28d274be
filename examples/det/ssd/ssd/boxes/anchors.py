"""Anchors: fixed boxes of known position and size, relative to which the detector predicts.

Published weights rely on the order of anchors: levels, rows of a feature map, columns, boxes of a location.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from .ops import cyxhw_to_yxyx

if TYPE_CHECKING:
    from ..config.schema import Config


class Anchors:
    """All anchors of a detector; the subclasses choose their sizes.

    boxes_cyxhw: (A, 4) float32, fractions of the image's sides, not clipped to the image
    boxes_yxyx: (A, 4) float32, the corners of the same boxes
    feature_sizes: (height, width) of each level's feature map in locations
    num_per_location: number of anchors at each location of each level
    """

    def __init__(
        self,
        image_size: Sequence[int],
        steps: Sequence[int],
        sizes_per_level: Sequence[Sequence[tuple[float, float]]],
        clip: bool = False,
    ):
        """Place the boxes of each level at the centers of its locations.

        image_size: (height, width) in pixels
        steps: pixels between neighboring locations of each level
        sizes_per_level: (height, width) of each box of a location, for each level, as fractions of the image's sides
        clip: clip centers, heights and widths (not corners) to 0..1
        """
        height, width = image_size
        self.feature_sizes = [(math.ceil(height / step), math.ceil(width / step)) for step in steps]
        self.num_per_location = [len(sizes) for sizes in sizes_per_level]
        levels = []
        for (rows, columns), step, sizes in zip(self.feature_sizes, steps, sizes_per_level):
            cy = (np.arange(rows) + 0.5) * step / height
            cx = (np.arange(columns) + 0.5) * step / width
            boxes = np.empty((rows, columns, len(sizes), 4))
            boxes[..., 0] = cy[:, None, None]
            boxes[..., 1] = cx[None, :, None]
            boxes[..., 2:] = sizes
            levels.append(boxes.reshape(-1, 4))
        boxes_cyxhw = np.concatenate(levels)
        if clip:
            boxes_cyxhw = np.clip(boxes_cyxhw, 0, 1)
        # Convert to float32 only now, so that corners are rounded once, not twice.
        self.boxes_cyxhw = boxes_cyxhw.astype(np.float32)
        self.boxes_yxyx = cyxhw_to_yxyx(boxes_cyxhw).astype(np.float32)

    def __len__(self) -> int:
        return len(self.boxes_cyxhw)


class DefaultBoxes(Anchors):
    """The default boxes of the SSD paper (arXiv:1512.02325, section 2.2), with the linear scales of TensorFlow's SSD.

    A location has a square of the level's scale, a wide and a tall box for each aspect ratio, and a square whose scale
    is the geometric mean of the level's and the next level's. A first level without aspect ratios is reduced, as in
    TensorFlow's SSD: it has a square of 0.1 and the two boxes of aspect ratio 2. With `box_sizes` no level is reduced.
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
        """Compute the sizes of each level's boxes.

        image_size, steps, clip: as in `Anchors`
        min_scale, max_scale: scales of the first and the last level as fractions of the image's sides; the levels
            between them are evenly spaced
        aspect_ratios: aspect ratios of each level besides 1
        box_sizes: sizes in pixels, one for each level and one more, which replace the scales
        """
        num_steps_between_scales = max(len(steps) - 1, 1)
        scales = [min_scale + (max_scale - min_scale) / num_steps_between_scales * level for level in range(len(steps))]
        scales.append(1.0)
        unit_height, unit_width = 1, 1  # scales are fractions of each side already
        if box_sizes is not None:
            scales = list(box_sizes)
            unit_height, unit_width = image_size
        sizes_per_level = []
        for level, ratios in enumerate(aspect_ratios):
            scale, next_scale = scales[level], scales[level + 1]
            if level == 0 and not ratios and box_sizes is None:
                sizes = [(0.1, 0.1), *self._wide_and_tall(scale, 2.0)]
            else:
                sizes = [(scale, scale)]
                for ratio in ratios:
                    sizes += self._wide_and_tall(scale, ratio)
                mean_scale = math.sqrt(scale * next_scale)
                sizes.append((mean_scale, mean_scale))
            sizes_per_level.append([(height / unit_height, width / unit_width) for height, width in sizes])
        super().__init__(image_size, steps, sizes_per_level, clip=clip)

    @staticmethod
    def _wide_and_tall(scale: float, ratio: float) -> list[tuple[float, float]]:
        """Return (height, width) of the wide box of an aspect ratio, then of the tall one."""
        long, short = scale * math.sqrt(ratio), scale / math.sqrt(ratio)
        return [(short, long), (long, short)]


class GridAnchors(Anchors):
    """The multiscale grid anchors of RetinaNet (arXiv:1708.02002, section 4), whose sizes are multiples of the step."""

    def __init__(
        self,
        image_size: Sequence[int],
        steps: Sequence[int],
        scale: float = 4.0,
        scales_per_octave: int = 2,
        aspect_ratios: Sequence[float] = (1.0, 2.0, 0.5),
    ):
        """Compute the sizes of each level's boxes.

        image_size, steps: as in `Anchors`
        scale: side of the smallest square over the step of its level
        scales_per_octave: n; a level has squares of 2^(i/n) times the smallest, i = 0..n-1
        aspect_ratios: width over height
        """
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


def create_anchors(cfg: Config) -> Anchors:
    """Create the anchors of a recipe."""
    if cfg.anchors == "grid":
        return GridAnchors(cfg.image_size, cfg.steps)
    return DefaultBoxes(
        image_size=cfg.image_size,
        steps=cfg.steps,
        min_scale=cfg.min_scale,
        max_scale=cfg.max_scale,
        aspect_ratios=cfg.aspect_ratios,
        box_sizes=cfg.box_sizes,
        clip=cfg.clip_default_boxes,
    )

"""Anchors: fixed reference boxes, relative to which the detector predicts box offsets.

The order of the anchors is level, row, column, box within a location. Published weights depend on this order.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from .feature_sizes import strided_size
from .ops import cyxhw_to_yxyx

if TYPE_CHECKING:
    from ..config.schema import Config


class Anchors:
    """Base class of anchor sets: boxes of given sizes, centered at every location of every feature map.

    boxes_cyxhw: (A, 4) float32, center y, center x, height, width as fractions of the image height and width. A is the
        total number of anchors. The boxes may extend beyond the image.
    boxes_yxyx: (A, 4) float32, corners y0, x0, y1, x1 of the same boxes, also as fractions of the image height and
        width
    feature_sizes: (height, width) of the feature map of each level, in locations
    num_per_location: number of anchors at each location, one entry for each level
    """

    def __init__(
        self,
        image_size: Sequence[int],
        steps: Sequence[int],
        sizes_per_level: Sequence[Sequence[tuple[float, float]]],
        clip: bool = False,
    ):
        """Create the anchors of all levels.

        image_size: (height, width) of the input image in pixels
        steps: distance between neighboring locations in input pixels, one entry for each level
        sizes_per_level: for each level, (height, width) of every box of a location as fractions of the image height and
            width
        clip: whether to clip center coordinates, heights and widths (not corners) to 0..1
        """
        height, width = image_size
        self.feature_sizes = [strided_size((height, width), step) for step in steps]
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
            boxes_cyxhw = np.minimum(boxes_cyxhw, 1)  # centers and sides are positive
        # Convert to float32 last, so that the corners are rounded once, not twice.
        self.boxes_cyxhw = boxes_cyxhw.astype(np.float32)
        self.boxes_yxyx = cyxhw_to_yxyx(boxes_cyxhw).astype(np.float32)

    def __len__(self) -> int:
        return len(self.boxes_cyxhw)


class DefaultBoxes(Anchors):
    """Default boxes of the SSD paper (arXiv:1512.02325, section 2.2), with the linear scales of TensorFlow's SSD.

    Each location has a square of the level's scale, and a wide and a tall box for each aspect ratio. One more square
    has the geometric mean of the scales of the level and of the next level.

    If the list of aspect ratios of the first level is empty, each location of the first level has three boxes, as in
    TensorFlow's SSD: a square of scale 0.1, and a wide and a tall box of aspect ratio 2. This special case does not
    apply if `box_sizes` is given.
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
        """Compute the box sizes of each level, and create the anchors.

        image_size: (height, width) of the input image in pixels
        steps: distance between neighboring locations in input pixels, one entry for each level
        min_scale: scale of the first level as a fraction of the image height and width
        max_scale: scale of the last level as a fraction of the image height and width; the scales are evenly spaced
        aspect_ratios: for each level, a list of aspect ratios besides 1; each ratio adds a wide and a tall box
        box_sizes: scales in pixels instead of fractions, one for each level and one more
        clip: whether to clip center coordinates, heights and widths (not corners) to 0..1
        """
        num_steps_between_scales = max(len(steps) - 1, 1)
        scales = [min_scale + (max_scale - min_scale) / num_steps_between_scales * level for level in range(len(steps))]
        scales.append(1.0)
        unit_height, unit_width = 1, 1  # scales are already fractions of the image height and width
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
        """Return the (height, width) of the wide box and of the tall box of an aspect ratio.

        scale: side of the square with the same area
        ratio: long side / short side
        """
        long, short = scale * math.sqrt(ratio), scale / math.sqrt(ratio)
        return [(short, long), (long, short)]


class GridAnchors(Anchors):
    """RetinaNet's multiscale grid anchors (arXiv:1708.02002, section 4), sized in multiples of the level's step."""

    def __init__(
        self,
        image_size: Sequence[int],
        steps: Sequence[int],
        scale: float = 4.0,
        scales_per_octave: int = 2,
        aspect_ratios: Sequence[float] = (1.0, 2.0, 0.5),
    ):
        """Compute the box sizes of each level, and create the anchors.

        image_size: (height, width) of the input image in pixels
        steps: distance between neighboring locations in input pixels, one entry for each level
        scale: ratio of the side of a level's smallest square to the level's step
        scales_per_octave: number n of square sizes of a level, which are 2^(i/n) times the smallest square, i = 0..n-1
        aspect_ratios: width / height of the boxes; each aspect ratio is combined with each square size
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
    """Create the anchors of a recipe: grid anchors or default boxes."""
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

"""Sizes and ratios of default boxes that overlap given objects better than a recipe's.

What is raised is the mean best IoU, of which the part well above match_threshold counts a tenth: an object that is
reached anyhow shall not be reached better at the cost of one that is not. Half of the weight is shared out among
objects, half among classes, whose objects share theirs: AP counts each class alike, however rare.

The search changes one number at a time, by a factor that becomes finer, as long as it helps; from the recipe's own
values, and from the quantiles of the objects' sizes. There is no chance in it.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence

import numpy as np

from ssd.boxes.anchors import create_anchors

from . import Objects
from .overlap import Overlap, shapes_of

MARGIN = 0.1  # IoU above match_threshold up to which overlap counts in full
BEYOND = 0.1  # what it counts from there on
SAMPLE = 4000  # objects that are searched with, or up to twice as many, so that each class has its share of so many
FACTORS = (1.4, 1.2, 1.1, 1.05, 1.02)
LEAST_GAIN = 3e-5  # of the mean IoU for a changed number: what brings less stays as it is in the recipe
LEAST_LEAD = 2e-3  # of the mean IoU for a start that is not the recipe's, and for new values over the recipe's own
MOST_LOSS = 5e-3  # of the recall at match_threshold, for which the rest may make up
RATIOS = (1.05, 6.0)
APART = 1.05  # each size over the one before: levels in order


@dataclasses.dataclass(frozen=True)
class Values:
    """Recipe keys. sizes: box_sizes in pixels, or min_scale and max_scale; aspect_ratios: as in a recipe"""

    sizes: tuple[float, ...]
    aspect_ratios: tuple[tuple[float, ...], ...]
    in_pixels: bool

    def keys(self) -> dict:
        """What to write into a recipe."""
        names = ("box_sizes",) if self.in_pixels else ("min_scale", "max_scale")
        sizes = (list(self.sizes),) if self.in_pixels else self.sizes
        return {**dict(zip(names, sizes)), "aspect_ratios": [sorted(ratios) for ratios in self.aspect_ratios]}

    def numbers(self) -> list[float]:
        return [*self.sizes, *(ratio for ratios in self.aspect_ratios for ratio in ratios)]

    def with_number(self, index: int, number: float) -> Values:
        numbers = iter(float(f"{number:.3g}") if i == index else old for i, old in enumerate(self.numbers()))
        sizes = tuple(next(numbers) for _ in self.sizes)
        aspect_ratios = tuple(tuple(next(numbers) for _ in ratios) for ratios in self.aspect_ratios)
        return Values(sizes, aspect_ratios, self.in_pixels)

    def allows(self, index: int, image_size: Sequence[int]) -> bool:
        """Whether the number at this index is one that a recipe may have beside the others."""
        number = self.numbers()[index]
        if index >= len(self.sizes):
            return RATIOS[0] <= number <= RATIOS[1]
        low, high = (2.0, 2.0 * max(image_size)) if self.in_pixels else (0.01, 1.0)
        if index > 0:
            low = max(low, APART * self.sizes[index - 1])
        if index + 1 < len(self.sizes):
            high = min(high, self.sizes[index + 1] / APART)
        return low <= number <= high


def fit(objects: Objects, cfg, ratios_per_level: Sequence[int] | None = None) -> Values:
    """The best values found for some objects, rounded as they are to be written. cfg: Config with anchors default;
    ratios_per_level: how many aspect_ratios each level gets, by default the recipe's numbers, which keep the number of
    anchors. Raises ValueError without objects."""
    search = _Search(_sample(objects), cfg)
    found = [search.climb(values) for values in _starts(objects, cfg, ratios_per_level)]
    own, best = found[0], max(found, key=lambda result: result[0])
    return best[1] if best[0] > own[0] + LEAST_LEAD else own[1]


def anchors_of(cfg, values: Values | None):
    """The anchors of a recipe with other values. cfg: Config"""
    return create_anchors(cfg.model_copy(update=values.keys()) if values else cfg)


def score(ious: np.ndarray, labels: np.ndarray, cfg) -> float:
    """What the search raises. ious: (N,), the best of each object; labels: (N,); cfg: Config"""
    return float(_weights(labels) @ _worth(ious, cfg.match_threshold))


def is_better(before: np.ndarray, after: np.ndarray, labels: np.ndarray, cfg) -> bool:
    """Whether new best IoUs (N,) are worth new values."""
    lost = (before > cfg.match_threshold).mean() - (after > cfg.match_threshold).mean()
    return score(after, labels, cfg) > score(before, labels, cfg) + LEAST_LEAD and lost <= MOST_LOSS


class _Search:
    def __init__(self, sample: tuple[np.ndarray, np.ndarray], cfg):
        boxes, self.weights = sample
        self.cfg = cfg
        self.overlap = Overlap(boxes, create_anchors(cfg))
        # Shapes do not depend on places, and are made fastest with one a level.
        self.one_place = cfg.model_copy(update={"steps": (max(cfg.image_size),) * len(cfg.steps)})

    def climb(self, values: Values) -> tuple[float, Values]:
        """The score that can be reached from some values, and its values."""
        shapes = shapes_of(anchors_of(self.one_place, values))
        best = np.stack([self.overlap.best(level, shape) for level, shape in enumerate(shapes)], axis=1)
        state = (self.score(best), values, shapes, best)
        for factor in FACTORS:
            before = -math.inf
            while state[0] > before:
                before = state[0]
                for index in range(len(values.numbers())):
                    state = self.change(state, index, factor)
        return state[:2]

    def change(self, state, index: int, factor: float):
        """A state with the number at this index larger or smaller by a factor, or as it was if neither is better."""
        value, values, shapes, best = state
        for number in (values.numbers()[index] * factor, values.numbers()[index] / factor):
            new = values.with_number(index, number)
            if not new.allows(index, self.cfg.image_size):
                continue
            new_shapes, new_best = shapes_of(anchors_of(self.one_place, new)), best.copy()
            for level, (old, shape) in enumerate(zip(shapes, new_shapes)):
                if not np.array_equal(old, shape):
                    new_best[:, level] = self.overlap.best(level, shape)
            new_value = self.score(new_best)
            if new_value > value + LEAST_GAIN:
                return new_value, new, new_shapes, new_best
        return state

    def score(self, best: np.ndarray) -> float:
        """best: (N, L), of each level"""
        return float(self.weights @ _worth(best.max(axis=1), self.cfg.match_threshold))


def _worth(ious: np.ndarray, match_threshold: float) -> np.ndarray:
    full = np.minimum(ious, match_threshold + MARGIN)
    return full + BEYOND * (ious - full)


def _weights(labels: np.ndarray) -> np.ndarray:
    """(N,), sum 1: half shared out among objects, half among classes and then among their objects."""
    _, which, counts = np.unique(labels, return_inverse=True, return_counts=True)
    return 0.5 / len(labels) + 0.5 / (len(counts) * counts[which])


def _sample(objects: Objects) -> tuple[np.ndarray, np.ndarray]:
    """(M, 4) boxes and (M,) weights of objects that stand for all: of each class some, spread over its sizes. Their
    order is one of its own, so that sums do not depend on the order of the objects."""
    areas = (objects.boxes_yxyx[:, 2:] - objects.boxes_yxyx[:, :2]).prod(axis=1)
    order = np.lexsort((*objects.boxes_yxyx.T, areas, objects.labels))
    labels, all_weights = objects.labels[order], _weights(objects.labels[order])
    rows, weights = [], []
    for label, start, count in zip(*np.unique(labels, return_index=True, return_counts=True)):
        share = max(SAMPLE / len(np.unique(labels)), SAMPLE * count / len(labels))
        chosen = start + np.linspace(0, count - 1, min(count, math.ceil(share))).round().astype(int)
        rows.append(order[chosen])
        weights.append(np.full(len(chosen), all_weights[start] * count / len(chosen)))
    return objects.boxes_yxyx[np.concatenate(rows)], np.concatenate(weights)


def _starts(objects: Objects, cfg, ratios_per_level: Sequence[int] | None) -> Iterator[Values]:
    """The recipe's values, as far as its keys can say them, then others, with as many ratios at each level."""
    ratios = tuple(tuple(ratios) for ratios in cfg.aspect_ratios)
    if ratios_per_level is not None:
        longer = [(*own, *(ratio for ratio in (2.0, 3.0, 1.5, 4.0) if ratio not in own)) for own in ratios]
        ratios = tuple(own[:count] for own, count in zip(longer, ratios_per_level))
    sides = np.sqrt(objects.sides(cfg.image_size).prod(axis=1))
    levels, side = len(cfg.steps), math.sqrt(math.prod(cfg.image_size))
    if cfg.box_sizes is None and ratios_per_level is None:
        yield Values((cfg.min_scale, cfg.max_scale), ratios, in_pixels=False)
        low, high = np.clip(np.quantile(sides, (0.02, 0.98)) / side, 0.01, 0.95).tolist()
        yield Values((_round(low), _round(max(high, APART * low))), ratios, in_pixels=False)
        if not ratios[0]:  # box_sizes would change the boxes of a reduced first level, and their number
            return
    scales = np.linspace(cfg.min_scale, cfg.max_scale, levels).tolist()
    own = cfg.box_sizes or [*(_round(scale * side) for scale in scales), side]
    yield Values(tuple(own), ratios, in_pixels=True)
    sizes: list[float] = []
    for quantile in np.quantile(sides, np.linspace(0.02, 0.98, levels + 1)).tolist():
        sizes.append(_round(max(quantile, 4.0, 1.1 * sizes[-1] if sizes else 0)))
    yield Values(tuple(sizes), ratios, in_pixels=True)


def _round(number: float) -> float:
    return float(f"{number:.3g}")

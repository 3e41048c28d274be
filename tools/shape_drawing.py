"""Drawing for make_shapes.py: backgrounds, and shapes with their exact outlines.

Coordinates are x then y in pixels, x = 0 at the left edge of the first pixel.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np

# The hue of each class in degrees; a drawn one is up to HUE_SPREAD away. Backgrounds have all hues.
HUES = {"circle": 0, "square": 60, "triangle": 120, "star": 180, "ring": 240, "cross": 300}
HUE_SPREAD = 15
LONG_SIDE = (0.05, 0.60)  # longer side of a box, as a fraction of the image side
MIN_PIXELS = 12  # below this a star and a circle look the same; binds for images under 240 pixels
MAX_HIDDEN = 0.35  # fraction of a shape's pixels that all later shapes together may cover
MAX_ANGLE = math.radians(20)  # modest: a square turned by 45 degrees would be a new class, the diamond
MAX_STRETCH = 1.2
SUPERSAMPLE = 8  # the polygon filler is exact to about one sample: 1/8 pixel
MIN_CONTRAST = 100  # BGR distance between a shape and what lies under it


@dataclass(frozen=True)
class Shape:
    """One drawn object. outline: (P, 2) float64, x then y in pixels; a ring is one outline with a zero-width slit."""

    name: str
    outline: np.ndarray

    @property
    def box_xywh(self) -> tuple[float, float, float, float]:
        """Tight extent of the outline in pixels."""
        (x1, y1), (x2, y2) = self.outline.min(axis=0), self.outline.max(axis=0)
        return float(x1), float(y1), float(x2 - x1), float(y2 - y1)

    @property
    def area(self) -> float:
        """Area inside the outline in square pixels (shoelace formula); a ring's hole is left out."""
        x, y = self.outline.T
        return abs(float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1)))) / 2


def unit_outline(name: str) -> np.ndarray:
    """Outline of a class around the origin, (P, 2) float64, upright, y down; KeyError for an unknown name."""

    def ray(radii, turns):
        angles = 2 * np.pi * np.asarray(turns) - np.pi / 2  # from the top
        return np.asarray(radii)[..., None] * np.stack([np.cos(angles), np.sin(angles)], axis=-1)

    circle = ray(1.0, np.arange(97) / 96)  # closed: the first point comes again; off by 0.0005 radii from a true circle
    arm = 0.36
    corner = np.array([[arm, -1], [arm, -arm], [1, -arm]])  # a quarter of the cross, then turned three times
    outlines = {
        "circle": circle[:-1],
        "square": np.array([[-1.0, -1], [1, -1], [1, 1], [-1, 1]]),
        "triangle": ray(1.0, np.arange(3) / 3),
        "star": ray(np.tile([1.0, 0.45], 5), np.arange(10) / 10),
        "ring": np.concatenate([circle, 0.55 * circle[::-1]]),
        "cross": np.concatenate([corner, corner[:, ::-1] * [-1, 1], -corner, corner[:, ::-1] * [1, -1]]),
    }
    return outlines[name]


def place_outline(unit, long_side: float, angle: float = 0.0, stretch: float = 1.0, corner_xy=(0.0, 0.0)) -> np.ndarray:
    """Stretch in x, turn (radians), scale to a box of the given longer side, put the box's top left at corner_xy."""
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    points = (unit * [stretch, 1.0]) @ turn.T
    points = points - points.min(axis=0)
    return points * (long_side / points.max()) + corner_xy


def coverage(outline: np.ndarray) -> tuple[np.ndarray, tuple[slice, slice]]:
    """Anti-aliased mask of an outline that lies inside the image.

    Returns (h, w) float32 in 0..1, the covered part of each pixel, and the (rows, columns) of the image it belongs to.
    """
    # The 1e-6: rounding in the last bit must not open a pixel outside the image.
    x1, y1 = np.floor(outline.min(axis=0) + 1e-6).astype(int)
    x2, y2 = np.ceil(outline.max(axis=0) - 1e-6).astype(int)
    # OpenCV counts from the centre of a sample, we from the left edge of a pixel; hence the half. 8 fractional bits.
    samples = ((outline - [x1, y1]) * SUPERSAMPLE - 0.5) * 256
    mask = np.zeros(((y2 - y1) * SUPERSAMPLE, (x2 - x1) * SUPERSAMPLE), np.uint8)
    cv2.fillPoly(mask, [np.round(samples).astype(np.int32)], 255, shift=8)
    mask = cv2.resize(mask, (int(x2 - x1), int(y2 - y1)), interpolation=cv2.INTER_AREA)
    return mask.astype(np.float32) / 255, (slice(y1, y2), slice(x1, x2))


def draw_background(rng: np.random.Generator, size: int) -> np.ndarray:
    """Soft colour blobs, stripes, checker patches, noise and thin lines: (size, size, 3) uint8, BGR."""
    blobs = rng.uniform(40, 215) + rng.uniform(-55, 55, (rng.integers(2, 6), rng.integers(2, 6), 3))
    image = cv2.resize(blobs.astype(np.float32), (size, size), interpolation=cv2.INTER_CUBIC)

    y, x = np.mgrid[:size, :size].astype(np.float32)
    angle = rng.uniform(0, np.pi)
    along = x * math.cos(angle) + y * math.sin(angle)
    across = y * math.cos(angle) - x * math.sin(angle)
    texture = rng.uniform(0, 16) * np.sin(along * (2 * np.pi / rng.uniform(size / 50, size / 5)))
    checks = np.pi / rng.uniform(size / 64, size / 16)
    checker = np.sign(np.sin(along * checks) * np.sin(across * checks))
    # Soft-edged patches: a hard-edged one would be an unlabelled square.
    patch = cv2.resize(rng.uniform(-2, 2, (4, 4)).astype(np.float32), (size, size), interpolation=cv2.INTER_CUBIC)
    texture += rng.uniform(0, 20) * np.clip(patch, 0, 1) * checker
    texture += rng.uniform(2, 12) * rng.standard_normal((size, size), dtype=np.float32)
    image = np.clip(image + texture[..., None], 0, 255).astype(np.uint8)

    for _ in range(rng.integers(0, 6)):
        start, end = rng.integers(0, size, (2, 2)).tolist()
        cv2.line(image, start, end, rng.integers(0, 256, 3).tolist(), 1 + size // 512, cv2.LINE_AA)
    return image


def contrasting_colour(rng: np.random.Generator, under: np.ndarray, hue: float) -> np.ndarray:
    """A BGR colour, (3,) float32, near `hue`, far from nearly all (N, 3) pixels under it, or the farthest tried."""
    hues = (hue + rng.uniform(-HUE_SPREAD, HUE_SPREAD, 32)) % 360
    tried = np.stack([hues, rng.uniform(0.6, 1, 32), rng.uniform(0.35, 1, 32)], axis=-1).astype(np.float32)
    tried = cv2.cvtColor(tried[None], cv2.COLOR_HSV2BGR)[0] * 255  # (32, 3)
    distance = np.linalg.norm(tried[:, None] - under[None].astype(np.float32), axis=2)  # (32, N)
    low = np.quantile(distance, 0.1, axis=1)
    return tried[np.argmax(low >= MIN_CONTRAST) if (low >= MIN_CONTRAST).any() else np.argmax(low)]


def paint(image: np.ndarray, outline: np.ndarray, colour, rng: np.random.Generator) -> None:
    """Fill an outline, inside the image, with a faintly shaded and noisy BGR colour; changes image, (H, W, 3) uint8."""
    alpha, where = coverage(outline)
    shade = cv2.resize(rng.uniform(-14, 14, (2, 2)).astype(np.float32), alpha.shape[::-1])
    shade = shade + rng.uniform(1, 6) * rng.standard_normal(alpha.shape, dtype=np.float32)
    fill = np.clip(np.asarray(colour, np.float32) + shade[..., None], 0, 255)
    blend = image[where] + (fill - image[where]) * alpha[..., None]
    image[where] = np.clip(np.round(blend), 0, 255).astype(np.uint8)


def random_shape(rng: np.random.Generator, size: int) -> Shape:
    """A random class, size (log-uniform), angle and place; the whole shape lies inside the image."""
    name = list(HUES)[rng.integers(len(HUES))]
    shortest, longest = max(LONG_SIDE[0] * size, MIN_PIXELS), LONG_SIDE[1] * size
    long_side = math.exp(rng.uniform(math.log(shortest), math.log(longest)))
    stretch = MAX_STRETCH ** rng.uniform(-1, 1)
    outline = place_outline(unit_outline(name), long_side, rng.uniform(-MAX_ANGLE, MAX_ANGLE), stretch)
    return Shape(name, outline + rng.uniform(0, size - outline.max(axis=0)))


def draw_scene(rng: np.random.Generator, size: int, num_objects: int) -> tuple[np.ndarray, list[Shape]]:
    """A background with up to num_objects shapes on it: (size, size, 3) uint8, BGR, and the shapes in drawing order.

    A shape that finds no place where it leaves the earlier ones visible is left out; the first always has one.
    """
    image = draw_background(rng, size)
    owner = np.zeros((size, size), np.int64)  # 1 + index of the topmost shape of each pixel; 0 is background
    shapes: list[Shape] = []
    whole = visible = np.zeros(0)  # pixels of each shape, all and those still seen
    for _ in range(num_objects):
        for _ in range(10):
            shape = random_shape(rng, size)
            alpha, where = coverage(shape.outline)
            solid = alpha >= 0.5
            lost = np.bincount(owner[where][solid], minlength=len(shapes) + 1)[1:]
            if np.all(visible - lost >= (1 - MAX_HIDDEN) * whole):
                break
        else:
            continue
        under = image[where].reshape(-1, 3)
        paint(image, shape.outline, contrasting_colour(rng, under[:: 1 + len(under) // 256], HUES[shape.name]), rng)
        shapes.append(shape)
        owner[where][solid] = len(shapes)
        whole, visible = np.append(whole, solid.sum()), np.append(visible - lost, solid.sum())
    return image, shapes

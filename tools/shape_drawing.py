"""Draw random images of shapes with exact outlines, for make_shapes.py.

Coordinates are (x, y) in pixels. x = 0 is the left edge of the first pixel column, y = 0 the top edge of the first row.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np

# {class name: hue in degrees}. Each shape gets a random hue within HUE_SPREAD degrees. Backgrounds contain all hues.
HUES = {"circle": 0, "square": 60, "triangle": 120, "star": 180, "ring": 240, "cross": 300}
HUE_SPREAD = 15
LONG_SIDE_RANGE = (0.05, 0.60)  # minimum and maximum of a box's longer side, as a fraction of the image side
MIN_LONG_SIDE = 12  # in pixels, because smaller stars look like circles; takes effect for images below 240 pixels
MAX_OCCLUSION = 0.35  # maximum fraction of a shape's pixels that all later shapes together may cover
MAX_ANGLE = math.radians(20)  # in radians, small because a square rotated by 45 degrees looks like a diamond
MAX_STRETCH = 1.2  # maximum stretch factor along x; the minimum is 1 / MAX_STRETCH
SUPERSAMPLE = 8  # samples per pixel and axis, because cv2.fillPoly has an error of about one sample
MIN_CONTRAST = 100  # minimum Euclidean BGR distance between a shape and the pixels under the shape


@dataclass(frozen=True)
class Shape:
    """Class and outline of one drawn object.

    name: class name
    outline: (P, 2) float64 polygon vertices (x, y) in pixels; a ring is a single polygon with a slit of zero width
    """

    name: str
    outline: np.ndarray

    @property
    def box_xywh(self) -> tuple[float, float, float, float]:
        """Return the bounding box (x, y, width, height) of the outline in pixels."""
        (x1, y1), (x2, y2) = self.outline.min(axis=0), self.outline.max(axis=0)
        return float(x1), float(y1), float(x2 - x1), float(y2 - y1)

    @property
    def area(self) -> float:
        """Return the area inside the outline in square pixels, by the shoelace formula. A ring's hole is excluded."""
        x, y = self.outline.T
        return abs(float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1)))) / 2


def unit_outline(name: str) -> np.ndarray:
    """Return the unrotated outline of a class, centered at the origin.

    name: class name
    Returns (P, 2) float64 polygon vertices (x, y), about -1..1; y increases downwards.
    Raises KeyError if the class name is unknown.
    """

    def polar(radii: float | np.ndarray, turns: np.ndarray) -> np.ndarray:
        """Convert polar to Cartesian coordinates (x, y).

        radii: distances from the origin, one number or (P,)
        turns: (P,) angles in full turns, clockwise from the top
        """
        angles = 2 * np.pi * turns - np.pi / 2
        return np.asarray(radii)[..., None] * np.stack([np.cos(angles), np.sin(angles)], axis=-1)

    circle = polar(1.0, np.arange(97) / 96)  # the last point equals the first; maximum error 0.0005 of the radius
    arm = 0.36
    corner = np.array([[arm, -1], [arm, -arm], [1, -arm]])  # a quarter of the cross; rotated three times below
    outlines = {
        "circle": circle[:-1],
        "square": np.array([[-1.0, -1], [1, -1], [1, 1], [-1, 1]]),
        "triangle": polar(1.0, np.arange(3) / 3),
        "star": polar(np.tile([1.0, 0.45], 5), np.arange(10) / 10),
        "ring": np.concatenate([circle, 0.55 * circle[::-1]]),
        "cross": np.concatenate([corner, corner[:, ::-1] * [-1, 1], -corner, corner[:, ::-1] * [1, -1]]),
    }
    return outlines[name]


def place_outline(
    unit: np.ndarray,
    long_side: float,
    angle: float = 0.0,
    stretch: float = 1.0,
    corner_xy: tuple[float, float] = (0.0, 0.0),
) -> np.ndarray:
    """Stretch, rotate, scale and move an outline.

    unit: (P, 2) polygon vertices (x, y) of an outline centered at the origin
    long_side: longer side of the bounding box in pixels
    angle: angle of the rotation in radians
    stretch: factor for x before the rotation
    corner_xy: top left corner (x, y) of the bounding box in pixels
    Returns (P, 2) polygon vertices (x, y) in pixels.
    """
    rotation = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    points = (unit * [stretch, 1.0]) @ rotation.T
    points = points - points.min(axis=0)
    return points * (long_side / points.max()) + corner_xy


def coverage(outline: np.ndarray) -> tuple[np.ndarray, tuple[slice, slice]]:
    """Compute the anti-aliased mask of an outline.

    outline: (P, 2) polygon vertices (x, y) in pixels, inside the image
    Returns
        mask: (h, w) float32, covered fraction 0..1 of each pixel in the bounding box of the outline
        region: (rows, columns) slices of the bounding box in the image
    """
    # Without the tolerance 1e-6, a rounding error in the last bit could add a pixel outside the image.
    x1, y1 = np.floor(outline.min(axis=0) + 1e-6).astype(int)
    x2, y2 = np.ceil(outline.max(axis=0) - 1e-6).astype(int)
    # Subtract half a sample, because x = 0 is the center of the first sample in OpenCV, but its left edge here.
    # Multiply by 256, because fillPoly takes integers with 8 fractional bits.
    samples = ((outline - [x1, y1]) * SUPERSAMPLE - 0.5) * 256
    mask = np.zeros(((y2 - y1) * SUPERSAMPLE, (x2 - x1) * SUPERSAMPLE), np.uint8)
    cv2.fillPoly(mask, [np.round(samples).astype(np.int32)], 255, shift=8)
    mask = cv2.resize(mask, (int(x2 - x1), int(y2 - y1)), interpolation=cv2.INTER_AREA)
    return mask.astype(np.float32) / 255, (slice(y1, y2), slice(x1, x2))


def draw_background(rng: np.random.Generator, size: int) -> np.ndarray:
    """Draw a background of soft color blobs, stripes, checkerboards, noise and thin lines.

    rng: random number generator
    size: height and width of the image in pixels
    Returns (size, size, 3) uint8 BGR.
    """
    blobs = rng.uniform(40, 215) + rng.uniform(-55, 55, (rng.integers(2, 6), rng.integers(2, 6), 3))
    image = cv2.resize(blobs.astype(np.float32), (size, size), interpolation=cv2.INTER_CUBIC)

    y, x = np.mgrid[:size, :size].astype(np.float32)
    angle = rng.uniform(0, np.pi)
    along = x * math.cos(angle) + y * math.sin(angle)
    across = y * math.cos(angle) - x * math.sin(angle)
    texture = rng.uniform(0, 16) * np.sin(along * (2 * np.pi / rng.uniform(size / 50, size / 5)))
    frequency = np.pi / rng.uniform(size / 64, size / 16)
    checkerboard = np.sign(np.sin(along * frequency) * np.sin(across * frequency))
    # Checkerboards fade at their borders, because a checkerboard with sharp borders would be an unlabeled square.
    opacity = cv2.resize(rng.uniform(-2, 2, (4, 4)).astype(np.float32), (size, size), interpolation=cv2.INTER_CUBIC)
    texture += rng.uniform(0, 20) * np.clip(opacity, 0, 1) * checkerboard
    texture += rng.uniform(2, 12) * rng.standard_normal((size, size), dtype=np.float32)
    image = np.clip(image + texture[..., None], 0, 255).astype(np.uint8)

    for _ in range(rng.integers(0, 6)):
        start, end = rng.integers(0, size, (2, 2)).tolist()
        colour = rng.integers(0, 256, 3).tolist()
        cv2.line(image, start, end, color=colour, thickness=1 + size // 512, lineType=cv2.LINE_AA)
    return image


def contrasting_colour(rng: np.random.Generator, background: np.ndarray, hue: float) -> np.ndarray:
    """Choose a random color near a hue, at least MIN_CONTRAST away from 90 % of the background pixels.

    rng: random number generator
    background: (N, 3) uint8 BGR colors of the background pixels
    hue: hue of the class in degrees
    Returns (3,) float32 BGR in 0..255. If none of 32 random colors has enough contrast, the color with the highest
    contrast is returned.
    """
    hues = (hue + rng.uniform(-HUE_SPREAD, HUE_SPREAD, 32)) % 360
    colours = np.stack([hues, rng.uniform(0.6, 1, 32), rng.uniform(0.35, 1, 32)], axis=-1).astype(np.float32)
    colours = cv2.cvtColor(colours[None], cv2.COLOR_HSV2BGR)[0] * 255  # (32, 3)
    distance = np.linalg.norm(colours[:, None] - background[None].astype(np.float32), axis=2)  # (32, N)
    contrast = np.quantile(distance, 0.1, axis=1)
    is_enough = contrast >= MIN_CONTRAST
    return colours[np.argmax(is_enough) if is_enough.any() else np.argmax(contrast)]


def paint(
    image: np.ndarray, outline: np.ndarray, colour: np.ndarray | tuple[int, int, int], rng: np.random.Generator
) -> None:
    """Fill an outline in the image, in place, with a slightly shaded and noisy color.

    image: (H, W, 3) uint8 BGR
    outline: (P, 2) polygon vertices (x, y) in pixels, inside the image
    colour: (3,) BGR in 0..255
    rng: random number generator
    """
    alpha, region = coverage(outline)
    shade = cv2.resize(rng.uniform(-14, 14, (2, 2)).astype(np.float32), alpha.shape[::-1])
    shade = shade + rng.uniform(1, 6) * rng.standard_normal(alpha.shape, dtype=np.float32)
    fill = np.clip(np.asarray(colour, np.float32) + shade[..., None], 0, 255)
    blend = image[region] + (fill - image[region]) * alpha[..., None]
    image[region] = np.clip(np.round(blend), 0, 255).astype(np.uint8)


def random_shape(rng: np.random.Generator, size: int) -> Shape:
    """Sample a shape inside the image with random class, size (log-uniform), stretch, angle and position.

    rng: random number generator
    size: height and width of the image in pixels
    """
    name = list(HUES)[rng.integers(len(HUES))]
    shortest, longest = max(LONG_SIDE_RANGE[0] * size, MIN_LONG_SIDE), LONG_SIDE_RANGE[1] * size
    long_side = math.exp(rng.uniform(math.log(shortest), math.log(longest)))
    stretch = MAX_STRETCH ** rng.uniform(-1, 1)
    angle = rng.uniform(-MAX_ANGLE, MAX_ANGLE)
    outline = place_outline(unit_outline(name), long_side=long_side, angle=angle, stretch=stretch)
    return Shape(name, outline + rng.uniform(0, size - outline.max(axis=0)))


def draw_scene(rng: np.random.Generator, size: int, num_objects: int) -> tuple[np.ndarray, list[Shape]]:
    """Draw a background and up to `num_objects` random shapes.

    rng: random number generator
    size: height and width of the image in pixels
    num_objects: maximum number of shapes
    A shape is skipped if ten random samples in a row would hide more than MAX_OCCLUSION of an earlier shape. The first
    shape is never skipped.
    Returns the image (size, size, 3) uint8 BGR, and the shapes in drawing order.
    """
    image = draw_background(rng, size)
    topmost = np.zeros((size, size), np.int64)  # 1 + index of the topmost shape at each pixel, 0 for background
    shapes: list[Shape] = []
    total_pixels = visible_pixels = np.zeros(0)  # number of pixels of each shape
    for _ in range(num_objects):
        for _ in range(10):
            shape = random_shape(rng, size)
            alpha, region = coverage(shape.outline)
            mask = alpha >= 0.5
            hidden_pixels = np.bincount(topmost[region][mask], minlength=len(shapes) + 1)[1:]
            if np.all(visible_pixels - hidden_pixels >= (1 - MAX_OCCLUSION) * total_pixels):
                break
        else:
            continue
        background = image[region].reshape(-1, 3)
        sample = background[:: 1 + len(background) // 256]
        paint(image, shape.outline, colour=contrasting_colour(rng, sample, HUES[shape.name]), rng=rng)
        shapes.append(shape)
        topmost[region][mask] = len(shapes)
        total_pixels = np.append(total_pixels, mask.sum())
        visible_pixels = np.append(visible_pixels - hidden_pixels, mask.sum())
    return image, shapes

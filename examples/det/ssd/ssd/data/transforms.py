"""What is done to pixels, in uint8 on the host: colours, cutting out, mirroring, resizing."""

from __future__ import annotations

import cv2
import numpy as np

FILL = (124, 116, 104)  # what is beyond the image: the mean colour of ImageNet, RGB, which the network sees as zeros
GREY = np.array([0.299, 0.587, 0.114])  # luma of RGB, ITU-R BT.601
# RGB to NTSC's axes of colour I and Q, which are zero for greys, and back; and the same with a quarter turn between.
_TO_IQ = np.array([[0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]])
_FROM_IQ = np.linalg.inv(np.vstack([GREY, _TO_IQ]))[:, 1:]
_COLOR = _FROM_IQ @ _TO_IQ
_TURNED_COLOR = _FROM_IQ @ [[0, 1], [-1, 0]] @ _TO_IQ


def render_window(
    image: np.ndarray,
    patch: np.ndarray,
    reduction: int,
    out: np.ndarray,
    colors: np.ndarray | None = None,
    mirrored: bool = False,
) -> None:
    """Draw a patch of an image into `out`.

    image: (ceil(H / reduction), ceil(W / reduction), 3) uint8 RGB; patch: (4,) int64, yxyx pixels of the unreduced
    image, multiples of `reduction`, which may reach beyond it; out: (height, width, 3) uint8; colors: (3, 4) of
    color_matrices, applied to what is image in the patch; mirrored: left to right
    """
    y0, x0, y1, x1 = (patch // reduction).tolist()
    height, width = image.shape[:2]
    if colors is not None:
        colors = colors * np.float32([1, 1, 1, mean_grey(image)])
    region = image[max(y0, 0) : y1, max(x0, 0) : x1]
    beyond = max(-y0, 0), max(y1 - height, 0), max(-x0, 0), max(x1 - width, 0)
    # Colours change where there are fewer pixels, before or after the resize, but what is filled in keeps its own.
    early = any(beyond) or region.size < out.size
    if colors is not None and early:
        region = cv2.transform(region, colors)
    if any(beyond):
        region = cv2.copyMakeBorder(region, *beyond, cv2.BORDER_CONSTANT, value=FILL)
    resize(region, out, exact=False)
    if colors is not None and not early:
        cv2.transform(out, colors, dst=out)
    if mirrored:
        cv2.flip(out, 1, dst=out)


def color_matrices(factors: np.ndarray) -> np.ndarray:
    """Photometric distortion as one affine map of colours, a tenth of the cost of going to HSV and back.

    factors: (B, 4) brightness, contrast, saturation, of which 1 changes nothing, and hue: a turn about the grey axis
    that keeps the luma, in turns, red towards green -> (B, 3, 4) float32, RGB and the image's mean grey to RGB
    """
    brightness, contrast, saturation, hue = factors.T[:, :, None, None]
    # A colour is its luma and two axes of colour, which the saturation scales and the hue turns.
    colors = np.cos(2 * np.pi * hue) * _COLOR + np.sin(2 * np.pi * hue) * _TURNED_COLOR
    matrices = np.empty((len(factors), 3, 4), dtype=np.float32)
    matrices[:, :, :3] = brightness * contrast * (GREY + saturation * colors)
    matrices[:, :, 3:] = brightness * (1 - contrast)
    return matrices


def mean_grey(image: np.ndarray) -> float:
    """The mean luma of a grid of 16 x 16 pixels, which is near that of all. image: (H, W, 3) uint8 RGB -> 0..255"""
    grid = cv2.resize(image, (16, 16), interpolation=cv2.INTER_NEAREST)
    return float(GREY @ cv2.mean(grid)[:3])


def resize(image: np.ndarray, out: np.ndarray, exact: bool) -> None:
    """Draw an image into `out`, stretched, bilinear as published. image: (…, …, 3) uint8; out: (H, W, 3) uint8; exact:
    the same on every machine; else, where OpenCV has Intel's library, half the time and values that differ by one"""
    cv2.ipp.setUseIPP_NotExact(not exact)  # concerns this thread alone
    cv2.resize(image, out.shape[1::-1], dst=out)

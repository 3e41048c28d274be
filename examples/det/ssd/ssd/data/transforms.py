"""Crop, resize and flip uint8 images, and distort their colors, on the CPU."""

from __future__ import annotations

import cv2
import numpy as np

FILL = (124, 116, 104)  # RGB of pixels outside the image: ImageNet's mean color, which becomes zero by normalization
LUMA_WEIGHTS = np.array([0.299, 0.587, 0.114])  # weights of R, G and B in the luma (ITU-R BT.601)
# Matrices from RGB to the chroma axes I and Q of NTSC, which are zero for gray, and from I and Q back to RGB.
_RGB_TO_IQ = np.array([[0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]])
_IQ_TO_RGB = np.linalg.inv(np.vstack([LUMA_WEIGHTS, _RGB_TO_IQ]))[:, 1:]
# Matrices from RGB to the chroma part of the color, and to the chroma part with the hue rotated by a quarter turn.
_CHROMA = _IQ_TO_RGB @ _RGB_TO_IQ
_QUARTER_TURN_CHROMA = _IQ_TO_RGB @ [[0, 1], [-1, 0]] @ _RGB_TO_IQ


def render_crop_window(
    image: np.ndarray,
    window: np.ndarray,
    scale_denominator: int,
    out: np.ndarray,
    color_matrix: np.ndarray | None = None,
    flip: bool = False,
) -> None:
    """Write a crop window of an image into `out`: crop, distort colors, resize, flip.

    image: (ceil(H / scale_denominator), ceil(W / scale_denominator), 3) uint8 RGB, decoded at reduced size
    window: (4,) int64, yxyx in pixels of the full image, multiples of scale_denominator; the part outside the image
        is filled with FILL
    scale_denominator: size of the full image / size of `image`
    out: (height, width, 3) uint8 RGB, overwritten
    color_matrix: (3, 4) affine map from color_matrices, applied only inside the image; None keeps the colors
    flip: True mirrors the result horizontally
    """
    y0, x0, y1, x1 = (window // scale_denominator).tolist()
    height, width = image.shape[:2]
    if color_matrix is not None:
        color_matrix = color_matrix * np.array([1, 1, 1, mean_luma(image)], dtype=np.float32)
    region = image[max(y0, 0) : y1, max(x0, 0) : x1]
    top, bottom, left, right = max(-y0, 0), max(y1 - height, 0), max(-x0, 0), max(x1 - width, 0)
    has_fill = any((top, bottom, left, right))
    # Distort colors before or after the resize, where there are fewer pixels, but always before filling.
    distort_first = has_fill or region.size < out.size
    if color_matrix is not None and distort_first:
        region = cv2.transform(region, color_matrix)
    if has_fill:
        region = cv2.copyMakeBorder(
            region, top=top, bottom=bottom, left=left, right=right, borderType=cv2.BORDER_CONSTANT, value=FILL
        )
    resize(region, out, exact=False)
    if color_matrix is not None and not distort_first:
        cv2.transform(out, color_matrix, dst=out)
    if flip:
        cv2.flip(out, 1, dst=out)


def color_matrices(factors: np.ndarray) -> np.ndarray:
    """Compute photometric distortions of B images as affine maps of RGB.

    Affine maps take a tenth of the time of a conversion to HSV and back.

    factors: (B, 4): factors of brightness, contrast and saturation (1 changes nothing), and hue rotation in turns
        (0 changes nothing). The hue is rotated about the gray axis at constant luma, from red to green if positive.

    Returns (B, 3, 4) float32, maps from (R, G, B, mean luma of the image) to RGB, all in 0..255.
    """
    brightness, contrast, saturation, hue = factors.T[:, :, None, None]
    # A color is the sum of luma and chroma. Saturation scales the chroma, and hue rotates the chroma.
    chroma = np.cos(2 * np.pi * hue) * _CHROMA + np.sin(2 * np.pi * hue) * _QUARTER_TURN_CHROMA
    matrices = np.empty((len(factors), 3, 4), dtype=np.float32)
    matrices[:, :, :3] = brightness * contrast * (LUMA_WEIGHTS + saturation * chroma)
    matrices[:, :, 3:] = brightness * (1 - contrast)
    return matrices


def mean_luma(image: np.ndarray) -> float:
    """Estimate the mean luma of an image, 0..255, from a grid of 16 x 16 pixels.

    image: (H, W, 3) uint8 RGB
    """
    grid = cv2.resize(image, (16, 16), interpolation=cv2.INTER_NEAREST)
    return float(LUMA_WEIGHTS @ cv2.mean(grid)[:3])


def resize(image: np.ndarray, out: np.ndarray, exact: bool) -> None:
    """Resize an image into `out` with bilinear interpolation. The aspect ratio is not kept.

    image: (H, W, 3) uint8 RGB of any size
    out: (height, width, 3) uint8 RGB, overwritten
    exact: True produces the same pixels on every machine. False lets OpenCV use Intel IPP, which halves the time and
        changes values by at most 1.
    """
    cv2.ipp.setUseIPP_NotExact(not exact)  # this setting affects only the calling thread
    cv2.resize(image, out.shape[1::-1], dst=out)

"""One annotated image to what its record holds."""

from __future__ import annotations

import dataclasses

import numpy as np

from ..boxes.ops import clip_boxes
from ..errors import UserError
from .images import check_image
from .readers.coco import CocoImage

# Objects thinner than this after clipping, in pixels, cannot be localised and would have offsets without bound.
MIN_SIDE = 1.0


@dataclasses.dataclass(frozen=True)
class Record:
    """image: the file's bytes; objects: (M, 5) float32, boxes_yxyx in pixels inside the image, and class index >= 1."""

    image_id: int
    image: bytes
    objects: np.ndarray
    dropped_boxes: int
    crowd_boxes: int


def read_record(image: CocoImage) -> Record:
    """Read and check an image, clip its boxes to it and drop degenerate ones. Raises UserError that names the file."""
    try:
        encoded = image.path.read_bytes()
        height, width = check_image(encoded)
    except OSError as error:
        raise UserError(f"{image.path}: got {error.strerror.lower()}, expected an image; mend or remove it") from None
    except ValueError as error:
        raise UserError(
            f"{image.path}: got {error}, expected a whole image; mend it or remove it from the annotations"
        ) from None
    if image.size is not None and image.size != (height, width):
        raise UserError(
            f"{image.path}: got {width}x{height} stored pixels, expected {image.size[1]}x{image.size[0]} as annotated; "
            "mend the annotations, or save the image upright if it is rotated by EXIF"
        )
    boxes = clip_boxes(image.objects[:, :4], height, width)
    kept = (boxes[:, 2:] - boxes[:, :2] >= MIN_SIDE).all(axis=1)
    objects = np.concatenate([boxes, image.objects[:, 4:]], axis=1)[kept].astype(np.float32)
    return Record(image.image_id, encoded, objects, int((~kept).sum()), image.crowd_boxes)

"""Check the records of shards, and name the image of a record that cannot be decoded."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import numpy as np

from ..errors import UserError


def check_image_id(img_id: np.ndarray) -> None:
    """Raise UserError if the image id of a record is not an array (1,) of int."""
    if img_id.shape != (1,) or img_id.dtype.kind not in "iu":
        raise UserError(
            f"img_id: a record in the shards has {img_id!r}, not an array of one integer. Create the shards with "
            "create_data.py."
        )


def check_record(img_id: np.ndarray, annotation: np.ndarray, num_classes: int) -> None:
    """Check that a record has the format of create_data.py, usable boxes, and only classes of the recipe.

    img_id: image id of the record
    annotation: boxes and class indices of the record
    num_classes: number of classes, background included

    Raises UserError if the image id or the annotation has another shape, a class index is out of range, or a box is not
    finite or has reversed corners.
    """
    check_image_id(img_id)
    where = f"image {img_id[0]} in the shards"
    if annotation.ndim != 2 or annotation.shape[1] != 5:
        raise UserError(
            f"{where}: annotation has shape {annotation.shape}, not (M, 5). Create the shards with create_data.py."
        )
    is_valid = (annotation[:, 4] >= 0) & (annotation[:, 4] < num_classes)  # False for NaN
    if not is_valid.all():
        raise UserError(
            f"{where}: class index {annotation[~is_valid][0, 4]:g} is not from 0 to {num_classes - 1}. Use the recipe "
            "of these shards, or set num_classes."
        )
    # NaN would reach the loss, in padding rows too. Boxes without area are in shards of MindCV's example.
    boxes = annotation[:, :4]
    is_usable = np.isfinite(boxes).all(axis=1) & (boxes[:, 2:] >= boxes[:, :2]).all(axis=1)
    if not is_usable.all():
        raise UserError(
            f"{where}: box {boxes[~is_usable][0].tolist()} is not y0, x0, y1, x1 with finite numbers, y1 >= y0 and "
            "x1 >= x0. Create the shards with create_data.py."
        )


class UndecodableImageError(UserError):
    """Error for an image in the shards that cannot be decoded.

    image_id: image id
    row: index of the image in its batch
    """

    def __init__(self, image_id: int, row: int, reason: str):
        super().__init__(
            f"image {image_id} in the shards: {reason}. Replace the image file and run create_data.py again."
        )
        self.image_id = image_id
        self.row = row


@contextlib.contextmanager
def name_undecodable_image(img_id: np.ndarray, row: int) -> Iterator[None]:
    """Convert a ValueError that is raised inside the context to an UndecodableImageError.

    img_id: (1,) int, the image id
    row: index of the image in its batch
    """
    try:
        yield
    except ValueError as error:
        raise UndecodableImageError(int(img_id[0]), row, str(error)) from None

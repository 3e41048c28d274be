"""Find out why a training split has no boxes to train on, before anything is written."""

from __future__ import annotations

import numpy as np

from ...errors import UserError, count_noun
from .annotations import EMPTY_BOXES, MIN_BOX_SIDE, OUTSIDE_BOXES, UNUSABLE_IMAGES, AnnotatedImage, DatasetSplit
from .yolo_label_files import WITHOUT_IMAGE, WITHOUT_LABEL_FILE

# Kinds of problems that explain why annotations contain no objects.
_LOST_BOXES = (EMPTY_BOXES, OUTSIDE_BOXES, WITHOUT_LABEL_FILE, WITHOUT_IMAGE)


def require_training_boxes(split: DatasetSplit) -> None:
    """Raise UserError if training would leave out all boxes of a split. The message states the reasons and the counts.

    Boxes of images without a stated size count as usable, unless they lie left of the image or above. Images that
    cannot be converted may be the reason, and stop the conversion with their own message.
    """
    if UNUSABLE_IMAGES in split.problems:
        return
    crowds = sum(image.crowd_boxes for image in split.images)
    annotated = np.concatenate([np.zeros((0, 5)), *(image.ground_truth for image in split.images)])[:, :4]
    clipped = np.concatenate([np.zeros((0, 4)), *map(_clipped_boxes, split.images)])
    sides, annotated_sides = clipped[:, 2:] - clipped[:, :2], annotated[:, 2:] - annotated[:, :2]
    if (sides >= MIN_BOX_SIDE).all(axis=1).any():
        return
    is_outside = ((sides <= 0) & (annotated_sides > 0)).any(axis=1)
    outside, thin = int(is_outside.sum()), int((~is_outside).sum())
    where = f"{split.annotation_path}: no boxes remain for training"
    if not crowds and not len(annotated):
        lost = {kind: split.problems[kind] for kind in _LOST_BOXES if kind in split.problems}
        found = "".join(f"; {len(texts)} {kind}" for kind, texts in lost.items())
        raise UserError(f"{where}: the annotations contain no objects{found}. Annotate objects with boxes.")
    reasons, advice = [], []
    if crowds:
        reasons.append(f"{count_noun(crowds, 'annotation')} marked as a crowd region or a difficult object")
        advice.append("set iscrowd or difficult to 0 for the objects to learn")
    if outside:
        first = int(np.flatnonzero(is_outside)[0])
        y0, x0, y1, x1 = annotated[first].tolist()
        counts = [len(image.ground_truth) for image in split.images]
        image = split.images[int(np.searchsorted(np.cumsum(counts), first, side="right"))]
        height, width = image.size or (0, 0)
        size = f" of {width:g}x{height:g} pixels" if image.size else ""
        reasons.append(
            f"{count_noun(outside, 'box', 'boxes')} outside the image, such as x {x0:g} to {x1:g}, y {y0:g} to "
            f"{y1:g} in {image.path.name}{size}"
        )
        advice.append("check that boxes are in pixels of these images, with x and y in the order of the format")
    if thin:
        reasons.append(f"{count_noun(thin, 'box', 'boxes')} thinner than {MIN_BOX_SIDE:g} pixel inside the image")
        advice.append("check that boxes are in pixels")
    text = "; ".join(advice)
    raise UserError(f"{where}: {'; '.join(reasons)}. {text[0].upper()}{text[1:]}.")


def _clipped_boxes(image: AnnotatedImage) -> np.ndarray:
    """Return the boxes of an image, clipped to the image if its size is known, (M, 4) yxyx in pixels."""
    limits = image.size or (np.inf, np.inf)
    return np.clip(image.ground_truth[:, :4], 0, [*limits, *limits])

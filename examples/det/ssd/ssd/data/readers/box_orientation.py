"""Turn annotations upright, together with images that are stored rotated or mirrored (EXIF orientation).

Labelling tools show images upright, but some write boxes in pixels of the image as stored. One decision holds for all
images of a dataset. It follows, in this order, from
1. the option --boxes_in,
2. boxes that lie inside only one of the two images, upright or as stored; height and width differ if EXIF rotates the
   image by 90 degrees,
3. the sizes that the annotations state, which are weaker evidence: some tools write the stored size with upright boxes,
4. what labelling tools show: boxes are upright.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from pycocotools import mask

from ...errors import UserError, count_noun
from ...runtime.progress import Progress
from ..images import ImageProbe, probe_images
from ..orientation import turn_image, turn_points, turn_size
from .annotations import UncheckedSplit
from .coco import parse_coco
from .coco_fields import NUMBER_TYPES
from .coco_segmentation import segmentation_box
from .image_finder import find_images

UPRIGHT, STORED = FRAMES = ("upright", "stored")
OUTSIDE_TOLERANCE = 0.01  # share of the image side by which boxes may lie outside, and at least 1 pixel
MAX_CONTRADICTION = 0.1  # share of the boxes that may contradict the others, for example because they are wrong


@dataclasses.dataclass(frozen=True)
class _TurnedImage:
    """An image whose EXIF orientation is not 1.

    path: path of the image file
    entry: image entry in the COCO annotations
    probe: size and orientation of the image
    annotations: annotations of the image in COCO format
    """

    path: Path
    entry: dict
    probe: ImageProbe
    annotations: list[dict]

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the upright image in pixels."""
        assert self.probe.size is not None  # readable, because its orientation is known
        return self.probe.size

    @property
    def stored_size(self) -> tuple[int, int]:
        """(height, width) of the image as stored in pixels."""
        return turn_size(self.size, self.probe.exif_orientation)

    @property
    def stated_size(self) -> tuple[float | None, float | None]:
        """(height, width) in pixels that the annotations state; None for a missing value."""
        return self.entry.get("height") or None, self.entry.get("width") or None


def turn_annotations_upright(splits: dict[str, UncheckedSplit], boxes_in: str | None) -> dict[str, UncheckedSplit]:
    """Return splits whose boxes and image sizes are in pixels of upright images.

    splits: annotations whose boxes are in pixels of the images, either all upright or all as stored
    boxes_in: one of FRAMES, the pixels that boxes refer to; None decides by the annotations

    Splits without images that EXIF rotates or mirrors are returned unchanged. In the others, such images and the
    decision become a problem.
    Raises UserError if an annotation is invalid, or many boxes contradict one another.
    """
    turned = {key: _find_turned_images(split) for key, split in splits.items()}
    images = [image for found in turned.values() for image in found]
    if not images:
        return splits
    for split in splits.values():  # turned boxes would hide some errors, for example that all boxes are fractions
        parse_coco(split)
    are_fractions = any(split.boxes_were_fractions for split in splits.values())
    frame, reason = (boxes_in, "as --boxes_in states") if boxes_in else _decide(images, are_fractions)
    kind = (
        f"images that EXIF data rotate or mirror, which are turned upright; their boxes are taken as {frame}, {reason}"
    )
    return {
        key: _turn_split(split, turned[key], frame=frame, kind=kind) if turned[key] else split
        for key, split in splits.items()
    }


def _find_turned_images(split: UncheckedSplit) -> list[_TurnedImage]:
    """Find the images of a split whose EXIF orientation is not 1. Unreadable images are skipped."""
    try:
        entries = split.coco_dict["images"]
        names = [entry["file_name"] for entry in entries]
        probed = split.probes is not None
        found = [None] * len(names) if probed else find_images(names, [split.image_dir], split.data_folders)
        paths = [path or split.image_dir / name for name, path in zip(names, found)]
        by_image: dict[int, list[dict]] = {entry["id"]: [] for entry in entries}
        for annotation in split.coco_dict["annotations"]:
            by_image.get(annotation["image_id"], []).append(annotation)
    except (KeyError, TypeError, AttributeError):  # invalid content, for which parse_coco raises a UserError later
        return []
    return [
        _TurnedImage(path, entry, probe, annotations=by_image[entry["id"]])
        for path, entry, probe in zip(paths, entries, _probe(paths) if split.probes is None else split.probes)
        if probe.exif_orientation != 1
    ]


def _probe(paths: list[Path]) -> list[ImageProbe]:
    probes = []
    with Progress(len(paths), "reading image sizes", "images") as progress:
        for probe in probe_images(paths):
            probes.append(probe)
            progress.update()
    return probes


def _decide(images: list[_TurnedImage], are_fractions: bool) -> tuple[str, str]:
    """Decide whether boxes are in pixels of the upright images or of the images as stored.

    are_fractions: True if the annotations state neither pixels nor image sizes

    Returns (one of FRAMES, reason). Raises UserError if many boxes contradict one another.
    """
    informative = [image for image in images if image.size != image.stored_size and not are_fractions]
    fitting = [frame for image in informative for frame in _only_fitting_frames(image)]
    upright, stored = fitting.count(UPRIGHT), fitting.count(STORED)
    if min(upright, stored) > MAX_CONTRADICTION * len(fitting):
        examples = [
            next(image.path for image in informative if frame in _only_fitting_frames(image)) for frame in FRAMES
        ]
        raise UserError(
            f"{examples[0]}: number of boxes that lie inside their image only if EXIF data rotate it: {upright}, "
            f"and only as stored: {stored}, for example in {examples[1]}. Correct the annotations, or choose for all "
            "images with --boxes_in upright or --boxes_in stored."
        )
    if fitting:
        frame = UPRIGHT if upright > stored else STORED
        count = count_noun(max(upright, stored), "box lies", "boxes lie")
        against = f", against {min(upright, stored)}" if min(upright, stored) else ""
        return frame, f"because {count} inside the image only then{against}"
    stated = [image.stated_size for image in informative]
    are_upright = sum(size == image.size for size, image in zip(stated, informative))
    are_stored = sum(size == image.stored_size for size, image in zip(stated, informative))
    if are_stored and not are_upright:
        return STORED, "because the stated sizes are those of the stored images"
    if are_upright and not are_stored:
        return UPRIGHT, "because the stated sizes are those of the upright images"
    return UPRIGHT, "as labelling tools show them (if boxes lie beside their objects, add --boxes_in stored)"


def _only_fitting_frames(image: _TurnedImage) -> Iterator[str]:
    """Yield one of FRAMES for each box of an image that lies inside the image only in this frame."""
    for annotation in image.annotations:
        box = annotation.get("bbox")
        if box is None or not _is_box(box):
            continue
        x, y, width, height = box
        ends = np.array([max(y, y + height), max(x, x + width)])  # some tools write negative sides
        fits = [
            bool((ends <= size + np.maximum(OUTSIDE_TOLERANCE * size, 1)).all())
            for size in (np.array(image.size), np.array(image.stored_size))
        ]
        if fits[0] != fits[1]:
            yield UPRIGHT if fits[0] else STORED


def _turn_split(split: UncheckedSplit, images: list[_TurnedImage], frame: str, kind: str) -> UncheckedSplit:
    """Return a split with annotations of upright images.

    images: images of the split whose EXIF orientation is not 1
    frame: one of FRAMES, the pixels that the boxes of these images refer to
    kind: kind of problem to record for each of the images
    """
    entries = {image.entry["id"]: image.entry for image in images}
    moved: dict[int, dict] = {}  # {id() of an annotation: turned annotation}
    for image in images:
        if image.stated_size in ((None, None), image.stored_size):  # other wrong sizes stop the conversion later
            entries[image.entry["id"]] = {**image.entry, "height": image.size[0], "width": image.size[1]}
        if frame == STORED:
            for annotation in image.annotations:
                moved[id(annotation)] = _turn_annotation(annotation, image, split.boxes_were_fractions)
    coco_dict = {
        **split.coco_dict,
        "images": [entries.get(entry["id"], entry) for entry in split.coco_dict["images"]],
        "annotations": [moved.get(id(annotation), annotation) for annotation in split.coco_dict["annotations"]],
    }
    texts = [f"{image.path} (orientation {image.probe.exif_orientation})" for image in images]
    return dataclasses.replace(split, coco_dict=coco_dict, problems={**split.problems, kind: texts}, is_coco_file=False)


def _turn_annotation(annotation: dict, image: _TurnedImage, was_fraction: bool) -> dict:
    """Return an annotation in pixels of the upright image.

    Keypoints and invalid segmentations are left out, because detectors do not use them.

    annotation: annotation in pixels of the image as stored
    was_fraction: True if the box is the product of a fraction of the stored image and the size of the upright image
    """
    orientation, size = image.probe.exif_orientation, image.stored_size
    turned = {key: value for key, value in annotation.items() if key not in ("keypoints", "segmentation")}
    if _is_box(annotation.get("bbox")):
        x, y, width, height = annotation["bbox"]
        corners = np.array([[x, y], [x + width, y + height]], dtype=np.float64)
        if was_fraction:
            corners *= np.array(size[::-1]) / image.size[::-1]
        corners = turn_points(corners, orientation, size)
        turned["bbox"] = [*corners.min(axis=0).tolist(), *np.ptp(corners, axis=0).tolist()]
    segmentation = annotation.get("segmentation")
    if isinstance(segmentation, list) and all(
        _are_numbers(polygon) and len(polygon) % 2 == 0 for polygon in segmentation
    ):
        points = [turn_points(np.array(polygon).reshape(-1, 2), orientation, size) for polygon in segmentation]
        turned["segmentation"] = [polygon.ravel().tolist() for polygon in points]
    elif isinstance(segmentation, dict) and segmentation.get("size") == [*size]:
        if segmentation_box(segmentation) is not None:  # pycocotools crashes on damaged run lengths
            turned["segmentation"] = _turn_rle({**segmentation, "size": [*size]}, orientation)
    return turned


def _turn_rle(rle: dict, orientation: int) -> dict:
    """Turn a mask upright. rle: run-length encoding in COCO's format, with a list or a string of counts"""
    compressed = mask.frPyObjects(rle, *rle["size"]) if isinstance(rle["counts"], list) else rle
    turned = mask.encode(np.asfortranarray(turn_image(mask.decode(compressed), orientation)))
    return {"size": [int(side) for side in turned["size"]], "counts": turned["counts"].decode()}


def _is_box(bbox: object) -> bool:
    """Return whether a bbox is a list of four numbers. For other values, parse_coco raises a UserError later."""
    return isinstance(bbox, list) and len(bbox) == 4 and _are_numbers(bbox)


def _are_numbers(values: object) -> bool:
    return isinstance(values, list) and NUMBER_TYPES.issuperset(map(type, values))

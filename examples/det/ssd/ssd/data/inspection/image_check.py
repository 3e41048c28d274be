"""Check every image of a dataset before the conversion: find unusable images and duplicate images."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor

from ...runtime.prefetch import prefetch
from ...runtime.progress import Progress
from ..mindrecord import READ_AHEAD, UnusableImageError, read_record
from ..readers.annotations import DAMAGED_IMAGES, UNUSABLE_IMAGES, AnnotatedImage, DatasetSplit

DUPLICATE_IMAGES = "images with the same bytes as another image"  # a kind of problem in the dataset report


def check_images(train: DatasetSplit, val: DatasetSplit, num_workers: int) -> dict[str, list[str]]:
    """Read, decode and check all image files of both splits.

    num_workers: number of threads that read images

    Returns {kind of problem: one text per image}.
    """
    images = [*train.images, *val.images]
    problems: dict[str, list[str]] = {UNUSABLE_IMAGES: [], DAMAGED_IMAGES: [], DUPLICATE_IMAGES: []}
    first_with: dict[bytes, AnnotatedImage] = {}  # {SHA-256: first image with these bytes}
    with Progress(len(images), "reading images", "images") as progress, ThreadPoolExecutor(num_workers) as pool:
        for image, (digest, error) in zip(images, prefetch(pool, _check_image, images, ahead=READ_AHEAD)):
            if error:
                problems[error.kind].append(error.reason)
            elif digest in first_with and first_with[digest].path != image.path:
                problems[DUPLICATE_IMAGES].append(f"{image.path} equals {first_with[digest].path}")
            first_with.setdefault(digest, image)
            progress.update()
    return problems


def _check_image(image: AnnotatedImage) -> tuple[bytes, UnusableImageError | None]:
    """Read, decode and check an image file.

    Returns (SHA-256 of the file, error that a conversion would raise). The hash is empty if there is an error.
    """
    try:
        return hashlib.sha256(read_record(image, decode=True).image).digest(), None
    except UnusableImageError as error:
        return b"", error

"""A look at every image before a conversion: all that would stop it at once, and files that come twice."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor

from ...errors import UserError
from ...runtime.progress import Progress
from ..mindrecord import read_record
from ..readers.annotations import BROKEN, CocoImage, CocoSplit

AGAIN = "images with the same bytes as another"


def check_images(train: CocoSplit, val: CocoSplit, num_workers: int) -> dict[str, list[str]]:
    """{kind of problem: where, one text each} of all images of two splits, read by so many threads."""
    images = [*train.images, *val.images]
    problems: dict[str, list[str]] = {BROKEN: [], AGAIN: []}
    first: dict[bytes, CocoImage] = {}
    with Progress(len(images), "reading images", "images") as progress, ThreadPoolExecutor(num_workers) as pool:
        for image, (digest, wrong) in zip(images, pool.map(_look, images)):
            if wrong:
                problems[BROKEN].append(wrong)
            elif digest in first and first[digest].path != image.path:
                problems[AGAIN].append(f"{image.path} as {first[digest].path}")
            first.setdefault(digest, image)
            progress.update()
    return problems


def _look(image: CocoImage) -> tuple[bytes, str]:
    """Of an image's bytes the digest, and what is wrong with it, if anything."""
    try:
        return hashlib.sha256(read_record(image).image).digest(), ""
    except UserError as error:
        return b"", str(error).partition(", expected")[0]

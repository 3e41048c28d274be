"""Read the sizes of images, and compare them with the sizes that the XML files of Pascal VOC state."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ...runtime.progress import Progress
from ..images import ImageProbe, probe_images
from ..orientation import turn_size
from .annotations import UNUSABLE_IMAGES


def probe_annotated_images(
    image_paths: Sequence[Path],
    *,
    annotation_paths: Sequence[Path],
    stated_sizes: Sequence[tuple[float | None, float | None]],
    problems: dict[str, list[str]],
) -> tuple[list[tuple[int, int] | None], list[ImageProbe]]:
    """Read the size and the EXIF orientation of each image, and check the size that its annotation file states.

    image_paths: paths of N images
    annotation_paths: path of the annotation file of each image
    stated_sizes: (height, width) in pixels that each file states; None for each missing value
    problems: {kind of problem: texts}; unreadable images, and images with another size than stated, are added here

    Returns two lists of length N:
        (height, width) of the image in pixels, upright or as stored, whichever the file states; None if the image is
            unreadable, or if the file states no size and the EXIF orientation is not 1
        probe of the image
    """
    sizes: list[tuple[int, int] | None] = []
    probes: list[ImageProbe] = []
    with Progress(len(image_paths), "reading image sizes", "images") as progress:
        for index, probe in enumerate(probe_images(image_paths)):
            size = probe.size
            if size is None:
                problems.setdefault(UNUSABLE_IMAGES, []).append(probe.error)
            elif not all(stated_sizes[index]):
                size = size if probe.exif_orientation == 1 else None
            elif stated_sizes[index] == turn_size(size, probe.exif_orientation):
                size = turn_size(size, probe.exif_orientation)
            elif stated_sizes[index] != size:
                stated_height, stated_width = stated_sizes[index]
                problems.setdefault(UNUSABLE_IMAGES, []).append(
                    f"{annotation_paths[index]}: states {stated_width:g}x{stated_height:g} pixels, but "
                    f"{image_paths[index].name} has {size[1]}x{size[0]} pixels"
                )
            sizes.append(size)
            probes.append(probe)
            progress.update()
    return sizes, probes

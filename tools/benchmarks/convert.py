"""Time create_data.py, beside a plain copy of the same files.

Both read files that are not in the page cache, and both end when the written files are on the disk.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import os
import shutil
import tempfile
import time
from pathlib import Path

from ssd.data.mindrecord import convert
from ssd.data.readers.coco import read_coco

from . import Case, median_ratio
from .data import resident_mib

NUM_VAL_IMAGES = 8  # a dataset needs both splits, but only the training split matters here


def measure_convert(data_path: Path, num_images: int, repeats: int) -> list[Case]:
    """Measure the cases `copy` and `conversion` in images/s.

    data_path: dataset in COCO format, whose training images are repeated up to `num_images`
    `rss_mib` is the resident memory of the process after each run.
    Raises UserError if the dataset is not valid.
    """
    copying, converting = Case("copy", "images/s"), Case("conversion", "images/s")
    with tempfile.TemporaryDirectory(prefix="ssd-benchmark-") as folder:
        source, out = Path(folder) / "coco", Path(folder) / "out"
        repeat_images(data_path, source, {"train2017": num_images, "val2017": NUM_VAL_IMAGES})
        total = num_images + NUM_VAL_IMAGES
        measures = [
            (copying, lambda: shutil.copytree(source, out)),
            (converting, lambda: convert_coco(source, out)),
        ]
        for _ in range(repeats):
            for case, measure in measures:
                drop_from_page_cache(source)
                start = time.perf_counter()
                measure()
                os.sync()
                case.runs.append(total / (time.perf_counter() - start))
                case.extra.setdefault("rss_mib", []).append(resident_mib())
                shutil.rmtree(out)
        mebibytes = sum(path.stat().st_size for path in source.rglob("*") if path.is_file()) / 2**20
    # The runs are rates, so the ratio of times is the inverse of their ratio.
    converting.extra["time_of_copy"] = median_ratio(copying, converting)
    for case in (copying, converting):
        case.settings = {"data_path": str(data_path), "images": total, "mib": round(mebibytes, 1)}
    return [copying, converting]


def repeat_images(data_path: Path, out: Path, counts: dict[str, int]) -> None:
    """Write a dataset in COCO format by repeating the training images of another one.

    counts: {name of a split: its number of images}
    Raises UserError if the dataset is not valid.
    """
    annotation_path = data_path / "annotations" / "instances_train2017.json"
    read_coco(annotation_path, data_path / "train2017")  # validates the dataset
    content = json.loads(annotation_path.read_text())
    annotations_by_image: dict[int, list[dict]] = {image["id"]: [] for image in content["images"]}
    for annotation in content["annotations"]:
        annotations_by_image[annotation["image_id"]].append(annotation)
    (out / "annotations").mkdir(parents=True)
    for split, count in counts.items():
        (out / split).mkdir()
        images: list[dict] = []
        annotations: list[dict] = []
        for image_id, image in zip(range(1, count + 1), itertools.cycle(content["images"])):
            name = f"{image_id:012d}{Path(image['file_name']).suffix}"
            shutil.copyfile(data_path / "train2017" / image["file_name"], out / split / name)
            images.append({**image, "id": image_id, "file_name": name})
            for annotation in annotations_by_image[image["id"]]:
                annotations.append({**annotation, "id": len(annotations) + 1, "image_id": image_id})
        text = json.dumps({"images": images, "annotations": annotations, "categories": content["categories"]})
        (out / "annotations" / f"instances_{split}.json").write_text(text)


def convert_coco(source: Path, out: Path) -> None:
    """Convert a dataset in COCO format, as create_data.py does."""
    train, val = (
        read_coco(source / "annotations" / f"instances_{split}.json", source / split)
        for split in ("train2017", "val2017")
    )
    with contextlib.redirect_stderr(io.StringIO()):  # hides the progress
        convert(train, val, out, overwrite=False, num_workers=min(8, os.cpu_count() or 1))


def drop_from_page_cache(folder: Path) -> None:
    """Make the operating system drop the files of a folder from its page cache, so that they are read from the disk."""
    os.sync()
    for path in folder.rglob("*"):
        if path.is_file():
            with open(path, "rb") as file:
                # Offset 0 and length 0 mean the whole file; the function takes no keyword arguments.
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)

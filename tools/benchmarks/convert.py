"""Measure the time of create_data.py, and for comparison the time to copy the same files.

Before each run, the files to read are dropped from the page cache. Each run includes the time to flush the written
files to the disk.
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
from ssd.data.readers.annotations import load_coco_json
from ssd.data.readers.coco import read_coco, require_usable_images

from . import Case, median_ratio
from .data import resident_mib

NUM_VAL_IMAGES = 8  # small, because only the training split is of interest


def measure_convert(data_path: Path, num_images: int, repeats: int) -> list[Case]:
    """Measure the cases `copy` and `conversion` in images/s.

    data_path: folder of a dataset in COCO format
    num_images: number of training images to convert; the images of the dataset are repeated up to this number
    repeats: number of runs of each case
    The additional result `rss_mib` is the resident memory of the process in MiB after each run.
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
    # The runs are rates in images/s, so the ratio of the times is the inverse of the ratio of the rates.
    converting.extra["time_of_copy"] = median_ratio(copying, converting)
    for case in (copying, converting):
        case.settings = {"data_path": str(data_path), "images": total, "mib": round(mebibytes, 1)}
    return [copying, converting]


def repeat_images(data_path: Path, out: Path, counts: dict[str, int]) -> None:
    """Write a dataset in COCO format that repeats the training images of another dataset.

    data_path: folder of the dataset to repeat
    out: folder of the dataset to write
    counts: {name of a split: number of images to write}
    Raises UserError if the dataset in `data_path` is not valid.
    """
    annotation_path = data_path / "annotations" / "instances_train2017.json"
    repeated = read_coco(annotation_path, data_path / "train2017")
    require_usable_images(repeated)
    content = repeated.coco_dict or load_coco_json(annotation_path)
    sources = {image.image_id: image.path for image in repeated.images}
    annotations_by_image: dict[int, list[dict]] = {image["id"]: [] for image in content["images"]}
    for annotation in content["annotations"]:
        annotations_by_image[annotation["image_id"]].append(annotation)
    (out / "annotations").mkdir(parents=True)
    for split, count in counts.items():
        (out / split).mkdir()
        images: list[dict] = []
        annotations: list[dict] = []
        for image_id, image in zip(range(1, count + 1), itertools.cycle(content["images"])):
            source = sources[image["id"]]
            name = f"{image_id:012d}{source.suffix}"
            shutil.copyfile(source, out / split / name)
            images.append({**image, "id": image_id, "file_name": name})
            for annotation in annotations_by_image[image["id"]]:
                annotations.append({**annotation, "id": len(annotations) + 1, "image_id": image_id})
        text = json.dumps({"images": images, "annotations": annotations, "categories": content["categories"]})
        (out / "annotations" / f"instances_{split}.json").write_text(text)


def convert_coco(source: Path, out: Path) -> None:
    """Convert a dataset in COCO format to MindRecord shards with the functions of create_data.py.

    source: folder of the dataset
    out: output folder for the shards
    """
    train, val = (
        read_coco(source / "annotations" / f"instances_{split}.json", source / split)
        for split in ("train2017", "val2017")
    )
    with contextlib.redirect_stderr(io.StringIO()):  # hides the progress bar
        convert(train, val, out, overwrite=False, num_workers=min(8, os.cpu_count() or 1))


def drop_from_page_cache(folder: Path) -> None:
    """Drop the files of a folder from the operating system's page cache, so that later reads come from the disk."""
    os.sync()
    for path in folder.rglob("*"):
        if path.is_file():
            with open(path, "rb") as file:
                # Offset 0 and length 0 select the whole file. posix_fadvise takes no keyword arguments.
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)

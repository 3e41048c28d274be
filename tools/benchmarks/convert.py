"""create_data.py beside a plain copy of the same files, both from files that the system has not in memory, both until
the disk has what was written."""

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

from . import Case, ratio
from .data import resident_mib

SPLITS = ("train2017", "val2017")
VAL_IMAGES = 8  # a data set has both splits, but it is the training split that is measured


def measure_convert(data_path: Path, count: int, repeats: int) -> list[Case]:
    """Cases copy and conversion, images/s. data_path: COCO form; its training images are repeated up to `count`.

    `rss_mib` is the resident memory of the process after each run. Raises UserError.
    """
    copying, converting = Case("copy", "images/s"), Case("conversion", "images/s")
    with tempfile.TemporaryDirectory(prefix="ssd-benchmark-") as folder:
        source, out = Path(folder) / "coco", Path(folder) / "out"
        repeat_images(data_path, source, {"train2017": count, "val2017": VAL_IMAGES})
        total = count + VAL_IMAGES
        measures = [
            (copying, lambda: shutil.copytree(source, out)),
            (converting, lambda: convert_all(source, out)),
        ]
        for _ in range(repeats):
            for case, measure in measures:
                forget(source)
                start = time.perf_counter()
                measure()
                os.sync()
                case.runs.append(total / (time.perf_counter() - start))
                case.more.setdefault("rss_mib", []).append(resident_mib())
                shutil.rmtree(out)
        mebibytes = sum(path.stat().st_size for path in source.rglob("*") if path.is_file()) / 2**20
    converting.more["time_of_copy"] = ratio(copying, converting)  # rates, so the other way round
    for case in (copying, converting):
        case.settings = {"data_path": str(data_path), "images": total, "mib": round(mebibytes, 1)}
    return [copying, converting]


def repeat_images(data_path: Path, out: Path, counts: dict[str, int]) -> None:
    """Write a COCO-form folder with as many images a split, made by repeating those of data_path's training split."""
    annotation_path = data_path / "annotations" / "instances_train2017.json"
    read_coco(annotation_path, data_path / "train2017")  # refuses what create_data.py would
    content = json.loads(annotation_path.read_text())
    of_image: dict[int, list] = {image["id"]: [] for image in content["images"]}
    for annotation in content["annotations"]:
        of_image[annotation["image_id"]].append(annotation)
    (out / "annotations").mkdir(parents=True)
    for split, count in counts.items():
        (out / split).mkdir()
        images, annotations = [], []
        for image_id, image in zip(range(1, count + 1), itertools.cycle(content["images"])):
            name = f"{image_id:012d}{Path(image['file_name']).suffix}"
            shutil.copyfile(data_path / "train2017" / image["file_name"], out / split / name)
            images.append({**image, "id": image_id, "file_name": name})
            for annotation in of_image[image["id"]]:
                annotations.append({**annotation, "id": len(annotations) + 1, "image_id": image_id})
        text = json.dumps({"images": images, "annotations": annotations, "categories": content["categories"]})
        (out / "annotations" / f"instances_{split}.json").write_text(text)


def convert_all(source: Path, out: Path) -> None:
    """What create_data.py does."""
    paths = [source / "annotations" / f"instances_{split}.json" for split in SPLITS]
    splits = [read_coco(path, source / split) for path, split in zip(paths, SPLITS)]
    with contextlib.redirect_stderr(io.StringIO()):  # its progress
        convert(*splits, out, overwrite=False, num_workers=min(8, os.cpu_count()))


def forget(folder: Path) -> None:
    """Have the system drop its copies of files in memory, so that they are read from the disk."""
    os.sync()
    for path in folder.rglob("*"):
        if path.is_file():
            with open(path, "rb") as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)

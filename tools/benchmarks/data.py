"""The loader: images/s of training and validation batches, beside what decoding the same images takes at least."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import ssd  # noqa: F401  first, because it sets environment variables that MindSpore reads when it loads

# isort: split
import cv2
import mindspore.dataset as ds

from ssd.data.dataset import create_dataset, find_shard, worker_count
from ssd.data.images import decode_with_opencv

from . import Case, ratio

SECONDS = 2.0  # at least, of each run


def measure_data(cfg, repeats: int) -> list[Case]:
    """Cases decode, train and val, measured in turn. cfg: Config.

    A run is whole epochs, timed from the arrival of the first batch, with the iterator made anew. `rss_mib` is the
    resident memory of the process after each run.
    """
    cv2.setNumThreads(1)
    workers = worker_count(cfg)
    limit, train, val = (Case(name, "images/s") for name in ("decode only", "train loader", "val loader"))
    images = encoded_images(cfg)
    measures = [
        (limit, lambda: decode_rate(images, workers)),
        (train, lambda: loader_rate(cfg, "train")),
        (val, lambda: loader_rate(cfg, "val")),
    ]
    for _, measure in measures:
        measure()  # caches warm up
    for _ in range(repeats):
        for case, measure in measures:
            case.runs.append(measure())
            case.more.setdefault("rss_mib", []).append(resident_mib())
    for case, _ in measures:
        case.settings = {"batch_size": cfg.batch_size, "image_size": list(cfg.image_size), "workers": workers}
        case.more["of_decode_only"] = ratio(case, limit)
    return [case for case, _ in measures]


def encoded_images(cfg) -> list[bytes]:
    """The first training images as they are stored, at most 1,000."""
    shard = find_shard(Path(cfg.data_dir), "train")
    rows = ds.MindDataset(shard, ["image"], shuffle=False).take(1000)
    return [image.tobytes() for (image,) in rows.create_tuple_iterator(num_epochs=1, output_numpy=True)]


def decode_rate(images: list[bytes], threads: int) -> float:
    """Decoding in full and nothing else: by OpenCV, from memory, in as many threads as the loader has."""
    done, start = 0, time.perf_counter()
    with ThreadPoolExecutor(threads) as pool:
        while time.perf_counter() - start < SECONDS:
            for _ in pool.map(decode_with_opencv, images):
                done += 1
    return done / (time.perf_counter() - start)


def loader_rate(cfg, split: str) -> float:
    data = create_dataset(cfg, split)
    per_epoch = data.get_dataset_size() * cfg.batch_size
    epochs = 1
    while True:
        iterator = data.create_tuple_iterator(num_epochs=epochs, output_numpy=True)
        done, start = 0, None
        for _ in range(epochs):
            for image, *_ in iterator:
                if start is None:
                    start = time.perf_counter()  # the first batch is not counted
                else:
                    done += len(image)
        seconds = time.perf_counter() - start
        if seconds >= SECONDS:
            return done / seconds
        epochs = max(epochs + 1, round(1.2 * SECONDS * max(done, per_epoch) / seconds / per_epoch))


def resident_mib() -> int:
    """Resident memory of this process; 0 where the system does not tell."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.is_file() else []
    return next((int(line.split()[1]) // 1024 for line in lines if line.startswith("VmRSS")), 0)

"""Measure the data loader for training and validation batches in images/s, and for comparison image decoding alone."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import ssd  # noqa: F401  first, because ssd sets environment variables that MindSpore reads at import

# isort: split
import cv2
import mindspore.dataset as ds

from ssd.data.dataset import create_dataset, find_shard
from ssd.data.images import decode_with_opencv
from ssd.data.thread_errors import raise_thread_errors
from ssd.runtime.cpu_cores import worker_count

from . import Case, median_ratio

if TYPE_CHECKING:
    from ssd.config.schema import Config

MIN_SECONDS = 2.0  # minimum duration of each run


def measure_data(cfg: Config, repeats: int) -> list[Case]:
    """Measure the cases `decode only`, `train loader` and `val loader` in images/s, with alternating runs.

    cfg: Config of the recipe
    repeats: number of runs of each case
    Each run of a loader loads whole epochs with a new iterator, and is timed after the first batch. The additional
    result `rss_mib` is the resident memory of the process in MiB after each run.
    """
    cv2.setNumThreads(1)
    workers = worker_count(cfg.num_parallel_workers)
    decode, train, val = (Case(name, "images/s") for name in ("decode only", "train loader", "val loader"))
    images = read_encoded_images(Path(cfg.data_dir))
    measures = [
        (decode, lambda: measure_decoding(images, workers)),
        (train, lambda: measure_loader(cfg, "train")),
        (val, lambda: measure_loader(cfg, "val")),
    ]
    for _, measure in measures:
        measure()  # fills the caches
    for _ in range(repeats):
        for case, measure in measures:
            case.runs.append(measure())
            case.extra.setdefault("rss_mib", []).append(resident_mib())
    for case, _ in measures:
        case.settings = {"batch_size": cfg.batch_size, "image_size": list(cfg.image_size), "workers": workers}
        case.extra["of_decode_only"] = median_ratio(case, decode)
    return [case for case, _ in measures]


def read_encoded_images(data_dir: Path) -> list[bytes]:
    """Return the encoded bytes of the first 1,000 training images.

    data_dir: folder of the shards
    Raises UserError if the shards of the training split are missing.
    """
    shard = find_shard(data_dir, "train")
    rows = ds.MindDataset(shard, ["image"], shuffle=False).take(1000)
    return [image.tobytes() for (image,) in rows.create_tuple_iterator(num_epochs=1, output_numpy=True)]


def measure_decoding(images: list[bytes], num_threads: int) -> float:
    """Measure the speed of decoding images at full size with OpenCV, and return the speed in images/s.

    images: encoded bytes of each image
    num_threads: number of threads, the same as in the data loader
    """
    num_decoded, start = 0, time.perf_counter()
    with ThreadPoolExecutor(num_threads) as pool:
        while time.perf_counter() - start < MIN_SECONDS:
            for _ in pool.map(decode_with_opencv, images):
                num_decoded += 1
    return num_decoded / (time.perf_counter() - start)


def measure_loader(cfg: Config, split: str) -> float:
    """Measure the speed of the data loader for at least MIN_SECONDS, and return the speed in images/s."""
    data = create_dataset(cfg, split)
    epoch_images = data.get_dataset_size() * cfg.batch_size
    epochs = 1
    while True:
        num_images, seconds = load_epochs(data, epochs)
        if seconds >= MIN_SECONDS:
            return num_images / seconds
        epochs = max(epochs + 1, round(1.2 * MIN_SECONDS * max(num_images, epoch_images) / seconds / epoch_images))


def load_epochs(data: ds.Dataset, epochs: int) -> tuple[int, float]:
    """Load epochs with a new iterator, and measure the time after the first batch.

    Returns the number of images after the first batch, and the time in seconds to load these images.
    """
    iterator = data.create_tuple_iterator(num_epochs=epochs, output_numpy=True)
    batches = (image for _ in range(epochs) for image, *_ in iterator)
    with raise_thread_errors(data):
        next(batches)
        start = time.perf_counter()
        num_images = sum(len(image) for image in batches)
    return num_images, time.perf_counter() - start


def resident_mib() -> int:
    """Return the resident memory of this process in MiB, or 0 if the operating system does not report memory."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.is_file() else []
    return next((int(line.split()[1]) // 1024 for line in lines if line.startswith("VmRSS")), 0)

"""Prediction on image files: read and drawn in threads while the network runs."""

from __future__ import annotations

import collections
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np

from ..data.images import JPEG_SUFFIXES, read_image_file
from ..errors import UserError
from ..models.postprocess import Detections
from ..runtime.progress import Progress
from .detections_json import DetectionList
from .drawing import draw_detections
from .predictor import Predictor
from .sources import InputImage


def predict_image_files(
    predictor: Predictor,
    photos: list[InputImage],
    output: Path,
    listed: DetectionList,
    batch_size: int,
    workers: int,
    stop,
) -> int:
    """Draw the detections of every photo below `output` and list them, until `stop` is true.

    Files that cannot be read are told on stderr and passed over. -> how many they were. Raises UserError.
    """

    def read(photo: InputImage):
        try:
            return predictor.prepare(read_image_file(photo.path))
        except (OSError, ValueError) as error:
            return error

    failed, batch, drawings = 0, [], collections.deque()
    with Progress(len(photos), "predicting", "images") as progress, ThreadPoolExecutor(workers) as pool:
        reads = prefetch(pool, read, photos, 2 * batch_size)
        for number, (photo, found) in enumerate(zip(photos, reads), start=1):
            if isinstance(found, Exception):
                failed += 1
                progress.bar.write(_tell(photo, found), file=sys.stderr)
                progress.update()
            else:
                batch.append((number, photo, *found))
            if len(batch) == batch_size or (batch and number == len(photos)):
                numbers, chosen, prepared, sizes = zip(*batch)
                found = predictor.detect(prepared, sizes, batch_size)
                for image_id, photo, detections in zip(numbers, chosen, found):
                    listed.add(image_id, photo.name, detections)
                    drawings.append(pool.submit(draw_image_file, photo, output, detections, predictor.classes))
                batch = []
            while drawings and (drawings[0].done() or len(drawings) > 2 * batch_size or number == len(photos)):
                drawings.popleft().result()
                progress.update()
            if stop:
                break
        for drawing in drawings:
            drawing.result()
    return failed


def _tell(photo: InputImage, error: Exception) -> str:
    reason = error.strerror.lower() if isinstance(error, OSError) and error.strerror else error
    return f"{photo.path}: got {reason}, expected a whole image; passed over"


def prefetch(pool: Executor, function: Callable, items: Iterable, ahead: int) -> Iterator:
    """function(item) for each item, in order, run in a pool for at most `ahead` items before they are asked for."""
    pending = collections.deque()
    for item in items:
        pending.append(pool.submit(function, item))
        if len(pending) > ahead:
            yield pending.popleft().result()
    while pending:
        yield pending.popleft().result()


def draw_image_file(photo: InputImage, output: Path, detections: Detections, classes) -> None:
    """Write a photo with its detections below `output`: JPEGs as JPEG of quality 95, all else as PNG. Raises UserError.

    It reads the photo a second time: to keep a batch of large ones would take gigabytes.
    """
    target = output / photo.drawn_name
    try:
        image = read_image_file(photo.path)
        drawn = draw_detections(image, detections.boxes_yxyx, detections.scores, detections.labels, classes)
        is_jpeg = target.suffix.lower() in JPEG_SUFFIXES
        options = (".jpg", [cv2.IMWRITE_JPEG_QUALITY, 95]) if is_jpeg else (".png", [])
        encoded = cv2.imencode(options[0], cv2.cvtColor(drawn, cv2.COLOR_RGB2BGR), options[1])[1]
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(np.asarray(encoded).tobytes())
    except OSError as error:
        raise UserError(
            f"{error.filename or target}: got {(error.strerror or str(error)).lower()}, expected to draw {photo.path} "
            f"into {target}; check the folder and the space left"
        ) from None

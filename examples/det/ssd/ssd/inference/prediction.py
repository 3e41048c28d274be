"""What predict.py does: a checkpoint on images or a video, to drawn pictures and a list of detections."""

from __future__ import annotations

import time
import warnings
from pathlib import Path

import cv2

from ..data.dataset import worker_count
from ..errors import UserError
from ..runtime.compile_cache import compile_cache
from ..runtime.interrupt import Interrupt
from .detections_json import DetectionList, category_ids
from .image_files import predict_image_files
from .predictor import Predictor
from .sources import InputImage, Video
from .video import predict_video

MOST_FRAMES = 8  # in a batch: those of three batches are in memory at once, with 25 MB for each of a 4K video


def predict(cfg, source: list[InputImage] | Video, output: Path) -> int:
    """Predict, draw and list everything in `source`, and print a line about it.

    cfg: Config; source: of open_source; output: folder
    Detections of at least display_score are drawn, and listed in detections.json. -> how many files could not be read.
    Raises UserError, and KeyboardInterrupt if Ctrl-C ended anything but a camera; what was done until then is written.
    """
    warnings.filterwarnings("ignore", module="PIL")  # what is wrong with an image is told in our own words
    cv2.setNumThreads(1)  # images are the unit of parallel work here
    is_video, batch_size = isinstance(source, Video), choose_batch_size(cfg, source)
    # As if nothing below display_score had been there: suppression goes from high scores to low ones.
    predictor = Predictor(cfg.model_copy(update={"min_score": cfg.display_score}))
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--output: got {output}: {error.strerror.lower()}, expected a folder to write to") from None
    listed = DetectionList(predictor.classes, category_ids(cfg))
    start, failed = time.monotonic(), 0
    try:
        # The recipe's own batch_size is in the key of the graphs, that of the batches has to be added.
        with Interrupt() as interrupt, compile_cache(cfg, f"predict {batch_size}", predictor.runtime):
            if is_video:
                predict_video(predictor, source, output, listed, batch_size, worker_count(cfg), interrupt)
            else:
                failed = predict_image_files(
                    predictor, source, output, listed, batch_size, worker_count(cfg), interrupt
                )
    finally:
        listed.write(output / "detections.json")
    seconds, unit = time.monotonic() - start, "frames" if is_video else "images"
    print(
        f"{listed.images} {unit}, {len(listed.rows)} detections of at least {cfg.display_score:g} in {seconds:.1f} s, "
        f"{listed.images / seconds:.1f} {unit}/s: {output}",
        flush=True,
    )
    if interrupt and not (is_video and source.live):
        raise KeyboardInterrupt
    return failed


def choose_batch_size(cfg, source: list[InputImage] | Video) -> int:
    """batch_size, or as many images as there are; less for a video, 1 for a camera, whose frames then come evenly."""
    if isinstance(source, Video):
        return 1 if source.live else min(cfg.batch_size, source.total or cfg.batch_size, MOST_FRAMES)
    return min(cfg.batch_size, len(source))

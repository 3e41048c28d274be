"""Run predict.py's work: a checkpoint on images or a video, to drawn copies and detections.json."""

from __future__ import annotations

import logging
import time
import warnings
from pathlib import Path

import cv2

from ..config.schema import Config, graph_settings
from ..data.dataset import worker_count
from ..data.dataset_info import dataset_fingerprint
from ..errors import UserError, count_noun, os_reason
from ..runtime.compile_cache import compile_cache
from ..runtime.interrupt import Interrupt
from .detections_json import CocoResults, read_category_ids
from .image_files import predict_image_files
from .predictor import Predictor
from .sources import InputImage, Video
from .video import predict_video

MAX_VIDEO_BATCH = 8  # frames; three batches are in memory at once, and a frame of a 4K video has 25 MB

log = logging.getLogger(__name__)


def predict(cfg: Config, source: list[InputImage] | Video, output: Path) -> int:
    """Predict all images or frames, write drawn copies and detections.json, and print a summary.

    source: result of open_inputs
    output: folder of the results
    Detections with scores of at least display_score are drawn and written. Returns the number of unreadable files.
    Raises UserError. Raises KeyboardInterrupt if Ctrl-C stopped anything but a camera; results so far are written.
    """
    warnings.filterwarnings("ignore", module="PIL")  # unreadable images are reported by predict_image_files
    cv2.setNumThreads(1)  # worker threads already process several images at once
    batch_size = choose_batch_size(cfg, source)
    # NMS goes from high scores to low ones, so a higher threshold before it leaves the other detections unchanged.
    predictor = Predictor(cfg.model_copy(update={"min_score": cfg.display_score}))
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--output: {output} cannot be created ({os_reason(error)}). Choose another folder.") from None
    results = CocoResults(predictor.classes, read_category_ids(cfg))
    num_workers = worker_count(cfg.num_parallel_workers)
    start, num_unreadable = time.monotonic(), 0
    program = f"predict {batch_size}"  # the recipe's own batch_size is not the one that graphs are compiled for
    data = dataset_fingerprint(Path(cfg.data_dir))
    try:
        with (
            Interrupt() as interrupt,
            compile_cache(program, settings=graph_settings(cfg), data=data, runtime=predictor.runtime),
        ):
            if isinstance(source, Video):
                predict_video(
                    predictor,
                    video=source,
                    output=output,
                    results=results,
                    batch_size=batch_size,
                    num_workers=num_workers,
                    interrupt=interrupt,
                )
            else:
                num_unreadable = predict_image_files(
                    predictor,
                    images=source,
                    output=output,
                    results=results,
                    batch_size=batch_size,
                    num_workers=num_workers,
                    interrupt=interrupt,
                )
    finally:
        results.write(output / "detections.json")
    seconds = time.monotonic() - start
    unit = "frame" if isinstance(source, Video) else "image"
    log.info(
        f"{count_noun(results.num_images, unit)} in {seconds:.1f} s ({results.num_images / seconds:.1f} {unit}s/s), "
        f"{count_noun(len(results.entries), 'detection')} with scores of at least {cfg.display_score:g}: {output}"
    )
    if interrupt and not (isinstance(source, Video) and source.is_camera):
        raise KeyboardInterrupt
    return num_unreadable


def choose_batch_size(cfg: Config, source: list[InputImage] | Video) -> int:
    """Return batch_size, or the number of images or frames if it is smaller.

    Videos use at most MAX_VIDEO_BATCH; a camera uses 1, so that its frames come at even intervals.
    """
    if isinstance(source, Video):
        return 1 if source.is_camera else min(cfg.batch_size, source.num_frames or cfg.batch_size, MAX_VIDEO_BATCH)
    return min(cfg.batch_size, len(source))

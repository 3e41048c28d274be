"""Implementation of predict.py: detect objects, draw the detections, and write detections.json."""

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
from .detections_json import CocoResults
from .image_files import predict_image_files
from .predictor import Predictor
from .sources import InputImage, Video
from .video import predict_video

MAX_VIDEO_BATCH = 8  # frames; three batches are in memory at the same time, and a 4K frame takes 25 MB

log = logging.getLogger(__name__)


def predict(cfg: Config, source: list[InputImage] | Video, output: Path) -> int:
    """Detect objects in images or frames, write annotated copies and detections.json, and log a summary.

    Only detections with scores of at least display_score are drawn and written.

    source: images or video, opened by open_inputs
    output: folder for the annotated copies and detections.json
    Returns the number of image files that cannot be read.
    Raises UserError if the checkpoint is missing or does not fit the recipe, or if a file cannot be written.
    Raises KeyboardInterrupt if Ctrl-C interrupted the processing of images or of a video file, after the results so far
    are written. Ctrl-C is the normal way to stop a camera, and raises no KeyboardInterrupt in this case.
    """
    warnings.filterwarnings("ignore", module="PIL")  # predict_image_files reports unreadable images
    cv2.setNumThreads(1)  # worker threads already process several images at once
    batch_size = choose_batch_size(cfg, source)
    # Apply display_score before NMS. The other detections do not change, because NMS runs in descending score order.
    predictor = Predictor(cfg.model_copy(update={"min_score": cfg.display_score}))
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"--output: {output} cannot be created ({os_reason(error)}). Set --output to another folder."
        ) from None
    results = CocoResults(predictor.classes, predictor.category_ids)
    num_workers = worker_count(cfg.num_parallel_workers, predictor.runtime.num_cores)
    start, num_unreadable = time.monotonic(), 0
    program = f"predict {batch_size}"  # graphs are compiled for this batch size, not for the recipe's
    data = dataset_fingerprint(Path(cfg.data_dir))
    try:
        with (
            Interrupt() as interrupt,
            compile_cache(program, settings=graph_settings(predictor.cfg), data=data, runtime=predictor.runtime),
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
        f"Processed {count_noun(results.num_images, unit)} in {seconds:.1f} s "
        f"({results.num_images / seconds:.1f} {unit}s/s). Wrote {count_noun(len(results.entries), 'detection')} "
        f"with scores of at least {cfg.display_score:g} to {output}."
    )
    if interrupt and not (isinstance(source, Video) and source.is_camera):
        raise KeyboardInterrupt
    return num_unreadable


def choose_batch_size(cfg: Config, source: list[InputImage] | Video) -> int:
    """Return batch_size of the recipe, or the number of images or frames if that number is smaller.

    Video files use at most MAX_VIDEO_BATCH. Cameras use 1, so that frames are processed at even intervals.
    """
    if isinstance(source, Video):
        return 1 if source.is_camera else min(cfg.batch_size, source.num_frames or cfg.batch_size, MAX_VIDEO_BATCH)
    return min(cfg.batch_size, len(source))

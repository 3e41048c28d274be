"""Detect objects in a video or camera stream. A thread reads the next frames while the network runs."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from ..boxes.multiclass_nms import Detections
from ..runtime.interrupt import Interrupt
from ..runtime.progress import Progress
from .batch_detector import BatchDetector
from .detections_json import CocoResults
from .drawing import draw_detections
from .mp4_writer import Mp4Writer
from .video_source import Frame, UnreadableVideoError, Video


def predict_video(
    detector: BatchDetector,
    video: Video,
    writer: Mp4Writer,
    results: CocoResults,
    batch_size: int,
    num_workers: int,
    interrupt: Interrupt,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Detect objects in all frames, add the detections to `results`, and write an annotated video.

    The annotated video has the size of the input, within the limits of `Mp4Writer`, and shows each frame at its time.
    The key `image_id` of a detection numbers the processed frames from 1. The key `frame` numbers the frames of the
    annotated video from 0. The key `time` is the time in seconds. The annotated video of a camera repeats the last
    frame until the next frame is processed.

    writer: writer of the annotated video, with the rate `output_fps` of the video
    num_workers: number of threads that resize and draw frames
    interrupt: stop request, checked before each batch
    clock: function that returns the time in seconds
    Raises UnreadableVideoError if no frame can be decoded, or UserError if the annotated video cannot be written.
    """
    frames = iter(video)

    def read_batch() -> list[Frame]:
        return list(itertools.islice(frames, batch_size))

    def draw(frame: Frame, detections: Detections) -> np.ndarray:
        return draw_detections(
            frame.pixels,
            boxes_yxyx=detections.boxes_yxyx,
            scores=detections.scores,
            labels=detections.labels,
            classes=detector.classes,
        )

    start: float | None = None
    with (
        Progress(video.num_frames, "predicting", "frames") as progress,
        writer,
        ThreadPoolExecutor(num_workers) as pool,
    ):
        next_batch = pool.submit(read_batch)
        while not interrupt and (batch := next_batch.result()):
            next_batch = pool.submit(read_batch)
            if video.is_camera and start is not None:
                writer.repeat_last_frame(until=clock() - start)
            preprocessed = list(pool.map(detector.preprocess, [frame.pixels for frame in batch]))
            found = detector.detect_batch(preprocessed, batch_size)
            if start is None:
                start = clock()  # start after the first batch, which includes compilation
            for frame, drawn, detections in zip(batch, pool.map(draw, batch, found), found):
                if not video.is_camera:
                    writer.repeat_last_frame(until=frame.time)
                seconds = writer.num_frames / writer.fps if video.is_camera else frame.time
                number = writer.num_frames
                writer.write(drawn)
                results.add(results.num_images + 1, video.name, detections, frame=number, time=round(seconds, 6))
            progress.update(len(batch))
    if not results.num_images and not interrupt:
        advice = "Reconnect the camera" if video.is_camera else "Convert the video to H.264 in MP4"
        raise UnreadableVideoError(
            f"{video.path or video.name}: OpenCV cannot decode any frame. {advice}, and run predict.py again."
        )

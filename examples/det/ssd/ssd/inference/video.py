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
from .drawing import DEFAULT_STYLE, DrawingStyle, draw_detections
from .mp4_writer import Mp4Writer
from .object_files import ObjectFiles
from .tracking import Tracker
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
    *,
    object_files: ObjectFiles,
    display_score: float = 0.0,
    style: DrawingStyle = DEFAULT_STYLE,
    tracker: Tracker | None = None,
) -> set[str]:
    """Detect objects in all frames, add the detections to `results`, and write an annotated video.

    The annotated video has the size of the input, within the limits of `Mp4Writer`, and shows each frame at its time.
    The key `image_id` of a detection numbers the processed frames from 1. The key `frame` numbers the frames of the
    annotated video from 0. The key `time` is the time in seconds. The annotated video of a live source repeats the last
    frame until the next frame is processed.

    writer: writer of the annotated video, with the rate `output_fps` of the video
    num_workers: number of threads that resize and draw frames
    interrupt: stop request, checked before each batch
    clock: function that returns the time in seconds
    object_files: writer of label files and crops of the frames, if they are requested
    display_score: score below which detections are tracked, but neither drawn nor added to `results`
    tracker: new Tracker for the video, which adds the key `track_id`; None without tracking
    Returns the folders of label files and crops, relative to the output folder, for publishing.
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
            track_ids=detections.track_ids,
            style=style,
        )

    def track(detections: Detections) -> Detections:
        tracked = tracker.update(detections) if tracker else detections
        return tracked.select(tracked.scores >= display_score)

    folders: set[str] = set()
    start: float | None = None
    with (
        Progress(video.num_frames, "predicting", "frames") as progress,
        writer,
        ThreadPoolExecutor(num_workers) as pool,
    ):
        next_batch = pool.submit(read_batch)
        while not interrupt and (batch := next_batch.result()):
            next_batch = pool.submit(read_batch)
            if video.is_live and start is not None:
                writer.repeat_last_frame(until=clock() - start)
            preprocessed = list(pool.map(detector.preprocess, [frame.pixels for frame in batch]))
            found = [track(detections) for detections in detector.detect_batch(preprocessed, batch_size)]
            if start is None:
                start = clock()  # start after the first batch, which includes compilation
            for frame, drawn, detections in zip(batch, pool.map(draw, batch, found), found):
                if not video.is_live:
                    writer.repeat_last_frame(until=frame.time)
                seconds = writer.num_frames / writer.fps if video.is_live else frame.time
                number = writer.num_frames
                writer.write(drawn)
                results.add(results.num_images + 1, video.name, detections, frame=number, time=round(seconds, 6))
                stem = f"{video.name}/{number:06d}"
                written = object_files.write(frame.pixels, detections, stem=stem, suffix=".jpg")
                folders |= {name.rpartition("/")[0] for name in written}
            progress.update(len(batch))
    if not results.num_images and not interrupt:
        advice = "Convert the video to H.264 in MP4" if video.path else "Check the camera and the network"
        raise UnreadableVideoError(
            f"{video.place}: OpenCV cannot decode any frame. {advice}, and run predict.py again."
        )
    return folders

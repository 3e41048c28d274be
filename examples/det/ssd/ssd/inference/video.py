"""Prediction on the frames of a video or a camera: the next are read and the last are drawn while the network runs."""

from __future__ import annotations

import itertools
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np

from ..errors import UserError
from ..runtime.progress import Progress
from .detections_json import DetectionList
from .drawing import draw_detections
from .predictor import Predictor
from .sources import Video, quiet


def predict_video(
    predictor: Predictor, video: Video, output: Path, listed: DetectionList, batch_size: int, workers: int, stop
) -> None:
    """Write a video of the same rate and size with the detections of each frame drawn, and list them.

    It ends with the source, or when `stop` is true. Frames are counted from 0, image ids from 1. A camera goes on while
    the network runs: its frames stay in the video for as long as it took to come to the next, and count as many.
    Raises UserError.
    """

    def draw(frame: np.ndarray, detections) -> np.ndarray:
        return draw_detections(frame, detections.boxes_yxyx, detections.scores, detections.labels, predictor.classes)

    frames, count, began = iter(video), 0, None
    # Where the end is not known, nothing can be said but the count, for which a terminal is needed.
    shown = video.total is not None or sys.stderr.isatty()
    with (
        Progress(video.total, "predicting", "frames", shown) as progress,
        DrawnVideo(output / video.drawn_name, video.rate) as drawn_video,
        ThreadPoolExecutor(workers) as pool,
    ):
        upcoming = pool.submit(lambda: list(itertools.islice(frames, batch_size)))
        while not stop and (batch := upcoming.result()):
            upcoming = pool.submit(lambda: list(itertools.islice(frames, batch_size)))
            if video.live and began is not None:
                drawn_video.hold(time.monotonic() - began)
            found = predictor.detect(*zip(*pool.map(predictor.prepare, batch)), batch_size)
            began = time.monotonic() if began is None else began  # behind the first batch, which compiles
            for drawn, detections in zip(pool.map(draw, batch, found), found):
                listed.add(count + 1, video.name, detections, frame=drawn_video.count)
                drawn_video.write(drawn)
                count += 1
            progress.update(len(batch))
    if not count and not stop:
        raise UserError(f"{video.name}: got no frame, expected a video that OpenCV can decode; check the file")
    if video.total and count < video.total and not stop:
        print(f"{video.name}: got {count} of the {video.total} frames it says it has", file=sys.stderr)


class DrawnVideo:
    """An .mp4 file that frames are written to. rate: frames a second

    Of frames with an odd side the last row or column is left out, which OpenCV's writer cannot hold; rates above 65
    have two decimals.
    """

    def __init__(self, path: Path, rate: float):
        self.path, self.rate = path, rate
        self.writer: cv2.VideoWriter | None = None
        self.size: tuple[int, int] | None = None
        self.last: np.ndarray | None = None
        self.count = 0

    def write(self, frame: np.ndarray) -> None:
        """frame: (H, W, 3) uint8 RGB, all of one size"""
        size = frame.shape[1::-1]
        if self.writer is None:
            self.size = size
            with quiet():
                codec, rate = cv2.VideoWriter_fourcc(*"mp4v"), rate_of_mpeg4(self.rate)
                self.writer = cv2.VideoWriter(str(self.path), codec, rate, size)
        if not self.writer.isOpened():
            raise UserError(
                f"{self.path}: got a file that cannot be written, expected one in a folder of your own, and frames of "
                f"2 to 8191 pixels a side, not {size[0]}x{size[1]}"
            )
        if size != self.size:  # OpenCV would leave the frame out and say nothing
            raise UserError(
                f"{self.path}: got a frame of {size[0]}x{size[1]} pixels after others of {self.size[0]}x{self.size[1]}"
                ", expected a video of one size; cut it where its size changes"
            )
        self.last = cv2.cvtColor(frame, cv2.COLOR_RGB2BGR)
        self.writer.write(self.last)
        self.count += 1

    def hold(self, seconds: float) -> None:
        """Repeat the last frame until the video has this length."""
        while self.last is not None and self.count < round(seconds * self.rate):
            self.writer.write(self.last)
            self.count += 1

    def __enter__(self) -> DrawnVideo:
        return self

    def __exit__(self, kind, error, trace) -> None:
        if self.writer is None:
            return
        self.writer.release()
        written = cv2.VideoCapture(str(self.path)).get(cv2.CAP_PROP_FRAME_COUNT)
        if kind is None and written != self.count:  # OpenCV does not tell that a disk is full
            raise UserError(
                f"{self.path}: got {written:.0f} of {self.count} frames on the disk, expected all; check the space left"
            )


def rate_of_mpeg4(rate: float) -> float:
    """Frames a second, rounded to what MPEG-4 can hold, as slow motion needs it: a fraction with a numerator of at most
    65535. OpenCV's denominators are 1, 10, 100 and 1000."""
    digits = [digits for digits in range(4) if rate * 10**digits <= 65535]
    return round(rate, max(digits, default=0))

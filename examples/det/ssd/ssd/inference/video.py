"""Detect objects in a video or camera stream. A thread reads the next frames while the network runs."""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType

import cv2
import numpy as np

from ..errors import UserError
from ..models.postprocess import Detections
from ..runtime.interrupt import Interrupt
from ..runtime.progress import Progress
from .detections_json import CocoResults
from .drawing import draw_detections
from .predictor import Predictor
from .sources import Video, silence_native_stderr

log = logging.getLogger(__name__)


def predict_video(
    predictor: Predictor,
    video: Video,
    output: Path,
    results: CocoResults,
    batch_size: int,
    num_workers: int,
    interrupt: Interrupt,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Detect objects in all frames, add the detections to `results`, and write an annotated video.

    The annotated video has the frame rate and size of the input, within the limits of `Mp4Writer`. The key `image_id`
    of a detection numbers the processed frames from 1. The key `frame` numbers the frames of the annotated video from
    0. The annotated video of a camera repeats the last frame until the next frame is processed.

    output: folder for the annotated video
    num_workers: number of threads that resize and draw frames
    interrupt: stop request, checked before each batch
    clock: function that returns the time in seconds
    Raises UserError if no frame can be decoded, or if the annotated video cannot be written.
    """
    frames = iter(video)

    def read_batch() -> list[np.ndarray]:
        return list(itertools.islice(frames, batch_size))

    def draw(frame: np.ndarray, detections: Detections) -> np.ndarray:
        return draw_detections(
            frame,
            boxes_yxyx=detections.boxes_yxyx,
            scores=detections.scores,
            labels=detections.labels,
            classes=predictor.classes,
        )

    num_frames = 0
    start: float | None = None
    with (
        Progress(video.num_frames, "predicting", "frames") as progress,
        Mp4Writer(output / video.output_name, video.fps) as writer,
        ThreadPoolExecutor(num_workers) as pool,
    ):
        next_batch = pool.submit(read_batch)
        while not interrupt and (batch := next_batch.result()):
            next_batch = pool.submit(read_batch)
            if video.is_camera and start is not None:
                writer.repeat_last_frame(until=clock() - start)
            found = predictor.detect_batch(list(pool.map(predictor.preprocess, batch)), batch_size)
            if start is None:
                start = clock()  # start after the first batch, which includes compilation
            for drawn, detections in zip(pool.map(draw, batch, found), found):
                results.add(num_frames + 1, video.name, detections, frame=writer.num_frames)
                writer.write(drawn)
                num_frames += 1
            progress.update(len(batch))
    if not num_frames and not interrupt:
        advice = "Reconnect the camera" if video.is_camera else "Convert the video to MP4"
        raise UserError(f"{video.name}: OpenCV cannot decode any frame. {advice}, and run predict.py again.")
    if video.num_frames and num_frames < video.num_frames and not interrupt:
        log.warning(
            f"{video.name}: only {num_frames} of {video.num_frames} frames could be read. "
            "Check that the video file is complete."
        )


class Mp4Writer:
    """Context manager that writes frames to an .mp4 file.

    OpenCV's writer requires an even width and height. If the width or height is odd, the last column or row is cut off.

    path: path of the .mp4 file
    fps: frames per second; the file stores the rate rounded by `round_fps_for_mpeg4`
    num_frames: number of frames written so far
    Raises UserError at the end of the `with` block if frames are missing in the file.
    """

    def __init__(self, path: Path, fps: float):
        self.path = path
        self.fps = fps
        self.num_frames = 0
        self._writer: cv2.VideoWriter | None = None
        self._frame_size = (0, 0)  # width, height in pixels
        self._last_frame: np.ndarray | None = None

    def write(self, frame: np.ndarray) -> None:
        """Append a frame to the video.

        frame: (H, W, 3) uint8 RGB; all frames must have the same size
        Raises UserError if OpenCV cannot write the video, or if the size differs from the first frame.
        """
        height, width = frame.shape[:2]
        if self._writer is None:
            self._frame_size = (width, height)
            with silence_native_stderr():
                self._writer = cv2.VideoWriter(
                    str(self.path),
                    fourcc=cv2.VideoWriter.fourcc(*"mp4v"),
                    fps=round_fps_for_mpeg4(self.fps),
                    frameSize=self._frame_size,
                )
        if not self._writer.isOpened():
            raise UserError(
                f"{self.path}: OpenCV cannot write a video of {width}x{height} pixels. "
                "Check that the folder is writable, and that width and height are 2 to 8191 pixels."
            )
        if (width, height) != self._frame_size:  # OpenCV would silently skip the frame
            first_width, first_height = self._frame_size
            raise UserError(
                f"{self.path}: frame {self.num_frames} has {width}x{height} pixels, but the first frame has "
                f"{first_width}x{first_height} pixels. Split the input video where the frame size changes."
            )
        self._append(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))

    def repeat_last_frame(self, until: float) -> None:
        """Repeat the last frame until the video has a given length.

        until: length of the video in seconds
        """
        while self._last_frame is not None and self.num_frames < round(until * self.fps):
            self._append(self._last_frame)

    def _append(self, frame_bgr: np.ndarray) -> None:
        assert self._writer is not None
        self._writer.write(frame_bgr)
        self._last_frame = frame_bgr
        self.num_frames += 1

    def __enter__(self) -> Mp4Writer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._writer is None:
            return
        self._writer.release()
        num_written = cv2.VideoCapture(str(self.path)).get(cv2.CAP_PROP_FRAME_COUNT)
        if kind is None and num_written != self.num_frames:  # OpenCV does not report a full disk
            raise UserError(
                f"{self.path}: only {num_written:.0f} of {self.num_frames} frames were written. "
                "Free some disk space, and run predict.py again."
            )


def round_fps_for_mpeg4(fps: float) -> float:
    """Round a frame rate to the precision that MPEG-4 can store.

    MPEG-4 stores the frame rate as a fraction with a numerator of at most 65535. OpenCV uses a denominator of 1, 10,
    100 or 1000. High frame rates, such as those of slow-motion videos, must therefore be rounded.

    fps: frames per second
    Returns the rounded frames per second.
    """
    possible_digits = [digits for digits in range(4) if fps * 10**digits <= 65535]
    return round(fps, max(possible_digits, default=0))

"""Write frames to an .mp4 file of constant rate, each at its time."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType

import cv2
import numpy as np

from ..errors import UserError
from .video_times import round_fps_for_mpeg4


class Mp4Writer:
    """Context manager that writes frames to an .mp4 file.

    OpenCV's writer requires an even width and height. If the width or height is odd, the last column or row is cut off.
    OpenCV's writer also requires a constant rate, so a frame is repeated until the time of the next frame.

    path: path of the .mp4 file
    fps: frames per second; the file stores the rate rounded by `round_fps_for_mpeg4`
    name: name of the file in messages; by default `path`
    num_frames: number of frames written so far, including repeated frames
    Raises UserError at the end of the `with` block if frames are missing in the file.
    """

    def __init__(self, path: Path, fps: float, *, name: str = ""):
        self.path = path
        self.name = name or str(path)
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
            self._writer = cv2.VideoWriter(
                str(self.path),
                fourcc=cv2.VideoWriter.fourcc(*"mp4v"),
                fps=round_fps_for_mpeg4(self.fps),
                frameSize=self._frame_size,
            )
        if not self._writer.isOpened():
            raise UserError(
                f"{self.name}: OpenCV cannot write a video of {width}x{height} pixels. "
                "Check that the folder is writable, and that width and height are 2 to 8191 pixels."
            )
        if (width, height) != self._frame_size:  # OpenCV would silently skip the frame
            first_width, first_height = self._frame_size
            raise UserError(
                f"{self.name}: frame {self.num_frames} has {width}x{height} pixels, but the first frame has "
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
                f"{self.name}: only {num_written:.0f} of {self.num_frames} frames were written. "
                "Free some disk space, and run predict.py again."
            )

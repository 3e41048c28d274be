"""Read frames and their times from a video file, a camera or a stream with OpenCV."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from ..errors import UserError, count_noun
from .container_check import ContainerCheck, check_container
from .live_stream import TIMEOUT, LatestFrames
from .video_times import DEFAULT_FPS, FrameClock, choose_fps

VIDEO_SUFFIXES = frozenset(".mp4 .m4v .mov .avi .mkv .webm .mpg .mpeg .wmv .flv .3gp .mts .m2ts .ts".split())
MAX_FAILURES = 1000  # OpenCV ends at each packet that cannot be decoded. A file ends after so many in succession.
MAX_TIME = 1e8  # seconds; larger timestamps are errors
MAX_MISSING_SECONDS = 1.0  # tolerance of the duration in containers that `check_container` does not support


class UnreadableVideoError(UserError):
    """A video file that OpenCV cannot open, or of which it cannot decode any frame."""


class Frame(NamedTuple):
    """A frame of a video.

    pixels: (H, W, 3) uint8 RGB, upright
    time: seconds since the start of the video, from the container; for a live source, number of the frame / fps
    """

    pixels: np.ndarray
    time: float


@dataclasses.dataclass(frozen=True)
class Packets:
    """Compressed frames in a file, as counted without decoding.

    count: number of compressed frames, including frames that the file hides, as in a trimmed video
    times: (N,) increasing times in seconds, without duplicates; None if the container has no valid timestamps
    """

    count: int
    times: np.ndarray | None


class Video:
    """Frames of a video file, a camera or a stream. The frames can be iterated only once.

    A source is live if it has no end: a camera, or a stream without a number of frames.

    capture: cv2.VideoCapture, or an object with the same methods `read`, `grab` and `get`
    name: path of the video relative to the common folder of all inputs, or `camera<number>`, or host and path
    path: path of the file; None for a camera or a stream
    address: address of a stream without its password, for messages
    packets: compressed frames of the file; None if unknown
    stride: number; only each stride-th frame is yielded, from the first one on
    fps: average frames per second of the source
    num_read: number of frames read so far, with those that are not yielded
    """

    def __init__(
        self,
        capture: cv2.VideoCapture | LatestFrames,
        name: str,
        path: Path | None = None,
        *,
        address: str = "",
        packets: Packets | None = None,
    ):
        self.capture = capture
        self.name = name
        self.path = path
        self.address = address
        self.packets = packets
        self.stride = 1
        fps, num_frames = capture.get(cv2.CAP_PROP_FPS), capture.get(cv2.CAP_PROP_FRAME_COUNT)
        self.fps = fps if math.isfinite(fps) and fps > 0 else DEFAULT_FPS
        self._reported_frames = int(num_frames) if math.isfinite(num_frames) and 0 < num_frames < 2**31 else None
        self.is_live = path is None and (not address or self._reported_frames is None)
        self.num_read = 0
        self._num_failures = 0  # failures that another frame followed
        self._last_timestamp = 0.0
        self._changed_size = ""

    @property
    def place(self) -> str:
        """Path, address or name of the source, for messages."""
        return str(self.path or self.address or self.name)

    @property
    def num_frames(self) -> int | None:
        """Number of frames to yield, if the container reports the right number; None if unknown."""
        count = self._reported_frames
        if self.packets and self.packets.count:
            count = self.packets.count if self.packets.times is None else len(self.packets.times)
        return None if count is None else math.ceil(count / self.stride)

    @property
    def output_fps(self) -> float:
        """Frames per second of the annotated video, which has a constant rate."""
        times = self.packets.times if self.packets else None
        return choose_fps(self.fps / self.stride, None if times is None else times[:: self.stride])

    def __iter__(self) -> Iterator[Frame]:
        """Yield frames of equal size, rotated by OpenCV according to the metadata of the file.

        After a packet that cannot be decoded, the next frames are read. The video ends where the frame size changes.
        """
        clock, failures, first_size = FrameClock(self.fps), 0, None
        frame: np.ndarray | None
        while failures <= (MAX_FAILURES if self.path else 0):
            if self.num_read % self.stride:
                success, frame = self.capture.grab(), None
            else:
                success, frame = self.capture.read()
            if not success:
                failures += 1
                continue
            self._num_failures += failures
            failures = 0
            size = first_size if frame is None else f"{frame.shape[1]}x{frame.shape[0]}"
            first_size = first_size or size
            if size != first_size:
                self._changed_size = f"frame {self.num_read} has {size} pixels, but the first frame has {first_size}"
                return
            timestamp = self.num_read / self.fps if self.is_live else self.capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
            self._last_timestamp = max(self._last_timestamp, timestamp)
            self.num_read += 1
            frame_time = clock.next(timestamp)
            if frame is not None:
                yield Frame(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB), time=frame_time)

    def find_loss(self) -> str | None:
        """Return a text on frames that were not read, after all frames were iterated. None if there are none.

        A live source has no end, so its end is a loss. The number of missing frames is an estimate if a file is
        truncated and the container stores no number.
        """
        if self._changed_size:
            return self._changed_size
        if self.path is None:
            missing = None if self._reported_frames is None else self._reported_frames - self.num_read
            if missing is not None and missing <= MAX_MISSING_SECONDS * self.fps:
                return None
            return f"the connection was lost after {count_noun(self.num_read, 'frame')}"
        try:
            check = check_container(self.path)
        except OSError:  # the file was removed
            check = ContainerCheck(is_damaged=None)
        num_lost = self._num_failures
        if check.counts_frames:
            num_packets = self.packets.count if self.packets else 0
            num_lost = max(num_lost, (self._reported_frames or 0) - max(num_packets, self.num_read))
        elif self.packets and self.packets.times is not None:
            num_lost += int(np.sum(self.packets.times > self._last_timestamp + 0.5 / self.fps))
            if num_lost:  # OpenCV also drops the packet that reports a failure of an earlier packet
                num_lost = max(num_lost, self.packets.count - self.num_read)
        # Without an exact number, OpenCV reports duration times rate.
        read_seconds = self._last_timestamp + 1 / self.fps
        missing_seconds = (self._reported_frames or 0) / self.fps - read_seconds
        if check.is_damaged or (check.is_damaged is None and missing_seconds > MAX_MISSING_SECONDS):
            estimate = missing_seconds * self.num_read / read_seconds
            difference = (self._reported_frames or 0) - self.num_read  # exact for a constant rate
            estimate = difference if 0.8 * estimate < difference < 1.25 * estimate else round(estimate)
            num_lost = max(num_lost, 1 if check.counts_frames else estimate)
        if not num_lost:
            return "the file is truncated or damaged, so frames may be missing" if check.is_damaged else None
        return f"{num_lost:,} of {count_noun(self.num_read + num_lost, 'frame')} could not be read"


def open_video(path: Path, name: str) -> Video:
    """Open a video file, and count its frames. Raises UnreadableVideoError if OpenCV cannot open the file."""
    check_video(path)
    packets = read_packets(path)
    capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
    capture.set(cv2.CAP_PROP_ORIENTATION_AUTO, 1)  # OpenCV 4.11 does not rotate videos of phones by default
    return Video(capture, name=name, path=path, packets=packets)


def check_video(path: Path) -> None:
    """Raise UnreadableVideoError if OpenCV cannot open a file as a video."""
    if not cv2.VideoCapture(str(path), cv2.CAP_FFMPEG).isOpened():
        raise UnreadableVideoError(
            f"{path}: OpenCV cannot open the file as a video. Choose another file, or convert it to H.264 in MP4."
        )


def open_camera(number: int) -> Video:
    """Open a camera. Raises UserError if OpenCV cannot open the camera."""
    capture = cv2.VideoCapture(number)
    if not capture.isOpened():
        raise UserError(
            f"--input: OpenCV cannot open camera {number}. "
            "Connect the camera, and close other programs that use the camera."
        )
    return Video(capture, name=f"camera{number}")


def open_stream(address: str, *, name: str, shown: str) -> Video:
    """Open a network stream. Raises UserError if OpenCV cannot open the stream.

    name: name of the results
    shown: address without its password, for messages
    """
    milliseconds = int(1000 * TIMEOUT)
    parameters = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, milliseconds, cv2.CAP_PROP_READ_TIMEOUT_MSEC, milliseconds]
    capture = cv2.VideoCapture(address, cv2.CAP_FFMPEG, parameters)
    if not capture.isOpened():
        raise UserError(
            f"--input: OpenCV cannot open the stream {shown}. Check the address, the user name and the password."
        )
    video = Video(capture, name=name, address=shown)
    return Video(LatestFrames(capture), name=name, address=shown) if video.is_live else video


def read_packets(path: Path) -> Packets:
    """Count the compressed frames of a video file, and read their times, without decoding.

    This takes as long as reading the file.
    """
    capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
    times: list[float] = []
    failures = num_damaged = 0
    if capture.set(cv2.CAP_PROP_FORMAT, -1):  # compressed frames
        while failures <= MAX_FAILURES:
            if capture.grab():
                times.append(capture.get(cv2.CAP_PROP_POS_MSEC) / 1000)
                num_damaged += failures
                failures = 0
            else:
                failures += 1
    valid = [time for time in times if math.isfinite(time) and 0 <= time < MAX_TIME]
    unique = np.unique(valid)
    # Several hidden frames at the start of a trimmed video have the time 0.
    is_valid = len(valid) == len(times) and len(unique) > 0.9 * np.count_nonzero(valid)
    return Packets(count=len(times) + num_damaged, times=unique if is_valid else None)

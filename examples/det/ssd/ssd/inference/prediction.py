"""Implementation of predict.py: detect objects, draw the detections, and write lists of detections."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import cv2

from ..errors import UserError, count_noun, os_reason
from ..runtime.interrupt import Interrupt
from .batch_detector import BatchDetector
from .class_choice import find_labels
from .detections_json import CocoResults
from .image_files import predict_image_files
from .mp4_writer import Mp4Writer
from .object_files import CROPS, LABELS, ObjectFiles
from .output_folder import IMAGES_LIST_NAME, OutputFolder, open_output_folder
from .result_options import ResultOptions
from .sources import Inputs, InputVideo
from .tracking import LOWEST_TRACKED_SCORE, Tracker
from .video import predict_video
from .video_source import UnreadableVideoError, Video, open_video

MAX_VIDEO_BATCH = 8  # frames; three batches are in memory at the same time, and a 4K frame takes 25 MB

log = logging.getLogger(__name__)


class Failures(NamedTuple):
    """Numbers of input files that were not processed, or not completely. Each was reported on stderr.

    num_unreadable: images and videos of which nothing could be read
    num_incomplete: videos of which frames are missing
    """

    num_unreadable: int
    num_incomplete: int


@dataclasses.dataclass(frozen=True)
class PredictionOptions:
    """Settings of a run of predict.py.

    batch_size: largest number of images in a batch
    num_workers: number of threads that read and draw images
    display_score: score below which the detector drops detections
    results: choice of detections and result files
    """

    batch_size: int
    num_workers: int
    display_score: float
    results: ResultOptions = ResultOptions()


def predict(detector: BatchDetector, inputs: Inputs, output_path: Path, *, options: PredictionOptions) -> Failures:
    """Detect objects in images and videos, write annotated copies and lists of detections, and log a summary.

    Results of an earlier run in the same folder are archived when the first result of this run is complete.

    detector: detector that returns only detections with scores of at least display_score; its NMS is adjusted
    inputs: images, videos, a camera or a stream, found by find_inputs
    output_path: folder for the results
    Raises UserError if a class does not exist, if the only input is a video without readable frames, or if a file
    cannot be written.
    Raises KeyboardInterrupt if Ctrl-C interrupted the processing of images or of a video file, after the results so far
    are written. Ctrl-C is the normal way to stop a camera, and raises no KeyboardInterrupt in this case.
    """
    warnings.filterwarnings("ignore", module="PIL")  # predict_image_files reports unreadable images
    cv2.setNumThreads(1)  # worker threads already process several images at once
    requested = options.results
    if requested.classes:
        detector.nms.kept_labels = find_labels(requested.classes, detector.classes, detector.category_ids)
    detector.nms.agnostic = requested.agnostic_nms
    subfolders = [name for name, save in ((LABELS, requested.save_txt), (CROPS, requested.save_crops)) if save]
    files = [image.path for image in inputs.images] + [video.path for video in inputs.videos]
    with (
        open_output_folder(output_path, inputs.output_names, subfolders=subfolders, inputs=files) as output,
        Interrupt() as interrupt,
    ):
        run = _Run(detector, options=options, output=output, interrupt=interrupt)
        num_unreadable = run.predict_images(inputs) if inputs.images else 0
        num_incomplete = 0
        for source in [inputs.camera] if inputs.camera else inputs.videos:
            if interrupt:
                break
            try:
                num_incomplete += not run.predict_video(source)
            except UnreadableVideoError as error:
                if len(inputs) == 1:
                    raise
                num_unreadable += 1
                print(f"{error} The file is skipped.", file=sys.stderr)
        if inputs.camera:
            inputs.camera.capture.release()
    run.log_summary()
    if interrupt and not inputs.camera:
        raise KeyboardInterrupt
    return Failures(num_unreadable, num_incomplete)


class _Run:
    """Detector, output folder and totals of one run of predict.py."""

    def __init__(
        self, detector: BatchDetector, *, options: PredictionOptions, output: OutputFolder, interrupt: Interrupt
    ):
        self.detector = detector
        self.options = options
        self.output = output
        self.interrupt = interrupt
        self.object_files = ObjectFiles(output, detector.classes)
        self.start = time.monotonic()
        self.num_images = self.num_videos = self.num_frames = self.num_detections = self.num_tracks = 0

    def predict_images(self, inputs: Inputs) -> int:
        """Process all images. Returns the number of files that cannot be read."""
        results = CocoResults(self.detector.classes, self.detector.category_ids)
        try:
            return predict_image_files(
                self.detector,
                images=inputs.images,
                output=self.output,
                results=results,
                batch_size=self.options.batch_size,
                num_workers=self.options.num_workers,
                interrupt=self.interrupt,
                object_files=self.object_files,
                style=self.options.results.style,
            )
        finally:
            self.num_images, self.num_detections = results.num_images, len(results.entries)
            if self.output.has_results:  # also after an error, because annotated images were published
                self._publish_list(results, IMAGES_LIST_NAME)

    def predict_video(self, source: InputVideo | Video) -> bool:
        """Process a video, a camera or a stream. Returns False if frames are missing, or if a live source was lost.

        Nothing is published if no frame was processed, or if the annotated video cannot be written.
        """
        if isinstance(source, Video):
            video, stem = source, source.name
        else:
            video, stem = open_video(source.path, name=source.name), source.output_stem
        requested = self.options.results
        video.stride = requested.vid_stride
        tracker = None
        if requested.track:
            tracker = Tracker(video.fps / video.stride, start_score=self.options.display_score)
            # All images are processed before the first video, so this does not change their detections.
            self.detector.nms.min_score = min(self.detector.nms.min_score, LOWEST_TRACKED_SCORE)
        results = CocoResults(self.detector.classes, self.detector.category_ids)
        name = f"{stem}.mp4"
        with _report_unwritable(self.output.path / name):
            path = self.output.unfinished(name)
        folders = predict_video(
            self.detector,
            video=video,
            writer=Mp4Writer(path, fps=video.output_fps, name=str(self.output.path / name)),
            results=results,
            batch_size=self.options.batch_size,
            num_workers=self.options.num_workers,
            interrupt=self.interrupt,
            object_files=self.object_files,
            display_score=self.options.display_score,
            style=requested.style,
            tracker=tracker,
        )
        if not results.num_images:  # Ctrl-C before the first frame
            return True
        self._publish_list(results, f"{stem}.json", name, *sorted(folders))
        self.num_videos += 1
        self.num_frames += results.num_images
        self.num_detections += len(results.entries)
        self.num_tracks += tracker.num_tracks if tracker else 0
        loss = None if self.interrupt else video.find_loss()
        if loss:
            advice = "Check that the video file is complete" if video.path else "Check the camera and the network"
            print(f"{video.place}: {loss}. {advice}.", file=sys.stderr)
        return loss is None

    def log_summary(self) -> None:
        """Log the numbers of images, frames and detections, and the speed. Nothing is logged if nothing was written."""
        if not self.output.has_results:
            return
        seconds = time.monotonic() - self.start
        parts, rates = [], []
        for number, unit in ((self.num_images, "image"), (self.num_frames, "frame")):
            if number:
                of_videos = f" of {self.num_videos} videos" if unit == "frame" and self.num_videos > 1 else ""
                parts.append(f"{count_noun(number, unit)}{of_videos}")
                rates.append(f"{number / seconds:.1f} {unit}s/s")
        written = [
            f"{count_noun(self.num_detections, 'detection')} with scores of at least {self.options.display_score:g}"
        ]
        if self.options.results.track:
            written.append(count_noun(self.num_tracks, "track"))
        for name, number, noun in (
            (LABELS, self.object_files.num_label_files, "label file"),
            (CROPS, self.object_files.num_crops, "crop"),
        ):
            if name in self.output.subfolders:
                written.append(f"{count_noun(number, noun)} ({self.output.subfolders[name]})")
        log.info(
            f"Processed {' and '.join(parts)} in {seconds:.1f} s ({', '.join(rates)}). "
            f"Wrote {_join(written)} to {self.output.path}."
        )

    def _publish_list(self, results: CocoResults, name: str, *other_names: str) -> None:
        """Write a list of detections, then publish the list and other complete results."""
        with _report_unwritable(self.output.path / name):
            results.write(self.output.unfinished(name))
            for complete in (name, *other_names):
                self.output.publish(complete)


@contextlib.contextmanager
def _report_unwritable(path: Path) -> Iterator[None]:
    """Convert an OSError in the block to a UserError. path: path of the result for the message."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"{path}: the file cannot be written ({os_reason(error)}). "
            "Free some disk space, or set --output to another folder."
        ) from None


def _join(parts: Sequence[str]) -> str:
    return f"{', '.join(parts[:-1])} and {parts[-1]}" if len(parts) > 1 else parts[0]


def choose_batch_size(batch_size: int, inputs: Inputs) -> int:
    """Return the batch size of a detector, or the number of images if the inputs are fewer images.

    Video files use at most MAX_VIDEO_BATCH. Cameras use 1, so that frames are processed at even intervals.
    """
    if inputs.camera:
        return 1
    return min(batch_size, MAX_VIDEO_BATCH if inputs.videos else len(inputs.images))

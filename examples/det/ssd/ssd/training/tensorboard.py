"""TensorBoard event files."""

from __future__ import annotations

import time
from pathlib import Path

import cv2
import numpy as np
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.proto.summary_pb2 import Summary

from .logger import EvalRecord, StepRecord

TAGS = {  # a chart each: its tag, and the field of StepRecord that it shows
    "loss/total": "loss",
    "loss/box": "box_loss",
    "loss/class": "class_loss",
    "train/learning_rate": "learning_rate",
    "train/gradient_norm": "gradient_norm",
    "train/loss_scale": "loss_scale",
    "train/skipped_steps": "skipped_steps",
    "speed/images_per_second": "images_per_second",
    "speed/data_wait": "data_wait",
    "speed/memory_mib": "memory_mib",
}


class TensorBoardEvents:
    """Charts and pictures for `tensorboard --logdir`, all over the steps of training: those of TAGS, validation/AP and
    the other figures of evaluations, and examples/<name of the picture>.

    tensorboardX's SummaryWriter has a thread and a queue, which a kill would lose; this writes at once, a few events a
    minute.
    """

    def __init__(self, folder: Path, done: int = 0):
        """done: steps of a training that goes on; TensorBoard forgets what an earlier file has of later ones"""
        self.writer = EventsWriter(str(folder / "events"))
        if done:
            start = SessionLog(status=SessionLog.START)
            self.writer.write_event(Event(wall_time=time.time(), step=done + 1, session_log=start))
        self.writer.flush()

    def on_step(self, record: StepRecord) -> None:
        self._write(record.step, _scalars({tag: getattr(record, field) for tag, field in TAGS.items()}))

    def on_evaluation(self, record: EvalRecord) -> None:
        values = _scalars({f"validation/{name}": value for name, value in record.metrics.items()})
        values += [_image(f"examples/{name}", picture) for name, picture in record.pictures.items()]
        self._write(record.step, values)

    def close(self) -> None:
        self.writer.close()

    def _write(self, step: int, values: list) -> None:
        self.writer.write_event(Event(wall_time=time.time(), step=step, summary=Summary(value=values)))
        self.writer.flush()


def _scalars(values: dict[str, float | None]) -> list:
    return [Summary.Value(tag=tag, simple_value=value) for tag, value in values.items() if value is not None]


def _image(tag: str, picture: np.ndarray):
    height, width, _ = picture.shape
    # JPEG, because PNGs of photographs after every epoch would fill gigabytes.
    _, encoded = cv2.imencode(".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 90])
    image = Summary.Image(height=height, width=width, colorspace=3, encoded_image_string=encoded.tobytes())
    return Summary.Value(tag=tag, image=image)

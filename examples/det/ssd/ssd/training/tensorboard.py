"""Write TensorBoard event files."""

from __future__ import annotations

import socket
import time
from pathlib import Path

import cv2
import numpy as np
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.proto.summary_pb2 import Summary
from tensorboardX.record_writer import RecordWriter

from .log_file import LogFile
from .records import EvalRecord, StepRecord

TAGS = {  # {tag of a chart: field of StepRecord}
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
MAX_PENDING = 64 * 2**20  # bytes that are kept for a disk that is full; later events are dropped


class _Records(RecordWriter):
    """Writer of tensorboardX's record format to a file that is open already."""

    def __init__(self, file: LogFile):
        self._writer = file


class TensorBoardEvents:
    """Write charts and example images of a training run to a TensorBoard event file.

    The tags of the values are the keys of TAGS, validation/METRIC and examples/IMAGE.

    Each event is written to disk immediately. tensorboardX's SummaryWriter would queue the events in a thread, and a
    kill would lose the queue. Events that cannot be written follow with the next event.

    folder: folder of the event file
    steps_done: number of steps done before this run was resumed; TensorBoard ignores later steps in the event files of
        the previous run
    """

    def __init__(self, folder: Path, steps_done: int = 0):
        self.name = str(folder)
        self.file = LogFile(folder / f"events.out.tfevents.{int(time.time())}.{socket.gethostname()}")
        self.records = _Records(self.file)
        self._write(Event(wall_time=time.time(), file_version="brain.Event:2"))
        if steps_done:
            start = SessionLog(status=SessionLog.START)
            self._write(Event(wall_time=time.time(), step=steps_done + 1, session_log=start))

    def on_step(self, record: StepRecord) -> None:
        self._write_values(record.step, _scalars({tag: getattr(record, field) for tag, field in TAGS.items()}))

    def on_evaluation(self, record: EvalRecord) -> None:
        values = _scalars({f"validation/{name}": value for name, value in record.metrics.items()})
        values += [_encode_image(f"examples/{name}", image) for name, image in record.images.items()]
        self._write_values(record.step, values)

    def close(self) -> None:
        self.file.close()

    def _write_values(self, step: int, values: list) -> None:
        self._write(Event(wall_time=time.time(), step=step, summary=Summary(value=values)))

    def _write(self, event: Event) -> None:
        if len(self.file.pending) < MAX_PENDING:
            self.records.write(event.SerializeToString())
        self.records.flush()


def _scalars(values: dict[str, float | None]) -> list:
    return [Summary.Value(tag=tag, simple_value=value) for tag, value in values.items() if value is not None]


def _encode_image(tag: str, image: np.ndarray) -> Summary.Value:
    """Encode an image as a TensorBoard value.

    tag: name of the image in TensorBoard
    image: (H, W, 3) uint8 RGB
    """
    height, width, _ = image.shape
    # Encode as JPEG, because PNG files of photographs after each epoch would take gigabytes.
    _, encoded = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 90])
    summary = Summary.Image(height=height, width=width, colorspace=3, encoded_image_string=encoded.tobytes())
    return Summary.Value(tag=tag, image=summary)

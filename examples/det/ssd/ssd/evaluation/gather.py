"""Gather the detections of all devices on every device, with AllGather messages of a fixed shape."""

from __future__ import annotations

from collections.abc import Iterable

import mindspore.nn as nn
import numpy as np
from mindspore import Tensor, ops

from ..models.postprocess import Detections

MESSAGE_ROWS = 16384  # fixed, so that one graph is compiled for all messages
# A row holds the image id in two halves, label, score and box. All are sent as int32: int64 image ids and float32
# values keep their bits that way.
COLUMNS = 8


class _AllGather(nn.Cell):
    def __init__(self):
        super().__init__()
        self.all_gather = ops.AllGather()

    def construct(self, rows: Tensor) -> Tensor:
        return self.all_gather(rows)


class DetectionGatherer:
    """Exchange detections, so that every device has those of all images.

    All devices must call this object at the same time.

    world_size: number of devices, 1 for a process without a launcher
    """

    def __init__(self, world_size: int):
        self.world_size = world_size
        self.all_gather = _AllGather() if world_size > 1 else None

    def __call__(self, detections: Iterable[tuple[int, Detections]]) -> list[tuple[int, Detections]]:
        """Gather the detections of all devices.

        detections: (image id, its detections) for the images of this device
        Returns the same for the images of all devices: the first image of each device, then the second, and so on.
        An image that several devices have appears once.
        """
        table = pack(detections)
        tables = [table] if self.all_gather is None else self._exchange(table, self.all_gather)
        device_images = [unpack(table) for table in tables]
        max_images = max(len(images) for images in device_images)
        interleaved = [
            images[position] for position in range(max_images) for images in device_images if position < len(images)
        ]
        # Every device has equally many images. Where they do not divide evenly, some devices repeat an image.
        unique: dict[int, Detections] = {}
        for image_id, image_detections in interleaved:
            unique.setdefault(image_id, image_detections)
        return list(unique.items())

    def _exchange(self, table: np.ndarray, all_gather: nn.Cell) -> list[np.ndarray]:
        """Send a table of (N, COLUMNS) int32 to all devices, and return the tables of all devices, by rank."""
        parts, received, max_rows = [], 0, 1
        # The first row of each message holds the number of rows of the whole table.
        while received < max_rows:
            message = np.zeros((MESSAGE_ROWS + 1, COLUMNS), np.int32)
            message[0, 0] = len(table)
            part = table[received : received + MESSAGE_ROWS]
            message[1 : len(part) + 1] = part
            gathered = all_gather(Tensor(message)).asnumpy().reshape(self.world_size, MESSAGE_ROWS + 1, COLUMNS)
            num_rows = gathered[:, 0, 0]
            max_rows = int(num_rows.max())
            parts.append(gathered[:, 1:])
            received += MESSAGE_ROWS
        return [rows[:count] for rows, count in zip(np.concatenate(parts, axis=1), num_rows)]


def pack(detections: Iterable[tuple[int, Detections]]) -> np.ndarray:
    """Pack the detections of images into one table.

    An image starts with a row of label 0, so that images without detections are kept.

    detections: (image id, its detections)
    Returns (N, COLUMNS) int32.
    """
    tables = [np.zeros((0, COLUMNS), np.int32)]
    for image_id, image_detections in detections:
        table = np.zeros((len(image_detections.scores) + 1, COLUMNS), np.int32)
        table[:, :2] = np.array([image_id], np.int64).view(np.int32)
        table[1:, 2] = image_detections.labels
        table[1:, 3] = np.ascontiguousarray(image_detections.scores, np.float32).view(np.int32)
        table[1:, 4:] = np.ascontiguousarray(image_detections.boxes_yxyx, np.float32).view(np.int32)
        tables.append(table)
    return np.concatenate(tables)


def unpack(table: np.ndarray) -> list[tuple[int, Detections]]:
    """Unpack a table of `pack` to (image id, its detections)."""
    starts = np.flatnonzero(table[:, 2] == 0)
    detections = []
    for rows in np.split(table, starts)[1:]:
        image_id = int(np.ascontiguousarray(rows[0, :2]).view(np.int64)[0])
        rows = np.ascontiguousarray(rows[1:])
        values = np.ascontiguousarray(rows[:, 3:]).view(np.float32)
        detections.append((image_id, Detections(boxes_yxyx=values[:, 1:], scores=values[:, 0], labels=rows[:, 2])))
    return detections

"""Gather the detections of all devices on every device, with ops.AllGather and messages of a fixed shape."""

from __future__ import annotations

from collections.abc import Iterable

import mindspore.nn as nn
import numpy as np
from mindspore import Tensor

from ..boxes.multiclass_nms import Detections
from ..runtime.collectives import AllGather

MESSAGE_ROWS = 16384  # rows per message; a fixed number, so that a single graph is compiled for all messages
# The columns are the image id (two columns), label, score and box (four columns). All columns are sent as int32. The
# bits of int64 image ids and float32 values are reinterpreted as int32, not rounded.
COLUMNS = 8


class DetectionGatherer:
    """Exchange detections between devices, so that every device has the detections of all images.

    All devices must call the gatherer at the same time.

    world_size: number of devices; 1 for a process without a launcher
    """

    def __init__(self, world_size: int):
        self.world_size = world_size
        self.all_gather = AllGather() if world_size > 1 else None

    def __call__(self, detections: Iterable[tuple[int, Detections]]) -> list[tuple[int, Detections]]:
        """Gather the detections of all devices.

        detections: (image id, detections of the image) for each image of this device
        Returns (image id, detections of the image) for each image of all devices, without duplicates. The first image
        of each device comes first, then the second image of each device, and so on.
        """
        table = pack(detections)
        tables = [table] if self.all_gather is None else self._exchange(table, self.all_gather)
        device_images = [unpack(table) for table in tables]
        max_images = max(len(images) for images in device_images)
        interleaved = [
            images[position] for position in range(max_images) for images in device_images if position < len(images)
        ]
        # Remove duplicates: all devices get the same number of images, so an uneven split repeats some images.
        unique: dict[int, Detections] = {}
        for image_id, image_detections in interleaved:
            unique.setdefault(image_id, image_detections)
        return list(unique.items())

    def _exchange(self, table: np.ndarray, all_gather: nn.Cell) -> list[np.ndarray]:
        """Send a table to all devices and receive the tables of all devices.

        table: (N, COLUMNS) int32, table of this device, as packed by `pack`
        all_gather: network that gathers messages by ops.AllGather
        Returns the tables of all devices in the order of the ranks.
        """
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
    """Pack the detections of images into one table of integers.

    Each image starts with a row of label 0, so that images without detections are preserved.

    detections: (image id, detections of the image) for each image
    Returns (N, COLUMNS) int32: image id (two columns), label, score, and y0, x0, y1, x1 of the box. An
    image id is an int64 in two parts. Score and corners are the bits of float32 values, so that nothing is rounded.
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
    """Restore the detections of images from a table that `pack` returned.

    table: (N, COLUMNS) int32
    Returns (image id, detections of the image) for each image.
    """
    starts = np.flatnonzero(table[:, 2] == 0)
    detections = []
    for rows in np.split(table, starts)[1:]:
        image_id = int(np.ascontiguousarray(rows[0, :2]).view(np.int64)[0])
        rows = np.ascontiguousarray(rows[1:])
        values = np.ascontiguousarray(rows[:, 3:]).view(np.float32)
        detections.append((image_id, Detections(boxes_yxyx=values[:, 1:], scores=values[:, 0], labels=rows[:, 2])))
    return detections

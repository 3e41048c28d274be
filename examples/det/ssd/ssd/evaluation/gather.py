"""Detections of all devices brought together on each of them."""

from __future__ import annotations

from collections.abc import Iterable

import mindspore.nn as nn
import numpy as np
from mindspore import Tensor, ops

from ..models.postprocess import Detections

ROWS = 16384  # of a message; one shape, so that one graph is compiled
COLUMNS = 8  # image id in two halves, label, score, box; float32 and int64 as the bits of int32, which devices exchange


class _AllGather(nn.Cell):
    def __init__(self):
        super().__init__()
        self.all_gather = ops.AllGather()

    def construct(self, rows: Tensor) -> Tensor:
        return self.all_gather(rows)


class DetectionGatherer:
    """Every device gives the detections of its images and gets those of all images.

    world_size: number of devices, 1 for a process of its own; all of them have to call this at the same time
    """

    def __init__(self, world_size: int):
        self.world_size = world_size
        self.all_gather = _AllGather() if world_size > 1 else None

    def __call__(self, found: Iterable[tuple[int, Detections]]) -> list[tuple[int, Detections]]:
        """found: (image id, detections) -> the same of all devices, their first ones first, each image once"""
        tables = [pack(found)]
        if self.all_gather:
            tables = self._exchange(tables[0])
        images = [unpack(table) for table in tables]
        longest = max(len(of_device) for of_device in images)
        in_turn = [of_device[place] for place in range(longest) for of_device in images if place < len(of_device)]
        each_once: dict[int, Detections] = {}
        for image_id, detections in in_turn:  # devices have equally many, some of them an image that another has, too
            each_once.setdefault(image_id, detections)
        return list(each_once.items())

    def _exchange(self, table: np.ndarray) -> list[np.ndarray]:
        """(N, COLUMNS) int32 -> those of all devices"""
        parts, received, longest = [], 0, 1
        # Each message starts with how many rows there are in all.
        while received < longest:
            message = np.zeros((ROWS + 1, COLUMNS), np.int32)
            message[0, 0] = len(table)
            part = table[received : received + ROWS]
            message[1 : len(part) + 1] = part
            answer = self.all_gather(Tensor(message)).asnumpy().reshape(self.world_size, ROWS + 1, COLUMNS)
            counts = answer[:, 0, 0]
            longest = int(counts.max())
            parts.append(answer[:, 1:])
            received += ROWS
        return [rows[:count] for rows, count in zip(np.concatenate(parts, axis=1), counts)]


def pack(found: Iterable[tuple[int, Detections]]) -> np.ndarray:
    """(image id, detections) -> (N, COLUMNS) int32; an image starts with a row of label 0, so that it is known to have
    been looked at"""
    tables = [np.zeros((0, COLUMNS), np.int32)]
    for image_id, detections in found:
        table = np.zeros((len(detections.scores) + 1, COLUMNS), np.int32)
        table[:, :2] = np.array([image_id], np.int64).view(np.int32)
        table[1:, 2] = detections.labels
        table[1:, 3] = np.ascontiguousarray(detections.scores, np.float32).view(np.int32)
        table[1:, 4:] = np.ascontiguousarray(detections.boxes_yxyx, np.float32).view(np.int32)
        tables.append(table)
    return np.concatenate(tables)


def unpack(table: np.ndarray) -> list[tuple[int, Detections]]:
    """The inverse of pack."""
    starts = np.flatnonzero(table[:, 2] == 0)
    found = []
    for rows in np.split(table, starts)[1:]:
        image_id = int(np.ascontiguousarray(rows[0, :2]).view(np.int64)[0])
        rows = np.ascontiguousarray(rows[1:])
        values = np.ascontiguousarray(rows[:, 3:]).view(np.float32)
        found.append((image_id, Detections(values[:, 1:], values[:, 0], rows[:, 2])))
    return found

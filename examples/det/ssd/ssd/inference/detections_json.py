"""Collect detections in COCO's results format and write them to a JSON file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from ..boxes.multiclass_nms import Detections
from ..boxes.ops import yxyx_to_xywh


class CocoResults:
    """Detections of many images in COCO's results format.

    classes: class names by label, background first
    category_ids: COCO category ids by label, background first
    entries: one dict for each detection, in the order in which images were added
    num_images: number of images added so far, including images without detections
    """

    def __init__(self, classes: Sequence[str], category_ids: Sequence[int]):
        self.classes = classes
        self.category_ids = category_ids
        self.entries: list[dict] = []
        self.num_images = 0

    def add(self, image_id: int, file_name: str, detections: Detections, **extra: object) -> None:
        """Append the detections of one image.

        image_id: id of the image in COCO's results format
        file_name: path of the image, stored with each detection
        detections: detections with boxes in pixels of the original image
        extra: additional keys and values stored with each detection, such as frame=0
        With tracking, each detection also has the key track_id, which is null for a detection of no track.
        """
        self.num_images += 1
        boxes_xywh = yxyx_to_xywh(detections.boxes_yxyx).tolist()
        entries = [
            {
                "image_id": image_id,
                "category_id": self.category_ids[label],
                "bbox": bbox,
                "score": score,
                "file_name": file_name,
                **extra,
                "category_name": self.classes[label],
            }
            for bbox, score, label in zip(boxes_xywh, detections.scores.tolist(), detections.labels.tolist())
        ]
        if detections.track_ids is not None:
            for entry, track_id in zip(entries, detections.track_ids.tolist()):
                entry["track_id"] = track_id or None
        self.entries += entries

    def write(self, path: Path) -> None:
        """Write the detections as a JSON list, one entry per line. Raises OSError if `path` cannot be written."""
        lines = ",\n ".join(json.dumps(entry) for entry in self.entries)
        path.write_text(f"[{lines}]\n", encoding="utf-8")

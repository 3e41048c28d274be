"""detections.json: what was found in images or frames, in COCO's results format."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from ..boxes.ops import yxyx_to_xywh
from ..data.dataset_info import DATASET_INFO_NAME, read_dataset_info
from ..errors import UserError
from ..models.postprocess import Detections


class DetectionList:
    """Detections gathered image by image. classes: names by label; category_ids: ids by label; images: how many came"""

    def __init__(self, classes: Sequence[str], category_ids: Sequence[int]):
        self.classes, self.category_ids = classes, category_ids
        self.rows: list[dict] = []
        self.images = 0

    def add(self, image_id: int, file_name: str, detections: Detections, **more) -> None:
        """Take in one image. detections: in its pixels; more: what else its rows shall have, {"frame": 0}"""
        self.images += 1
        boxes_xywh = yxyx_to_xywh(detections.boxes_yxyx).tolist()
        for box, score, label in zip(boxes_xywh, detections.scores.tolist(), detections.labels.tolist()):
            row = {"image_id": image_id, "category_id": self.category_ids[label], "bbox": box, "score": score}
            self.rows.append({**row, "file_name": file_name, **more, "category_name": self.classes[label]})

    def write(self, path: Path) -> None:
        """A JSON list with a detection in each line. Raises UserError."""
        lines = ",\n ".join(json.dumps(row) for row in self.rows)
        try:
            path.write_text(f"[{lines}]\n", encoding="utf-8")
        except OSError as error:
            raise UserError(f"{path}: got {error.strerror.lower()}, expected a file that can be written") from None


def category_ids(cfg) -> list[int]:
    """The ids by label of the annotations that the data in data_dir were made of, else the labels. cfg: Config"""
    path = Path(cfg.data_dir) / DATASET_INFO_NAME
    return [0, *read_dataset_info(path).category_ids] if path.is_file() else list(range(cfg.num_classes))

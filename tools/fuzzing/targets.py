"""Table of all targets."""

from __future__ import annotations

from . import annotation_readers, datasets, models, recipes, service
from .target import Target

TARGETS = {
    "coco": Target(annotation_readers.coco, is_json=True),
    "voc": Target(annotation_readers.voc),
    "yolo_labels": Target(annotation_readers.yolo_labels),
    "yolo_settings": Target(annotation_readers.yolo_settings, is_json=True),
    "dataset_json": Target(datasets.dataset_json, is_json=True),
    "mindrecord_rows": Target(datasets.mindrecord_rows),
    "recipe": Target(recipes.recipe, is_json=True),
    "hccl_rank_table": Target(recipes.rank_table, is_json=True),
    "checkpoint_file": Target(models.checkpoint_file),
    "checkpoint_records": Target(models.checkpoint_records, is_json=True),
    "export_metadata": Target(models.export_metadata, is_json=True),
    "service": Target(service.service, is_json=True),
}

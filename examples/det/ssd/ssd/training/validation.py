"""Evaluate between epochs, keep the best detector as best.ckpt, and stop early when it no longer improves."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import cv2
import mindspore.nn as nn
import numpy as np
from mindspore import Tensor, ops
from mindspore.train import Callback

from ..boxes.ops import xywh_to_yxyx
from ..checkpoints.loading import BEST_NAME, EMA_PREFIX, save_checkpoint
from ..data.dataset import read_images
from ..data.images import decode_image
from ..evaluation.evaluator import EvaluationResult
from ..inference.drawing import draw_detections, draw_ground_truth
from .logger import TrainingLogger
from .records import EvalRecord
from .resume import EVALUATION_KEY

MAX_IMAGE_SIDE = 640  # pixels; larger images are drawn smaller


class ValidationCallback(Callback):
    """Evaluate after epochs start, start + interval, … and the last, and keep the best detector as best.ckpt.

    evaluate: evaluates the detector as it is now
    draw: draws example images of an evaluation, {name: (H, W, 3) uint8 RGB}
    logger: None on all devices but the main one, which evaluate too but write nothing
    folder: of best.ckpt; start, interval, epochs: in epochs
    ema_context: swaps the EMA weights in while entered; best.ckpt is chosen on them. None without EMA
    patience: evaluations without a new best after which training stops; None for no early stopping
    best: best evaluation before a resumed training
    records: JSON values to store in best.ckpt, by name
    """

    def __init__(
        self,
        *,
        evaluate: Callable[[], EvaluationResult],
        draw: Callable[[EvaluationResult], dict[str, np.ndarray]],
        logger: TrainingLogger | None,
        detector: nn.Cell,
        folder: Path,
        start: int,
        interval: int,
        epochs: int,
        ema_context: Callable[[], AbstractContextManager] | None = None,
        patience: int | None = None,
        best: EvalRecord | None = None,
        records: dict[str, Any] | None = None,
    ):
        super().__init__()
        self.evaluate = evaluate
        self.draw = draw
        self.logger = logger
        self.detector = detector
        self.path = folder / BEST_NAME
        self.start, self.interval, self.epochs = start, interval, epochs
        self.ema_context = ema_context
        self.patience = patience
        self.best = best
        self.records = records or {}
        self.stopped_epoch: int | None = None  # epoch at which early stopping triggered

    def on_train_epoch_end(self, run_context):
        params = run_context.original_args()
        epoch, step = params.cur_epoch_num, params.cur_step_num
        if not self._is_due(epoch):
            return
        raw_metrics = {"mAP_raw": self.evaluate().mean_ap} if self.ema_context else {}
        with self.ema_context() if self.ema_context else contextlib.nullcontext():
            best = self._evaluate(epoch, step=step, raw_metrics=raw_metrics)
        evaluations_since_best = sum(self._is_due(other) for other in range(best.epoch + 1, epoch + 1))
        if self.patience and evaluations_since_best >= self.patience and epoch < self.epochs:
            self.stopped_epoch = epoch
            run_context.request_stop()

    def _is_due(self, epoch: int) -> bool:
        return epoch == self.epochs or (epoch >= self.start and (epoch - self.start) % self.interval == 0)

    def _evaluate(self, epoch: int, *, step: int, raw_metrics: dict[str, float]) -> EvalRecord:
        """Evaluate, save and log -> best evaluation so far"""
        result = self.evaluate()
        metrics = {"mAP": result.mean_ap, **raw_metrics, **result.coco_metrics.metrics}
        is_best = self.best is None or metrics["mAP"] > self.best.metrics["mAP"]
        images = self.draw(result) if self.logger else {}
        record = EvalRecord(epoch=epoch, step=step, metrics=metrics, is_best=is_best, images=images)
        if self.best is None or is_best:
            self.best = record
        if self.logger:
            if is_best:
                evaluation = {"epoch": epoch, "step": step, "metrics": metrics}
                save_checkpoint(self.detector, self.path, {EVALUATION_KEY: evaluation, **self.records})
            self.logger.on_evaluation(record)
        return self.best


@contextlib.contextmanager
def ema_weights(detector: nn.Cell, step: nn.Cell) -> Iterator[None]:
    """Swap the averaged weights of a training step into its detector, and swap them back at the end."""
    averages = {average.name.removeprefix(EMA_PREFIX): average for average in step.ema_weight}
    parameters = detector.get_parameters()
    raw = [(parameter, parameter.asnumpy().copy()) for parameter in parameters]
    try:
        for parameter, _ in raw:  # `assign`, because compiled graphs do not see what `set_data` does
            ops.assign(parameter, averages[parameter.name])
        yield
    finally:
        for parameter, value in raw:
            ops.assign(parameter, Tensor(value))


class ValidationImages:
    """Draw the first images of an evaluation: ground truth in white, detections in the colors of their classes.

    data_dir: of the shards; classes: names by label; min_score: of drawn detections; count: number of images
    """

    def __init__(self, data_dir: Path, *, classes: Sequence[str], min_score: float, count: int = 4):
        self.data_dir = data_dir
        self.classes = classes
        self.min_score = min_score
        self.count = count
        self.images: dict[int, tuple[np.ndarray, float]] = {}  # image and its scale; read at the first evaluation

    def __call__(self, result: EvaluationResult) -> dict[str, np.ndarray]:
        """Return {image id: (H, W, 3) uint8 RGB}."""
        evaluator, first_ids = result.evaluator, result.image_ids[: self.count]
        if not self.images:
            encoded = read_images(self.data_dir, "val", first_ids)
            self.images = {image_id: _shrink(decode_image(encoded[image_id])) for image_id in first_ids}
        labels = {category_id: label for label, category_id in enumerate(evaluator.category_ids)}
        detections: dict[int, list[dict]] = {image_id: [] for image_id in self.images}
        for row in evaluator.results:
            if row["image_id"] in detections and row["score"] >= self.min_score:
                detections[row["image_id"]].append(row)
        drawings = {}
        for image_id, (image, scale) in self.images.items():
            annotations = [row for row in evaluator.ground_truth.imgToAnns[image_id] if row["category_id"] in labels]
            gt_boxes_yxyx, gt_labels = _boxes_and_labels(annotations, labels=labels, scale=scale)
            drawing = draw_ground_truth(image, gt_boxes_yxyx, gt_labels, classes=self.classes)
            boxes_yxyx, detection_labels = _boxes_and_labels(detections[image_id], labels=labels, scale=scale)
            scores = np.array([row["score"] for row in detections[image_id]])
            drawings[str(image_id)] = draw_detections(
                drawing, boxes_yxyx=boxes_yxyx, scores=scores, labels=detection_labels, classes=self.classes
            )
        return drawings


def _boxes_and_labels(rows: list[dict], *, labels: dict, scale: float) -> tuple[np.ndarray, np.ndarray]:
    """Convert annotations or results in COCO's format -> boxes_yxyx (N, 4) in pixels of the drawing, labels (N,)

    labels: {category id: label}; scale: of the drawing
    """
    boxes_xywh = np.array([row["bbox"] for row in rows], dtype=float).reshape(-1, 4)
    return xywh_to_yxyx(boxes_xywh) * scale, np.array([labels[row["category_id"]] for row in rows], dtype=int)


def _shrink(image: np.ndarray) -> tuple[np.ndarray, float]:
    """Resize an image (H, W, 3) whose sides exceed MAX_IMAGE_SIDE -> image, scale"""
    scale = min(1.0, MAX_IMAGE_SIDE / max(image.shape[:2]))
    height, width = (max(1, round(side * scale)) for side in image.shape[:2])
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA), scale

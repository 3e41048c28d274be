"""Evaluate between epochs, keep the best detector as best.ckpt, and stop early if the mAP no longer improves."""

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

from ..boxes.ops import xywh_to_yxyx
from ..checkpoints.choice import BEST_NAME
from ..checkpoints.parameter_names import EMA_PREFIX
from ..checkpoints.records import EVALUATION_KEY
from ..checkpoints.saving import save_checkpoint
from ..config.schema import Config
from ..data.dataset import read_images
from ..data.dataset_info import shards_are_upright
from ..data.images import decode_image
from ..evaluation.evaluator import EvaluationResult
from ..inference.drawing import draw_detections, draw_ground_truth
from .events import StepEnd, TrainingCallback
from .logger import TrainingLogger
from .records import EvalRecord

MAX_IMAGE_SIDE = 640  # pixels; larger images are shrunk before drawing


class ValidationCallback(TrainingCallback):
    """Evaluate the detector between epochs, and keep the best detector as best.ckpt.

    evaluate: function that evaluates the detector with its current weights
    draw: function that draws example images of an evaluation, {name: (H, W, 3) uint8 RGB}
    logger: logger of the main device; None on the other devices, which also evaluate but write nothing
    detector: detector to evaluate
    folder: folder of best.ckpt
    due: epochs after which the detector is evaluated, from `evaluation_epochs`
    ema_context: function that returns a context in which the detector has the EMA weights, so that best.ckpt
        is chosen and saved with the EMA weights; None without EMA
    patience: number of evaluations without a new best mAP after which training stops; None disables early stopping
    best: best evaluation before this run was resumed, or None
    records: {name: JSON value} to store in best.ckpt
    """

    def __init__(
        self,
        *,
        evaluate: Callable[[], EvaluationResult],
        draw: Callable[[EvaluationResult], dict[str, np.ndarray]],
        logger: TrainingLogger | None,
        detector: nn.Cell,
        folder: Path,
        due: Sequence[int],
        ema_context: Callable[[], AbstractContextManager] | None = None,
        patience: int | None = None,
        best: EvalRecord | None = None,
        records: dict[str, Any] | None = None,
    ):
        self.evaluate = evaluate
        self.draw = draw
        self.logger = logger
        self.detector = detector
        self.path = folder / BEST_NAME
        self.due = due
        self.ema_context = ema_context
        self.patience = patience
        self.best = best
        self.records = records or {}
        self.stopped_epoch: int | None = None  # epoch at which early stopping triggered

    def on_epoch_end(self, event: StepEnd) -> None:
        if event.epoch in self.due:
            raw_metrics = {"mAP_raw": self.evaluate().mean_ap} if self.ema_context else {}
            with self.ema_context() if self.ema_context else contextlib.nullcontext():
                self._evaluate(event.epoch, step=event.step, raw_metrics=raw_metrics)
            self._stop_early(event)

    def resume(self, event: StepEnd, *, is_evaluated: bool) -> None:
        """Run the evaluation that the previous run lacks, and stop early if the previous run would have stopped early.

        event: step at which the run was resumed, the end of an epoch or not
        is_evaluated: False if the step ends an epoch whose evaluation is missing
        """
        if not is_evaluated:
            self.on_epoch_end(event)
        elif event.ends_epoch:
            self._stop_early(event)

    def _stop_early(self, event: StepEnd) -> None:
        """Stop the training if the last `patience` evaluations up to the end of an epoch brought no new best mAP.

        event: end of the epoch
        """
        if self.patience and self.best and event.epoch in self.due[:-1]:
            evaluations_since_best = sum(self.best.epoch < epoch <= event.epoch for epoch in self.due)
            if evaluations_since_best >= self.patience:
                self.stopped_epoch = event.epoch
                event.request_stop()

    def _evaluate(self, epoch: int, *, step: int, raw_metrics: dict[str, float]) -> None:
        """Evaluate the detector, save the detector if the mAP is the best so far, and log the result.

        epoch: epoch of the evaluation, counted from 1
        step: last step of the epoch, counted from 1 through all epochs
        raw_metrics: {"mAP_raw": mAP of the weights without averaging}, or {} without EMA
        """
        result = self.evaluate()
        metrics = {"mAP": result.mean_ap, **raw_metrics, **result.coco_metrics.metrics}
        is_repeated = self.best is not None and self.best.step == step  # killed before recording
        best_ap = self.best.metrics["mAP"] if self.best else -1.0  # an undefined mAP has the value -1
        is_best = is_repeated or metrics["mAP"] > best_ap
        images = self.draw(result) if self.logger else {}
        record = EvalRecord(epoch=epoch, step=step, metrics=metrics, is_best=is_best, images=images)
        if is_best:
            self.best = record
        if self.logger:
            if is_best:
                evaluation = {"epoch": epoch, "step": step, "metrics": metrics}
                save_checkpoint(self.detector, self.path, {EVALUATION_KEY: evaluation, **self.records})
            self.logger.on_evaluation(record)


def evaluation_epochs(cfg: Config) -> list[int]:
    """Return the epochs after which the detector is evaluated: every eval_interval epochs, and the last epoch.

    Without eval_while_train the list is empty.
    """
    if not cfg.eval_while_train:
        return []
    return sorted({*range(cfg.eval_start_epoch, cfg.epoch_size, cfg.eval_interval), cfg.epoch_size})


@contextlib.contextmanager
def ema_weights(detector: nn.Cell, step: nn.Cell) -> Iterator[None]:
    """Replace the weights of a detector by the averaged (EMA) weights inside the context.

    detector: detector, whose original weights are restored at the end
    step: training step that contains the averaged weights
    """
    averages = {average.name.removeprefix(EMA_PREFIX): average for average in step.ema_weight}
    parameters = detector.get_parameters()
    raw = [(parameter, parameter.asnumpy().copy()) for parameter in parameters]
    try:
        for parameter, _ in raw:  # use ops.assign: compiled graphs do not see set_data
            ops.assign(parameter, averages[parameter.name])
        yield
    finally:
        for parameter, value in raw:
            ops.assign(parameter, Tensor(value))


class ValidationImages:
    """Draw the ground truth and the detections of the first images of an evaluation.

    Ground-truth boxes are white, and detections have the colors of their classes.

    data_dir: folder of the shards
    classes: class names by label, background first
    min_score: score below which detections are not drawn
    count: number of images
    """

    def __init__(self, data_dir: Path, *, classes: Sequence[str], min_score: float, count: int = 4):
        self.data_dir = data_dir
        self.classes = classes
        self.min_score = min_score
        self.count = count
        self.images: dict[int, tuple[np.ndarray, float]] = {}  # {image id: (image, scale)}, read once

    def __call__(self, result: EvaluationResult) -> dict[str, np.ndarray]:
        """Draw the example images of an evaluation.

        result: result of the evaluation
        Returns {image id: (H, W, 3) uint8 RGB}.
        """
        evaluator, first_ids = result.evaluator, result.image_ids[: self.count]
        if not self.images:
            encoded = read_images(self.data_dir, "val", first_ids)
            upright = shards_are_upright(self.data_dir)
            self.images = {
                image_id: _shrink(decode_image(encoded[image_id], upright=upright)) for image_id in first_ids
            }
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
    """Convert annotations or results in COCO's format to boxes and labels.

    rows: annotations or results with "bbox" and "category_id"
    labels: {category id: label}
    scale: ratio of the size of the drawing to the size of the image
    Returns boxes_yxyx (N, 4), corners y0, x0, y1, x1 in pixels of the drawing, and labels (N,) int.
    """
    boxes_xywh = np.array([row["bbox"] for row in rows], dtype=float).reshape(-1, 4)
    return xywh_to_yxyx(boxes_xywh) * scale, np.array([labels[row["category_id"]] for row in rows], dtype=int)


def _shrink(image: np.ndarray) -> tuple[np.ndarray, float]:
    """Shrink an image so that no side exceeds MAX_IMAGE_SIDE.

    image: (H, W, 3) uint8 RGB
    Returns the image, and the ratio of its new size to its original size.
    """
    scale = min(1.0, MAX_IMAGE_SIDE / max(image.shape[:2]))
    height, width = (max(1, round(side * scale)) for side in image.shape[:2])
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA), scale

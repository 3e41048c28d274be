"""Evaluate a checkpoint, or a detector in training, on all images of the validation split."""

from __future__ import annotations

import dataclasses
import logging
import math
from pathlib import Path

import mindspore.nn as nn
from mindspore.dataset import Dataset

from ..checkpoints.loading import choose_checkpoint, load_weights
from ..config.schema import Config, graph_settings, model_metadata
from ..data.dataset import create_dataset
from ..data.dataset_info import DATASET_INFO_NAME, dataset_fingerprint, read_dataset_info
from ..errors import UserError
from ..inference.network import InferenceTimes, create_inference_net, create_nms, detect_dataset
from ..models.detector import create_detector, to_mixed_precision
from ..runtime.compile_cache import compile_cache
from ..runtime.device import Runtime, set_up_runtime
from ..runtime.progress import Progress
from .coco_metrics import CocoEvaluator, CocoMetrics
from .gather import DetectionGatherer
from .voc_metrics import VocMetrics, compute_voc_metrics

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class EvaluationResult:
    """Detections of all validation images and their metrics.

    evaluator: holds the annotations (`ground_truth`) and the detections of all images (`results`)
    coco_metrics: COCO's metrics
    image_ids: ids of the evaluated images in the order of the shards, each once
    times: time that each stage of the inference took on this device
    voc_metrics: Pascal VOC's metrics, None unless the recipe sets `metric: voc`
    """

    evaluator: CocoEvaluator
    coco_metrics: CocoMetrics
    image_ids: list[int]
    times: InferenceTimes
    voc_metrics: VocMetrics | None = None

    @property
    def mean_ap(self) -> float:
        """Main metric of the recipe: COCO's AP, or Pascal VOC's by area. 0..1, or -1 without ground truth."""
        return self.voc_metrics.AP if self.voc_metrics else self.coco_metrics.metrics["AP"]


@dataclasses.dataclass(frozen=True)
class CheckpointEvaluation:
    """Result of `evaluate`, with the checkpoint file that was evaluated and the runtime of this process."""

    result: EvaluationResult
    checkpoint: Path
    runtime: Runtime


def evaluate(cfg: Config) -> CheckpointEvaluation:
    """Evaluate the checkpoint of a recipe on the validation split.

    Under a launcher each process evaluates its share of the images, and all processes return the same result.
    Raises UserError if the checkpoint or the data cannot be used.
    """
    checkpoint = choose_checkpoint(cfg.ckpt_path, cfg.ckpt_save_dir)
    runtime = set_up_runtime(device_target=cfg.device_target, mode=cfg.mode, jit_level=cfg.jit_level, seed=cfg.seed)
    detector = create_detector(cfg)
    load_weights(detector, checkpoint, use_ema=cfg.use_ema, metadata=model_metadata(cfg))
    evaluate_detector = create_evaluator(cfg, to_mixed_precision(detector, cfg.amp_level), runtime)
    data = dataset_fingerprint(Path(cfg.data_dir))
    with compile_cache("eval", settings=graph_settings(cfg), data=data, runtime=runtime):
        return CheckpointEvaluation(result=evaluate_detector(), checkpoint=checkpoint, runtime=runtime)


def create_evaluator(cfg: Config, detector: nn.Cell, runtime: Runtime) -> DetectorEvaluator:
    """Create an evaluator with this device's share of the validation images. Raises UserError."""
    dataset = create_dataset(cfg, "val", rank=runtime.rank, world_size=runtime.world_size)
    return DetectorEvaluator(cfg, detector, dataset=dataset, runtime=runtime)


class DetectorEvaluator:
    """Evaluate a detector on its validation split; a detector in training can be evaluated repeatedly.

    All devices must call this object at the same time. Each runs its own images, and all return the same result.

    detector: SSD
    dataset: validation images of this device
    runtime: position of this device, None for a process without a launcher
    Raises UserError if the annotations do not fit the recipe, so that training fails at its start.
    """

    def __init__(self, cfg: Config, detector: nn.Cell, dataset: Dataset, runtime: Runtime | None = None):
        self.net = create_inference_net(cfg, detector)
        self.nms = create_nms(cfg)
        self.dataset = dataset
        self.annotation_path = val_annotation_path(Path(cfg.data_dir))
        if cfg.classes is None:
            raise UserError(
                f"{Path(cfg.data_dir) / DATASET_INFO_NAME}: not found, and the recipe names no classes. Set --classes."
            )
        self.classes = cfg.classes
        self.metric = cfg.metric
        self.runtime = runtime or Runtime()
        self.gather = DetectionGatherer(self.runtime.world_size)
        CocoEvaluator(self.annotation_path, self.classes)  # raises now what would otherwise come after hours

    def __call__(self) -> EvaluationResult:
        """Run the detector on all images and compute the metrics."""
        evaluator = CocoEvaluator(self.annotation_path, self.classes)
        num_images = len(evaluator.ground_truth.imgs)
        times = InferenceTimes()
        device_detections = []
        images_per_device = math.ceil(num_images / self.runtime.world_size)
        with Progress(images_per_device, "evaluating", "images", enabled=self.runtime.is_main) as progress:
            stream = detect_dataset(self.net, self.nms, dataset=self.dataset, times=times)
            for image_id, detections in stream:
                device_detections.append((image_id, detections))
                progress.update()
        all_detections = self.gather(device_detections)
        for image_id, detections in all_detections:
            evaluator.add(image_id, detections)
        num_absent = num_images - len(all_detections)
        if num_absent and self.runtime.is_main:  # shards of MindCV's example leave images out
            log.warning(
                f"{self.annotation_path}: the shards lack {num_absent} of {num_images} images, which count as images "
                "without detections."
            )
        voc_metrics = None
        if self.metric == "voc":
            category_ids = dict(zip(self.classes[1:], evaluator.category_ids[1:]))
            voc_metrics = compute_voc_metrics(evaluator.ground_truth, evaluator.results, category_ids)
        return EvaluationResult(
            evaluator=evaluator,
            coco_metrics=evaluator.summarize(),
            image_ids=[image_id for image_id, _ in all_detections],
            times=times,
            voc_metrics=voc_metrics,
        )


def val_annotation_path(data_dir: Path) -> Path:
    """Return the path of the validation annotations in a data folder, ours or one of MindCV's example."""
    if (data_dir / DATASET_INFO_NAME).is_file():
        return data_dir / read_dataset_info(data_dir / DATASET_INFO_NAME).annotations
    return data_dir / "annotations" / "instances_val2017.json"

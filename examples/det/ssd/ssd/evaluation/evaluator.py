"""Evaluate a checkpoint, or a detector during training, on all images of the validation split."""

from __future__ import annotations

import abc
import dataclasses
import logging
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import mindspore.nn as nn
from mindspore.dataset import Dataset

from ..boxes.multiclass_nms import Detections
from ..checkpoints.choice import choose_checkpoint, describe_checkpoint
from ..checkpoints.loading import load_weights
from ..checkpoints.metadata import describe_mismatches, read_metadata
from ..config.metadata import training_metadata
from ..config.schema import Config, graph_settings
from ..data.dataset import create_dataset
from ..data.dataset_info import DATASET_INFO_NAME, dataset_fingerprint, read_dataset_info
from ..errors import UserError
from ..inference.network import InferenceTimes, create_inference_net, create_nms, detect_dataset
from ..models.detector import create_detector, to_mixed_precision
from ..runtime.compile_cache import compile_cache
from ..runtime.device import Runtime, create_runtime
from ..runtime.heartbeat import activity
from ..runtime.progress import Progress
from .coco_metrics import CROWD_KEYS, CocoEvaluator, CocoMetrics
from .gather import DetectionGatherer
from .voc_metrics import DIFFICULT_KEYS, VocMetrics, compute_voc_metrics

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class EvaluationResult:
    """Detections on the validation split and the metrics of these detections.

    evaluator: evaluator with the annotations (`ground_truth`) and the detections (`results`) of all images
    coco_metrics: COCO's metrics
    image_ids: ids of the evaluated images, without duplicates, in the order of evaluation
    times: wall-clock time of each inference stage on this device
    voc_metrics: Pascal VOC's metrics; None unless the recipe sets `metric: voc`
    """

    evaluator: CocoEvaluator
    coco_metrics: CocoMetrics
    image_ids: list[int]
    times: InferenceTimes
    voc_metrics: VocMetrics | None = None

    @property
    def mean_ap(self) -> float:
        """Main metric of the recipe, 0..1: COCO's AP, or Pascal VOC's AP if `metric: voc` is set.

        The value is -1, which is no score, if no class has ground truth.
        """
        return self.voc_metrics.AP if self.voc_metrics else self.coco_metrics.metrics["AP"]


@dataclasses.dataclass(frozen=True)
class CheckpointEvaluation:
    """Result of the evaluation of a checkpoint.

    result: detections and metrics
    checkpoint: path of the evaluated file
    runtime: device and rank of this process
    """

    result: EvaluationResult
    checkpoint: Path
    runtime: Runtime


def evaluate(cfg: Config) -> CheckpointEvaluation:
    """Evaluate the checkpoint of a recipe on the validation split.

    Under a launcher such as msrun, each process evaluates its share of the images. All processes return the same
    result.
    Raises UserError if the checkpoint, the shards or the annotations are missing or do not fit the recipe.
    """
    checkpoint = choose_checkpoint(cfg.ckpt_path, cfg.ckpt_save_dir)
    runtime = create_runtime(cfg)
    detector, metadata = create_detector(cfg), training_metadata(cfg)
    load_weights(detector, checkpoint, use_ema=cfg.use_ema, metadata=metadata)
    log.info(f"checkpoint: {describe_checkpoint(checkpoint)}")
    # The scores do not depend on the training data, which are often missing on the machine that evaluates
    compared = {"input": metadata["input"], "data": {"validation_data": metadata["data"]["validation_data"]}}
    warning = describe_mismatches(compared, read_metadata(checkpoint), checkpoint)
    if warning and runtime.is_main:
        log.warning(warning)
    evaluate_detector = create_evaluator(cfg, to_mixed_precision(detector, cfg.amp_level), runtime)
    data = dataset_fingerprint(Path(cfg.data_dir))
    with compile_cache("eval", settings=graph_settings(cfg), data=data, runtime=runtime):
        return CheckpointEvaluation(result=evaluate_detector(), checkpoint=checkpoint, runtime=runtime)


def create_evaluator(cfg: Config, detector: nn.Cell, runtime: Runtime) -> DetectorEvaluator:
    """Create an evaluator for this device's share of the validation images.

    detector: SSD network
    runtime: rank of this process and number of processes
    Raises UserError if the shards or the annotations are missing or do not fit the recipe.
    """
    dataset = create_dataset(cfg, "val", rank=runtime.rank, world_size=runtime.world_size, num_cores=runtime.num_cores)
    return DetectorEvaluator(cfg, detector, dataset=dataset, runtime=runtime)


class StopRequest(Protocol):
    """Request to stop, which reaches each device at a different time, such as SynchronizedStop."""

    @property
    def interrupt(self) -> object:
        """Flag that is true if this device has received a request."""

    def exchange(self) -> bool:
        """Return True if any device has received a request. All devices call the method at the same time."""


class SplitEvaluator(abc.ABC):
    """Evaluate the detections of the method `detect` on the validation split, once or repeatedly during training.

    All devices must call the evaluator at the same time. Each device evaluates its share of the images. All devices
    return the same result.

    dataset: validation images of this device
    runtime: rank of this process and number of processes; None for a process without a launcher
    Raises UserError at construction if the annotations are missing or do not fit the recipe.
    """

    def __init__(self, cfg: Config, dataset: Dataset, runtime: Runtime | None = None):
        self.dataset = dataset
        self.annotation_path = val_annotation_path(Path(cfg.data_dir))
        if cfg.classes is None:
            raise UserError(
                f"{Path(cfg.data_dir) / DATASET_INFO_NAME}: not found, and the key `classes` is not set. "
                "Set --data_dir to a dataset of create_data.py, or --classes to the class names, background first."
            )
        self.classes = cfg.classes
        self.metric = cfg.metric
        self.runtime = runtime or Runtime()
        self.gather = DetectionGatherer(self.runtime.world_size)
        # Read the annotations once here, so that faults are reported before training starts
        evaluator = CocoEvaluator(self.annotation_path, self.classes)
        self.num_objects = evaluator.count_objects(DIFFICULT_KEYS if cfg.metric == "voc" else CROWD_KEYS)

    @abc.abstractmethod
    def detect(self, times: InferenceTimes) -> Iterator[tuple[int, Detections]]:
        """Detect objects in the images of this device. Yields (image id, detections of the image).

        times: object to which the time of each stage is added
        """

    def require_objects(self) -> None:
        """Raise UserError if the validation split has no ground-truth boxes, so that no mAP can be computed."""
        if not self.num_objects:
            raise UserError(
                f"{self.annotation_path}: the validation images have no ground-truth boxes, so their mAP is undefined. "
                "Set --eval_while_train false, or convert the data with other validation images."
            )

    def __call__(self, stop: StopRequest | None = None) -> EvaluationResult:
        """Run the detector on this device's images, gather all detections, and compute the metrics.

        stop: request that ends the evaluation early; None to evaluate all images
        Raises KeyboardInterrupt, on all devices, if any device has received a request to stop.
        """
        if stop is not None and stop.exchange():
            raise KeyboardInterrupt
        evaluator = CocoEvaluator(self.annotation_path, self.classes)
        num_images = len(evaluator.ground_truth.imgs)
        times = InferenceTimes()
        device_detections = []
        images_per_device = math.ceil(num_images / self.runtime.world_size)
        with Progress(images_per_device, "evaluating", "images", enabled=self.runtime.is_main) as progress:
            for image_id, detections in self.detect(times):
                device_detections.append((image_id, detections))
                progress.update()
                if stop is not None and stop.interrupt:
                    break
        if stop is not None and stop.exchange():  # before the other devices wait for this one in `gather`
            raise KeyboardInterrupt
        with activity("waiting for the other ranks"):
            all_detections = self.gather(device_detections)
        for image_id, detections in all_detections:
            evaluator.add(image_id, detections)
        num_absent = num_images - len(all_detections)
        if num_absent and self.runtime.is_main:  # the shards of MindCV's example omit some images
            log.warning(
                f"{self.annotation_path}: the shards lack {num_absent} of {num_images} images. Missing images are "
                "evaluated as images without detections. Create the shards with create_data.py to include all images."
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


class DetectorEvaluator(SplitEvaluator):
    """Evaluate an SSD network on the validation split. See SplitEvaluator."""

    def __init__(self, cfg: Config, detector: nn.Cell, dataset: Dataset, runtime: Runtime | None = None):
        super().__init__(cfg, dataset, runtime)
        self.net = create_inference_net(cfg, detector)
        self.nms = create_nms(cfg)

    def detect(self, times: InferenceTimes) -> Iterator[tuple[int, Detections]]:
        """Detect objects in the images of this device with the network. See SplitEvaluator."""
        return detect_dataset(self.net, self.nms, dataset=self.dataset, times=times)


def val_annotation_path(data_dir: Path) -> Path:
    """Return the path of the validation annotations in a data folder.

    The path is read from dataset.json. A folder without dataset.json has the layout of MindCV's SSD example.
    """
    if (data_dir / DATASET_INFO_NAME).is_file():
        return data_dir / read_dataset_info(data_dir / DATASET_INFO_NAME).annotations
    return data_dir / "annotations" / "instances_val2017.json"

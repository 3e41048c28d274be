"""Evaluation of a checkpoint, or of a detector in training, on every image of the validation split."""

from __future__ import annotations

import dataclasses
import math
import sys
from pathlib import Path

from ..checkpoints.loading import choose_checkpoint, load_weights
from ..checkpoints.metadata import model_metadata
from ..data.dataset import create_dataset
from ..data.dataset_info import DATASET_INFO_NAME, read_dataset_info
from ..errors import UserError
from ..inference.network import Stopwatch, create_inference_net, create_selector, detect
from ..models.detector import create_detector, to_mixed_precision
from ..runtime.compile_cache import compile_cache
from ..runtime.device import Runtime, set_up_runtime
from ..runtime.progress import Progress
from .coco_metrics import CocoEvaluator, CocoMetrics
from .gather import DetectionGatherer
from .voc_metrics import VocMetrics, compute_voc_metrics


@dataclasses.dataclass(frozen=True)
class EvaluationResult:
    """What an evaluation found. image_ids: in the order of the shards, each once; evaluator: with the ground truth
    (`truth`) and the detections of every image (`results`, COCO's format, pixels of the original image);
    voc: where the recipe asks for it"""

    evaluator: CocoEvaluator
    scores: CocoMetrics
    image_ids: list[int]
    stopwatch: Stopwatch
    voc: VocMetrics | None = None

    @property
    def mean_ap(self) -> float:
        """The figure that the recipe goes by, 0..1, or -1: COCO's AP, or VOC's by area."""
        return self.voc.AP if self.voc else self.scores.metrics["AP"]


def evaluate(cfg) -> tuple[EvaluationResult, Path, Runtime]:
    """Score a checkpoint as a recipe says; under a launcher, as one of its devices, each of which gets all that was
    found. cfg: Config -> what was found, the checkpoint, this process. Raises UserError."""
    path = choose_checkpoint(cfg)
    runtime = set_up_runtime(cfg)
    detector = create_detector(cfg)
    load_weights(detector, path, cfg.use_ema, model_metadata(cfg))
    evaluation = create_evaluator(cfg, to_mixed_precision(detector, cfg.amp_level), runtime)
    with compile_cache(cfg, "eval", runtime):
        return evaluation(), path, runtime


def create_evaluator(cfg, detector, runtime: Runtime) -> DetectorEvaluator:
    """The evaluation of a recipe, with this device's part of the validation images. cfg: Config. Raises UserError."""
    dataset = create_dataset(cfg, "val", runtime.rank, runtime.world_size)
    return DetectorEvaluator(cfg, detector, dataset, runtime)


class DetectorEvaluator:
    """A recipe's detector scored on its validation split; can be called again as the detector learns.

    cfg: Config; detector: SSD; anchors: boxes.anchors object; dataset: validation images of this device
    All devices call it at the same time, each looks at its own images, and each gets the scores of all.
    """

    def __init__(self, cfg, detector, dataset, runtime: Runtime = Runtime()):
        self.net = create_inference_net(cfg, detector)
        self.selector = create_selector(cfg)
        self.dataset = dataset
        self.annotation_path = annotation_path(Path(cfg.data_dir))
        if cfg.classes is None:
            raise UserError(
                f"{cfg.data_dir}: got no {DATASET_INFO_NAME} and no class names, expected one of them; give --classes"
            )
        self.classes = cfg.classes
        self.metric = cfg.metric
        self.runtime = runtime
        self.gather = DetectionGatherer(runtime.world_size)
        CocoEvaluator(self.annotation_path, self.classes)  # refuses what it cannot use before hours of training

    def __call__(self) -> EvaluationResult:
        evaluator = CocoEvaluator(self.annotation_path, self.classes)
        stopwatch = Stopwatch()
        mine = []
        share = math.ceil(len(evaluator.truth.imgs) / self.runtime.world_size)
        with Progress(share, "evaluating", "images", enabled=self.runtime.is_main) as progress:
            for image in detect(self.net, self.selector, self.dataset, stopwatch):
                mine.append(image)
                progress.update()
        found = self.gather(mine)
        for image_id, detections in found:
            evaluator.add(image_id, detections)
        absent = len(evaluator.truth.imgs) - len(found)
        if absent and self.runtime.is_main:  # the shards of MindCV's example leave images out
            print(
                f"{self.annotation_path}: {absent} of its images are not in the shards and count as without detections",
                file=sys.stderr,
            )
        voc = None
        if self.metric == "voc":
            voc = compute_voc_metrics(
                evaluator.truth, evaluator.results, dict(zip(self.classes[1:], evaluator.category_ids[1:]))
            )
        return EvaluationResult(evaluator, evaluator.summarize(), [image_id for image_id, _ in found], stopwatch, voc)


def annotation_path(folder: Path) -> Path:
    """The validation annotations in a data folder, ours or one of MindCV's example."""
    if (folder / DATASET_INFO_NAME).is_file():
        return folder / read_dataset_info(folder / DATASET_INFO_NAME).annotations
    return folder / "annotations" / "instances_val2017.json"

"""COCO's own evaluation, by pycocotools, of every image in the annotation file."""

from __future__ import annotations

import contextlib
import io
import json
import sys
from pathlib import Path

from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from ..boxes.anchors import create_anchors
from ..boxes.ops import yxyx_to_xywh
from ..data.dataset import create_dataset
from ..data.info import INFO_NAME, read_info
from ..errors import UserError
from ..models.detector import create_detector
from ..models.postprocess import Detections
from ..progress import Progress
from .checkpoint import find_checkpoint, load_weights
from .compile_cache import compile_cache
from .predictor import create_inference_net, create_selector, detect
from .runtime import set_up_runtime
from .train_step import to_mixed_precision

# The twelve figures in the order of COCOeval.stats.
METRICS = (
    "AP",
    "AP50",
    "AP75",
    "AP_small",
    "AP_medium",
    "AP_large",
    "AR1",
    "AR10",
    "AR100",
    "AR_small",
    "AR_medium",
    "AR_large",
)


class CocoEvaluator:
    """Gather detections in COCO's results format, then score them.

    annotation_path: COCO file of the validation split; classes: names by class index, background first
    Raises UserError if the file does not know a class.
    """

    def __init__(self, annotation_path: Path, classes):
        if not annotation_path.is_file():
            raise UserError(
                f"{annotation_path}: got no such file, expected the validation annotations; check --data_dir"
            )
        self.path = annotation_path
        with contextlib.redirect_stdout(io.StringIO()):
            self.truth = COCO(str(annotation_path))
        ids = {category["name"]: category["id"] for category in self.truth.loadCats(self.truth.getCatIds())}
        unknown = [name for name in classes[1:] if name not in ids]
        if unknown:
            raise UserError(
                f"{annotation_path}: got classes {sorted(ids)}, expected {unknown[0]!r} among them; "
                "evaluate with the recipe of this data"
            )
        self.category_ids = [None] + [ids[name] for name in classes[1:]]
        self.results: list[dict] = []

    def add(self, image_id: int, detections: Detections) -> None:
        """Take in one image's detections, in pixels of the original image. Raises UserError for an unknown image."""
        if image_id not in self.truth.imgs:
            raise UserError(
                f"{self.path}: got no image {image_id}, expected all of the shards'; evaluate on their own file"
            )
        boxes_xywh = yxyx_to_xywh(detections.boxes_yxyx).tolist()
        for box, score, label in zip(boxes_xywh, detections.scores.tolist(), detections.labels.tolist()):
            self.results.append(
                {"image_id": image_id, "category_id": self.category_ids[label], "bbox": box, "score": score}
            )

    def summarize(self) -> tuple[dict[str, float], str]:
        """Score what was gathered -> ({figure: 0..1, or -1 where there is nothing to score}, pycocotools' table)"""
        table = io.StringIO()
        with contextlib.redirect_stdout(io.StringIO()):
            evaluation = COCOeval(self.truth, self._detections(), "bbox")
            evaluation.evaluate()
            evaluation.accumulate()
            with contextlib.redirect_stdout(table):
                evaluation.summarize()
        return {name: float(value) for name, value in zip(METRICS, evaluation.stats)}, table.getvalue()

    def _detections(self) -> COCO:
        if self.results:
            return self.truth.loadRes(json.loads(json.dumps(self.results)))  # a copy, because loadRes adds keys to it
        nothing = COCO()  # loadRes does not take an empty list
        nothing.dataset = {**self.truth.dataset, "annotations": []}
        nothing.createIndex()
        return nothing


def evaluate(cfg) -> tuple[dict[str, float], str]:
    """Score a checkpoint as a recipe says and write predictions.json and metrics.json to output_dir.

    cfg: Config -> ({figure: 0..1}, pycocotools' table). Raises UserError.
    """
    path = Path(cfg.ckpt_path) if cfg.ckpt_path else find_checkpoint(Path(cfg.ckpt_save_dir))
    if path is None:
        raise UserError(
            f"ckpt_path: got nothing, and no checkpoint in {cfg.ckpt_save_dir}, expected a detector; "
            "train one or set --ckpt_path"
        )
    runtime = set_up_runtime(cfg)
    dataset = create_dataset(cfg, "val")
    detector = create_detector(cfg)
    load_weights(detector, path)
    evaluation = Evaluation(cfg, to_mixed_precision(detector, cfg.amp_level), create_anchors(cfg), dataset)
    with compile_cache(cfg, "eval", runtime):
        evaluator, metrics, table = evaluation()
    about = {
        "checkpoint": str(path),
        "images": len(evaluator.truth.imgs),
        "min_score": cfg.min_score,
        "nms_threshold": cfg.nms_threshold,
    }
    write_results(Path(cfg.output_dir), evaluator, {"mAP": metrics["AP"], **metrics, **about})
    return metrics, table


class Evaluation:
    """A recipe's detector scored on its validation split; can be called again as the detector learns.

    cfg: Config; detector: SSD; anchors: boxes.anchors object; dataset: of create_dataset(cfg, "val")
    """

    def __init__(self, cfg, detector, anchors, dataset):
        self.net = create_inference_net(cfg, detector, anchors)
        self.selector = create_selector(cfg)
        self.dataset = dataset
        self.annotation_path = annotation_path(Path(cfg.data_dir))
        if cfg.classes is None:
            raise UserError(
                f"{cfg.data_dir}: got no {INFO_NAME} and no class names, expected one of them; give --classes"
            )
        self.classes = cfg.classes
        CocoEvaluator(self.annotation_path, self.classes)  # refuses what it cannot use before hours of training

    def __call__(self) -> tuple[CocoEvaluator, dict[str, float], str]:
        """-> the evaluator with its results, its figures, its table"""
        evaluator = CocoEvaluator(self.annotation_path, self.classes)
        with Progress(len(evaluator.truth.imgs), "evaluating", "images") as progress:
            seen = set()
            for image_id, detections in detect(self.net, self.selector, self.dataset):
                if image_id not in seen:
                    seen.add(image_id)
                    evaluator.add(image_id, detections)
                    progress.update()
        absent = len(evaluator.truth.imgs) - len(seen)
        if absent:  # the shards of MindCV's example leave images out
            print(
                f"{self.annotation_path}: {absent} of its images are not in the shards and count as without detections",
                file=sys.stderr,
            )
        return (evaluator, *evaluator.summarize())


def annotation_path(folder: Path) -> Path:
    """The validation annotations in a data folder, ours or one of MindCV's example."""
    if (folder / INFO_NAME).is_file():
        return folder / read_info(folder / INFO_NAME).annotations
    return folder / "annotations" / "instances_val2017.json"


def write_results(folder: Path, evaluator: CocoEvaluator, metrics: dict) -> None:
    """Write folder/predictions.json, COCO results, and folder/metrics.json."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "predictions.json").write_text(json.dumps(evaluator.results))
    (folder / "metrics.json").write_text(json.dumps(metrics, indent=1) + "\n")

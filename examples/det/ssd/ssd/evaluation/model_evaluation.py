"""Evaluate an exported model on the validation split, with the protocol of checkpoints."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

from mindspore.dataset import Dataset

from ..boxes.multiclass_nms import Detections
from ..config.schema import Config
from ..data.dataset import create_dataset
from ..deployment.detector import Detector
from ..deployment.recipe_check import refuse_contradictions
from ..inference.network import InferenceTimes, detect_batches
from ..runtime.device import Runtime, create_runtime
from .evaluator import CheckpointEvaluation, SplitEvaluator

log = logging.getLogger(__name__)


class ModelEvaluator(SplitEvaluator):
    """Evaluate an exported model on the validation split. See SplitEvaluator."""

    def __init__(self, cfg: Config, model: Detector, dataset: Dataset, runtime: Runtime):
        super().__init__(cfg, dataset, runtime)
        self.model = model

    def detect(self, times: InferenceTimes) -> Iterator[tuple[int, Detections]]:
        """Detect objects in the images of this device with the exported model."""
        return detect_batches(self.model.run, nms=self.model.nms, dataset=self.dataset, times=times)


def evaluate_model(cfg: Config, folder: Path, *, provider: str) -> CheckpointEvaluation:
    """Evaluate an exported model on the validation split of data_dir.

    cfg: recipe, whose data and evaluation settings are used
    folder: folder that export.py wrote
    provider: device of an ONNX model, see Detector
    Raises UserError if the recipe contradicts the model, or if the data are missing.
    """
    detector = Detector(folder, provider=provider)
    refuse_contradictions(cfg, detector.metadata, folder)
    log.info(f"model: {folder / detector.metadata.file}, {detector.metadata.describe_checkpoint()}")
    runtime = create_runtime(cfg)
    dataset = create_dataset(cfg, "val", rank=runtime.rank, world_size=runtime.world_size, num_cores=runtime.num_cores)
    evaluate = ModelEvaluator(cfg, detector, dataset=dataset, runtime=runtime)
    return CheckpointEvaluation(result=evaluate(), checkpoint=folder / detector.metadata.file, runtime=runtime)


def compare_models(cfg: Config, folders: Sequence[Path]) -> str:
    """Evaluate exported models on the validation split, and return a table of their mAP, size and speed.

    folders: folders that export.py wrote
    """
    width = max(len(folder.name) for folder in folders)
    lines = [f"{'model':<{width}}     mAP  images/s     MB"]
    for folder in folders:
        evaluation = evaluate_model(cfg, folder, provider="cpu")
        rate = evaluation.result.times.images_per_second()["network"]
        size = evaluation.checkpoint.stat().st_size / 1e6
        lines.append(f"{folder.name:<{width}}  {evaluation.result.mean_ap:.4f}  {rate:>8.1f}  {size:>5.1f}")
    return "\n".join([*lines, ""])

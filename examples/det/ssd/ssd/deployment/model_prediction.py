"""Implementation of predict.py --model: process images and videos with an exported model, without MindSpore."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from ..config.schema import Config
from ..errors import UserError
from ..inference.prediction import Failures, PredictionOptions, choose_batch_size, predict
from ..inference.result_options import ResultOptions
from ..inference.sources import Inputs
from ..runtime.cpu_cores import worker_count
from .detector import MAX_BATCH, Detector

_FIELDS = Config.model_fields


class ModelSettings(BaseModel):
    """Recipe keys that apply to exported models too. All other keys were fixed when the model was exported."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    display_score: float = Field(
        _FIELDS["display_score"].default, ge=0, le=1, description=_FIELDS["display_score"].description
    )
    batch_size: int = Field(MAX_BATCH, gt=0, description="largest number of images in a batch")
    num_parallel_workers: int = Field(
        _FIELDS["num_parallel_workers"].default, gt=0, description="number of threads that read and draw images"
    )
    output_dir: str = Field(_FIELDS["output_dir"].default, description="folder that contains the folder of --output")


def predict_with_model(
    folder: Path,
    inputs: Inputs,
    output_path: Path,
    *,
    settings: ModelSettings,
    results: ResultOptions,
    provider: str,
) -> Failures:
    """Run an exported model on images and videos, as described in `predict`.

    folder: folder that export.py wrote
    inputs: images, videos or a camera, found by find_inputs
    output_path: folder for the results
    results: choice of detections and result files
    provider: device of an ONNX model, see Detector
    Raises UserError if the model cannot be loaded, and in the cases of `predict`.
    """
    detector = Detector(folder, provider=provider, min_score=settings.display_score)
    if results.agnostic_nms and detector.metadata.outputs == "detections":
        raise UserError("--agnostic_nms: the model contains NMS within each class. Export it without --nms.")
    options = PredictionOptions(
        batch_size=choose_batch_size(detector.batch_size or settings.batch_size, inputs),
        num_workers=worker_count(settings.num_parallel_workers),
        display_score=detector.min_score,
        results=results,
    )
    return predict(detector, inputs, output_path, options=options)

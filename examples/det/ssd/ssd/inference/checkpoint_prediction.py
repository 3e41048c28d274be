"""Implementation of predict.py for checkpoints: create the detector of a recipe, and process the inputs with it."""

from __future__ import annotations

from pathlib import Path

from ..config.schema import Config, graph_settings
from ..data.dataset_info import dataset_fingerprint
from ..runtime.compile_cache import compile_cache
from ..runtime.cpu_cores import worker_count
from .prediction import Failures, PredictionOptions, choose_batch_size, predict
from .predictor import Predictor
from .result_options import ResultOptions
from .sources import Inputs


def predict_with_checkpoint(cfg: Config, inputs: Inputs, output_path: Path, *, results: ResultOptions) -> Failures:
    """Run the checkpoint of a recipe on images and videos, as described in `predict`.

    Only detections with scores of at least display_score are drawn and written.

    inputs: images, videos or a camera, found by find_inputs
    output_path: folder for the results
    results: choice of detections and result files
    Raises UserError if the checkpoint is missing or does not fit the recipe, and in the cases of `predict`.
    """
    # Apply display_score before NMS. The other detections do not change, because NMS runs in descending score order.
    predictor = Predictor(cfg.model_copy(update={"min_score": cfg.display_score}))
    options = PredictionOptions(
        batch_size=choose_batch_size(cfg.batch_size, inputs),
        num_workers=worker_count(cfg.num_parallel_workers, predictor.runtime.num_cores),
        display_score=cfg.display_score,
        results=results,
    )
    with compile_cache(
        f"predict {options.batch_size}",  # graphs are compiled for this batch size, not for the recipe's
        settings=graph_settings(predictor.cfg),
        data=dataset_fingerprint(Path(cfg.data_dir)),
        runtime=predictor.runtime,
    ):
        return predict(predictor, inputs, output_path, options=options)

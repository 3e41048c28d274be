"""Measure inference and evaluation, and create the training step and random batches for time_step.py."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import mindspore.nn as nn
import numpy as np
from mindspore import Tensor

from ssd.checkpoints.choice import choose_checkpoint
from ssd.checkpoints.loading import load_weights
from ssd.data.dataset import create_dataset
from ssd.deployment.detector import Detector
from ssd.deployment.recipe_check import refuse_contradictions
from ssd.evaluation.evaluator import DetectorEvaluator
from ssd.inference.network import create_inference_net, create_nms
from ssd.models.detector import create_detector, to_mixed_precision
from ssd.runtime.device import create_runtime
from ssd.training.schedule import create_schedule
from ssd.training.train_step import create_train_step

from . import Case, median_ratio

if TYPE_CHECKING:
    from ssd.config.schema import Config

BOXES_PER_IMAGE = 13  # ground-truth boxes of each random image


def random_batch(cfg: Config) -> tuple[Tensor, Tensor, Tensor]:
    """Create a batch of random inputs for a training step.

    Returns
        image: (B, H, W, 3) uint8 RGB
        gt_boxes_yxyx: (B, M, 4) float32 corners (y0, x0, y1, x1), as fractions of image height and width
        gt_labels: (B, M) int32 class indices, 1..K-1
    """
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (cfg.batch_size, *cfg.image_size, 3), dtype=np.uint8)
    corners = rng.uniform(0, 0.7, (cfg.batch_size, BOXES_PER_IMAGE, 2))
    boxes_yxyx = np.concatenate([corners, corners + rng.uniform(0.05, 0.3, corners.shape)], axis=-1)
    labels = rng.integers(1, cfg.num_classes, (cfg.batch_size, BOXES_PER_IMAGE))
    return Tensor(image), Tensor(boxes_yxyx.astype(np.float32)), Tensor(labels.astype(np.int32))


def create_step(cfg: Config) -> nn.Cell:
    """Set up the device and create the training step of a recipe with random weights."""
    create_runtime(cfg)
    detector = to_mixed_precision(create_detector(cfg), cfg.amp_level)
    step = create_train_step(cfg, detector, create_schedule(cfg, steps_per_epoch=100))
    return step.set_train()


def create_inference_detector(cfg: Config) -> nn.Cell:
    """Set up the device and create the detector of a recipe, with random weights if ckpt_path is not set."""
    create_runtime(cfg)
    detector = create_detector(cfg)
    if cfg.ckpt_path:
        load_weights(detector, choose_checkpoint(cfg.ckpt_path, cfg.ckpt_save_dir))
    return to_mixed_precision(detector, cfg.amp_level)


def time_calls(call: Callable[[], object], count: int) -> list[float]:
    """Call a function repeatedly and return the seconds of each call.

    call: function that returns only after its result has been computed
    count: number of calls
    """
    seconds = []
    for _ in range(count):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return seconds


def measure_infer(cfg: Config, repeats: int, steps: int, model: Path | None = None) -> list[Case]:
    """Measure the cases `network` and `network and NMS` in ms/image, with batch size 1 and the recipe's batch size.

    cfg: Config of the recipe
    repeats: number of runs of each case
    steps: number of steps in a run
    model: folder of an exported model, for the case `exported model`, which has the same input; None for no such case
    """
    detector = create_inference_detector(cfg)
    net = create_inference_net(cfg, detector).set_train(False)
    images, _, _ = random_batch(cfg)
    exported = Detector(model) if model else None
    if exported:
        refuse_contradictions(cfg, exported.metadata, Path(model or ""))
    cases = []
    for batch_size in sorted({1, cfg.batch_size}):
        cases += measure_batch(cfg, net, images[:batch_size], repeats=repeats, steps=steps, exported=exported)
    return cases


def measure_batch(
    cfg: Config, net: nn.Cell, images: Tensor, *, repeats: int, steps: int, exported: Detector | None = None
) -> list[Case]:
    """Measure the cases `network`, `network and NMS` and `exported model` in ms/image on one batch.

    cfg: Config of the recipe
    net: network that returns candidate boxes, scores and labels
    images: (B, H, W, 3) uint8 RGB
    repeats: number of runs of each case
    steps: number of steps in a run; the result of a run is the median time of its steps
    exported: exported model of the same detector; None leaves its case out
    """
    batch_size = len(images)
    settings = {"batch_size": batch_size, "image_size": list(cfg.image_size)}
    network, network_and_nms, exported_model = (
        Case(name, "ms/image", settings=settings) for name in ("network", "network and NMS", "exported model")
    )
    pixels = images.asnumpy()
    nms = create_nms(cfg)
    image_sizes = np.tile(cfg.image_size, (batch_size, 1))

    def predict() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        boxes_yxyx, scores, labels = net(images)
        return boxes_yxyx.asnumpy(), scores.asnumpy(), labels.asnumpy()

    candidates = predict()  # compiles the graph
    for _ in range(repeats):
        network_seconds = sorted(time_calls(predict, steps))[steps // 2]
        network.runs.append(1e3 * network_seconds / batch_size)
        nms_seconds = sorted(time_calls(lambda: nms(*candidates, image_sizes), steps))[steps // 2]
        network_and_nms.runs.append(1e3 * (network_seconds + nms_seconds) / batch_size)
        if exported:
            model_seconds = sorted(time_calls(lambda: exported.run(pixels), steps))[steps // 2]
            exported_model.runs.append(1e3 * model_seconds / batch_size)
    if not exported:
        return [network, network_and_nms]
    exported_model.extra["ratio_to_network"] = median_ratio(exported_model, network)
    return [network, network_and_nms, exported_model]


def measure_eval(cfg: Config, repeats: int) -> list[Case]:
    """Measure the case `evaluation` in images/s: data loader, network, NMS and COCO metrics.

    cfg: Config of the recipe; without ckpt_path, weights are random and each image has the maximum number of detections
    repeats: number of runs
    """
    detector = create_inference_detector(cfg)
    evaluator = DetectorEvaluator(cfg, detector, create_dataset(cfg, "val"))
    num_images = len(evaluator().image_ids)  # compiles the graph
    seconds = time_calls(evaluator, repeats)
    settings = {"batch_size": cfg.batch_size, "image_size": list(cfg.image_size), "images": num_images}
    return [Case("evaluation", "images/s", [num_images / duration for duration in seconds], settings=settings)]

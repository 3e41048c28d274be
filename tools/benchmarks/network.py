"""Measure inference and the whole evaluation of a split. Also create the training step that time_step.py measures."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import mindspore.nn as nn
import numpy as np
from mindspore import Tensor

from ssd.checkpoints.loading import load_weights
from ssd.data.dataset import create_dataset
from ssd.evaluation.evaluator import DetectorEvaluator
from ssd.inference.network import create_inference_net, create_nms
from ssd.models.detector import create_detector, to_mixed_precision
from ssd.runtime.device import set_up_runtime
from ssd.training.schedule import create_schedule
from ssd.training.train_step import create_train_step

from . import Case

if TYPE_CHECKING:
    from ssd.config.schema import Config

BOXES_PER_IMAGE = 13


def random_batch(cfg: Config) -> tuple[Tensor, Tensor, Tensor]:
    """Create random inputs of a training step.

    Returns: image (B, H, W, 3) uint8; gt_boxes_yxyx (B, M, 4) float32, corners in 0..1; gt_labels (B, M) int32
    """
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (cfg.batch_size, *cfg.image_size, 3), dtype=np.uint8)
    corners = rng.uniform(0, 0.7, (cfg.batch_size, BOXES_PER_IMAGE, 2))
    boxes_yxyx = np.concatenate([corners, corners + rng.uniform(0.05, 0.3, corners.shape)], axis=-1)
    labels = rng.integers(1, cfg.num_classes, (cfg.batch_size, BOXES_PER_IMAGE))
    return Tensor(image), Tensor(boxes_yxyx.astype(np.float32)), Tensor(labels.astype(np.int32))


def create_step(cfg: Config) -> nn.Cell:
    """Set up the device and create the training step of a recipe with random weights."""
    _set_up_device(cfg)
    detector = to_mixed_precision(create_detector(cfg), cfg.amp_level)
    step = create_train_step(cfg, detector, create_schedule(cfg, steps_per_epoch=100))
    return step.set_train()


def create_inference_detector(cfg: Config) -> nn.Cell:
    """Set up the device and create the detector of a recipe, with random weights if there is no ckpt_path."""
    _set_up_device(cfg)
    detector = create_detector(cfg)
    if cfg.ckpt_path:
        load_weights(detector, cfg.ckpt_path)
    return to_mixed_precision(detector, cfg.amp_level)


def time_calls(call: Callable[[], object], count: int) -> list[float]:
    """Call a function `count` times and return the seconds of each call. The function has to wait for its result."""
    seconds = []
    for _ in range(count):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return seconds


def measure_infer(cfg: Config, repeats: int, steps: int) -> list[Case]:
    """Measure the cases `network` and `network and NMS` in ms/image, for a single image and for a whole batch."""
    detector = create_inference_detector(cfg)
    net = create_inference_net(cfg, detector).set_train(False)
    images, _, _ = random_batch(cfg)
    cases = []
    for batch_size in sorted({1, cfg.batch_size}):
        cases += measure_batch(cfg, net, images[:batch_size], repeats=repeats, steps=steps)
    return cases


def measure_batch(cfg: Config, net: nn.Cell, images: Tensor, repeats: int, steps: int) -> list[Case]:
    """Measure the network and NMS on one batch. A run is the median of `steps` steps. images: (B, H, W, 3) uint8"""
    batch_size = len(images)
    settings = {"batch_size": batch_size, "image_size": list(cfg.image_size)}
    network, network_and_nms = (Case(name, "ms/image", settings=settings) for name in ("network", "network and NMS"))
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
    return [network, network_and_nms]


def measure_eval(cfg: Config, repeats: int) -> list[Case]:
    """Measure the case `evaluation` in images/s: loader, network, NMS and COCO metrics.

    The number of detections depends on `ckpt_path`. Random weights give the most.
    """
    detector = create_inference_detector(cfg)
    evaluator = DetectorEvaluator(cfg, detector, create_dataset(cfg, "val"))
    num_images = len(evaluator().image_ids)  # compiles the graph
    seconds = time_calls(evaluator, repeats)
    settings = {"batch_size": cfg.batch_size, "image_size": list(cfg.image_size), "images": num_images}
    return [Case("evaluation", "images/s", [num_images / duration for duration in seconds], settings=settings)]


def _set_up_device(cfg: Config) -> None:
    set_up_runtime(device_target=cfg.device_target, mode=cfg.mode, jit_level=cfg.jit_level, seed=cfg.seed)

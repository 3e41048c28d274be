"""The network: a training step, inference, and the whole evaluation of a split."""

from __future__ import annotations

import time

import numpy as np
from mindspore import Tensor

from ssd.checkpoints.loading import load_weights
from ssd.data.dataset import create_dataset
from ssd.evaluation.evaluator import DetectorEvaluator
from ssd.inference.network import create_inference_net, create_selector
from ssd.models.detector import create_detector, to_mixed_precision
from ssd.runtime.device import set_up_runtime
from ssd.training.schedule import create_schedule
from ssd.training.train_step import create_train_step

from . import Case

OBJECTS = 13  # in each made-up image


def made_up_batch(cfg) -> tuple[Tensor, Tensor, Tensor]:
    """Random images, boxes and labels of a recipe's shapes. cfg: Config"""
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (cfg.batch_size, *cfg.image_size, 3), dtype=np.uint8)
    corners = rng.uniform(0, 0.7, (cfg.batch_size, OBJECTS, 2))
    boxes_yxyx = np.concatenate([corners, corners + rng.uniform(0.05, 0.3, corners.shape)], axis=-1)
    labels = rng.integers(1, cfg.num_classes, (cfg.batch_size, OBJECTS))
    return Tensor(image), Tensor(boxes_yxyx.astype(np.float32)), Tensor(labels.astype(np.int32))


def create_step(cfg):
    """The training step of a recipe with random weights."""
    set_up_runtime(cfg)
    detector = to_mixed_precision(create_detector(cfg), cfg.amp_level)
    step = create_train_step(cfg, detector, create_schedule(cfg, steps_per_epoch=100))
    return step.set_train()


def time_calls(call, count: int) -> list[float]:
    """Seconds of each of `count` calls; a call has to wait for its result."""
    seconds = []
    for _ in range(count):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return seconds


def measure_infer(cfg, repeats: int, steps: int) -> list[Case]:
    """Cases network and network and NMS, ms an image, in batches of cfg.batch_size and of one. cfg: Config"""
    set_up_runtime(cfg)
    detector = create_detector(cfg)
    if cfg.ckpt_path:
        load_weights(detector, cfg.ckpt_path)
    net = create_inference_net(cfg, to_mixed_precision(detector, cfg.amp_level)).set_train(False)
    selector, cases = create_selector(cfg), []
    images, _, _ = made_up_batch(cfg)
    for batch_size in sorted({1, cfg.batch_size}):
        batch = images[:batch_size]
        network, whole = (
            Case(name, "ms/image", settings={"batch_size": batch_size, "image_size": list(cfg.image_size)})
            for name in ("network", "network and NMS")
        )

        def predict():
            return [output.asnumpy() for output in net(batch)]

        def select(outputs):
            selector(*outputs, np.tile(cfg.image_size, (len(outputs[0]), 1)))

        outputs = predict()  # compiles
        for _ in range(repeats):
            seconds = sorted(time_calls(predict, steps))[steps // 2]
            network.runs.append(1e3 * seconds / batch_size)
            more = sorted(time_calls(lambda: select(outputs), steps))[steps // 2]
            whole.runs.append(1e3 * (seconds + more) / batch_size)
        cases += [network, whole]
    return cases


def measure_eval(cfg, repeats: int) -> list[Case]:
    """Case evaluation: loader, network, NMS and COCO's figures, images/s. cfg: Config

    `ckpt_path` decides how many detections there are to select and score: random weights make the most.
    """
    set_up_runtime(cfg)
    detector = create_detector(cfg)
    if cfg.ckpt_path:
        load_weights(detector, cfg.ckpt_path)
    detector = to_mixed_precision(detector, cfg.amp_level)
    evaluation = DetectorEvaluator(cfg, detector, create_dataset(cfg, "val"))
    images = len(evaluation().image_ids)  # compiles
    settings = {"batch_size": cfg.batch_size, "image_size": list(cfg.image_size), "images": images}
    return [
        Case(
            "evaluation",
            "images/s",
            [images / seconds for seconds in time_calls(evaluation, repeats)],
            settings=settings,
        )
    ]

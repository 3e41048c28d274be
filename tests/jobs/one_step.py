"""Train on one batch, and save the weights of rank 0. The ranks share the batch, which one process trains on alone.

Usage: one_step.py OUTPUT.npz [--key value ...]. The detector is that of tests/tiny.yaml with constant BatchNorm
statistics, so that its loss does not depend on which images are in one batch.
"""

import sys
from pathlib import Path

import numpy as np

from ssd.errors import exit_cleanly
from ssd.runtime.msrun import supervise_under_msrun

TINY = Path(__file__).resolve().parents[1] / "tiny.yaml"
NUM_IMAGES, MAX_BOXES = 4, 5


def make_batch() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return images, boxes and labels of the whole batch. The first half has 1 box per image, the second half 5."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (NUM_IMAGES, 64, 64, 3)).astype(np.uint8)
    corners = rng.uniform(0, 0.5, (NUM_IMAGES, MAX_BOXES, 2))
    boxes_yxyx = np.concatenate([corners, corners + rng.uniform(0.2, 0.5, corners.shape)], axis=2).astype(np.float32)
    labels = rng.integers(1, 4, (NUM_IMAGES, MAX_BOXES)).astype(np.int32)
    boxes_yxyx[: NUM_IMAGES // 2, 1:], labels[: NUM_IMAGES // 2, 1:] = 0, 0
    return images, boxes_yxyx, labels


@supervise_under_msrun
@exit_cleanly
def main() -> None:
    from mindspore import Tensor

    from ssd.config.command_line import parse_overrides
    from ssd.config.loading import load_config
    from ssd.models.detector import create_detector
    from ssd.runtime.device import create_runtime
    from ssd.training.train_step import create_train_step

    values = {"device_target": "CPU", "data_dir": "/nowhere", "num_classes": 4, "lr": 0.05, "loss_scale": 1.0}
    cfg = load_config(TINY, {**values, **parse_overrides(sys.argv[2:])})
    runtime = create_runtime(cfg)
    step = create_train_step(cfg, create_detector(cfg), np.full(9, cfg.lr, np.float32), world_size=runtime.world_size)
    step.set_train(False)
    size = NUM_IMAGES // runtime.world_size
    share = slice(runtime.rank * size, (runtime.rank + 1) * size)
    outputs = step(*(Tensor(values[share]) for values in make_batch())).asnumpy()
    print(f"loss {outputs[0]:.9g}", flush=True)
    if runtime.is_main:
        weights = {weight.name: weight.asnumpy() for weight in step.weights}
        np.savez(sys.argv[1], loss=outputs[0], grad_norm=outputs[3], **weights)


if __name__ == "__main__":
    main()

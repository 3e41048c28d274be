"""A training step on a small detector, a batch for it, and comparisons of its parameters."""

import mindspore as ms
import numpy as np
from mindspore import Tensor, ops

from ssd.boxes.anchors import create_anchors
from ssd.models.detector import create_detector
from ssd.training.train_step import OUTPUTS, create_train_step

LR, STEPS = 0.02, 1000


class Trainer:
    """A training step on a detector of its own. `reset` restores its start without compiling again."""

    def __init__(self, cfg):
        self.cfg, self.detector = cfg, create_detector(cfg)
        schedule = np.array([LR] * (STEPS - 1) + [0], np.float32)
        self.step = create_train_step(cfg, self.detector, schedule).set_train()
        self.start = self.state()

    def state(self):
        return {name: value.asnumpy().copy() for name, value in self.step.parameters_dict().items()}

    def reset(self):
        for name, parameter in self.step.parameters_dict().items():
            # A copy, because the Tensor may use the array as its memory; and not `set_data`, which would give the
            # parameter other memory than the compiled graph knows.
            ops.assign(parameter, Tensor(self.start[name].copy()))
        self.step.set_train()
        return self

    def set_scale(self, scale):
        ops.assign(self.step.scale_sense, Tensor(scale, ms.float32))

    def outputs(self, batch):
        """Train a step -> {name of OUTPUTS: value}"""
        values = self.step(*(Tensor(array) for array in batch)).asnumpy()
        assert values.dtype == np.float32 and values.shape == (len(OUTPUTS),)
        return dict(zip(OUTPUTS, values.tolist()))

    def train(self, batch, steps=1):
        """Train steps -> losses"""
        return [self.outputs(batch)["loss"] for _ in range(steps)]


def noise_batch(cfg):
    """Four images of noise with three boxes each, anchors of the three levels: image, gt_boxes_yxyx, gt_labels."""
    rng = np.random.default_rng(0)
    anchors = np.stack([rng.integers(*rows, 4) for rows in ((0, 256), (256, 320), (320, 336))], axis=1)
    boxes = create_anchors(cfg).boxes_yxyx[anchors]
    image = rng.integers(0, 256, (4, 64, 64, 3)).astype(np.uint8)
    return image, boxes, rng.integers(1, 4, (4, 3)).astype(np.int32)


def is_statistic(name):
    return name.endswith(("moving_mean", "moving_variance"))


def changed(before, after):
    return [name for name in before if not np.array_equal(before[name], after[name])]

"""What stands in for the parts of a training around a callback."""

from types import SimpleNamespace

import numpy as np
from mindspore import Parameter, Tensor, nn, ops

from ssd.checkpoints.loading import read_checkpoint
from ssd.training.train_step import OUTPUTS


def context(**values):
    """A run context as MindSpore hands it to callbacks."""
    return SimpleNamespace(original_args=lambda: SimpleNamespace(**values))


def set_weight(net, value):
    net.weight.set_data(Tensor(np.full(net.weight.shape, value, np.float32)))


def saved_weight(path):
    return read_checkpoint(path)["weight"].asnumpy()[0, 0]


class Tiny(nn.Cell):
    """One weight for each of two inputs; what it puts out is its loss, which training lowers without end."""

    def __init__(self):
        super().__init__()
        self.weight = Parameter(np.zeros((1, 2), np.float32), name="weight")

    def construct(self, x):
        return (x * self.weight).mean()


class WeightedSum(nn.Cell):
    """Its gradients are its inputs. Gives out three scalars, as a detector with its loss does."""

    def __init__(self):
        super().__init__()
        self.weight = Parameter(np.ones(2, np.float32), name="weight")

    def construct(self, x):
        total = (x * self.weight).sum()
        return total, ops.stop_gradient(total / 4), ops.stop_gradient(total * 3 / 4)


class Notes:
    """A sink that keeps what it is told."""

    def __init__(self):
        self.advanced, self.steps, self.evaluations, self.closed = [], [], [], False

    def advance(self, epoch, step):
        self.advanced.append((epoch, step))

    def on_step(self, record):
        self.steps.append(record)

    def on_evaluation(self, record):
        self.evaluations.append(record)

    def close(self):
        self.closed = True


def evaluated(ap):
    return SimpleNamespace(mean_ap=ap, scores=SimpleNamespace(metrics={"AP50": 0.5}))


def draw(evaluated):
    """In place of pictures, an array that tells of which evaluation it is."""
    return {"11": np.array(evaluated.mean_ap)}


def outputs(**values):
    """What a training step gives out, in the order of train_step.OUTPUTS."""
    usual = {"loss": 1.0, "box_loss": 0.25, "cls_loss": 0.75, "grad_norm": 2.0, "loss_scale": 1024.0}
    return Tensor(np.array([{**usual, **values}.get(name, 0.0) for name in OUTPUTS], np.float32))

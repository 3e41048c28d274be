"""Stand-ins for the parts of a training run around a callback."""

from types import SimpleNamespace

import numpy as np
from mindspore import Parameter, Tensor, nn, ops

from ssd.checkpoints.reading import read_checkpoint
from ssd.training.events import StepEnd
from ssd.training.train_step import OUTPUTS


def step_end(step, steps_per_epoch=10, previous=None, **values):
    """Return the end of a step; with `previous`, the end of a group of steps that ran without callbacks."""
    previous = step - 1 if previous is None else previous
    return StepEnd(step=step, previous=previous, steps_per_epoch=steps_per_epoch, **values)


def set_weight(net, value):
    net.weight.set_data(Tensor(np.full(net.weight.shape, value, np.float32)))


def saved_weight(path):
    return read_checkpoint(path)["weight"].asnumpy()[0, 0]


class TinyNet(nn.Cell):
    """A network with a weight for each of two inputs; its output is its loss, which has no minimum."""

    def __init__(self):
        super().__init__()
        self.weight = Parameter(np.zeros((1, 2), np.float32), name="weight")

    def construct(self, x):
        return (x * self.weight).mean()


class WeightedSum(nn.Cell):
    """A network whose gradients are its inputs. It returns three scalars, like a detector with its loss."""

    def __init__(self):
        super().__init__()
        self.weight = Parameter(np.ones(2, np.float32), name="weight")

    def construct(self, x):
        total = (x * self.weight).sum()
        return total, ops.stop_gradient(total / 4), ops.stop_gradient(total * 3 / 4)


class RecordingSink:
    """A sink of TrainingLogger that keeps all records."""

    def __init__(self):
        self.advanced, self.first_steps, self.steps, self.evaluations, self.closed = [], [], [], [], False

    def advance(self, epoch, step):
        self.advanced.append((epoch, step))

    def on_first_step(self, steps, seconds, call_seconds):
        self.first_steps.append((steps, seconds, call_seconds))

    def on_step(self, record):
        self.steps.append(record)

    def on_evaluation(self, record):
        self.evaluations.append(record)

    def close(self):
        self.closed = True


def evaluation_result(ap):
    """Return an evaluation with this mAP."""
    return SimpleNamespace(mean_ap=ap, coco_metrics=SimpleNamespace(metrics={"AP50": 0.5}))


def draw(result):
    """Return, instead of an image, an array that identifies the evaluation."""
    return {"11": np.array(result.mean_ap)}


def step_outputs(**values):
    """Return the outputs of a training step, in the order of train_step.OUTPUTS."""
    usual = {"loss": 1.0, "box_loss": 0.25, "cls_loss": 0.75, "grad_norm": 2.0, "loss_scale": 1024.0}
    return Tensor(np.array([{**usual, **values}.get(name, 0.0) for name in OUTPUTS], np.float32))

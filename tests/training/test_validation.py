"""Evaluation between epochs: when it happens, which detector is kept as the best, and early stopping."""

import contextlib
import functools
import json
from types import SimpleNamespace

import numpy as np
import pytest
from mindspore import Parameter, Tensor, nn, ops

from fakes import RecordingSink, TinyNet, draw, evaluation_result, saved_weight, set_weight, step_end
from ssd.checkpoints.reading import read_checkpoint
from ssd.checkpoints.records import EVALUATION_KEY
from ssd.checkpoints.saving import save_checkpoint
from ssd.training.logger import TrainingLogger
from ssd.training.records import EvalRecord
from ssd.training.resume import read_best
from ssd.training.validation import ValidationCallback, ema_weights, evaluation_epochs


@pytest.fixture
def net():
    return TinyNet()


def record(epoch, metrics, is_best=True, images=None):
    return EvalRecord(epoch=epoch, step=10 * epoch, metrics=metrics, is_best=is_best, images=images or {})


def epochs_due(start=1, interval=1, epochs=99):
    """Return the epochs of evaluations by default after each of 99 epochs."""
    keys = {"eval_start_epoch": start, "eval_interval": interval, "epoch_size": epochs}
    return evaluation_epochs(SimpleNamespace(eval_while_train=True, **keys))


def create_callback(evaluate, net, folder, *, logger=None, patience=None, best=None, ema_context=None, **when):
    return ValidationCallback(
        evaluate=evaluate,
        draw=draw,
        logger=logger,
        detector=net,
        folder=folder,
        due=epochs_due(**when),
        patience=patience,
        best=best,
        ema_context=ema_context,
    )


def evaluate_epochs(net, folder, aps, **when):
    """Run the callback over epochs 1, 2, … of 10 steps; the weight is the epoch -> callback, records"""
    rest, sink = list(aps), RecordingSink()
    callback = create_callback(lambda: evaluation_result(rest.pop(0)), net, folder, logger=TrainingLogger(sink), **when)
    for epoch in range(1, min(len(aps), when.get("epochs", 99)) + 1):
        set_weight(net, epoch)
        callback.on_epoch_end(step_end(10 * epoch))
    return callback, sink.evaluations


@pytest.mark.parametrize(
    "when, epochs",
    [
        ({"start": 1, "interval": 1, "epochs": 4}, [1, 2, 3, 4]),
        ({"start": 2, "interval": 2, "epochs": 7}, [2, 4, 6, 7]),
        ({"start": 3, "interval": 2, "epochs": 8}, [3, 5, 7, 8]),
        ({"start": 9, "interval": 1, "epochs": 5}, [5]),
    ],
)
def test_epochs_that_are_evaluated(when, epochs, net, tmp_path):
    _, records = evaluate_epochs(net, tmp_path, [0.1] * 9, **when)
    assert [record.epoch for record in records] == epochs


@pytest.mark.parametrize(
    "aps, best",
    [
        ([0.0, 0.0, 0.0], 1),  # any detector is better than none, and an equal one is no better
        ([0.2, 0.5, 0.4], 2),
        ([0.5, 0.2, 0.5], 1),
        ([-1.0, 0.0], 2),  # -1: nothing to score
    ],
)
def test_the_best_detector_is_kept(aps, best, net, tmp_path):
    callback, records = evaluate_epochs(net, tmp_path / "ckpt", aps)
    assert callback.best.epoch == best and callback.best.metrics["mAP"] == max(aps)
    assert [record.epoch for record in records if record.is_best][-1] == best
    assert [path.name for path in (tmp_path / "ckpt").iterdir()] == ["best.ckpt"]
    assert saved_weight(tmp_path / "ckpt" / "best.ckpt") == best


def test_an_undefined_map_is_never_the_best(net, tmp_path):
    callback, records = evaluate_epochs(net, tmp_path, [-1.0, -1.0], epochs=2)
    assert callback.best is None and not any(record.is_best for record in records)
    assert not (tmp_path / "best.ckpt").exists()


def test_evaluations_are_recorded(net, tmp_path):
    _, records = evaluate_epochs(net, tmp_path, [0.25, 0.125], epochs=2)
    assert records == [
        record(1, {"mAP": 0.25, "AP50": 0.5}, is_best=True, images={"11": np.array(0.25)}),
        record(2, {"mAP": 0.125, "AP50": 0.5}, is_best=False, images={"11": np.array(0.125)}),
    ]


def test_the_best_checkpoint_stores_its_evaluation(net, tmp_path):
    evaluate_epochs(net, tmp_path, [0.25, 0.5, 0.125])
    assert read_best(tmp_path) == record(2, {"mAP": 0.5, "AP50": 0.5})
    assert json.loads(read_checkpoint(tmp_path / "best.ckpt")[EVALUATION_KEY])["epoch"] == 2


def test_a_missing_best_and_one_without_a_record_are_unknown(net, tmp_path):
    assert read_best(tmp_path) is None
    save_checkpoint(net, tmp_path / "best.ckpt")
    assert read_best(tmp_path) is None


def test_a_resumed_training_keeps_its_best(net, tmp_path):
    before = record(3, {"mAP": 0.4})
    callback, records = evaluate_epochs(net, tmp_path, [0.3, 0.4], best=before)
    assert callback.best is before and not any(record.is_best for record in records)
    assert not (tmp_path / "best.ckpt").exists()


@pytest.mark.parametrize(
    "aps, when, stopped_epoch",
    [
        ([0.1, 0.2, 0.2, 0.1, 0.3], {"patience": 2}, 4),
        ([0.1, 0.2, 0.2, 0.3, 0.1], {"patience": 2}, None),
        ([0.1] * 6, {"patience": 2, "start": 2, "interval": 2}, 6),  # epochs 2, 4, 6
        ([0.2, 0.1], {"patience": 1, "epochs": 2}, None),  # it was the last anyway
        ([0.2, 0.1, 0.1, 0.1], {}, None),
    ],
)
def test_training_stops_when_patience_ends(aps, when, stopped_epoch, net, tmp_path):
    rest, stops = list(aps), []
    callback = create_callback(lambda: evaluation_result(rest.pop(0)), net, tmp_path, **when)
    for epoch in range(1, len(aps) + 1):
        callback.on_epoch_end(step_end(10 * epoch, request_stop=functools.partial(stops.append, epoch)))
        if stops:
            break
    assert (stops[0] if stops else None) == callback.stopped_epoch == stopped_epoch


def test_patience_counts_evaluations_before_a_training_was_stopped(net, tmp_path):
    before, stops = record(3, {"mAP": 0.4}), []
    callback = create_callback(lambda: evaluation_result(0.1), net, tmp_path, patience=2, best=before)
    callback.on_epoch_end(step_end(50, request_stop=lambda: stops.append(True)))  # the fourth was evaluated before
    assert stops and callback.stopped_epoch == 5


def resume(net, folder, step, *, best, is_evaluated, **when):
    """Resume a run after a step, with evaluations of mAP 0.3 -> callback, records"""
    sink = RecordingSink()
    callback = create_callback(
        lambda: evaluation_result(0.3), net, folder, logger=TrainingLogger(sink), **when, best=best
    )
    callback.resume(step_end(step), is_evaluated=is_evaluated)
    return callback, sink.evaluations


@pytest.mark.parametrize(
    "before, is_best", [(None, True), (record(1, {"mAP": 0.2}), True), (record(1, {"mAP": 0.4}), False)]
)
def test_a_missing_evaluation_is_run_after_resuming(before, is_best, net, tmp_path):
    callback, records = resume(net, tmp_path, 20, best=before, is_evaluated=False)
    assert [(record.epoch, record.step, record.is_best) for record in records] == [(2, 20, is_best)]
    assert callback.best.epoch == (2 if is_best else 1) and (tmp_path / "best.ckpt").exists() == is_best


def test_a_best_evaluation_that_was_not_recorded_is_still_the_best(net, tmp_path):
    """A kill between best.ckpt and the row of metrics.csv."""
    _, records = resume(net, tmp_path, 20, best=record(2, {"mAP": 0.3}), is_evaluated=False)
    assert [record.is_best for record in records] == [True]


@pytest.mark.parametrize(
    "is_evaluated, step, stopped_epoch", [(False, 30, 3), (True, 30, 3), (True, 35, None), (True, 20, None)]
)
def test_a_resumed_training_stops_early_where_the_previous_run_would_have(
    is_evaluated, step, stopped_epoch, net, tmp_path
):
    best = record(1, {"mAP": 0.4})
    callback, records = resume(net, tmp_path, step, best=best, is_evaluated=is_evaluated, patience=2)
    assert callback.stopped_epoch == stopped_epoch and len(records) == (not is_evaluated)


def test_averaged_weights_are_evaluated_and_saved_as_the_best(net, tmp_path):
    @contextlib.contextmanager
    def ema_context():
        set_weight(net, 7)
        yield
        set_weight(net, 1)

    def evaluate():
        return evaluation_result(float(net.weight.asnumpy()[0, 0]) / 10)

    set_weight(net, 1)
    sink = RecordingSink()
    callback = create_callback(evaluate, net, tmp_path, logger=TrainingLogger(sink), ema_context=ema_context)
    callback.on_epoch_end(step_end(10))
    (found,) = sink.evaluations
    assert (found.metrics["mAP"], found.metrics["mAP_raw"], found.is_best) == (0.7, 0.1, True)
    assert saved_weight(tmp_path / "best.ckpt") == 7 and net.weight.asnumpy()[0, 0] == 1


class Doubled(nn.Cell):
    """A network with two parameters, and the step that averages them."""

    def __init__(self):
        super().__init__()
        self.weight = Parameter(np.array([1, 2], np.float32), name="weight")
        self.moving_mean = Parameter(np.array([3], np.float32), name="moving_mean", requires_grad=False)

    def construct(self, x):
        return (x * self.weight).sum() + self.moving_mean[0]


@pytest.mark.parametrize("fails", [False, True])
def test_a_compiled_network_has_averaged_weights_for_a_while(fails):
    net, step = Doubled(), TinyNet()
    step.ema_weight = [
        Parameter(np.array([10, 20], np.float32), name="ema.weight"),
        Parameter(np.array([30], np.float32), name="ema.moving_mean"),
    ]
    x = Tensor(np.ones(2, np.float32))
    assert net(x).asnumpy() == 6
    with pytest.raises(KeyError) if fails else contextlib.nullcontext():
        with ema_weights(net, step):
            assert net(x).asnumpy() == 60
            if fails:
                raise KeyError
    assert net(x).asnumpy() == 6
    ops.assign(net.weight, Tensor(np.zeros(2, np.float32)))
    assert step.ema_weight[0].asnumpy().tolist() == [10, 20]  # it was copied, not shared

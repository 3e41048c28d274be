"""Records of steps, with made-up steps; and all callbacks around a tiny model that is trained."""

from types import SimpleNamespace

import mindspore.dataset as ds
import numpy as np
import pytest
from mindspore import nn, ops
from mindspore.train import Model

from fakes import Notes, Tiny, context, draw, evaluated, outputs
from ssd.checkpoints.loading import read_checkpoint
from ssd.training import callbacks
from ssd.training.bad_loss import StopOnNonFiniteLoss
from ssd.training.callbacks import RecordSteps, RestoreStep, memory_in_use
from ssd.training.checkpointing import CheckpointSaver
from ssd.training.logger import StepRecord, TrainingLogger
from ssd.training.resume import TrainingState
from ssd.training.train_step import CPUTrainStep
from ssd.training.validation import ValidationCallback


@pytest.fixture
def clock(monkeypatch):
    """A clock of seconds that only tests move: clock[0] += 1."""
    now = [100.0]
    monkeypatch.setattr(callbacks, "time", SimpleNamespace(monotonic=lambda: now[0]))
    return now


def records_of(clock, epochs, steps, interval, loader=0.125, step_seconds=0.375, between=0.0, overflows=()):
    """A training with the given seconds a step, and 9 more for the first -> its records.

    overflows: steps that left the weights as they were
    """
    notes, skipped = Notes(), 0
    schedule = np.arange(epochs * steps, dtype=np.float32) / 8
    record = RecordSteps(TrainingLogger(notes), schedule, images_per_step=16, interval=interval, device_target="CPU")
    for epoch in range(1, epochs + 1):
        record.on_train_epoch_begin(context())
        for step in range((epoch - 1) * steps + 1, epoch * steps + 1):
            clock[0] += loader
            record.on_train_step_begin(context())
            clock[0] += step_seconds + 9 * (step == 1)
            updates = step - 1 - skipped
            skipped += step in overflows
            told = outputs(loss=100 - step, cls_loss=99.75 - step, updates=updates, skipped=skipped)
            record.on_train_step_end(
                context(
                    cur_step_num=step, batch_num=steps, cur_epoch_num=epoch, net_outputs=told, dataset_sink_mode=False
                )
            )
        clock[0] += between
    assert notes.advanced == [(1 + step // steps, step + 1) for step in range(epochs * steps)]
    return notes.steps


def fields(records, *names):
    return [tuple(getattr(record, name) for name in names) for record in records]


def test_records_come_every_interval_and_at_the_end_of_an_epoch(clock):
    records = records_of(clock, epochs=2, steps=5, interval=2)
    expected = [(1, 2), (1, 4), (1, 5), (2, 7), (2, 9), (2, 10)]
    assert fields(records, "epoch", "step") == expected
    assert fields(records, "loss", "box_loss", "class_loss") == [(100 - s, 0.25, 99.75 - s) for _, s in expected]
    assert fields(records, "learning_rate") == [((s - 1) / 8,) for _, s in expected]
    assert fields(records, "gradient_norm", "loss_scale", "skipped_steps") == [(2.0, 1024.0, 0)] * 6


def test_an_epoch_shorter_than_the_interval_has_a_record(clock):
    assert fields(records_of(clock, epochs=3, steps=2, interval=50), "step") == [(2,), (4,), (6,)]


def test_speed_leaves_out_compilation_and_what_passes_between_epochs(clock):
    records = records_of(clock, epochs=2, steps=3, interval=2, between=60)
    # 16 images in half a second, a quarter of which the step waited for the loader.
    assert fields(records, "images_per_second", "data_wait") == [(32.0, 0.25)] * 4


def test_a_first_step_that_is_recorded_counts_itself(clock):
    first, second = records_of(clock, epochs=1, steps=2, interval=1)
    assert first.images_per_second == 16 / 9.5 and second.images_per_second == 32


def test_a_slow_loader_shows(clock):
    records = records_of(clock, epochs=1, steps=8, interval=4, loader=6, step_seconds=2)
    assert fields(records, "images_per_second", "data_wait") == [(2.0, 0.75)] * 2


def test_skipped_steps_are_counted_between_records_too(clock):
    records = records_of(clock, epochs=1, steps=6, interval=2, overflows=(1, 2, 5))
    # The schedule goes on with the updates: step 6 is the third of them.
    assert fields(records, "step", "skipped_steps", "learning_rate") == [(2, 2, 0.0), (4, 0, 1 / 8), (6, 1, 2 / 8)]


def test_a_training_that_goes_on_tells_what_is_skipped_from_now_on(clock):
    notes = Notes()
    made = {"first_step": 7, "skipped": 3}
    record = RecordSteps(TrainingLogger(notes), np.arange(9) / 8, 8, interval=1, device_target="CPU", **made)
    record.on_train_epoch_begin(context())
    record.on_train_step_begin(context())
    clock[0] += 2
    told = {"net_outputs": outputs(updates=4, skipped=5), "dataset_sink_mode": False}
    record.on_train_step_end(context(cur_step_num=9, batch_num=10, cur_epoch_num=1, **told))
    assert fields(notes.steps, "skipped_steps", "images_per_second") == [(2, 8.0)]


def test_steps_that_only_accumulate_have_no_gradient_norm_and_the_next_updates_rate(clock):
    notes = Notes()
    record = RecordSteps(TrainingLogger(notes), np.array([0.5, 0.25]), 8, interval=1, device_target="CPU")
    record.on_train_epoch_begin(context())
    for step, norm, updates in ((1, 0, 0), (2, 3, 0), (3, 0, 1), (4, 3, 1), (5, 0, 2)):  # the fifth is one too many
        record.on_train_step_begin(context())
        told = {"net_outputs": outputs(grad_norm=norm, updates=updates), "dataset_sink_mode": False}
        record.on_train_step_end(context(cur_step_num=step, batch_num=5, cur_epoch_num=1, **told))
    expected = [(None, 0.5), (3, 0.5), (None, 0.25), (3, 0.25), (None, 0.25)]
    assert fields(notes.steps, "gradient_norm", "learning_rate") == expected


def test_sunk_epochs_count_all_their_steps(clock):
    notes = Notes()
    record = RecordSteps(TrainingLogger(notes), np.full(20, 0.5, np.float32), 8, interval=3, device_target="CPU")
    for epoch in (1, 2):  # with sunk data there is one call an epoch
        record.on_train_epoch_begin(context())
        clock[0] += 1
        record.on_train_step_begin(context())
        clock[0] += 3
        values = {"cur_epoch_num": epoch, "net_outputs": outputs(updates=10 * epoch - 1), "dataset_sink_mode": True}
        record.on_train_step_end(context(cur_step_num=10 * epoch, batch_num=10, **values))
    expected = [(1, 10, 20.0, None, 0), (2, 20, 20.0, None, 0)]
    assert fields(notes.steps, "epoch", "step", "images_per_second", "data_wait", "skipped_steps") == expected


def test_memory_is_that_of_the_process():
    before = memory_in_use("CPU")
    block = np.ones(200 * 2**17)  # 200 MiB
    assert 150 < memory_in_use("CPU") - before < 250
    del block


def test_memory_of_a_device_that_is_not_there_is_no_error():
    assert memory_in_use("Ascend") in (None, 0)


# --- under MindSpore's Model ---


@pytest.fixture
def net():
    return Tiny()


class TinyWithParts(nn.Cell):
    """Gives out what a detector with its loss does: the loss, and its two parts."""

    def __init__(self, net):
        super().__init__(auto_prefix=False)
        self.net = net

    def construct(self, x):
        loss = self.net(x)
        return loss, ops.stop_gradient(loss * 0.75), ops.stop_gradient(loss * 0.25)


def test_all_of_them_in_a_training(net, tmp_path):
    inputs = np.array([[1, 3]] * 6, np.float32)
    optimizer = nn.SGD(net.trainable_params(), 0.5)
    step = CPUTrainStep(TinyWithParts(net), optimizer, nn.FixedLossScaleUpdateCell(8.0))
    seen, notes = [], Notes()

    def evaluation():
        seen.append(net.weight.asnumpy().copy())
        return evaluated(len(seen) / 10)

    data = ds.NumpySlicesDataset(inputs, shuffle=False).batch(2)
    with TrainingLogger(notes) as log:
        evaluating = ValidationCallback(evaluation, draw, log, net, tmp_path, 1, 1, 2)
        recording = RecordSteps(log, np.full(6, 0.5, np.float32), images_per_step=2, interval=2, device_target="CPU")
        callbacks = [
            RestoreStep(0),
            StopOnNonFiniteLoss(2, None, lambda step: [], 0),
            evaluating,
            CheckpointSaver(tmp_path, 1, None, TrainingState(0, 3, 2, 0), False),
            recording,
        ]
        Model(step).train(2, data, callbacks=callbacks, dataset_sink_mode=False)

    # Each step lowers the weights by half of their gradients, 1/2 and 3/2, and with them the loss by 5/4.
    losses = {step: -1.25 * (step - 1) for step in range(1, 7)}
    for record, (epoch, step) in zip(notes.steps, [(1, 2), (1, 3), (2, 5), (2, 6)], strict=True):
        assert isinstance(record, StepRecord) and (record.epoch, record.step) == (epoch, step)
        assert record.loss == losses[step]
        assert (record.box_loss, record.class_loss) == (0.75 * losses[step], 0.25 * losses[step])
        assert record.gradient_norm == pytest.approx(np.sqrt(0.5**2 + 1.5**2)) and record.loss_scale == 8
        assert record.learning_rate == 0.5 and record.skipped_steps == 0
        assert 0 <= record.data_wait <= 1 and record.images_per_second > 0 and record.memory_mib > 10
    assert notes.advanced == [(1, 1), (1, 2), (1, 3), (2, 4), (2, 5), (2, 6)] and notes.closed
    assert fields(notes.evaluations, "epoch", "step", "is_best") == [(1, 3, True), (2, 6, True)]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best.ckpt", "last.ckpt", "ssd-2.ckpt"]
    assert len(seen) == 2 and (seen[1] < seen[0]).all()
    for name in ("best.ckpt", "ssd-2.ckpt"):
        np.testing.assert_array_equal(read_checkpoint(tmp_path / name)["weight"].asnumpy(), seen[1])

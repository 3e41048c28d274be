"""Records, checkpoints and evaluations around training, with made-up steps and with a tiny model that is trained."""

import dataclasses
import json
from types import SimpleNamespace

import mindspore.dataset as ds
import numpy as np
import pytest
from mindspore import Parameter, Tensor, nn, ops
from mindspore.train import Model
from ssd.engine import callbacks
from ssd.engine.callbacks import CheckpointSaver, EndWhenAsked, EvalWhileTrain, GoOn, RecordSteps, memory_in_use
from ssd.engine.checkpoint import STATE_KEY, read_checkpoint
from ssd.engine.train_step import CPUTrainStep
from ssd.engine.training_log import EvalRecord, StepRecord, TrainingLog
from ssd.engine.training_state import TrainingState


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


@pytest.fixture
def net():
    return Tiny()


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


# --- checkpoints ---


START = TrainingState(step=0, steps_per_epoch=10, images_per_step=4, seed=7)


def saver_of(folder, keep=9, every_steps=None, best=None, interrupt=False):
    return CheckpointSaver(folder, keep, every_steps, START, lambda: best, interrupt)


def state_of(path):
    return TrainingState(**json.loads(read_checkpoint(path)[STATE_KEY]))


@pytest.mark.parametrize("keep, kept", [(2, ["ssd-4.ckpt", "ssd-5.ckpt"]), (1, ["ssd-5.ckpt"])])
def test_the_last_checkpoints_are_kept(keep, kept, net, tmp_path):
    saver = saver_of(tmp_path / "ckpt", keep)
    for epoch in range(1, 6):
        set_weight(net, epoch)
        saver.on_train_epoch_end(context(cur_epoch_num=epoch, cur_step_num=10 * epoch, train_network=net))
        for name in (f"ssd-{epoch}.ckpt", "last.ckpt"):
            assert saved_weight(tmp_path / "ckpt" / name) == epoch
            assert state_of(tmp_path / "ckpt" / name) == dataclasses.replace(START, step=10 * epoch)
    assert sorted(path.name for path in (tmp_path / "ckpt").iterdir()) == ["last.ckpt", *kept]


def test_files_of_others_and_files_that_are_gone_do_not_matter(net, tmp_path):
    saver = saver_of(tmp_path, 1)
    (tmp_path / "best.ckpt").touch()
    for epoch in (1, 2):
        saver.on_train_epoch_end(context(cur_epoch_num=epoch, cur_step_num=10 * epoch, train_network=net))
        if epoch == 1:
            (tmp_path / "ssd-1.ckpt").unlink()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best.ckpt", "last.ckpt", "ssd-2.ckpt"]


def test_a_training_that_goes_on_counts_the_checkpoints_it_finds(net, tmp_path):
    for first in (1, 3):
        saver = saver_of(tmp_path, keep=2)
        for epoch in (first, first + 1):
            saver.on_train_epoch_end(context(cur_epoch_num=epoch, cur_step_num=10 * epoch, train_network=net))
    assert sorted(path.name for path in tmp_path.glob("ssd-*")) == ["ssd-3.ckpt", "ssd-4.ckpt"]


def test_the_last_is_saved_within_epochs(net, tmp_path):
    saver, saved = saver_of(tmp_path, every_steps=4), []
    for step in range(1, 21):
        saver.on_train_step_end(context(cur_step_num=step, batch_num=10, train_network=net))
        if (tmp_path / "last.ckpt").exists():
            saved.append(step)
            assert state_of(tmp_path / "last.ckpt").step == step
            (tmp_path / "last.ckpt").unlink()
    assert saved == [4, 8, 12, 16]  # at 20 the epoch ends, and saves by itself


def test_the_best_evaluation_is_part_of_the_state(net, tmp_path):
    best = EvalRecord(2, 20, {"mAP": 0.5}, True, {"11": np.zeros((1, 1, 3))})
    saver_of(tmp_path, best=best).on_train_epoch_end(context(cur_epoch_num=3, cur_step_num=30, train_network=net))
    assert state_of(tmp_path / "last.ckpt").best == {"epoch": 2, "step": 20, "metrics": {"mAP": 0.5}}


def test_a_wish_to_end_is_granted_after_saving(net, tmp_path):
    saver, step = saver_of(tmp_path, interrupt=True), context(cur_step_num=13, batch_num=10, train_network=net)
    EndWhenAsked(saver).on_train_step_end(step)
    saver.on_train_step_end(step)
    with pytest.raises(KeyboardInterrupt):
        EndWhenAsked(saver).on_train_step_end(step)
    assert state_of(tmp_path / "last.ckpt").step == 13 and not list(tmp_path.glob("ssd-*"))


# --- evaluation ---


def evaluate_epochs(net, folder, aps, **when):
    """Run the callback over epochs 1, 2, … of 10 steps; the weight is the epoch -> the callback, its records"""
    rest, notes = list(aps), Notes()
    when = {"start": 1, "interval": 1, "epochs": 99, **when}
    callback = EvalWhileTrain(lambda: evaluated(rest.pop(0)), draw, TrainingLog(notes), net, folder, **when)
    for epoch in range(1, min(len(aps), when["epochs"]) + 1):
        set_weight(net, epoch)
        callback.on_train_epoch_end(context(cur_epoch_num=epoch, cur_step_num=10 * epoch))
    return callback, notes.evaluations


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


def test_evaluations_are_recorded(net, tmp_path):
    _, records = evaluate_epochs(net, tmp_path, [0.25, 0.125], epochs=2)
    assert records == [
        EvalRecord(1, 10, {"mAP": 0.25, "AP50": 0.5}, True, {"11": np.array(0.25)}),
        EvalRecord(2, 20, {"mAP": 0.125, "AP50": 0.5}, False, {"11": np.array(0.125)}),
    ]


# --- records of steps ---


def outputs(loss=1.0, box=0.25, norm=2.0, scale=1024.0, overflow=0.0, updates=0.0):
    """What a training step gives out, in the order of train_step.OUTPUTS."""
    return Tensor(np.array([loss, box, loss - box, norm, scale, overflow, updates], np.float32))


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
    notes, updates = Notes(), 0
    schedule = np.arange(epochs * steps, dtype=np.float32) / 8
    record = RecordSteps(TrainingLog(notes), schedule, images_per_step=16, interval=interval, device_target="CPU")
    for epoch in range(1, epochs + 1):
        record.on_train_epoch_begin(context())
        for step in range((epoch - 1) * steps + 1, epoch * steps + 1):
            clock[0] += loader
            record.on_train_step_begin(context())
            clock[0] += step_seconds + 9 * (step == 1)
            told = outputs(100 - step, updates=updates, overflow=step in overflows)
            updates += step not in overflows
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


def test_sunk_epochs_count_all_their_steps(clock):
    notes = Notes()
    record = RecordSteps(TrainingLog(notes), np.full(20, 0.5, np.float32), 8, interval=3, device_target="CPU")
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
    with TrainingLog(notes) as log:
        evaluating = EvalWhileTrain(evaluation, draw, log, net, tmp_path, 1, 1, 2)
        recording = RecordSteps(log, np.full(6, 0.5, np.float32), images_per_step=2, interval=2, device_target="CPU")
        callbacks = [GoOn(0), evaluating, saver_of(tmp_path, keep=1), recording]
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

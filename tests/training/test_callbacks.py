"""RecordSteps with made-up steps, and all callbacks together in the training of a tiny network."""

import mmap

import mindspore.dataset as ds
import numpy as np
import pytest
from mindspore import nn, ops
from mindspore.train import Model

from fakes import RecordingSink, TinyNet, draw, evaluation_result, step_end, step_outputs
from ssd.checkpoints.reading import read_checkpoint
from ssd.training.callbacks import RecordSteps, StopOnNonFiniteLoss, memory_in_use
from ssd.training.checkpointing import CheckpointSaver
from ssd.training.events import TrainingEvents
from ssd.training.logger import TrainingLogger
from ssd.training.records import StepRecord
from ssd.training.resume import TrainingState
from ssd.training.train_step import TrainStep
from ssd.training.validation import ValidationCallback


@pytest.fixture
def clock():
    """Time in seconds that only the test advances: clock[0] += 1."""
    return [100.0]


def create_callback(sink, clock, *, schedule, images_per_step=8, interval=1, **resumed):
    return RecordSteps(
        TrainingLogger(sink),
        schedule=schedule,
        images_per_step=images_per_step,
        interval=interval,
        device_target="CPU",
        clock=lambda: clock[0],
        **resumed,
    )


def records_of(clock, epochs, steps, interval, loader=0.125, step_seconds=0.375, between=0.0, overflows=()):
    """Return the records of a training run with the given seconds for each step, and 9 more for the first.

    loader, step_seconds, between: seconds of loading, of a step, and between epochs; overflows: skipped steps
    """
    sink, skipped = RecordingSink(), 0
    schedule = np.arange(epochs * steps, dtype=np.float32) / 8
    callback = create_callback(sink, clock, schedule=schedule, images_per_step=16, interval=interval)
    for epoch in range(1, epochs + 1):
        callback.on_epoch_begin()
        for step in range((epoch - 1) * steps + 1, epoch * steps + 1):
            clock[0] += loader
            callback.on_step_begin()
            clock[0] += step_seconds + 9 * (step == 1)
            updates = step - 1 - skipped
            skipped += step in overflows
            outputs = step_outputs(loss=100 - step, cls_loss=99.75 - step, updates=updates, skipped=skipped)
            callback.on_step_end(step_end(step, steps_per_epoch=steps, outputs=outputs))
        clock[0] += between
    assert sink.advanced == [(1 + step // steps, step + 1) for step in range(epochs * steps)]
    return sink.steps


def fields(records, *names):
    return [tuple(getattr(record, name) for name in names) for record in records]


def test_records_come_every_interval_and_at_the_end_of_an_epoch(clock):
    records = records_of(clock, epochs=2, steps=5, interval=2)
    expected = [(1, 2), (1, 4), (1, 5), (2, 7), (2, 9), (2, 10)]
    assert fields(records, "epoch", "step") == expected
    # Losses are means over the steps of each record: steps 1 and 2, 3 and 4, 5, 6 and 7, 8 and 9, 10.
    means = [98.5, 96.5, 95, 93.5, 91.5, 90]
    assert fields(records, "loss", "box_loss", "class_loss") == [(mean, 0.25, mean - 0.25) for mean in means]
    assert fields(records, "learning_rate") == [((s - 1) / 8,) for _, s in expected]
    assert fields(records, "gradient_norm", "loss_scale", "skipped_steps") == [(2.0, 1024.0, 0)] * 6


def test_an_epoch_shorter_than_the_interval_has_a_record(clock):
    assert fields(records_of(clock, epochs=3, steps=2, interval=50), "step") == [(2,), (4,), (6,)]


def test_speed_excludes_compilation_and_time_between_epochs(clock):
    records = records_of(clock, epochs=2, steps=3, interval=2, between=60)
    # 16 images in half a second, a quarter of which the step waited for the loader.
    assert fields(records, "images_per_second", "data_wait") == [(32.0, 0.25)] * 4


def test_a_first_step_that_is_recorded_counts_itself(clock):
    first, second = records_of(clock, epochs=1, steps=2, interval=1)
    assert first.images_per_second == 16 / 9.5 and second.images_per_second == 32


def test_a_slow_loader_shows(clock):
    records = records_of(clock, epochs=1, steps=8, interval=4, loader=6, step_seconds=2)
    assert fields(records, "images_per_second", "data_wait") == [(2.0, 0.75)] * 2


def test_means_of_a_resumed_training_have_its_own_steps(clock):
    """The run resumes after step 7 of 10 with an interval of 5: the first record, at step 10, has 3 steps."""
    sink = RecordingSink()
    callback = create_callback(sink, clock, schedule=np.full(20, 0.5), interval=5, first_step=7)
    callback.on_epoch_begin()
    for step, loss in ((8, 1.0), (9, 4.0), (10, 2.5), (11, 7.0), (12, 1.0), (13, 1.0), (14, 1.0), (15, 0.0)):
        callback.on_step_begin()
        callback.on_step_end(step_end(step, outputs=step_outputs(loss=loss, box_loss=loss / 4)))
    assert fields(sink.steps, "step", "loss", "box_loss") == [(10, 2.5, 0.625), (15, 2.0, 0.5)]


class UnreadOutputs:
    """Outputs of a step that count how often the host reads them."""

    def __init__(self, reads, step):
        self.reads, self.step = reads, step

    def asnumpy(self):
        self.reads.append(self.step)
        return step_outputs().asnumpy()


def test_outputs_are_read_at_records_only(clock):
    """The first step is read too, to report its time."""
    reads = []
    callback = create_callback(RecordingSink(), clock, schedule=np.full(9, 0.5), interval=3)
    callback.on_epoch_begin()
    for step in range(1, 6):
        callback.on_step_begin()
        callback.on_step_end(step_end(step, outputs=UnreadOutputs(reads, step)))
        assert reads == ([1] if step < 3 else [1, 1, 2, 3])


@pytest.mark.parametrize("resumed, sink_size", [(0, 1), (4, 1), (0, 5)])
def test_the_first_step_is_reported(resumed, sink_size, clock):
    sink = RecordingSink()
    callback = create_callback(sink, clock, schedule=np.full(9, 0.5), interval=9, first_step=resumed, started=98.0)
    callback.on_epoch_begin()
    for step in (resumed + sink_size, resumed + 2 * sink_size):
        clock[0] += 1
        callback.on_step_begin()
        clock[0] += 7
        callback.on_step_end(step_end(step, previous=step - sink_size, outputs=step_outputs()))
    assert sink.first_steps == [(sink_size, 10.0, 7.0)]  # the clock starts at 100 seconds


def test_skipped_steps_are_counted_between_records_too(clock):
    records = records_of(clock, epochs=1, steps=6, interval=2, overflows=(1, 2, 5))
    # The schedule goes on with the updates: step 6 is the third of them.
    assert fields(records, "step", "skipped_steps", "learning_rate") == [(2, 2, 0.0), (4, 0, 1 / 8), (6, 1, 2 / 8)]


def test_a_resumed_training_counts_only_its_own_skipped_steps(clock):
    sink = RecordingSink()
    callback = create_callback(sink, clock, schedule=np.arange(9) / 8, first_step=7, skipped_updates=3)
    callback.on_epoch_begin()
    callback.on_step_begin()
    clock[0] += 2
    callback.on_step_end(step_end(9, outputs=step_outputs(updates=4, skipped=5)))
    assert fields(sink.steps, "skipped_steps", "images_per_second") == [(2, 8.0)]


def test_steps_that_only_accumulate_have_no_gradient_norm_and_the_next_updates_rate(clock):
    sink = RecordingSink()
    callback = create_callback(sink, clock, schedule=np.array([0.5, 0.25]))
    callback.on_epoch_begin()
    for step, norm, updates in ((1, 0, 0), (2, 3, 0), (3, 0, 1), (4, 3, 1), (5, 0, 2)):  # the fifth is one too many
        callback.on_step_begin()
        callback.on_step_end(step_end(step, outputs=step_outputs(grad_norm=norm, updates=updates)))
    expected = [(None, 0.5), (3, 0.5), (None, 0.25), (3, 0.25), (None, 0.25)]
    assert fields(sink.steps, "gradient_norm", "learning_rate") == expected


@pytest.mark.parametrize(
    "sink_size, interval, expected",
    [
        (10, 3, [(1, 10, 10.0), (2, 20, 20.0)]),  # the first group of steps compiles for 4 seconds
        (5, 3, [(1, 5, 40 / 6), (1, 10, 20.0), (2, 15, 20.0), (2, 20, 20.0)]),
        (2, 4, [(1, 4, 20.0), (1, 8, 20.0), (1, 10, 20.0), (2, 14, 20.0), (2, 18, 20.0), (2, 20, 20.0)]),
        (2, 3, [(1, 4, 20.0), (1, 6, 20.0), (1, 10, 20.0), (2, 14, 20.0), (2, 16, 20.0), (2, 20, 20.0)]),
    ],
)
def test_sunk_groups_count_all_their_steps(sink_size, interval, expected, clock):
    sink = RecordingSink()
    schedule = np.full(20, 0.5, np.float32)
    callback = create_callback(sink, clock, schedule=schedule, interval=interval, sinks_data=True)
    for step in range(sink_size, 21, sink_size):
        if step % 10 == sink_size % 10:
            callback.on_epoch_begin()
        clock[0] += 0.1 * sink_size  # of the host
        callback.on_step_begin()
        clock[0] += 0.3 * sink_size + 4 * (step == sink_size)
        outputs = step_outputs(updates=step - 1)
        callback.on_step_end(step_end(step, previous=step - sink_size, outputs=outputs))
    assert fields(sink.steps, "epoch", "step") == [(epoch, step) for epoch, step, _ in expected]
    assert [record.images_per_second for record in sink.steps] == pytest.approx([rate for *_, rate in expected])
    assert fields(sink.steps, "data_wait", "skipped_steps") == [(None, 0)] * len(expected)
    assert sink.advanced == [((step - 1) // 10 + 1, step) for step in range(sink_size, 21, sink_size)]


def test_memory_on_cpu_is_that_of_the_process():
    before = memory_in_use("CPU")
    block = np.frombuffer(mmap.mmap(-1, 200 * 2**20), np.uint8)  # pages that no allocator has kept from earlier tests
    block[:] = 1
    assert 150 < memory_in_use("CPU") - before < 250


def test_memory_of_an_absent_device_is_unknown():
    assert memory_in_use("Ascend") in (None, 0)


# --- under MindSpore's Model ---


@pytest.fixture
def net():
    return TinyNet()


class LossWithParts(nn.Cell):
    """Returns three scalars like a detector with its loss: the loss and its two parts."""

    def __init__(self, net):
        super().__init__(auto_prefix=False)
        self.net = net

    def construct(self, x):
        loss = self.net(x)
        return loss, ops.stop_gradient(loss * 0.75), ops.stop_gradient(loss * 0.25)


def test_all_callbacks_in_a_training(net, tmp_path):
    inputs = np.array([[1, 3]] * 6, np.float32)
    optimizer = nn.SGD(net.trainable_params(), 0.5)
    step = TrainStep(LossWithParts(net), optimizer, nn.FixedLossScaleUpdateCell(8.0))
    evaluated_weights, sink = [], RecordingSink()

    def evaluate():
        evaluated_weights.append(net.weight.asnumpy().copy())
        return evaluation_result(len(evaluated_weights) / 10)

    data = ds.NumpySlicesDataset(inputs, shuffle=False).batch(2)
    start = TrainingState(step=0, steps_per_epoch=3, images_per_step=2, seed=0)
    with TrainingLogger(sink) as logger:
        callbacks = [
            StopOnNonFiniteLoss(
                log_interval=2, checkpoint_every_steps=None, stop=False, image_ids_of_step=lambda step: [], rank=0
            ),
            CheckpointSaver(step, tmp_path, keep=1, every_steps=None, start=start, stop=False),
            ValidationCallback(evaluate=evaluate, draw=draw, logger=logger, detector=net, folder=tmp_path, due=[1, 2]),
            RecordSteps(
                logger,
                schedule=np.full(6, 0.5, np.float32),
                images_per_step=2,
                interval=2,
                device_target="CPU",
            ),
        ]
        events = TrainingEvents(callbacks, first_step=0, steps_per_epoch=3)
        Model(step).train(2, data, callbacks=[events], dataset_sink_mode=False)

    # Each step lowers the weights by half of their gradients, 1/2 and 3/2, and with them the loss by 5/4.
    losses = {step: -1.25 * (step - 1) for step in range(1, 7)}
    for record, (epoch, step) in zip(sink.steps, [(1, 2), (1, 3), (2, 5), (2, 6)], strict=True):
        assert isinstance(record, StepRecord) and (record.epoch, record.step) == (epoch, step)
        mean = losses[step] if step in (3, 6) else (losses[step - 1] + losses[step]) / 2  # records of 2, 1, 2, 1 steps
        assert record.loss == mean
        assert (record.box_loss, record.class_loss) == (0.75 * mean, 0.25 * mean)
        assert record.gradient_norm == pytest.approx(np.sqrt(0.5**2 + 1.5**2)) and record.loss_scale == 8
        assert record.learning_rate == 0.5 and record.skipped_steps == 0
        assert 0 <= record.data_wait <= 1 and record.images_per_second > 0 and record.memory_mib > 10
    assert sink.advanced == [(1, 1), (1, 2), (1, 3), (2, 4), (2, 5), (2, 6)] and sink.closed
    assert fields(sink.evaluations, "epoch", "step", "is_best") == [(1, 3, True), (2, 6, True)]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best.ckpt", "last.ckpt", "ssd-2.ckpt"]
    first, second = evaluated_weights
    assert (second < first).all()
    for name in ("best.ckpt", "ssd-2.ckpt"):
        np.testing.assert_array_equal(read_checkpoint(tmp_path / name)["weight"].asnumpy(), second)

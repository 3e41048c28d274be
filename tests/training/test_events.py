"""Steps between two calls of the host, ends of epochs, and the data that a device gets in a resumed run."""

import time

import mindspore.dataset as ds
import numpy as np
import pytest
from mindspore import nn

from fakes import TinyNet, step_end
from ssd.training.events import TrainingCallback, TrainingEvents, usable_sink_size
from sunk_model import SunkModel


@pytest.mark.parametrize(
    "sink_size, steps_per_epoch, first_step, expected",
    [
        (10, 458, 0, 2),  # COCO on 8 devices with batches of 32: 458 = 2 x 229
        (10, 40, 0, 10),
        (10, 36, 0, 9),
        (500, 458, 0, 458),
        (1, 458, 0, 1),
        (10, 457, 0, 1),  # a prime number
        (10, 40, 60, 10),  # resumed within the second epoch
        (10, 40, 64, 8),
        (10, 40, 63, 1),
        (10, 40, 80, 10),
    ],
)
def test_groups_of_steps_start_at_the_resumed_step_and_end_at_the_ends_of_epochs(
    sink_size, steps_per_epoch, first_step, expected
):
    assert usable_sink_size(sink_size, steps_per_epoch=steps_per_epoch, first_step=first_step) == expected


@pytest.mark.parametrize(
    "step, epoch, step_in_epoch, ends", [(1, 1, 1, 0), (10, 1, 10, 1), (11, 2, 1, 0), (20, 2, 10, 1)]
)
def test_epochs_follow_from_the_step(step, epoch, step_in_epoch, ends):
    event = step_end(step)
    assert (event.epoch, event.step_in_epoch, event.ends_epoch) == (epoch, step_in_epoch, bool(ends))


def test_an_interval_is_passed_once():
    assert [step for step in range(3, 25, 3) if step_end(step, previous=step - 3).passes(6)] == [6, 12, 18, 24]
    assert [step for step in range(3, 25, 3) if step_end(step, previous=step - 3).passes(4)] == [6, 9, 12, 18, 21, 24]
    assert not step_end(20, previous=0).passes(None)


class Recorder(TrainingCallback):
    def __init__(self):
        self.calls = []

    def on_epoch_begin(self):
        self.calls.append("epoch")

    def on_step_begin(self):
        self.calls.append("step")

    def on_step_end(self, event):
        self.calls.append((event.previous, event.step, float(event.outputs.asnumpy())))

    def on_epoch_end(self, event):
        self.calls.append(f"end of {event.epoch}")
        if event.epoch == 3:
            event.request_stop()


class Sum(nn.Cell):
    def __init__(self):
        super().__init__()
        self.net = TinyNet()

    def construct(self, x):
        return x.sum() + self.net(x)


def test_groups_of_steps_in_mindspores_loop_of_data_sinking():
    """4 of 5 epochs of 4 steps in groups of 2, resumed after step 6; step n sees the number n."""
    recorder, data = Recorder(), ds.NumpySlicesDataset(np.arange(1, 5, dtype=np.float32), shuffle=False).batch(1)
    data.set_init_step(6)
    events = TrainingEvents([recorder], first_step=6, steps_per_epoch=4)
    SunkModel(Sum()).train(10, data, callbacks=[events], dataset_sink_mode=True, sink_size=2, initial_epoch=3)
    assert recorder.calls == [
        *["epoch", "step", (6, 8, 4.0), "end of 2"],
        *["epoch", "step", (8, 10, 2.0), "step", (10, 12, 4.0), "end of 3"],  # which stops the training
    ]


@pytest.mark.parametrize("first_step", [0, 2, 3, 4, 10])
def test_the_queue_of_a_device_starts_at_the_resumed_step(first_step):
    """3 epochs of 4 steps. The queue of a CPU discards its batches, so they are recorded before."""
    sent = []

    def record(x, info):
        sent.append(x[0].item())
        return (x,)

    def create():
        ds.config.set_seed(3)
        numbers = ds.NumpySlicesDataset(np.arange(4), shuffle=True, column_names=["x"])
        return numbers.batch(1, per_batch_map=record, input_columns=["x"], num_parallel_workers=1)

    iterator = create().create_tuple_iterator(num_epochs=3, output_numpy=True)
    expected = [batch[0].item() for _ in range(3) for batch in iterator]
    assert sorted(expected[:4]) == [0, 1, 2, 3] and len({tuple(expected[start : start + 4]) for start in (0, 4, 8)}) > 1
    sent.clear()
    data = create()
    data.set_init_step(first_step)
    data.__total_batch__ = 12  # as _train_dataset_sink_process sets it
    queue = data.device_que(send_epoch_end=False)
    queue.send(3)
    deadline = time.monotonic() + 20
    while len(sent) < len(expected) - first_step and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.2)  # for batches beyond the last
    queue.stop_send()
    queue.release()
    assert sent == expected[first_step:]

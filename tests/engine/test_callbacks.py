"""Log, checkpoints and evaluations around training, with made-up steps and with a tiny model that MindSpore trains."""

import re
from types import SimpleNamespace

import mindspore.dataset as ds
import numpy as np
import pytest
from mindspore import Parameter, Tensor, nn
from mindspore.train import Model
from ssd.engine import callbacks
from ssd.engine.callbacks import CheckpointSaver, EvalWhileTrain, TrainLog, set_aside_earlier
from ssd.engine.checkpoint import read_checkpoint


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


# --- checkpoints ---


@pytest.mark.parametrize("keep, kept", [(2, ["ssd-4.ckpt", "ssd-5.ckpt"]), (1, ["ssd-5.ckpt"])])
def test_the_last_checkpoints_are_kept(keep, kept, net, tmp_path):
    saver = CheckpointSaver(tmp_path / "ckpt", keep)
    for epoch in range(1, 6):
        set_weight(net, epoch)
        saver.on_train_epoch_end(context(cur_epoch_num=epoch, train_network=net))
        assert saved_weight(tmp_path / "ckpt" / f"ssd-{epoch}.ckpt") == epoch
    assert sorted(path.name for path in (tmp_path / "ckpt").iterdir()) == kept


def test_files_of_others_and_files_that_are_gone_do_not_matter(net, tmp_path):
    saver = CheckpointSaver(tmp_path, 1)
    (tmp_path / "best.ckpt").touch()
    for epoch in (1, 2):
        saver.on_train_epoch_end(context(cur_epoch_num=epoch, train_network=net))
        if epoch == 1:
            (tmp_path / "ssd-1.ckpt").unlink()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best.ckpt", "ssd-2.ckpt"]


def contents(folder):
    return {path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*") if path.is_file()}


def test_earlier_checkpoints_are_set_aside(tmp_path):
    for run in ("first", "second"):
        (tmp_path / "best.ckpt").write_text(f"best of the {run} run")
        (tmp_path / f"ssd-{run}.ckpt").write_text(run)
        (tmp_path / "pretrained.ckpt").write_text("mine")
        assert set_aside_earlier(tmp_path) == tmp_path / f"earlier-{1 if run == 'first' else 2}"
    assert contents(tmp_path) == {
        "pretrained.ckpt": "mine",
        "earlier-1/best.ckpt": "best of the first run",
        "earlier-1/ssd-first.ckpt": "first",
        "earlier-2/best.ckpt": "best of the second run",
        "earlier-2/ssd-second.ckpt": "second",
    }


def test_nothing_earlier_to_set_aside(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    assert set_aside_earlier(tmp_path) is None
    assert set_aside_earlier(tmp_path / "nowhere") is None
    assert contents(tmp_path) == {"notes.txt": "mine"} and not (tmp_path / "nowhere").exists()


# --- evaluation ---


def evaluate_epochs(net, folder, aps, **when):
    """Run the callback over epochs 1, 2, …; the weight is the epoch -> {epoch: AP that it was given}"""
    evaluated, rest = {}, list(aps)
    when = {"start": 1, "interval": 1, "epochs": 99, **when}

    def evaluation():
        evaluated[epoch] = rest.pop(0)
        return None, {"AP": evaluated[epoch], "AP50": 0.5}, "table"

    callback = EvalWhileTrain(evaluation, net, folder, **when)
    for epoch in range(1, min(len(aps), when["epochs"]) + 1):
        set_weight(net, epoch)
        callback.on_train_epoch_end(context(cur_epoch_num=epoch))
    return evaluated


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
    assert list(evaluate_epochs(net, tmp_path, [0.1] * 9, **when)) == epochs


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
    evaluate_epochs(net, tmp_path / "ckpt", aps)
    assert [path.name for path in (tmp_path / "ckpt").iterdir()] == ["best.ckpt"]
    assert saved_weight(tmp_path / "ckpt" / "best.ckpt") == best


def test_evaluations_are_told(net, tmp_path, capsys):
    evaluate_epochs(net, tmp_path, [0.25, 0.125], epochs=2)
    assert capsys.readouterr().out.splitlines() == [
        "epoch 1/2 mAP 0.2500 AP50 0.5000 (best)",
        "epoch 2/2 mAP 0.1250 AP50 0.5000",
    ]


# --- the log ---


def log_lines(monkeypatch, capsys, epochs, steps, interval, seconds_between=0):
    """Lines of a training in which a step takes half a second and the time between epochs `seconds_between`."""
    clock = [100.0]
    monkeypatch.setattr(callbacks, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    schedule = np.arange(epochs * steps, dtype=np.float32) / 1000
    log = TrainLog(schedule, epochs, images_per_step=16, interval=interval)
    log.on_train_begin(context())
    for epoch in range(1, epochs + 1):
        log.on_train_epoch_begin(context())
        for step in range((epoch - 1) * steps + 1, epoch * steps + 1):
            clock[0] += 0.5
            loss = Tensor(np.float32(100 - step))
            log.on_train_step_end(context(cur_step_num=step, batch_num=steps, cur_epoch_num=epoch, net_outputs=loss))
        clock[0] += seconds_between
    log.on_train_end(context())
    captured = capsys.readouterr()
    assert captured.err == ""
    return captured.out.splitlines()


def test_lines_of_the_log(monkeypatch, capsys):
    assert log_lines(monkeypatch, capsys, epochs=2, steps=3, interval=2, seconds_between=60) == [
        "epoch 1/2 step 2/3 loss 98.0000 lr 0.001000 32.0 images/s",
        "epoch 1/2 step 3/3 loss 97.0000 lr 0.002000 32.0 images/s",
        "epoch 2/2 step 2/3 loss 95.0000 lr 0.004000 32.0 images/s",  # 16 images in half a second, without the minute
        "epoch 2/2 step 3/3 loss 94.0000 lr 0.005000 32.0 images/s",
    ]


def test_an_epoch_shorter_than_the_interval_has_a_line(monkeypatch, capsys):
    lines = log_lines(monkeypatch, capsys, epochs=3, steps=2, interval=50)
    assert [line.split(" loss")[0] for line in lines] == [f"epoch {epoch}/3 step 2/2" for epoch in (1, 2, 3)]


def test_sunk_epochs_count_all_their_steps(monkeypatch, capsys):
    clock = [0.0]
    monkeypatch.setattr(callbacks, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    log = TrainLog(np.full(20, 0.5, np.float32), 2, images_per_step=8, interval=3)
    log.on_train_begin(context())
    for epoch in (1, 2):  # with sunk data there is one call an epoch
        log.on_train_epoch_begin(context())
        clock[0] += 4
        loss = Tensor(np.float32(1))
        log.on_train_step_end(context(cur_step_num=10 * epoch, batch_num=10, cur_epoch_num=epoch, net_outputs=loss))
    expected = [f"epoch {epoch}/2 step 10/10 loss 1.0000 lr 0.500000 20.0 images/s" for epoch in (1, 2)]
    assert capsys.readouterr().out.splitlines() == expected


# --- under MindSpore's Model ---


def test_all_of_them_in_a_training(net, tmp_path, capsys):
    inputs = np.array([[1, 3]] * 6, np.float32)
    step = nn.TrainOneStepCell(net, nn.SGD(net.trainable_params(), 0.5))
    seen = []

    def evaluation():
        seen.append(net.weight.asnumpy().copy())
        return None, {"AP": len(seen) / 10, "AP50": 0.5}, "table"

    log = TrainLog(np.full(6, 0.5, np.float32), 2, images_per_step=2, interval=2)
    others = [CheckpointSaver(tmp_path, keep=1), EvalWhileTrain(evaluation, net, tmp_path, 1, 1, 2)]
    data = ds.NumpySlicesDataset(inputs, shuffle=False).batch(2)
    Model(step).train(2, data, callbacks=[log, *others], dataset_sink_mode=False)

    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 6
    for line, epoch, step in zip(lines[:2] + lines[3:5], (1, 1, 2, 2), (2, 3, 2, 3)):
        figures = r"loss -?\d+\.\d{4} lr 0\.500000 \d+\.\d images/s"
        assert re.fullmatch(f"epoch {epoch}/2 step {step}/3 {figures}", line)
    assert lines[2].startswith("epoch 1/2 mAP 0.1000") and lines[5].startswith("epoch 2/2 mAP 0.2000")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best.ckpt", "ssd-2.ckpt"]
    assert len(seen) == 2 and (seen[1] < seen[0]).all()
    for name in ("best.ckpt", "ssd-2.ckpt"):
        np.testing.assert_array_equal(read_checkpoint(tmp_path / name)["weight"].asnumpy(), seen[1])

"""Training with data sinking in MindSpore's own loop, on a CPU: logs, checkpoints, signals and resuming.

All trainings have 3 epochs of 4 steps, with groups of 2 steps at most. Trainings of equal graphs share their networks,
because compiling takes most of the time.
"""

import csv
import json
import os
import re
import signal
from pathlib import Path

import mindspore as ms
import pytest
from mindspore import ops
from mindspore.train import Model

from fakes import evaluation_result
from ssd.checkpoints.records import STATE_KEY
from ssd.config.loading import load_config
from ssd.config.schema import graph_settings
from ssd.errors import UserError
from ssd.evaluation import evaluator
from ssd.training import trainer
from sunk_model import SunkModel

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]


def signalled(model, group):
    """Return a class like `model` whose process gets SIGTERM during the given group of steps, counted from 1."""

    class SignalledModel(model):
        groups = 0

        def _check_network_mode(self, *args):  # called before each group
            self.groups += 1
            if self.groups == group:
                os.kill(os.getpid(), signal.SIGTERM)
            return super()._check_network_mode(*args)

    return SignalledModel


class SharedNetworks:
    """Creates the networks of equal recipes once. A new training gets them with the values they had at first."""

    def __init__(self):
        self.made = {}
        self.initial_values = {}

    def make(self, key, create, *args, **kwargs):
        if key not in self.made:
            self.made[key] = create(*args, **kwargs)
        return self.made[key]

    def detector(self, create):
        """Replace trainer.create_initialized_detector, which is `create`."""

        def find(cfg, **kwargs):
            settings = {**graph_settings(cfg), "eval_while_train": None}  # changes only the number of graphs
            return self.make(json.dumps(settings), create, cfg, **kwargs)

        return find

    def train_step(self, create):
        """Replace trainer.create_train_step, which is `create`."""

        def find(cfg, detector, schedule, **kwargs):
            key = (id(detector), schedule.tobytes())
            is_new = key not in self.made
            step = self.make(key, create, cfg, detector, schedule, **kwargs)
            if is_new:
                self.initial_values[key] = [value.asnumpy().copy() for value in step.get_parameters()]
            for parameter, value in zip(step.get_parameters(), self.initial_values[key]):
                ops.assign(parameter, ms.Tensor(value))  # compiled graphs do not see set_data
            return step

        return find

    def resume_training(self, resume):
        """Replace trainer.resume_training, which is `resume` and sets parameters before the first compilation."""

        def assign(*args, **kwargs):
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(ms.Parameter, "set_data", lambda parameter, value: ops.assign(parameter, value))
                return resume(*args, **kwargs)

        return assign

    def inference_net(self, create):
        """Replace evaluator.create_inference_net, which is `create`."""
        return lambda cfg, detector: self.make(id(detector), create, cfg, detector)


@pytest.fixture(scope="module", autouse=True)
def shared_networks():
    networks = SharedNetworks()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainer, "create_initialized_detector", networks.detector(trainer.create_initialized_detector))
        patch.setattr(trainer, "create_train_step", networks.train_step(trainer.create_train_step))
        patch.setattr(trainer, "resume_training", networks.resume_training(trainer.resume_training))
        patch.setattr(evaluator, "create_inference_net", networks.inference_net(evaluator.create_inference_net))
        yield


def run(folder, records, *, model=SunkModel, resume=None, **keys):
    """Train with a class that runs the loop of steps, with data sinking if it is a SunkModel."""
    keys = {"epoch_size": 3, "steps_per_epoch": 4, "warmup_epochs": 0, "log_interval": 1, "sink_size": 3, **keys}
    keys = {
        "batch_size": 2,
        "keep_checkpoint_max": 9,
        "eval_while_train": True,
        "ema_decay": 0.9,
        "display_score": 1,
        **keys,
    }
    keys = {"device_target": "CPU", "data_dir": str(records), "ckpt_save_dir": str(folder), **keys}
    cfg = load_config(ROOT / "tests" / "tiny.yaml", keys)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainer, "Model", model)
        trainer.train(cfg.model_copy(update={"dataset_sink_mode": issubclass(model, SunkModel)}), resume)


@pytest.fixture(scope="module")
def plain(shapes_records, tmp_path_factory):
    """The folder of a training without data sinking."""
    folder = tmp_path_factory.mktemp("plain")
    run(folder, shapes_records, model=Model)
    return folder


def content(path):
    """Return the content of a checkpoint as bytes."""
    values = ms.load_checkpoint(str(path))
    return {name: value if isinstance(value, str) else value.asnumpy().tobytes() for name, value in values.items()}


def logged(folder, name):
    """Return {step: value} of the rows of metrics.csv that have a value."""
    with open(folder / "metrics.csv", newline="") as file:
        return {int(row["step"]): row[name] for row in csv.DictReader(file) if row[name]}


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def expect_equal(folder, plain, steps):
    """Compare a run with the one without data sinking: all checkpoints, and the steps that metrics.csv has."""
    assert names(folder) == names(plain) and "ssd-3.ckpt" in names(folder)
    for path in plain.glob("*.ckpt"):
        assert content(path) == content(folder / path.name), path.name
    for name in ("loss", "learning_rate", "skipped_steps", "mAP", "mAP_raw", "AR100"):
        expected, found = logged(plain, name), logged(folder, name)
        assert sorted(found) == (steps if name in ("loss", "learning_rate", "skipped_steps") else [4, 8, 12])
        assert found == {step: expected[step] for step in found}
    assert not logged(folder, "data_wait")


def test_data_sinking_changes_no_result(plain, shapes_records, tmp_path):
    run(tmp_path, shapes_records)
    expect_equal(tmp_path, plain, steps=[2, 4, 6, 8, 10, 12])


@pytest.mark.parametrize("group, saved", [(4, 8), (6, 12)])
def test_a_signal_saves_after_the_group_and_the_run_is_resumed(group, saved, plain, shapes_records, tmp_path, capfd):
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, shapes_records, model=signalled(SunkModel, group))
    expected = [f"ssd-{epoch}.ckpt" for epoch in (1, 2, 3) if 4 * epoch <= saved]
    assert [name for name in names(tmp_path) if name.startswith("ssd-")] == expected
    assert max(logged(tmp_path, "loss")) == saved and max(logged(tmp_path, "mAP")) == (saved - 1) // 4 * 4
    capfd.readouterr()
    run(tmp_path, shapes_records, resume="")
    assert f"last.ckpt after step {saved}\n" in capfd.readouterr().out
    expect_equal(tmp_path, plain, steps=[2, 4, 6, 8, 10, 12])
    with pytest.raises(UserError, match="3 of 3"):
        run(tmp_path, shapes_records, resume="")


def test_a_signal_during_an_evaluation_ends_it(plain, shapes_records, tmp_path, monkeypatch):
    """In the evaluation of the averaged weights of epoch 2, after the first of 4 images."""
    detect, images = evaluator.detect_dataset, []

    def signal_in_the_fourth_evaluation(*args, **kwargs):
        for image in detect(*args, **kwargs):
            images.append(image)
            if len(images) == 13:
                os.kill(os.getpid(), signal.SIGTERM)
            yield image

    with monkeypatch.context() as patch:
        patch.setattr(evaluator, "detect_dataset", signal_in_the_fourth_evaluation)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path, shapes_records)
    assert len(images) == 13 and (tmp_path / "ssd-2.ckpt").is_file() and sorted(logged(tmp_path, "mAP")) == [4]
    run(tmp_path, shapes_records, resume="")
    expect_equal(tmp_path, plain, steps=[2, 4, 6, 8, 10, 12])


def test_a_checkpoint_from_without_data_sinking_is_resumed_with_smaller_groups(plain, shapes_records, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, shapes_records, model=signalled(Model, 5), log_interval=5)
    run(tmp_path, shapes_records, resume="")
    assert sorted(logged(tmp_path, "data_wait")) == [4]
    assert sorted(logged(tmp_path, "loss")) == [4, *range(6, 13)]
    for path in plain.glob("*.ckpt"):
        assert content(path) == content(tmp_path / path.name), path.name


def test_checkpoints_within_epochs(shapes_records, tmp_path):
    """A kill during the sixth group of 2 steps, with a save after the first group that passes a multiple of 5."""

    class KilledModel(signalled(SunkModel, 0)):
        def _check_network_mode(self, *args):
            if self.groups == 5:
                raise KeyError("killed")
            return super()._check_network_mode(*args)

    with pytest.raises(KeyError):
        run(tmp_path, shapes_records, model=KilledModel, checkpoint_every_steps=5, eval_while_train=False)
    assert json.loads(ms.load_checkpoint(str(tmp_path / "last.ckpt"))[STATE_KEY])["step"] == 10
    assert names(tmp_path) == ["last.ckpt", "metrics.csv", "ssd-1.ckpt", "ssd-2.ckpt", "tensorboard"]


def test_a_training_that_was_killed_before_it_stopped_early_trains_no_further(
    shapes_records, tmp_path, monkeypatch, capfd
):
    """Early stopping after epoch 2. The run is killed during that evaluation, which --resume repeats.

    Each epoch evaluates the averaged and the raw weights.
    """
    fails = []

    class FakeEvaluator:
        def require_objects(self):
            """The images have boxes."""

        def __call__(self, stop):
            if fails and fails.pop():
                raise KeyError("killed")
            return evaluation_result(0.5)

    monkeypatch.setattr(trainer, "create_evaluator", lambda *args: FakeEvaluator())
    monkeypatch.setattr(trainer, "ValidationImages", lambda *args, **kwargs: lambda result: {})
    keys = {"early_stop_patience": 1}
    fails += [True, False, False]  # in reverse order
    with pytest.raises(KeyError):
        run(tmp_path, shapes_records, **keys)
    run(tmp_path, shapes_records, resume="", **keys)
    assert sorted(logged(tmp_path, "mAP")) == [4, 8] and max(logged(tmp_path, "loss")) == 8
    assert "early_stop_patience" in capfd.readouterr().out


NON_FINITE = {"lr": 1e37, "steps_per_epoch": 5, "log_interval": 50, "eval_while_train": False}


def test_a_non_finite_loss_stops_the_training(shapes_records, tmp_path, capfd, without_progress):
    with pytest.raises(UserError) as error:
        run(tmp_path, shapes_records, model=Model, **NON_FINITE)
    found = re.search(r"epoch 1, step ([2-5]) of 5, on rank 0, \D*(\d+), (\d+)", str(error.value))
    assert found and all(1 <= int(number) <= 10 for number in found.groups()[1:])
    assert "\n" not in str(error.value) and without_progress(capfd.readouterr().err) == ""
    assert not list(tmp_path.glob("*.ckpt"))


def test_a_signal_saves_nothing_after_a_non_finite_loss(shapes_records, tmp_path):
    with pytest.raises(UserError, match="epoch 1, step [2-4] of 5"):
        run(tmp_path, shapes_records, model=signalled(Model, 4), **NON_FINITE)
    assert not list(tmp_path.glob("*.ckpt"))

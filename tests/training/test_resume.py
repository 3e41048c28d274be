"""Restore a training step from checkpoints of older versions and of other devices."""

import dataclasses
import re

import numpy as np
import pytest
from mindspore import Tensor, nn

from fakes import WeightedSum
from ssd.checkpoints.records import STATE_KEY
from ssd.checkpoints.saving import save_checkpoint
from ssd.errors import UserError
from ssd.runtime.device import Runtime
from ssd.training import resume as resume_module
from ssd.training import trainer
from ssd.training.resume import TrainingState, resume_training, warn_of_changed_max_gt
from ssd.training.train_step import SaturatingTrainStep, TrainStep

START = TrainingState(step=0, steps_per_epoch=10, images_per_step=4, seed=0)


def create_step(step_class, accumulate=2, optimizer=nn.Momentum):
    net = WeightedSum()
    settings = {"momentum": 0.9} if optimizer is nn.Momentum else {}
    optimizer = optimizer(net.trainable_params(), learning_rate=0.5, **settings)
    return step_class(net, optimizer, nn.FixedLossScaleUpdateCell(1.0), accumulate=accumulate)


def save(step, path):
    state = dataclasses.asdict(dataclasses.replace(START, step=7))
    save_checkpoint(step, path, {STATE_KEY: state})
    return path


def resume(step, path):
    return resume_training(step, path, initial_state=START, metadata={})


def test_a_device_with_a_status_register_resumes_from_a_device_without_one(tmp_path):
    saved, restored = create_step(TrainStep), create_step(SaturatingTrainStep)
    saved.network.weight.set_data(Tensor(np.array([3, 4], np.float32)))
    assert resume(restored, save(saved, tmp_path / "last.ckpt")).step == 7
    assert restored.network.weight.asnumpy().tolist() == [3, 4] and restored.overflowed.asnumpy() == 0


def test_an_overflow_before_the_update_is_restored(tmp_path):
    saved, restored = create_step(SaturatingTrainStep), create_step(SaturatingTrainStep)
    saved.overflowed.set_data(Tensor(1, dtype=saved.overflowed.dtype))
    resume(restored, save(saved, tmp_path / "last.ckpt"))
    assert restored.overflowed.asnumpy() == 1


def test_other_missing_parameters_are_refused(tmp_path):
    path = save(create_step(TrainStep, accumulate=1), tmp_path / "last.ckpt")
    with pytest.raises(UserError, match="last.ckpt: accumulate_steps: "):
        resume(create_step(TrainStep), path)


@pytest.mark.parametrize("previous, present", [(nn.Momentum, nn.Adam), (nn.Adam, nn.Momentum)])
def test_another_optimizer_is_refused(previous, present, tmp_path):
    path = save(create_step(TrainStep, optimizer=previous), tmp_path / "last.ckpt")
    with pytest.raises(UserError, match="last.ckpt: optimizer: "):
        resume(create_step(TrainStep, optimizer=present), path)


def test_adam_resumes_with_its_moments(tmp_path):
    saved, restored = (create_step(TrainStep, optimizer=nn.Adam) for _ in range(2))
    for number, name in enumerate(["moment1.weight", "moment2.weight", "beta1_power", "beta2_power"], start=1):
        parameter = saved.parameters_dict()[name]
        parameter.set_data(Tensor(np.full(parameter.shape, number / 10, np.float32)))
    resume(restored, save(saved, tmp_path / "last.ckpt"))
    for name, value in saved.parameters_dict().items():
        assert np.array_equal(restored.parameters_dict()[name].asnumpy(), value.asnumpy()), name


def test_state_of_an_older_version_keeps_all_boxes(tmp_path):
    step = create_step(TrainStep)
    old = {"step": 7, "steps_per_epoch": 10, "images_per_step": 4, "seed": 0}
    save_checkpoint(step, tmp_path / "last.ckpt", {STATE_KEY: old})
    assert resume(step, tmp_path / "last.ckpt").max_gt is None


@pytest.mark.parametrize("change", [{"step": "7"}, {"steps_per_epoch": 0}, {"newer": 1}])
def test_a_state_of_another_form_is_refused(change, tmp_path):
    step = create_step(TrainStep)
    state = {"step": 7, "steps_per_epoch": 10, "images_per_step": 4, "seed": 0, **change}
    save_checkpoint(step, tmp_path / "last.ckpt", {STATE_KEY: state})
    with pytest.raises(UserError, match="last.ckpt: training_state: "):
        resume(step, tmp_path / "last.ckpt")


@pytest.mark.parametrize(
    "previous, present, numbers", [(300, 200, ["200", "300", "300"]), (None, 200, ["200"]), (300, None, ["300", "300"])]
)
def test_another_max_gt_than_before_is_reported(previous, present, numbers, monkeypatch):
    warnings = []
    monkeypatch.setattr(resume_module.log, "warning", warnings.append)
    warn_of_changed_max_gt(present, present)
    warn_of_changed_max_gt(previous, present)
    (warning,) = warnings
    assert warning.startswith("max_gt: ") and re.findall(r"\d+", warning) == numbers


@pytest.mark.parametrize("given", ["", "typo.ckpt"])
def test_a_missing_checkpoint_is_reported_before_the_network_is_created(given, tiny_recipe, tmp_path, monkeypatch):
    monkeypatch.setattr(trainer, "create_runtime", lambda cfg: Runtime())
    monkeypatch.setattr(trainer, "create_initialized_detector", lambda *args, **kwargs: pytest.fail("too late"))
    with pytest.raises(UserError, match=f"^--resume: {given}"):
        trainer.train(tiny_recipe(ckpt_save_dir=str(tmp_path / "ckpt")), given)
    assert not (tmp_path / "ckpt").exists()

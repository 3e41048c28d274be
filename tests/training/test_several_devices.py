"""One update of two devices under msrun against one device with the whole batch."""

import re
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from msrun_job import ROOT, Job
from ssd.runtime.device import Runtime
from ssd.training import trainer

ONE_STEP = ROOT / "tests" / "jobs" / "one_step.py"


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """Weights after one update on one device with the whole batch, and its loss and gradient norm."""
    path = tmp_path_factory.mktemp("alone") / "weights.npz"
    result = subprocess.run([sys.executable, ONE_STEP, path], capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr
    return dict(np.load(path))


@pytest.fixture
def on_two_devices(tmp_path):
    """on_two_devices(*options) returns the weights after one update on two devices, and the loss of each device."""

    def train(*options):
        path = tmp_path / "weights.npz"
        job = Job(tmp_path / "logs", [ONE_STEP, path, *options])
        try:
            job.wait(200)
            assert path.is_file(), job.all_output()
            losses = [float(re.search(r"^loss (\S+)$", job.log(f"worker_{rank}"), re.MULTILINE)[1]) for rank in (0, 1)]
            return dict(np.load(path)), losses
        finally:
            job.kill()

    return train


def largest_difference(first, second):
    """Return the largest difference of two sets of weights, relative to the largest weight of each parameter."""
    assert first.keys() == second.keys()
    names = set(first) - {"loss", "grad_norm"}
    return max(np.abs(first[name] - second[name]).max() / max(np.abs(first[name]).max(), 1e-9) for name in names)


@pytest.mark.slow
def test_with_positives_of_all_devices_two_devices_learn_like_one(alone, on_two_devices):
    """Gradients in groups (comm_fusion_mb) change nothing."""
    found, losses = on_two_devices("--sync_num_positives", "true", "--comm_fusion_mb", "1")
    assert largest_difference(alone, found) < 1e-6
    assert found["grad_norm"] == pytest.approx(alone["grad_norm"], rel=1e-5)
    assert np.mean(losses) == pytest.approx(float(alone["loss"]), rel=1e-6)


def test_training_passes_on_the_number_of_devices_and_the_cores_of_its_rank(tiny_recipe, monkeypatch):
    given = {}

    def create_dataset(cfg, split, **values):
        given[split] = values
        return SimpleNamespace(get_dataset_size=lambda: 5)

    def create_train_step(cfg, detector, schedule, **values):
        given["step"] = values
        raise KeyboardInterrupt

    for name, function in (("create_dataset", create_dataset), ("create_train_step", create_train_step)):
        monkeypatch.setattr(trainer, name, function)
    monkeypatch.setattr(trainer, "fit_to_memory", lambda cfg, detector, runtime: cfg)
    monkeypatch.setattr(trainer, "create_runtime", lambda cfg: Runtime(1, world_size=2, num_cores=3.5))
    with pytest.raises(KeyboardInterrupt):
        trainer.train(tiny_recipe(backbone_ckpt_path=""))
    assert given == {"train": {"rank": 1, "world_size": 2, "num_cores": 3.5}, "step": {"world_size": 2}}

"""The doctor's checks of a recipe: data, network, weights, and disk space for checkpoints."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from doctor_checks import recipe
from doctor_checks.finding import FAULT, OK, WARNING

TOOL = Path(__file__).resolve().parents[2] / "tools" / "doctor.py"
TINY_RECIPE = str(Path(__file__).resolve().parents[1] / "tiny.yaml")


def test_recipe_with_overrides():
    cfg, finding = recipe.load_recipe(TINY_RECIPE, ["--batch_size", "3"], device="CPU")
    assert finding.status == OK and cfg.batch_size == 3 and cfg.device_target == "CPU"
    assert recipe.load_recipe(TINY_RECIPE, [], device="Ascend")[0].device_target == "Ascend"
    cfg, finding = recipe.load_recipe(TINY_RECIPE, ["--bacth_size", "3"], device=None)
    assert cfg is None and finding.status == FAULT and "bacth_size" in finding.found
    assert recipe.load_recipe("absent.yaml", [], device=None)[1].status == FAULT


def test_packages_that_the_reader_of_recipes_needs(monkeypatch):
    monkeypatch.setitem(sys.modules, "ssd.config.loading", None)
    cfg, finding = recipe.load_recipe(TINY_RECIPE, [], device=None)
    assert cfg is None and finding.status == FAULT and "ssd.config.loading" in finding.advice


def test_data(tiny_recipe, shapes_records, tmp_path):
    finding = recipe.check_data(tiny_recipe(data_dir=str(shapes_records), num_classes=None, batch_size=10))
    assert finding.status == OK and "10 training images" in finding.found and "4 validation images" in finding.found
    finding = recipe.check_data(tiny_recipe(data_dir=str(shapes_records), num_classes=None, batch_size=11))
    assert finding.status == FAULT and "11" in finding.expected and "--batch_size" in finding.advice
    copy = shutil.copytree(shapes_records, tmp_path / "records")
    (copy / "train" / "coco3").write_bytes(b"")
    finding = recipe.check_data(tiny_recipe(data_dir=str(copy), num_classes=None, batch_size=2))
    assert finding.status == FAULT and "coco3" in finding.found
    (copy / "dataset.json").unlink()  # the shards of MindCV's example have no such file
    assert recipe.check_data(tiny_recipe(data_dir=str(copy))).status == WARNING
    finding = recipe.check_data(tiny_recipe(data_dir=str(tmp_path / "absent")))
    assert finding.status == FAULT and "create_data.py" in finding.advice


def test_weights_and_checkpoints(tiny_recipe, tmp_path, save_random_detector):
    def check(**overrides):
        cfg = tiny_recipe(ckpt_save_dir=str(tmp_path / "ckpt"), **overrides)
        return {finding.what: finding for finding in recipe.check_recipe(cfg, has_mindspore=True)}

    found = check(backbone_ckpt_path="absent.ckpt")
    assert found["initial weights"].status == FAULT and "absent.ckpt" in found["initial weights"].found
    assert found["network"].status == OK and found["disk"].status == OK and "checkpoint" not in found
    (tmp_path / "ckpt").mkdir()
    last = save_random_detector(tiny_recipe(), tmp_path / "ckpt" / "last.ckpt")
    found = check(backbone_ckpt_path="")
    assert found["initial weights"].status == OK and found["checkpoint"].status == OK
    assert check(backbone_ckpt_path="", num_classes=9)["checkpoint"].status == WARNING
    assert check(backbone_ckpt_path="", num_classes=9, ckpt_path=str(last))["checkpoint"].status == FAULT
    assert check(pretrained_detector=str(last))["initial weights"].status == OK
    last.write_bytes(last.read_bytes()[:100])
    assert check(pretrained_detector=str(last))["initial weights"].status == FAULT


def test_network_that_cannot_be_created_and_mindspore_that_does_not_work(tiny_recipe):
    findings = recipe.check_recipe(tiny_recipe(steps=[4, 16, 32]), has_mindspore=True)
    assert [(finding.what, finding.status) for finding in findings] == [("data", FAULT), ("network", FAULT)]
    assert "steps" in findings[1].found
    findings = recipe.check_recipe(tiny_recipe(), has_mindspore=False)
    assert [(finding.what, finding.status) for finding in findings] == [("data", FAULT), ("network", WARNING)]


@pytest.mark.parametrize("overrides", [{}, {"ema_decay": 0.9}, {"accumulate_steps": 2}, {"freeze": "backbone"}])
def test_checkpoint_size_is_that_of_a_saved_training_step(tiny_recipe, tmp_path, overrides):
    from ssd.checkpoints.saving import save_checkpoint
    from ssd.models.detector import create_detector
    from ssd.training.train_step import create_train_step

    cfg = tiny_recipe(**overrides)
    detector = create_detector(cfg)
    size = recipe.checkpoint_size(cfg, detector)
    save_checkpoint(create_train_step(cfg, detector, [0.1]), tmp_path / "a.ckpt")
    assert size <= (tmp_path / "a.ckpt").stat().st_size < 1.1 * size


def test_memory_of_a_training_step(tiny_recipe, shapes_records):
    from ssd.models.detector import create_detector

    cfg = tiny_recipe(batch_size=8).model_copy(update={"data_dir": str(shapes_records)})
    finding = recipe.check_memory(cfg, create_detector(cfg), memory=10**12)
    assert finding.status == OK and "1000.0 GB" in finding.found
    finding = recipe.check_memory(cfg, create_detector(cfg), memory=10**6)
    assert finding.status == FAULT and finding.found.startswith("memory: ")  # not even the compiler fits
    assert recipe.check_memory(cfg, create_detector(cfg)).status == OK  # of this machine
    npu = cfg.model_copy(update={"device_target": "Ascend"})
    assert "npu-smi" in recipe.check_memory(npu, create_detector(npu)).found


def test_images_with_many_boxes_are_no_fault_if_training_keeps_the_largest(tiny_recipe, shapes_records, monkeypatch):
    """A box of an image takes 40 kB: 4 bytes for each of 336 anchors and 30 tensors. So 1,000,000 boxes take 40 GB."""
    from ssd.models.detector import create_detector

    monkeypatch.setattr("ssd.data.dataset.max_boxes_per_image", lambda folder: 10**6)
    cfg = tiny_recipe(batch_size=1).model_copy(update={"data_dir": str(shapes_records)})
    finding = recipe.check_memory(cfg, create_detector(cfg), memory=2 * 10**9)
    assert finding.status == WARNING and "1,000,000" in finding.advice
    chosen = cfg.model_copy(update={"max_gt": 10**6})
    assert recipe.check_memory(chosen, create_detector(chosen), memory=2 * 10**9).status == FAULT


def test_damaged_shards_are_reported_and_end_no_report(tiny_recipe, tmp_path):
    from ssd.models.detector import create_detector

    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "coco").write_bytes(b"damaged")
    cfg = tiny_recipe(batch_size=1).model_copy(update={"data_dir": str(tmp_path)})
    finding = recipe.check_memory(cfg, create_detector(cfg))
    assert finding.status == FAULT and "coco" in finding.found


def test_disk_for_checkpoints(tiny_recipe, tmp_path):
    def check(free, **overrides):
        cfg = tiny_recipe(ckpt_save_dir=str(tmp_path), epoch_size=4, **overrides)
        return recipe.check_checkpoint_disk(cfg, checkpoint_bytes=10, free=free)

    assert check(70).status == OK  # 4 epochs, and 3 more files
    assert check(69).status == FAULT and "--keep_checkpoint_max" in check(69).advice
    assert check(69, keep_checkpoint_max=3).status == OK
    (tmp_path / "ssd-1.ckpt").write_bytes(b"1")
    assert check(69).status == WARNING  # enough for a resumed run


@pytest.mark.slow
def test_command_with_a_recipe(shapes_records, tmp_path, without_progress):
    def run(*arguments):
        command = [sys.executable, TOOL, "--config", TINY_RECIPE, "--ckpt_save_dir", tmp_path, *arguments]
        result = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=300)
        result.stderr = without_progress(result.stderr)
        return result

    result = run("--device", "CPU", "--data_dir", shapes_records, "--backbone_ckpt_path", "", "--batch_size", 2)
    assert result.returncode == 0 and result.stderr == "", result.stdout + result.stderr
    assert "10 training images" in result.stdout and "million parameters" in result.stdout
    result = run("--device", "CPU", "--data_dir", tmp_path / "absent", "--backbone_ckpt_path", "")
    assert result.returncode == 1 and "1 fault" in result.stdout.splitlines()[-1] and result.stderr == ""

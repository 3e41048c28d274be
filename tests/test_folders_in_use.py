"""Commands refuse a folder that another run writes to, and leave its files as they are."""

import re
import sys
from pathlib import Path

import pytest

import predict
from make_shapes import make_shapes
from ssd.data import mindrecord
from ssd.data.readers.splits import open_dataset_folder, read_splits
from ssd.errors import UserError
from ssd.evaluation import results
from ssd.runtime.device import Runtime
from ssd.runtime.folder_lock import lock_folder
from ssd.training import trainer

TINY = Path(__file__).parent / "tiny.yaml"


@pytest.fixture
def expect_refused(tmp_path):
    """expect_refused(function, key) calls a function while another run holds the lock of `folder` in tmp_path."""
    folder = tmp_path / "folder"

    def call(function, key):
        (folder / "file").parent.mkdir()
        (folder / "file").touch()
        with lock_folder(folder, key):
            with pytest.raises(UserError, match=f"^{key}: {re.escape(str(folder))} "):
                function(folder)
        assert [path.name for path in folder.iterdir()] == ["file"]

    return call


@pytest.mark.parametrize("resume", [None, ""])
def test_a_training_and_a_resume(resume, expect_refused, tiny_recipe, shapes_records, monkeypatch):
    def train(folder):
        cfg = tiny_recipe(data_dir=str(shapes_records), num_classes=None, ckpt_save_dir=str(folder))
        trainer.train(cfg, resume)

    monkeypatch.setattr(trainer, "create_runtime", lambda cfg: Runtime())
    expect_refused(train, "ckpt_save_dir")


def test_only_the_main_device_locks(tiny_recipe, tmp_path, monkeypatch):
    entered = []
    cfg = tiny_recipe(ckpt_save_dir=str(tmp_path))
    monkeypatch.setattr(trainer, "create_runtime", lambda cfg: Runtime(1, world_size=2))
    monkeypatch.setattr(trainer, "_train", lambda *args: entered.append(args))
    with lock_folder(tmp_path, "ckpt_save_dir"):
        trainer.train(cfg)
    assert len(entered) == 1


def test_a_conversion(expect_refused, shapes_coco):
    train, val = read_splits(open_dataset_folder("coco", shapes_coco))
    expect_refused(lambda folder: mindrecord.convert(train, val, folder, overwrite=True, num_workers=1), "--out_path")


def test_drawn_shapes(tmp_path):
    with lock_folder(tmp_path / "coco", "OUT", lock_file=tmp_path / ".coco.lock"):
        with pytest.raises(UserError, match="^OUT: .*coco"):
            make_shapes(tmp_path / "coco", train=1, val=1, size=64)
        assert not (tmp_path / "coco").exists()


def test_an_evaluation_waits_for_another_one_that_writes(expect_refused, tiny_recipe, tmp_path, monkeypatch):
    cfg = tiny_recipe(output_dir=str(tmp_path / "folder"))
    monkeypatch.setattr(results, "WRITE_WAIT_S", 0.1)
    expect_refused(lambda folder: results.write_results(cfg, None, checkpoint=Path("last.ckpt")), "output_dir")


def test_a_prediction(expect_refused, shapes_coco, monkeypatch, capsys):
    def run(folder):
        arguments = ["--config", str(TINY), "--input", str(shapes_coco / "val2017"), "--output", str(folder)]
        monkeypatch.setattr(sys, "argv", ["predict.py", *arguments])
        with pytest.raises(SystemExit):
            predict.main()
        raise UserError(capsys.readouterr().err.removeprefix("error: "))

    expect_refused(run, "--output")

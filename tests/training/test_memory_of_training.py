"""train.py with an image of 1,000 objects, and with a batch that no machine can hold."""

import json
import re
import shutil

import pytest

from ssd.checkpoints.reading import read_checkpoint
from ssd.checkpoints.records import STATE_KEY
from ssd.data.dataset import max_boxes_per_image
from ssd.data.mindrecord import convert
from ssd.data.readers.coco import read_coco

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def crowded_records(shapes_coco, tmp_path_factory):
    """Shards of `shapes_coco`, with 1,000 more boxes of 2x2 to 11x11 pixels in the first training image."""
    folder = tmp_path_factory.mktemp("crowded") / "coco"
    shutil.copytree(shapes_coco, folder)
    path = folder / "annotations" / "instances_train2017.json"
    content = json.loads(path.read_text())
    first, last_id = content["annotations"][0], max(annotation["id"] for annotation in content["annotations"])
    for index in range(1000):
        side = 2 + index % 10
        box = {"bbox": [index % 80, index // 12, side, side], "area": side**2}
        content["annotations"].append({**first, "id": last_id + 1 + index, **box})
    path.write_text(json.dumps(content))
    splits = [
        read_coco(folder / "annotations" / f"instances_{name}.json", folder / name) for name in ("train2017", "val2017")
    ]
    convert(*splits, folder.parent / "records", overwrite=False, num_workers=2)
    return folder.parent / "records"


def arguments(records, folder):
    shared = "--config tests/tiny.yaml --warmup_epochs 0 --epoch_size 1 --log_interval 1".split()
    return [*shared, "--data_dir", records, "--ckpt_save_dir", folder]


def test_training_with_an_image_of_1000_objects(run_script, crowded_records, tmp_path):
    most = max_boxes_per_image(crowded_records)
    assert most > 1000
    options = "--batch_size 5 --max_gt 50".split()
    result = run_script("train.py", *arguments(crowded_records, tmp_path / "ckpt"), *options)
    assert result.returncode == 0, result.stderr
    assert result.stderr.startswith("max_gt: found 1 ") and result.stderr.count("\n") == 1, result.stderr
    assert re.findall(r"[\d,]+\d", result.stderr) == ["50", f"{most:,}", "50", str(most - 50)]
    assert result.stdout.startswith("memory: about ") and "for a batch of 5 (" in result.stdout
    assert "epoch 1/1 step 2/2" in result.stdout
    assert json.loads(read_checkpoint(tmp_path / "ckpt" / "last.ckpt")[STATE_KEY])["max_gt"] == 50


def test_impossible_batch_is_refused_before_files_are_moved(run_script, shapes_records, tmp_path):
    folder = tmp_path / "ckpt"
    folder.mkdir()
    (folder / "last.ckpt").write_bytes(b"of the previous run")
    result = run_script("train.py", *arguments(shapes_records, folder), "--batch_size", 10**9)
    assert result.returncode == 2 and result.stderr.count("\n") == 1, result.stderr
    assert result.stderr.startswith("error: batch_size: ") and "accumulate_steps" in result.stderr
    assert [path.name for path in folder.iterdir()] == ["last.ckpt"]

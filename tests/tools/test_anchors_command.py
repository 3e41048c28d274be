"""tools/anchors.py: what it reads, says and draws, and how mistakes end."""

import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml

import anchors as tool
from anchor_fit import Objects
from anchor_fit.reading import hold_back, read_objects, read_parts
from ssd.boxes.anchors import create_anchors
from ssd.boxes.ops import pairwise_iou
from ssd.config.loading import load_config
from ssd.data.readers.coco import read_coco
from ssd.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
RECIPES = ROOT / "examples" / "det" / "ssd"
NOWHERE = {"data_dir": "/nowhere", "device_target": "CPU"}


def equal_objects(height, width):
    """Boxes of so many pixels of a 192x192 input, at places on no grid, each in an image of its own."""
    sides = np.array([[height, width]]) / 192
    corners = np.random.default_rng(1).random((200, 2)) * (1 - sides)
    rows = np.arange(200)
    return Objects(np.concatenate([corners, corners + sides], axis=1), np.ones(200, dtype=int), rows, 200, 200)


def test_objects_are_those_of_the_annotations(shapes_records, shapes_coco):
    parts = read_parts(shapes_records)
    assert list(parts) == ["train", "val"]
    for (name, objects), split in zip(parts.items(), ("train2017", "val2017")):
        images = read_coco(shapes_coco / "annotations" / f"instances_{split}.json", shapes_coco / split).images
        expected = np.concatenate([np.insert(image.objects, 5, image.image_id, axis=1) for image in images])
        found = np.concatenate([objects.boxes_yxyx * 96, objects.labels[:, None], objects.image_ids[:, None]], axis=1)
        np.testing.assert_allclose(found[np.lexsort(found.T)], expected[np.lexsort(expected.T)], atol=1e-3)
        assert objects.num_images == objects.all_images == len(images), name


def test_some_of_many_images(shapes_records, monkeypatch):
    whole = read_objects(shapes_records, "train")
    monkeypatch.setattr("anchor_fit.reading.MAX_IMAGES", 4)
    some = read_objects(shapes_records, "train")
    assert (some.num_images, some.all_images) == (4, 10) and len(np.unique(some.image_ids)) == 4
    np.testing.assert_array_equal(some.boxes_yxyx, whole.boxes_yxyx[np.isin(whole.image_ids, some.image_ids)])


def test_without_validation_a_fifth_is_held_back(shapes_records, tmp_path):
    shutil.copytree(shapes_records / "train", tmp_path / "train")
    whole = read_objects(tmp_path, "train")
    parts = read_parts(tmp_path)
    assert list(parts) == ["train", "held back"]
    train, held = (set(part.image_ids.tolist()) for part in parts.values())
    assert (len(train), len(held), len(train | held)) == (8, 2, 10)
    assert sum(map(len, parts.values())) == len(whole)
    backwards = Objects(whole.boxes_yxyx[::-1], whole.labels[::-1], whole.image_ids[::-1], 10, 10)
    assert set(hold_back(backwards)["held back"].image_ids.tolist()) == held


def test_too_few_images_are_refused(monkeypatch):
    with pytest.raises(UserError, match="got one image with objects"):
        hold_back(Objects(np.zeros((2, 4)), np.ones(2, int), np.zeros(2, int), 1, 1))
    nothing = Objects(np.zeros((0, 4)), np.zeros(0, int), np.zeros(0, int), 3, 3)
    monkeypatch.setattr("anchor_fit.reading.read_objects", lambda folder, split: nothing)
    with pytest.raises(UserError, match="train: got no objects, expected some to fit to"):
        read_parts(Path("folder"))


@pytest.mark.parametrize(
    "recipe, words, message",
    [
        ("ssd_resnet50_fpn", [], "anchors: got grid, whose boxes follow `steps`"),
        ("ssd_shapes", ["--ratios", "1,2"], "--ratios: got '1,2', expected 5 numbers from 0 to 4"),
        ("ssd_shapes", ["--ratios", "1,2,5,1,1"], "--ratios: got '1,2,5,1,1'"),
        ("ssd_shapes", ["--data_dir", "/nowhere"], "/nowhere/train/coco0: got no such file, expected shards"),
        ("ssd_shapes", ["--output", "/dev/null/a"], "/dev/null/a: got not a directory, expected a folder"),
        ("ssd_shapes", ["--ratio", "1"], "did you mean '--ratios'?"),
    ],
)
def test_mistakes_end_in_one_line(shapes_records, tmp_path, monkeypatch, capsys, recipe, words, message):
    known = ["--data_dir", str(shapes_records), "--output", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", ["anchors.py", "--config", str(RECIPES / f"{recipe}.yaml"), *known, *words])
    with pytest.raises(SystemExit) as ended:
        tool.main()
    said = capsys.readouterr()
    assert ended.value.code == 2 and said.out == "" and not list(tmp_path.iterdir())
    assert said.err.startswith("error: ") and message in said.err and said.err.count("\n") == 1


def report(load_recipe, folder, capsys, objects, judged, **more):
    tool.report({"train": objects, "val": judged}, load_recipe("ssd_shapes"), path=folder / "anchors.png", **more)
    assert cv2.imread(str(folder / "anchors.png")).shape == (702, 1430, 3)
    return capsys.readouterr().out


def test_values_that_only_fit_train_are_not_kept(load_recipe, tmp_path, capsys):
    """Tall objects to fit to, wide ones to judge on: a gain there is a loss here."""
    tall, squares = equal_objects(90, 30), equal_objects(40, 39)
    said = report(load_recipe, tmp_path, capsys, tall, squares, ratios=None)
    assert "keep the recipe's" in said and "into the recipe" not in said and "after" not in said
    said = report(load_recipe, tmp_path, capsys, tall, squares, ratios=[1, 1, 1, 1, 1])  # what was asked for is given
    assert "into the recipe" in said and "after" in said


def test_the_command(shapes_records, tmp_path):
    """Its lines, pasted into the recipe, give the recall that it says."""
    output = tmp_path / "new" / "out"
    words = ["--config", RECIPES / "ssd_shapes.yaml", "--data_dir", shapes_records, "--output", output]
    words += ["--image_size", "[96,96]", "--steps", "[8,16,32,48,96]", "--min_scale", "0.02"]
    command = [sys.executable, "tools/anchors.py", *map(str, words)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0 and done.stderr == "", done.stderr
    assert cv2.imread(str(output / "anchors.png")) is not None
    lines = done.stdout.splitlines()
    start = lines.index("into the recipe:") + 1
    keys = yaml.safe_load("\n".join(lines[start : lines.index("", start)]))
    assert set(keys) <= {"min_scale", "max_scale", "box_sizes", "aspect_ratios"}
    overrides = {**NOWHERE, "data_dir": str(shapes_records), "image_size": [96, 96], "steps": [8, 16, 32, 48, 96]}
    told = next(line.split() for line in lines if "match_threshold" in line)
    for place, part in enumerate(read_parts(shapes_records).values()):
        for column, more in enumerate(({"min_scale": 0.02}, keys)):
            anchors = create_anchors(load_config(RECIPES / "ssd_shapes.yaml", {**overrides, **more}))
            recall = (pairwise_iou(part.boxes_yxyx, anchors.boxes_yxyx).max(axis=1) > 0.5).mean()
            assert told[2 * place + column] == f"{recall:.3f}"
    assert float(told[1]) > float(told[0])

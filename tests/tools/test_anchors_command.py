"""Tests of tools/anchors.py: the boxes it reads, its output and figure, and its errors."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml

import anchors as anchors_command
from anchor_fit import GroundTruth
from anchor_fit.reading import hold_out, read_ground_truth, read_train_and_val
from ssd.boxes.anchors import create_anchors
from ssd.boxes.ops import pairwise_iou
from ssd.config.loading import load_config
from ssd.data.readers.coco import read_coco
from ssd.errors import UserError

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
RECIPES = ROOT / "examples" / "det" / "ssd"
NOWHERE = {"data_dir": "/nowhere", "device_target": "CPU"}


def boxes_of_one_size(height, width):
    """Boxes of one size in pixels of a 192x192 input, at random places, each in an image of its own."""
    size_hw = np.array([[height, width]]) / 192
    corners = np.random.default_rng(1).random((200, 2)) * (1 - size_hw)
    return GroundTruth(
        boxes_yxyx=np.concatenate([corners, corners + size_hw], axis=1),
        labels=np.ones(200, dtype=int),
        image_ids=np.arange(200),
        num_images=200,
        split_images=200,
    )


def test_boxes_are_those_of_the_annotations(shapes_records, shapes_coco):
    splits = read_train_and_val(shapes_records)
    assert list(splits) == ["train", "val"]
    for (name, boxes), folder in zip(splits.items(), ("train2017", "val2017")):
        images = read_coco(shapes_coco / "annotations" / f"instances_{folder}.json", shapes_coco / folder).images
        expected = np.concatenate([np.insert(image.ground_truth, 5, image.image_id, axis=1) for image in images])
        found = np.concatenate([boxes.boxes_yxyx * 96, boxes.labels[:, None], boxes.image_ids[:, None]], axis=1)
        np.testing.assert_allclose(found[np.lexsort(found.T)], expected[np.lexsort(expected.T)], atol=1e-3)
        assert boxes.num_images == boxes.split_images == len(images), name


def test_large_splits_are_sampled(shapes_records, monkeypatch):
    everything = read_ground_truth(shapes_records, "train")
    monkeypatch.setattr("anchor_fit.reading.MAX_IMAGES", 4)
    sample = read_ground_truth(shapes_records, "train")
    assert (sample.num_images, sample.split_images) == (4, 10) and len(np.unique(sample.image_ids)) == 4
    is_sampled = np.isin(everything.image_ids, sample.image_ids)
    np.testing.assert_array_equal(sample.boxes_yxyx, everything.boxes_yxyx[is_sampled])


def test_without_a_validation_split_a_fifth_is_held_out(shapes_records, tmp_path):
    shutil.copytree(shapes_records / "train", tmp_path / "train")
    everything = read_ground_truth(tmp_path, "train")
    splits = read_train_and_val(tmp_path)
    assert list(splits) == ["train", "held out"]
    train_ids, held_out_ids = (set(split.image_ids.tolist()) for split in splits.values())
    assert (len(train_ids), len(held_out_ids), len(train_ids | held_out_ids)) == (8, 2, 10)
    assert sum(map(len, splits.values())) == len(everything)
    backwards = GroundTruth(
        boxes_yxyx=everything.boxes_yxyx[::-1],
        labels=everything.labels[::-1],
        image_ids=everything.image_ids[::-1],
        num_images=10,
        split_images=10,
    )
    assert set(hold_out(backwards)["held out"].image_ids.tolist()) == held_out_ids


def test_too_few_images_are_rejected(monkeypatch):
    def ground_truth(num_boxes, num_images):
        return GroundTruth(
            boxes_yxyx=np.zeros((num_boxes, 4)),
            labels=np.ones(num_boxes, int),
            image_ids=np.zeros(num_boxes, int),
            num_images=num_images,
            split_images=num_images,
        )

    with pytest.raises(UserError, match="^data_dir: .*2 training images"):
        hold_out(ground_truth(num_boxes=2, num_images=1))
    no_boxes = ground_truth(num_boxes=0, num_images=3)
    monkeypatch.setattr("anchor_fit.reading.read_ground_truth", lambda folder, split: no_boxes)
    with pytest.raises(UserError, match="^folder/train: .*--data_dir"):
        read_train_and_val(Path("folder"))


@pytest.mark.parametrize(
    "recipe, options, parts",
    [
        ("ssd_resnet50_fpn", [], ["anchors: ", "grid", "`steps`"]),
        ("ssd_shapes", ["--ratios", "1,2"], ["--ratios: ", "'1,2'", " 5 numbers"]),
        ("ssd_shapes", ["--ratios", "1,2,5,1,1"], ["--ratios: ", "'1,2,5,1,1'"]),
        ("ssd_shapes", ["--data_dir", "/nowhere"], ["/nowhere/train/coco0: "]),
        ("ssd_shapes", ["--output", "/dev/null/a"], ["/dev/null/a: ", "not a directory", "--output"]),
        ("ssd_shapes", ["--ratio", "1"], ["'--ratio'", "'--ratios'"]),
    ],
)
def test_user_errors_are_one_line(shapes_records, tmp_path, monkeypatch, capsys, recipe, options, parts):
    defaults = ["--data_dir", str(shapes_records), "--output", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", ["anchors.py", "--config", str(RECIPES / f"{recipe}.yaml"), *defaults, *options])
    with pytest.raises(SystemExit) as exit_info:
        anchors_command.main()
    output = capsys.readouterr()
    assert exit_info.value.code == 2 and output.out == "" and not list(tmp_path.iterdir())
    assert output.err.startswith("error: ") and output.err.count("\n") == 1
    assert all(part in output.err for part in parts)


def fit_and_report(cfg, splits, figure_path, capsys, ratios_per_level=None):
    """Run it and return what it printed."""
    anchors_command.fit_and_report(splits, cfg, ratios_per_level, figure_path=figure_path)
    assert cv2.imread(str(figure_path)).shape == (702, 1430, 3)
    return capsys.readouterr().out


def printed_recipe_keys(output):
    """The recipe keys among the printed lines."""
    lines = re.findall(r"^(?:min_scale|max_scale|box_sizes|aspect_ratios): .*$", output, re.MULTILINE)
    return yaml.safe_load("\n".join(lines)) or {}


def test_values_that_only_fit_train_are_not_kept(load_recipe, tmp_path, capsys):
    """Values fitted to tall boxes are worse for the squares of the validation split."""
    tall, squares = boxes_of_one_size(90, 30), boxes_of_one_size(40, 39)
    splits = {"train": tall, "val": squares}
    output = fit_and_report(load_recipe("ssd_shapes"), splits, tmp_path / "anchors.png", capsys=capsys)
    assert not printed_recipe_keys(output) and "--aspect_ratios" not in output and "after" not in output
    # An explicit --ratios is obeyed all the same.
    output = fit_and_report(
        load_recipe("ssd_shapes"), splits, tmp_path / "anchors.png", capsys=capsys, ratios_per_level=[1, 1, 1, 1, 1]
    )
    assert printed_recipe_keys(output) and "--aspect_ratios" in output and "after" in output


def test_printed_lines_give_the_printed_recall(shapes_records, tmp_path):
    output = tmp_path / "new" / "out"
    arguments = ["--config", RECIPES / "ssd_shapes.yaml", "--data_dir", shapes_records, "--output", output]
    arguments += ["--image_size", "[96,96]", "--steps", "[8,16,32,48,96]", "--min_scale", "0.02"]
    command = [sys.executable, "tools/anchors.py", *map(str, arguments)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0 and result.stderr == "", result.stderr
    assert cv2.imread(str(output / "anchors.png")) is not None
    keys = printed_recipe_keys(result.stdout)
    assert keys
    overrides = {**NOWHERE, "data_dir": str(shapes_records), "image_size": [96, 96], "steps": [8, 16, 32, 48, 96]}
    # before and after for train, then for val
    printed = next(line.split() for line in result.stdout.splitlines() if "match_threshold" in line)
    for row, split in enumerate(read_train_and_val(shapes_records).values()):
        for column, values in enumerate(({"min_scale": 0.02}, keys)):
            anchors = create_anchors(load_config(RECIPES / "ssd_shapes.yaml", {**overrides, **values}))
            recall = (pairwise_iou(split.boxes_yxyx, anchors.boxes_yxyx).max(axis=1) > 0.5).mean()
            assert printed[2 * row + column] == f"{recall:.3f}"
    assert float(printed[1]) > float(printed[0])

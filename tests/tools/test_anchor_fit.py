"""Tests of the fit of default boxes: IoU, the search and its objective, printed keys and the recall table."""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest

from anchor_fit import GroundTruth, search
from anchor_fit.overlap import best_iou
from anchor_fit.search import AnchorSettings, compute_objective, create_anchors_with, fit_default_boxes, is_better
from anchor_fit.text import command_line_options, recall_table, recipe_lines
from ssd.boxes.anchors import DefaultBoxes, create_anchors
from ssd.boxes.ops import pairwise_iou
from ssd.config.command_line import parse_overrides
from ssd.config.loading import load_config

RECIPES = Path(__file__).resolve().parents[2] / "examples" / "det" / "ssd"
NOWHERE = {"data_dir": "/nowhere", "device_target": "CPU"}


def create_ground_truth(boxes_yxyx, labels=None):
    """Boxes, each in an image of its own, of class 1 by default."""
    count = len(boxes_yxyx)
    return GroundTruth(
        boxes_yxyx=np.asarray(boxes_yxyx, dtype=np.float64),
        labels=np.ones(count, dtype=int) if labels is None else np.asarray(labels),
        image_ids=np.arange(count),
        num_images=count,
        split_images=count,
    )


def random_boxes(count, sides=(0.05, 0.5), seed=0):
    """Boxes of random places, sizes and shapes, of two classes, one of which is rare."""
    rng = np.random.default_rng(seed)
    sizes_hw = np.exp(rng.uniform(*np.log(sides), (count, 2)))
    corners = rng.random((count, 2)) * (1 - sizes_hw)
    labels = 1 + (rng.random(count) < 0.1)
    return create_ground_truth(np.concatenate([corners, corners + sizes_hw], axis=1), labels)


def boxes_of_one_size(height, width, image_size, count=200):
    """Boxes of one size in pixels at random places."""
    size_hw = np.array([[height, width]]) / image_size
    corners = np.random.default_rng(1).random((count, 2)) * (1 - size_hw)
    return create_ground_truth(np.concatenate([corners, corners + size_hw], axis=1))


def test_best_iou_by_hand():
    """One location in the middle of 100x100, with squares of 50 and of 70, the geometric mean of 50 and 98."""
    anchors = DefaultBoxes(
        image_size=(100, 100), steps=[100], min_scale=0.2, max_scale=0.9, aspect_ratios=[[]], box_sizes=[50, 98]
    )
    boxes_yxyx = np.array(
        [
            [0.25, 0.25, 0.75, 0.75],  # the square of 50
            [0.25, 0.25, 0.5, 0.75],  # half of it
            [0.75, 0.75, 0.85, 0.85],  # only inside the square of 70, of which it is 0.01 / 0.49
            [0.9, 0.9, 1, 1],  # outside of both
        ]
    )
    assert best_iou(boxes_yxyx, anchors) == pytest.approx([1, 0.5, 0.01 / 0.49, 0], abs=1e-6)


@pytest.mark.parametrize(
    "name, overrides",
    [
        ("ssd_mobilenetv2", {}),
        (
            "ssd_mobilenetv2",
            {"image_size": [200, 333], "steps": [16, 32, 64, 100, 150, 300]},
        ),  # the last row and column lie beyond the image
        ("ssd_resnet50", {}),
        ("ssd_resnet50", {"image_size": [200, 333], "steps": [8, 16, 32, 64, 100, 300]}),  # clipped to the image
        ("ssd_resnet50_fpn", {"image_size": [128, 192]}),
    ],
)
def test_best_iou_is_that_of_all_anchors(load_recipe, name, overrides):
    anchors = create_anchors(load_recipe(name, **overrides))
    boxes_yxyx = random_boxes(200, sides=(0.005, 1)).boxes_yxyx
    expected = pairwise_iou(boxes_yxyx, anchors.boxes_yxyx).max(axis=1)
    assert best_iou(boxes_yxyx, anchors) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("name", ["ssd_shapes", "ssd_resnet50"])
def test_boxes_of_one_size_are_recalled(load_recipe, name):
    """They are three times as tall as wide, and of a size between those of the recipe's boxes."""
    cfg = load_recipe(name)
    boxes = boxes_of_one_size(90, 30, cfg.image_size)
    before = best_iou(boxes.boxes_yxyx, create_anchors(cfg))
    after = best_iou(boxes.boxes_yxyx, create_anchors_with(cfg, fit_default_boxes(boxes, cfg)))
    assert (before > 0.6).mean() < 0.7 and (after > 0.6).mean() > 0.95
    more = {"labels": boxes.labels, "match_threshold": cfg.match_threshold}
    assert is_better(before, after, **more) and not is_better(after, before, **more)


@pytest.mark.parametrize("name", ["ssd_mobilenetv2", "ssd_shapes", "ssd_resnet50"])
@pytest.mark.parametrize("sides", [(0.02, 0.1), (0.1, 0.9)])
def test_the_objective_rises_and_the_number_of_anchors_stays(load_recipe, name, sides):
    cfg, boxes = load_recipe(name), random_boxes(150, sides)
    before, after = create_anchors(cfg), create_anchors_with(cfg, fit_default_boxes(boxes, cfg))
    old, new = (
        compute_objective(best_iou(boxes.boxes_yxyx, anchors), boxes.labels, cfg.match_threshold)
        for anchors in (before, after)
    )
    assert new > old + search.MIN_TOTAL_GAIN  # no shipped recipe was made for these boxes
    assert after.num_per_location == before.num_per_location and len(after) == len(before)


def test_the_order_of_boxes_does_not_matter(load_recipe):
    cfg, boxes = load_recipe("ssd_shapes"), random_boxes(300)
    order = np.random.default_rng(2).permutation(len(boxes))
    shuffled = create_ground_truth(boxes.boxes_yxyx[order], boxes.labels[order])
    assert fit_default_boxes(boxes, cfg) == fit_default_boxes(shuffled, cfg) == fit_default_boxes(boxes, cfg)


def test_optimal_values_stay(load_recipe):
    """The ground-truth boxes equal anchors of the recipe, so that no other values are better."""
    cfg = load_recipe("ssd_resnet50")
    anchors_yxyx = create_anchors(cfg).boxes_yxyx
    boxes = create_ground_truth(anchors_yxyx[((anchors_yxyx >= 0) & (anchors_yxyx <= 1)).all(axis=1)][::7])
    settings = fit_default_boxes(boxes, cfg)
    assert settings.sizes == cfg.box_sizes and settings.aspect_ratios == cfg.aspect_ratios
    ious = best_iou(boxes.boxes_yxyx, create_anchors_with(cfg, settings))
    assert ious.min() > 0.999
    assert not is_better(ious, ious, labels=boxes.labels, match_threshold=cfg.match_threshold)


def test_objective_by_hand():
    """At match_threshold 0.5, an IoU of 0.8 counts 0.6 plus a tenth of 0.2. Classes of 3 and 1 boxes weigh the same."""
    assert compute_objective(np.array([0.8]), np.array([1]), 0.5) == pytest.approx(0.62)
    labels = np.array([1, 2, 1, 1])
    assert compute_objective(np.array([0, 0.4, 0, 0]), labels, 0.5) == pytest.approx(0.4 * (1 / 8 + 1 / 4))
    assert compute_objective(np.array([0.4, 0, 0, 0]), labels, 0.5) == pytest.approx(0.4 * (1 / 8 + 1 / 12))


def test_a_little_recall_may_be_lost_for_higher_iou():
    before = np.full(1000, 0.51)
    for lost, expected in ((0, True), (4, True), (6, False)):
        after = np.where(np.arange(1000) < lost, 0.49, 0.59)
        assert is_better(before, after, labels=np.ones(1000, dtype=int), match_threshold=0.5) == expected


def test_a_sample_has_boxes_of_each_class_and_represents_all(monkeypatch):
    monkeypatch.setattr(search, "SAMPLE_SIZE", 40)
    ground_truth = random_boxes(1000)
    rare = np.flatnonzero(ground_truth.labels == 2)
    boxes, weights = search._sample_boxes(ground_truth)
    assert len(rare) > 50 and len(boxes) <= 80 and len(np.unique(boxes, axis=0)) == len(boxes)
    chosen = np.array([np.flatnonzero((ground_truth.boxes_yxyx == box).all(axis=1))[0] for box in boxes])
    assert np.isin(chosen, rare).sum() == 20  # an equal share per class is more than its share of boxes
    assert weights.sum() == pytest.approx(1)
    assert weights[np.isin(chosen, rare)].sum() == pytest.approx(0.25 + len(rare) / 2000)


def test_parameters_stay_in_order_and_range():
    settings = AnchorSettings((20.0, 40.0, 80.0), ((2.0,), (1.5, 3.0)), in_pixels=True)
    assert settings.parameters() == [20, 40, 80, 2, 1.5, 3]
    valid = {(1, 38.095): True, (1, 21.0): True, (1, 20.9): False, (1, 76.3): False, (0, 1.9): False}
    valid |= {(2, 600): True, (2, 601): False, (3, 1.04): False, (5, 6.0): True, (5, 6.1): False}
    for (index, value), expected in valid.items():
        assert settings.with_parameter(index, value).is_valid_at(index, (300, 200)) == expected, (index, value)
    assert settings.with_parameter(1, 38.0952).sizes == (20, 38.1, 80)
    assert settings.with_parameter(4, 1.2345).aspect_ratios == ((2.0,), (1.23, 3.0))
    scales = AnchorSettings((0.2, 0.9), ((),), in_pixels=False)
    assert scales.with_parameter(1, 1.0).is_valid_at(1, (300, 300))
    assert not scales.with_parameter(1, 1.01).is_valid_at(1, (300, 300))


def test_printed_keys():
    settings = AnchorSettings((0.175, 0.7), ((), (3.0, 1.25)), in_pixels=False)
    assert recipe_lines(settings) == ["min_scale: 0.175", "max_scale: 0.7", "aspect_ratios: [[], [1.25, 3]]"]
    assert command_line_options(settings) == '--min_scale 0.175 --max_scale 0.7 --aspect_ratios "[[], [1.25, 3]]"'
    settings = AnchorSettings((20.5, 300.0), ((2.0,),), in_pixels=True)
    assert recipe_lines(settings) == ["box_sizes: [20.5, 300]", "aspect_ratios: [[2]]"]


@pytest.mark.parametrize(
    "name, ratios_per_level, num_anchors",
    [
        ("ssd_mobilenetv2", None, 1917),
        ("ssd_mobilenetv2", [1, 2, 2, 2, 2, 2], 1917 + 361),
        ("ssd_mobilenetv2", [0, 4, 2, 2, 2, 2], 1917 - 361 + 400),
        ("ssd_resnet50", None, 8732),
    ],
)
def test_printed_keys_give_the_fitted_anchors(load_recipe, tmp_path, name, ratios_per_level, num_anchors):
    cfg, boxes = load_recipe(name), random_boxes(60)
    settings = fit_default_boxes(boxes, cfg, ratios_per_level)
    fitted = create_anchors_with(cfg, settings)
    assert len(fitted) == num_anchors
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("\n".join([f"__BASE__: [{RECIPES / name}.yaml]", *recipe_lines(settings)]))
    overrides = parse_overrides(shlex.split(command_line_options(settings)))
    for cfg in (load_config(recipe, NOWHERE), load_config(RECIPES / f"{name}.yaml", {**NOWHERE, **overrides})):
        np.testing.assert_array_equal(create_anchors(cfg).boxes_yxyx, fitted.boxes_yxyx)


def read_table(lines):
    """{name of the row: its cells}"""
    rows = [re.fullmatch(r"((?: +[0-9.–]+)+)   (.+)", line) for line in lines]
    return {row[2]: row[1].split() for row in rows if row}


def test_table_by_hand(load_recipe):
    """Input 192x192. train has a dot of 20x20 pixels and two discs of 100x100, val has one disc of 100x100."""
    cfg = load_recipe("ssd_shapes", classes=["background", "dot", "disc"], num_classes=3)
    small, large = [0, 0, 20 / 192, 20 / 192], [0, 0, 100 / 192, 100 / 192]
    splits = {
        "train": create_ground_truth([small, large, large], [1, 2, 2]),
        "val": create_ground_truth([large], [2]),
    }
    ious = {"train": [np.array([0.2, 0.55, 0.5]), np.array([0.65, 0.55, 0.6])], "val": [np.array([0.45])] * 2}
    lines = recall_table(splits, ious, cfg)
    assert [line.split() for line in lines[:2]] == [["train", "val"], ["before", "after"] * 2]
    table = read_table(lines)
    assert table["recall at IoU 0.4"] == ["0.667", "1.000", "1.000", "1.000"]
    assert table["recall at IoU 0.5, match_threshold"] == ["0.333", "1.000", "0.000", "0.000"]
    assert table["mean best IoU"] == ["0.417", "0.600", "0.450", "0.450"]
    assert table["small (1 and 0)"] == ["0.000", "1.000", "–", "–"] == table["dot (1 and 0)"]
    assert table["large (2 and 1)"] == ["0.500", "1.000", "0.000", "0.000"] == table["disc (2 and 1)"]


def test_of_many_classes_those_with_the_lowest_recall_are_listed(load_recipe):
    cfg, labels = load_recipe("ssd_shapes"), np.arange(1, 31)
    splits = {name: create_ground_truth(np.tile([0, 0, 0.1, 0.1], (30, 1)), labels) for name in ("train", "val")}
    ious = {name: [np.where(labels > 12, 0.4, 0.6)] for name in splits}
    lines = recall_table(splits, ious, cfg)
    assert any("20 of 30 classes" in line for line in lines)
    listed = [name.removesuffix(" (1 and 1)") for name in read_table(lines)]
    assert set(cfg.classes[13:31]) < set(listed) and len(set(cfg.classes[1:31]) & set(listed)) == 20

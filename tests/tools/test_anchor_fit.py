"""Fitting default boxes: overlaps equal those with every anchor, fitted values reach more, printed lines mean them."""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest

from anchor_fit import Objects, search
from anchor_fit.overlap import best_iou
from anchor_fit.search import Values, anchors_of, fit, is_better, score
from anchor_fit.text import options, recipe_lines, tabulate
from ssd.boxes.anchors import DefaultBoxes, create_anchors
from ssd.boxes.ops import pairwise_iou
from ssd.config.command_line import parse_overrides
from ssd.config.loading import load_config

RECIPES = Path(__file__).resolve().parents[2] / "examples" / "det" / "ssd"
NOWHERE = {"data_dir": "/nowhere", "device_target": "CPU"}


def objects_of(boxes_yxyx, labels=None):
    """Each in an image of its own."""
    count = len(boxes_yxyx)
    labels = np.ones(count, dtype=int) if labels is None else np.asarray(labels)
    return Objects(np.asarray(boxes_yxyx, dtype=np.float64), labels, np.arange(count), count, count)


def some_objects(count, sides=(0.05, 0.5), seed=0):
    """Of any place, size and shape, of two classes of which one is rare."""
    rng = np.random.default_rng(seed)
    sides = np.exp(rng.uniform(*np.log(sides), (count, 2)))
    corners = rng.random((count, 2)) * (1 - sides)
    return objects_of(np.concatenate([corners, corners + sides], axis=1), 1 + (rng.random(count) < 0.1))


def equal_objects(height, width, image_size, count=200):
    """Boxes of so many pixels at places on no grid."""
    sides = np.array([[height, width]]) / image_size
    corners = np.random.default_rng(1).random((count, 2)) * (1 - sides)
    return objects_of(np.concatenate([corners, corners + sides], axis=1))


def test_best_iou_by_hand():
    """One place in the middle of 100x100; shapes are a square of 50 and one of the mean of 50 and 98, of 70."""
    anchors = DefaultBoxes((100, 100), [100], 0.2, 0.9, [[]], box_sizes=[50, 98])
    boxes = np.array([[0.25, 0.25, 0.75, 0.75], [0.25, 0.25, 0.5, 0.75], [0.75, 0.75, 0.85, 0.85], [0.9, 0.9, 1, 1]])
    # The same; half of it; within the larger square alone, a hundredth of which it is; outside of both.
    assert best_iou(boxes, anchors) == pytest.approx([1, 0.5, 0.01 / 0.49, 0], abs=1e-6)


@pytest.mark.parametrize(
    "name, more",
    [
        ("ssd_mobilenetv2", {}),
        ("ssd_mobilenetv2", {"image_size": [200, 333]}),  # the last row and column lie beyond the image
        ("ssd_resnet50", {}),
        ("ssd_resnet50", {"image_size": [200, 333]}),  # clipped to its border
        ("ssd_resnet50_fpn", {"image_size": [128, 192]}),
    ],
)
def test_best_iou_is_that_of_all_anchors(load_recipe, name, more):
    anchors = create_anchors(load_recipe(name, **more))
    boxes = some_objects(200, sides=(0.005, 1)).boxes_yxyx
    assert best_iou(boxes, anchors) == pytest.approx(pairwise_iou(boxes, anchors.boxes_yxyx).max(axis=1), abs=1e-5)


@pytest.mark.parametrize("name", ["ssd_shapes", "ssd_resnet50"])
def test_objects_of_one_shape_are_reached(load_recipe, name):
    """Three times as tall as wide, of a size between those of the recipe's boxes."""
    cfg = load_recipe(name)
    objects = equal_objects(90, 30, cfg.image_size)
    before = best_iou(objects.boxes_yxyx, create_anchors(cfg))
    after = best_iou(objects.boxes_yxyx, anchors_of(cfg, fit(objects, cfg)))
    assert (before > 0.6).mean() < 0.7 and (after > 0.6).mean() > 0.95
    assert is_better(before, after, objects.labels, cfg) and not is_better(after, before, objects.labels, cfg)


@pytest.mark.parametrize("name", ["ssd_mobilenetv2", "ssd_shapes", "ssd_resnet50"])
@pytest.mark.parametrize("sides", [(0.02, 0.1), (0.1, 0.9)])
def test_what_is_fitted_is_never_worse_and_as_many(load_recipe, name, sides):
    cfg, objects = load_recipe(name), some_objects(150, sides)
    before, after = create_anchors(cfg), anchors_of(cfg, fit(objects, cfg))
    was, now = (score(best_iou(objects.boxes_yxyx, anchors), objects.labels, cfg) for anchors in (before, after))
    assert now > was + search.LEAST_LEAD  # no shipped recipe was made for these
    assert after.num_per_location == before.num_per_location and len(after) == len(before)


def test_order_of_objects_does_not_matter(load_recipe):
    cfg, objects = load_recipe("ssd_shapes"), some_objects(300)
    order = np.random.default_rng(2).permutation(len(objects))
    shuffled = objects_of(objects.boxes_yxyx[order], objects.labels[order])
    assert fit(objects, cfg) == fit(shuffled, cfg) == fit(objects, cfg)


def test_what_brings_nothing_stays(load_recipe):
    """Objects that the recipe's own boxes are the best for: one of them at each of its places, and nothing else."""
    cfg = load_recipe("ssd_resnet50")
    own = create_anchors(cfg).boxes_yxyx
    objects = objects_of(own[((own >= 0) & (own <= 1)).all(axis=1)][::7])
    values = fit(objects, cfg)
    assert values.sizes == cfg.box_sizes and values.aspect_ratios == cfg.aspect_ratios
    ious = best_iou(objects.boxes_yxyx, anchors_of(cfg, values))
    assert ious.min() > 0.999 and not is_better(ious, ious, objects.labels, cfg)


def test_score_by_hand(load_recipe):
    """Of match_threshold 0.5, an IoU of 0.8 counts 0.6 and a tenth of 0.2. Classes of 3 and 1 objects share a half."""
    cfg = load_recipe("ssd_shapes")
    assert score(np.array([0.8]), np.array([1]), cfg) == pytest.approx(0.62)
    labels = np.array([1, 2, 1, 1])
    assert score(np.array([0, 0.4, 0, 0]), labels, cfg) == pytest.approx(0.4 * (1 / 8 + 1 / 4))
    assert score(np.array([0.4, 0, 0, 0]), labels, cfg) == pytest.approx(0.4 * (1 / 8 + 1 / 12))


def test_a_little_recall_may_be_lost_for_more_overlap(load_recipe):
    cfg, labels = load_recipe("ssd_shapes"), np.ones(1000, dtype=int)
    before = np.full(1000, 0.51)
    for lost, expected in ((0, True), (4, True), (6, False)):
        assert is_better(before, np.where(np.arange(1000) < lost, 0.49, 0.59), labels, cfg) == expected


def test_a_sample_has_some_of_each_class_and_stands_for_all(monkeypatch):
    monkeypatch.setattr(search, "SAMPLE", 40)
    objects = some_objects(1000)
    rare = np.flatnonzero(objects.labels == 2)
    boxes, weights = search._sample(objects)
    assert len(rare) > 50 and len(boxes) <= 80 and len(np.unique(boxes, axis=0)) == len(boxes)
    chosen = np.array([np.flatnonzero((objects.boxes_yxyx == box).all(axis=1))[0] for box in boxes])
    assert np.isin(chosen, rare).sum() == 20  # its half of the classes, and more than its share of objects
    assert weights.sum() == pytest.approx(1)
    assert weights[np.isin(chosen, rare)].sum() == pytest.approx(0.25 + len(rare) / 2000)


def test_values_stay_in_order_and_range():
    values = Values((20.0, 40.0, 80.0), ((2.0,), (1.5, 3.0)), in_pixels=True)
    assert values.numbers() == [20, 40, 80, 2, 1.5, 3]
    allowed = {(1, 38.095): True, (1, 21.0): True, (1, 20.9): False, (1, 76.3): False, (0, 1.9): False}
    allowed |= {(2, 600): True, (2, 601): False, (3, 1.04): False, (5, 6.0): True, (5, 6.1): False}
    for (index, number), expected in allowed.items():
        assert values.with_number(index, number).allows(index, (300, 200)) == expected, (index, number)
    assert values.with_number(1, 38.0952).sizes == (20, 38.1, 80)
    assert values.with_number(4, 1.2345).aspect_ratios == ((2.0,), (1.23, 3.0))
    scales = Values((0.2, 0.9), ((),), in_pixels=False)
    assert scales.with_number(1, 1.0).allows(1, (300, 300)) and not scales.with_number(1, 1.01).allows(1, (300, 300))


def test_written_values():
    values = Values((0.175, 0.7), ((), (3.0, 1.25)), in_pixels=False)
    assert recipe_lines(values) == ["min_scale: 0.175", "max_scale: 0.7", "aspect_ratios: [[], [1.25, 3]]"]
    assert options(values) == '--min_scale 0.175 --max_scale 0.7 --aspect_ratios "[[], [1.25, 3]]"'
    values = Values((20.5, 300.0), ((2.0,),), in_pixels=True)
    assert recipe_lines(values) == ["box_sizes: [20.5, 300]", "aspect_ratios: [[2]]"]


@pytest.mark.parametrize(
    "name, ratios, count",
    [
        ("ssd_mobilenetv2", None, 1917),
        ("ssd_mobilenetv2", [1, 2, 2, 2, 2, 2], 1917 + 361),
        ("ssd_mobilenetv2", [0, 4, 2, 2, 2, 2], 1917 - 361 + 400),
        ("ssd_resnet50", None, 8732),
    ],
)
def test_written_values_load_and_mean_the_fitted_anchors(load_recipe, tmp_path, name, ratios, count):
    cfg, objects = load_recipe(name), some_objects(60)
    values = fit(objects, cfg, ratios)
    fitted = anchors_of(cfg, values)
    assert len(fitted) == count
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("\n".join([f"__BASE__: [{RECIPES / name}.yaml]", *recipe_lines(values)]))
    given = parse_overrides(shlex.split(options(values)))
    for cfg in (load_config(recipe, NOWHERE), load_config(RECIPES / f"{name}.yaml", {**NOWHERE, **given})):
        np.testing.assert_array_equal(create_anchors(cfg).boxes_yxyx, fitted.boxes_yxyx)


def test_table_by_hand(load_recipe):
    """Input 192x192: an object of 20x20 pixels and two of 100x100, one class each of `train`, and one of `val`."""
    cfg = load_recipe("ssd_shapes", classes=["background", "dot", "disc"], num_classes=3)
    small, large = [0, 0, 20 / 192, 20 / 192], [0, 0, 100 / 192, 100 / 192]
    parts = {"train": objects_of([small, large, large], [1, 2, 2]), "val": objects_of([large], [2])}
    ious = {"train": [np.array([0.2, 0.55, 0.5]), np.array([0.65, 0.55, 0.6])], "val": [np.array([0.45])] * 2}
    lines = tabulate(parts, ious, cfg)
    assert [line.split() for line in lines[:2]] == [["train", "val"], ["before", "after"] * 2]
    rows = [re.fullmatch(r"((?: +[0-9.–]+){4})   (.+)", line) for line in lines[2:] if "by kind" not in line]
    table = {row[2]: row[1].split() for row in rows}
    assert table["above IoU 0.4"] == ["0.667", "1.000", "1.000", "1.000"]
    assert table["above IoU 0.5, match_threshold"] == ["0.333", "1.000", "0.000", "0.000"]
    assert table["mean best IoU"] == ["0.417", "0.600", "0.450", "0.450"]
    assert table["small (1 and 0)"] == ["0.000", "1.000", "–", "–"] == table["dot (1 and 0)"]
    assert table["large (2 and 1)"] == ["0.500", "1.000", "0.000", "0.000"] == table["disc (2 and 1)"]


def test_of_many_classes_the_least_reached_are_shown(load_recipe):
    cfg, labels = load_recipe("ssd_shapes"), np.arange(1, 31)
    parts = {name: objects_of(np.tile([0, 0, 0.1, 0.1], (30, 1)), labels) for name in ("train", "val")}
    ious = {name: [np.where(labels > 12, 0.4, 0.6)] for name in parts}
    lines = tabulate(parts, ious, cfg)
    assert "the 20 of 30 classes that were reached least:" in lines
    shown = [line.split("   ")[-1].rpartition(" (")[0] for line in lines[-20:]]
    assert set(cfg.classes[13:31]) < set(shown)

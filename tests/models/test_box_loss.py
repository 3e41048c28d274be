"""GIoU and CIoU losses against the papers' formulas on decoded boxes in float64, and against overlaps done by hand."""

import math

import numpy as np
import pytest
from mindspore import nn, ops

from ssd.boxes.anchors import create_anchors
from ssd.boxes.coder import BoxCoder
from ssd.models.losses import OverlapLoss, create_box_loss, create_loss

KINDS = ("giou", "ciou")
SIZE = (64, 128)


def overlap_loss(kind, box, target, shape_of=None):
    """1 - GIoU or 1 - CIoU of two boxes y0, x0, y1, x1 in pixels, CIoU's shape weighed as for the box `shape_of`."""
    area = (box[2] - box[0]) * (box[3] - box[1])
    target_area = (target[2] - target[0]) * (target[3] - target[1])
    sides = [max(min(box[i + 2], target[i + 2]) - max(box[i], target[i]), 0) for i in (0, 1)]
    hull = [max(box[i + 2], target[i + 2]) - min(box[i], target[i]) for i in (0, 1)]
    union = area + target_area - sides[0] * sides[1]
    iou = sides[0] * sides[1] / union
    if kind == "giou":
        return 1 - (iou - (hull[0] * hull[1] - union) / (hull[0] * hull[1]))
    distance = sum(((box[i] + box[i + 2]) / 2 - (target[i] + target[i + 2]) / 2) ** 2 for i in (0, 1))
    angles = [math.atan((corners[3] - corners[1]) / (corners[2] - corners[0])) for corners in (target, box)]
    shape = 4 / math.pi**2 * (angles[0] - angles[1]) ** 2
    weight = shape / (1 - iou + shape) if shape else 0
    if shape_of is not None:
        weight = shape_weight(shape_of, target)
    return 1 - iou + distance / (hull[0] ** 2 + hull[1] ** 2) + weight * shape


def shape_weight(box, target):
    """v / (1 - IoU + v), CIoU's weight of v"""
    (y0, x0, y1, x1), (v0, u0, v1, u1) = box, target
    shared = max(min(y1, v1) - max(y0, v0), 0) * max(min(x1, u1) - max(x0, u0), 0)
    iou = shared / ((y1 - y0) * (x1 - x0) + (v1 - v0) * (u1 - u0) - shared)
    shape = (2 / math.pi * (math.atan2(u1 - u0, v1 - v0) - math.atan2(x1 - x0, y1 - y0))) ** 2
    return shape / (1 - iou + shape)


def decoded(offsets, anchors_cyxhw):
    """(…, A, 4) offsets to corners in pixels, not clipped, in float64."""
    offsets, anchors = offsets.astype(np.float64), anchors_cyxhw.astype(np.float64)
    centers = offsets[..., :2] * 0.1 * anchors[:, 2:] + anchors[:, :2]
    half = np.exp(offsets[..., 2:] * 0.2) * anchors[:, 2:] / 2
    return np.concatenate([centers - half, centers + half], axis=-1) * np.tile(SIZE, 2)


def oracle(kind, offsets, targets, anchors_cyxhw):
    boxes, wanted = decoded(offsets, anchors_cyxhw), decoded(targets, anchors_cyxhw)
    return np.array([[overlap_loss(kind, *pair) for pair in zip(*rows)] for rows in zip(boxes, wanted)])


@pytest.fixture(scope="module")
def losses(small_anchors):
    return {kind: OverlapLoss(kind, small_anchors.boxes_cyxhw, SIZE) for kind in KINDS}


@pytest.fixture(scope="module")
def offsets():
    """Predicted and target offsets, (2, 80, 4) each: near ones in the first image, far ones in the second."""
    rng = np.random.default_rng(0)
    targets = rng.normal(0, 2, (2, 80, 4)).astype(np.float32)
    spread = np.array([[0.5, 0.5, 0.5, 0.5], [8, 8, 3, 3]], np.float32)[:, None]
    return targets + (rng.normal(size=targets.shape) * spread).astype(np.float32), targets


class Gradient(nn.Cell):
    """Gradient of the summed loss by the predicted offsets."""

    def __init__(self, loss):
        super().__init__()
        self.loss = loss
        self.gradient = ops.GradOperation()

    def construct(self, box_offsets, target_offsets):
        return self.gradient(self.loss)(box_offsets, target_offsets)


@pytest.mark.parametrize("kind", KINDS)
def test_loss_is_the_formula(kind, losses, offsets, small_anchors, call):
    found = call(losses[kind], *offsets)
    expected = oracle(kind, *offsets, small_anchors.boxes_cyxhw)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    assert expected[0].max() < 1.5 and expected[1].max() > 1.2  # some boxes lie apart


@pytest.mark.parametrize("kind, expected", [("giou", 1 - (1 / 7 - 2 / 9)), ("ciou", 1 - 1 / 7 + 1 / 9)])
def test_two_squares_by_hand(kind, expected, call):
    # Squares of 2 by 2, shifted by 1 in y and x: intersection 1, union 7, hull 3 by 3, centres sqrt 2 of sqrt 18 apart.
    anchors = np.array([[0.5, 0.5, 0.2, 0.2]], np.float32)
    shifted = np.array([[[5, 5, 0, 0]]], np.float32)  # 5 * 0.1 of a side
    loss = OverlapLoss(kind, anchors, (10, 10))
    assert call(loss, shifted, np.zeros_like(shifted)).item() == pytest.approx(expected, rel=1e-5)


def test_ciou_sees_shapes_in_pixels(call):
    # The same centre. In pixels of a 10x20 image the target is 2 by 2, the prediction 2 by 4: atan 1 and atan 2.
    anchors = np.array([[0.5, 0.5, 0.2, 0.1]], np.float32)
    wide = np.array([[[0, 0, 0, np.log(2) / 0.2]]], np.float32)
    shape = 4 / np.pi**2 * (np.pi / 4 - np.arctan(2)) ** 2
    found = call(OverlapLoss("ciou", anchors, (10, 20)), wide, np.zeros_like(wide)).item()
    assert found == pytest.approx(0.5 + shape / (0.5 + shape) * shape, rel=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_equal_boxes_cost_nothing(kind, losses, offsets, call):
    np.testing.assert_allclose(call(losses[kind], offsets[1], offsets[1]), 0, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_targets_are_decoded_as_the_coder_does(kind, losses, small_anchors, call, rng):
    low = rng.uniform(0, 0.5, (2, 80, 2))
    boxes = np.concatenate([low, low + rng.uniform(0.05, 0.5, (2, 80, 2))], axis=2)
    targets = BoxCoder().encode(boxes, small_anchors.boxes_cyxhw).astype(np.float32)
    anchors = decoded(np.zeros_like(targets), small_anchors.boxes_cyxhw)  # what offsets of 0 mean
    pairs = [zip(*rows) for rows in zip(anchors, boxes * np.tile(SIZE, 2))]
    expected = [[overlap_loss(kind, *pair) for pair in row] for row in pairs]
    np.testing.assert_allclose(call(losses[kind], np.zeros_like(targets), targets), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_sides_are_limited_to_a_factor_of_the_anchors(kind, losses, offsets, small_anchors, call):
    limit = np.float32(np.log(1000 / 16) / 0.2)  # 62.5 times the anchor's side
    beyond, at_limit = np.zeros_like(offsets[0]), np.zeros_like(offsets[0])
    beyond[0, :, 2:], at_limit[0, :, 2:] = 50, limit
    beyond[1, :, 2:], at_limit[1, :, 2:] = -50, -limit
    expected = oracle(kind, at_limit, offsets[1], small_anchors.boxes_cyxhw)
    np.testing.assert_allclose(call(losses[kind], beyond, offsets[1]), expected, rtol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_absurd_offsets_stay_finite(kind, losses, offsets, call):
    gradient = Gradient(losses[kind])
    for size in (1000, -1000):
        absurd = np.full_like(offsets[0], size)
        assert np.isfinite(call(losses[kind], absurd, offsets[1])).all()
        assert np.isfinite(call(gradient, absurd, offsets[1])).all()


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_are_those_of_the_formula(kind, losses, offsets, small_anchors, call, rng):
    found = call(Gradient(losses[kind]), *offsets)
    start = decoded(offsets[0], small_anchors.boxes_cyxhw)
    wanted = decoded(offsets[1], small_anchors.boxes_cyxhw)
    for image, anchor, part in zip(rng.integers(2, size=60), rng.integers(80, size=60), rng.integers(4, size=60)):
        sides = []
        for step in (1e-6, -1e-6):
            moved = offsets[0][image].astype(np.float64)
            moved[anchor, part] += step
            box = decoded(moved, small_anchors.boxes_cyxhw)[anchor]
            sides.append(overlap_loss(kind, box, wanted[image, anchor], shape_of=start[image, anchor]))
        expected = (sides[0] - sides[1]) / 2e-6
        assert found[image, anchor, part] == pytest.approx(expected, rel=1e-3, abs=1e-4)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("cls_loss", ["focal", "multibox"])
def test_recipes_choose_the_box_loss(cls_loss, kind, load_recipe, call, rng):
    small = {"image_size": SIZE, "steps": [32, 64], "aspect_ratios": [[2], [2]], "extra_layers": []}
    cfg = load_recipe("ssd_mobilenetv2", **small, box_loss=kind, loss=cls_loss, num_classes=3)
    anchors = 2 * 4 * 4 + 1 * 2 * 4
    offsets, targets = rng.normal(size=(2, 2, anchors, 4)).astype(np.float32)
    labels = np.zeros((2, anchors), np.int32)
    labels[0, [1, 5]], labels[1, [7, 20]] = 1, 2
    each = call(create_box_loss(cfg, create_anchors(cfg)), offsets, targets)
    _, box_loss, _ = call(
        create_loss(cfg, create_anchors(cfg)), offsets, np.zeros((2, anchors, 3), np.float32), targets, labels
    )
    assert box_loss == pytest.approx(each[labels > 0].sum() / 4, rel=1e-5)  # two positives in each of two images

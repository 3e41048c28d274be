"""GIoU and CIoU losses against the papers' formulas in float64, and against hand-computed boxes."""

import math

import numpy as np
import pytest
from loss_inputs import LossInputs
from mindspore import nn, ops

from ssd.boxes.anchors import create_anchors
from ssd.boxes.coder import BoxCoder
from ssd.models.losses import IoULoss, create_box_loss, create_loss

KINDS = ("giou", "ciou")
IMAGE_SIZE = (64, 128)


def iou_loss(kind, box, target, alpha_box=None):
    """Return 1 - GIoU or 1 - CIoU of two boxes y0, x0, y1, x1 in pixels.

    alpha_box: box for which CIoU's weight of the aspect ratio term is computed; None for `box` itself
    """
    area = (box[2] - box[0]) * (box[3] - box[1])
    target_area = (target[2] - target[0]) * (target[3] - target[1])
    overlap = [max(min(box[i + 2], target[i + 2]) - max(box[i], target[i]), 0) for i in (0, 1)]
    enclosing = [max(box[i + 2], target[i + 2]) - min(box[i], target[i]) for i in (0, 1)]
    union = area + target_area - overlap[0] * overlap[1]
    iou = overlap[0] * overlap[1] / union
    if kind == "giou":
        enclosing_area = enclosing[0] * enclosing[1]
        return 1 - (iou - (enclosing_area - union) / enclosing_area)
    distance = sum(((box[i] + box[i + 2]) / 2 - (target[i] + target[i + 2]) / 2) ** 2 for i in (0, 1))
    angles = [math.atan((corners[3] - corners[1]) / (corners[2] - corners[0])) for corners in (target, box)]
    v = 4 / math.pi**2 * (angles[0] - angles[1]) ** 2
    alpha = v / (1 - iou + v) if v else 0
    if alpha_box is not None:
        alpha = ciou_alpha(alpha_box, target)
    return 1 - iou + distance / (enclosing[0] ** 2 + enclosing[1] ** 2) + alpha * v


def ciou_alpha(box, target):
    """Return v / (1 - IoU + v), CIoU's weight of the aspect ratio term v."""
    (y0, x0, y1, x1), (v0, u0, v1, u1) = box, target
    intersection = max(min(y1, v1) - max(y0, v0), 0) * max(min(x1, u1) - max(x0, u0), 0)
    iou = intersection / ((y1 - y0) * (x1 - x0) + (v1 - v0) * (u1 - u0) - intersection)
    v = (2 / math.pi * (math.atan2(u1 - u0, v1 - v0) - math.atan2(x1 - x0, y1 - y0))) ** 2
    return v / (1 - iou + v)


def decode(offsets, anchors_cyxhw):
    """Decode offsets (..., A, 4) to corners in pixels, not clipped, in float64."""
    offsets, anchors = offsets.astype(np.float64), anchors_cyxhw.astype(np.float64)
    centers = offsets[..., :2] * 0.1 * anchors[:, 2:] + anchors[:, :2]
    half_sizes = np.exp(offsets[..., 2:] * 0.2) * anchors[:, 2:] / 2
    return np.concatenate([centers - half_sizes, centers + half_sizes], axis=-1) * np.tile(IMAGE_SIZE, 2)


def expected_loss(kind, boxes, targets):
    """Compute the loss of each pair of boxes. boxes, targets: (B, A, 4) in pixels. Returns (B, A)."""
    return np.array([[iou_loss(kind, *pair) for pair in zip(*rows)] for rows in zip(boxes, targets)])


@pytest.fixture(scope="module")
def losses(small_anchors):
    return {kind: IoULoss(kind, small_anchors.boxes_cyxhw, IMAGE_SIZE) for kind in KINDS}


@pytest.fixture(scope="module")
def offsets():
    """Predicted and target offsets, (2, 80, 4) each: close in the first image, far apart in the second."""
    rng = np.random.default_rng(0)
    targets = rng.normal(0, 2, (2, 80, 4)).astype(np.float32)
    spread = np.array([[0.5, 0.5, 0.5, 0.5], [8, 8, 3, 3]], np.float32)[:, None]
    return targets + (rng.normal(size=targets.shape) * spread).astype(np.float32), targets


class Gradient(nn.Cell):
    """Gradient of the summed loss with respect to the predicted offsets."""

    def __init__(self, loss):
        super().__init__()
        self.loss = loss
        self.gradient = ops.GradOperation()

    def construct(self, box_offsets, target_offsets):
        return self.gradient(self.loss)(box_offsets, target_offsets)


@pytest.mark.parametrize("kind", KINDS)
def test_loss_is_the_formula(kind, losses, offsets, small_anchors, call):
    loss = call(losses[kind], *offsets)
    expected = expected_loss(kind, *(decode(each, small_anchors.boxes_cyxhw) for each in offsets))
    np.testing.assert_allclose(loss, expected, rtol=1e-4, atol=1e-5)
    assert expected[0].max() < 1.5 and expected[1].max() > 1.2  # some boxes do not overlap


@pytest.mark.parametrize("kind, expected", [("giou", 1 - (1 / 7 - 2 / 9)), ("ciou", 1 - 1 / 7 + 1 / 9)])
def test_hand_computed_squares(kind, expected, call):
    # Squares of 2 by 2, shifted by 1 along both axes: intersection 1, union 7, enclosing box 3 by 3. The centers are
    # sqrt 2 apart, the diagonal is sqrt 18.
    anchors = np.array([[0.5, 0.5, 0.2, 0.2]], np.float32)
    shifted = np.array([[[5, 5, 0, 0]]], np.float32)  # 5 * 0.1 of a side
    loss = IoULoss(kind, anchors, (10, 10))
    assert call(loss, shifted, np.zeros_like(shifted)).item() == pytest.approx(expected, rel=1e-5)


def test_ciou_measures_aspect_ratios_in_pixels(call):
    # The centers are equal. In pixels of a 10x20 image the target is 2 by 2, the prediction 2 by 4: atan 1 and atan 2.
    anchors = np.array([[0.5, 0.5, 0.2, 0.1]], np.float32)
    wide = np.array([[[0, 0, 0, np.log(2) / 0.2]]], np.float32)
    v = 4 / np.pi**2 * (np.pi / 4 - np.arctan(2)) ** 2
    loss = call(IoULoss("ciou", anchors, (10, 20)), wide, np.zeros_like(wide)).item()
    assert loss == pytest.approx(0.5 + v / (0.5 + v) * v, rel=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_loss_of_equal_boxes_is_0(kind, losses, offsets, call):
    np.testing.assert_allclose(call(losses[kind], offsets[1], offsets[1]), 0, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_targets_are_decoded_as_the_coder_encodes_them(kind, losses, small_anchors, call, rng):
    low = rng.uniform(0, 0.5, (2, 80, 2))
    boxes = np.concatenate([low, low + rng.uniform(0.05, 0.5, (2, 80, 2))], axis=2)
    targets = BoxCoder().encode(boxes, small_anchors.boxes_cyxhw).astype(np.float32)
    zeros = np.zeros_like(targets)  # predictions equal to the anchors
    expected = expected_loss(kind, decode(zeros, small_anchors.boxes_cyxhw), boxes * np.tile(IMAGE_SIZE, 2))
    np.testing.assert_allclose(call(losses[kind], zeros, targets), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_sizes_are_limited_to_a_ratio_of_the_anchors(kind, losses, offsets, small_anchors, call):
    limit = np.float32(np.log(1000 / 16) / 0.2)  # 62.5 times the anchor's side
    beyond, at_limit = np.zeros_like(offsets[0]), np.zeros_like(offsets[0])
    beyond[0, :, 2:], at_limit[0, :, 2:] = 50, limit
    beyond[1, :, 2:], at_limit[1, :, 2:] = -50, -limit
    expected = expected_loss(kind, *(decode(each, small_anchors.boxes_cyxhw) for each in (at_limit, offsets[1])))
    np.testing.assert_allclose(call(losses[kind], beyond, offsets[1]), expected, rtol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_loss_and_gradients_of_extreme_offsets_are_finite(kind, losses, offsets, call):
    gradient = Gradient(losses[kind])
    for offset in (1000, -1000):
        extreme = np.full_like(offsets[0], offset)
        assert np.isfinite(call(losses[kind], extreme, offsets[1])).all()
        assert np.isfinite(call(gradient, extreme, offsets[1])).all()


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_are_those_of_the_formula(kind, losses, offsets, small_anchors, call, rng):
    gradients = call(Gradient(losses[kind]), *offsets)
    boxes, targets = (decode(each, small_anchors.boxes_cyxhw) for each in offsets)
    for image, anchor, part in zip(rng.integers(2, size=60), rng.integers(80, size=60), rng.integers(4, size=60)):
        both_sides = []
        for step in (1e-6, -1e-6):
            moved = offsets[0][image].astype(np.float64)
            moved[anchor, part] += step
            box = decode(moved, small_anchors.boxes_cyxhw)[anchor]
            both_sides.append(iou_loss(kind, box, targets[image, anchor], alpha_box=boxes[image, anchor]))
        expected = (both_sides[0] - both_sides[1]) / 2e-6
        assert gradients[image, anchor, part] == pytest.approx(expected, rel=1e-3, abs=1e-4)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("cls_loss", ["focal", "multibox"])
def test_recipes_choose_the_box_loss(cls_loss, kind, load_recipe, call, rng):
    small = {"image_size": IMAGE_SIZE, "steps": [32, 64], "aspect_ratios": [[2], [2]], "extra_layers": []}
    cfg = load_recipe("ssd_mobilenetv2", **small, box_loss=kind, loss=cls_loss, num_classes=3)
    num_anchors = 2 * 4 * 4 + 1 * 2 * 4
    offsets, targets = rng.normal(size=(2, 2, num_anchors, 4)).astype(np.float32)
    labels = np.zeros((2, num_anchors), np.int32)
    labels[0, [1, 5]], labels[1, [7, 20]] = 1, 2
    loss_of_anchors = call(create_box_loss(cfg, create_anchors(cfg)), offsets, targets)
    inputs = LossInputs(
        box_offsets=offsets,
        cls_logits=np.zeros((2, num_anchors, 3), np.float32),
        target_offsets=targets,
        target_labels=labels,
    )
    _, box_loss, _ = call(create_loss(cfg, create_anchors(cfg)), *inputs)
    expected = loss_of_anchors[labels > 0].sum() / 4  # two positives in each of two images
    assert box_loss == pytest.approx(expected, rel=1e-5)


def test_recipes_choose_the_scaling_of_offsets(load_recipe, small_anchors, offsets, pynative, call):
    small = {"image_size": [64, 64], "steps": [16, 32], "aspect_ratios": [[2], [2]], "extra_layers": []}
    cfg = load_recipe("ssd_mobilenetv2", **small, box_loss="ciou", prior_scaling=[0.05, 0.3])
    expected = IoULoss("ciou", small_anchors.boxes_cyxhw, (64, 64), prior_scaling=(0.05, 0.3))
    np.testing.assert_array_equal(call(create_box_loss(cfg, small_anchors), *offsets), call(expected, *offsets))
    # The same boxes have other offsets with the usual scaling, 0.1 and 0.2:
    usual = [values * np.float32([0.5, 0.5, 1.5, 1.5]) for values in offsets]
    loss = call(IoULoss("ciou", small_anchors.boxes_cyxhw, (64, 64)), *usual)
    np.testing.assert_allclose(call(expected, *offsets), loss, rtol=1e-4, atol=1e-5)

"""The loss against the papers' formulas in float64, and against sums done by hand."""

import numpy as np
import pytest
from gradients import Gradients

from ssd.models.losses import SigmoidFocalLoss, SSDLoss, create_loss

B, A, K = 2, 6, 4


def focal_loss(logits, labels, alpha=0.25, gamma=2.0):
    """-alpha_t (1 - p_t)^gamma log p_t, equation (5) of arXiv:1708.02002, where p_t = sigmoid(z); summed."""
    is_target = np.eye(logits.shape[-1], dtype=bool)[labels]
    z = np.where(is_target, logits, -logits).astype(np.float64)
    log_p, log_1_minus_p = -np.logaddexp(0, -z), -np.logaddexp(0, z)
    return np.sum(-np.where(is_target, alpha, 1 - alpha) * np.exp(gamma * log_1_minus_p) * log_p)


def smooth_l1(difference):
    """Equation (3) of arXiv:1504.08083, summed."""
    size = np.abs(difference.astype(np.float64))
    return np.sum(np.where(size < 1, size**2 / 2, size - 0.5))


def ssd_loss(box_offsets, cls_logits, target_offsets, target_labels):
    positive = target_labels > 0
    box_loss = smooth_l1(box_offsets[positive] - target_offsets[positive])
    return (focal_loss(cls_logits, target_labels) + box_loss) / max(positive.sum(), 1)


def random_inputs(rng, logits=3.0, share_of_positives=0.4):
    labels = rng.integers(1, K, (B, A)) * (rng.uniform(size=(B, A)) < share_of_positives)
    offsets, targets = rng.normal(0, 2, (2, B, A, 4)).astype(np.float32)
    return offsets, rng.normal(0, logits, (B, A, K)).astype(np.float32), targets, labels.astype(np.int32)


@pytest.fixture(scope="module")
def focal():
    return SigmoidFocalLoss()


@pytest.fixture(scope="module")
def loss():
    return SSDLoss()


@pytest.fixture(scope="module")
def gradients(loss, call):
    """gradients(box_offsets, cls_logits, target_offsets, target_labels): the loss's with respect to the first two."""
    net = Gradients(loss)
    return lambda *inputs: call(net, *inputs)[:2]


# --- focal loss ---


@pytest.mark.parametrize("spread", [0.1, 3, 30])
def test_focal_loss_is_the_formula(spread, focal, call, rng):
    _, logits, _, labels = random_inputs(rng, spread)
    assert call(focal, logits, labels) == pytest.approx(focal_loss(logits, labels), rel=1e-5)


@pytest.mark.parametrize("alpha, gamma", [(0.75, 2.0), (0.25, 0.0), (0.5, 1.5), (1.0, 0.5)])
def test_focal_loss_with_other_parameters(alpha, gamma, call, rng):
    _, logits, _, labels = random_inputs(rng)
    found = call(SigmoidFocalLoss(alpha, gamma), logits, labels)
    assert found == pytest.approx(focal_loss(logits, labels, alpha, gamma), rel=1e-5)


@pytest.mark.parametrize("size", [50, 100])
def test_focal_loss_of_extreme_logits(size, focal, call, rng):
    _, logits, _, labels = random_inputs(rng)
    logits = np.where(logits > 0, np.float32(size), np.float32(-size))
    found = call(focal, logits, labels)
    assert np.isfinite(found) and found == pytest.approx(focal_loss(logits, labels), rel=1e-5)


def test_focal_loss_without_focus_is_half_of_cross_entropy(call):
    # p = 3/4 for both classes of one anchor of class 1: the first is wrong by log 4, the second by log 4/3.
    logits = np.full((1, 1, 2), np.log(3), np.float32)
    found = call(SigmoidFocalLoss(alpha=0.5, gamma=0.0), logits, np.array([[1]], np.int32))
    assert found == pytest.approx((np.log(4) + np.log(4 / 3)) / 2)


def test_focal_loss_by_hand(call):
    # The same anchor. Its own class, weight 0.25: (1/4)^2 log 4/3. Background, weight 0.75: (3/4)^2 log 4.
    logits = np.full((1, 1, 2), np.log(3), np.float32)
    found = call(SigmoidFocalLoss(alpha=0.25, gamma=2.0), logits, np.array([[1]], np.int32))
    assert found == pytest.approx(0.25 / 16 * np.log(4 / 3) + 0.75 * 9 / 16 * np.log(4))


def test_background_is_a_class_like_any_other(focal, call):
    logits = np.full((1, 2, 3), -9, np.float32)
    logits[0, 0, 0] = logits[0, 1, 2] = 9
    assert call(focal, logits, np.array([[0, 2]], np.int32)) < 1e-3  # both anchors are right
    assert call(focal, logits, np.array([[2, 0]], np.int32)) > 9


# --- both losses together ---


@pytest.mark.parametrize("seed", range(3))
def test_loss_is_the_formula(seed, loss, call):
    inputs = random_inputs(np.random.default_rng(seed))
    assert (inputs[3] > 0).any()
    assert call(loss, *inputs)[0] == pytest.approx(ssd_loss(*inputs), rel=1e-5)


def test_the_parts_are_those_of_the_formula(loss, call, rng):
    offsets, logits, targets, labels = random_inputs(rng)
    positive = labels > 0
    total, box_loss, cls_loss = call(loss, offsets, logits, targets, labels)
    assert box_loss == pytest.approx(smooth_l1(offsets[positive] - targets[positive]) / positive.sum(), rel=1e-5)
    assert cls_loss == pytest.approx(focal_loss(logits, labels) / positive.sum(), rel=1e-5)
    assert box_loss + cls_loss == pytest.approx(total, rel=1e-6)


def test_box_loss_by_hand(loss, call, rng):
    labels = np.zeros((B, A), np.int32)
    labels[0, 2], labels[1, 5] = 3, 1
    logits = np.where(np.eye(K)[labels] > 0, np.float32(100), np.float32(-100))  # right, so that boxes alone count
    targets = rng.normal(0, 1, (B, A, 4)).astype(np.float32)
    offsets = targets + 77 * (labels == 0)[..., None].astype(np.float32)  # those of negatives do not
    offsets[0, 2] += [0.5, -1, 2, -3]  # 0.125 + 0.5 + 1.5 + 2.5
    offsets[1, 5] += [0, 0, 0, 0.5]  # 0.125
    assert call(loss, offsets, logits, targets, labels)[0] == pytest.approx((4.625 + 0.125) / 2, rel=1e-5)


def test_loss_of_a_batch_without_objects_is_that_of_its_negatives(loss, focal, gradients, call, rng):
    offsets, logits, targets, labels = random_inputs(rng, share_of_positives=0)
    found, _, _ = call(loss, offsets, logits, np.zeros_like(targets), labels)
    assert found == pytest.approx(focal_loss(logits, labels), rel=1e-5)
    of_offsets, of_logits = gradients(offsets, logits, np.zeros_like(targets), labels)
    assert not of_offsets.any()
    assert np.isfinite(of_logits).all() and of_logits.any()


def test_positives_are_counted_over_the_batch(loss, call, rng):
    offsets, logits, targets, labels = random_inputs(rng)
    labels[0, :3], labels[1] = 1, 0  # three in one image and none in the other
    expected = ssd_loss(offsets, logits, targets, labels)
    assert call(loss, offsets, logits, targets, labels)[0] == pytest.approx(expected, rel=1e-5)


def test_gradients_are_those_of_the_formula(gradients, rng):
    offsets, logits, targets, labels = random_inputs(rng)
    found = gradients(offsets, logits, targets, labels)
    inputs = [offsets.astype(np.float64), logits.astype(np.float64)]
    for which, gradient in enumerate(found):
        for place in np.ndindex(gradient.shape):
            sides = []
            for step in (1e-6, -1e-6):
                moved = [array.copy() for array in inputs]
                moved[which][place] += step
                sides.append(ssd_loss(*moved, targets, labels))
            assert gradient[place] == pytest.approx((sides[0] - sides[1]) / 2e-6, rel=1e-3, abs=1e-5)


@pytest.mark.parametrize("size", [50, 100])
def test_gradients_of_extreme_logits_are_finite(size, gradients, rng):
    offsets, logits, targets, labels = random_inputs(rng)
    labels[0, 0] = 1
    logits = np.where(logits > 0, np.float32(size), np.float32(-size))
    logits[0, 0] = [size, -size, size, -size]  # as wrong as can be
    of_offsets, of_logits = gradients(offsets * 1000, logits, targets, labels)
    assert np.isfinite(of_offsets).all() and np.isfinite(of_logits).all()
    # Far on the wrong side the slope of the loss is its weight: 0.25 for the object's class, 0.75 for the others.
    slopes = of_logits[0, 0] * np.sum(labels > 0)
    assert slopes == pytest.approx([0.75, -0.25, 0.75, 0], rel=1e-5)


@pytest.mark.parametrize("gamma", [0.0, 0.5])
def test_gradients_are_finite_with_little_focus(gamma, call, rng):
    _, logits, _, labels = random_inputs(rng)
    logits = np.where(logits > 0, np.float32(100), np.float32(-100))
    gradient = call(Gradients(SigmoidFocalLoss(gamma=gamma)), logits, labels)[0]
    assert np.isfinite(gradient).all()


def test_recipes_choose_alpha_and_gamma(load_recipe, call, rng):
    inputs = random_inputs(rng, share_of_positives=0)
    loss = create_loss(load_recipe("ssd_mobilenetv2", alpha=0.6, gamma=1.0), None)
    assert call(loss, *inputs)[0] == pytest.approx(focal_loss(inputs[1], inputs[3], 0.6, 1.0), rel=1e-5)

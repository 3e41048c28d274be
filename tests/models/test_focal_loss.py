"""Focal loss and the detection loss with it: against the papers' formulas in float64, and hand-computed sums."""

import functools
import operator

import numpy as np
import pytest
from loss_inputs import Gradients, LossInputs

from ssd.models.losses import FocalDetectionLoss, SigmoidFocalLoss, create_loss

B, A, K = 2, 6, 4


def focal_loss(logits, labels, alpha=0.25, gamma=2.0):
    """Sum -alpha_t (1 - p_t)^gamma log p_t, equation (5) of arXiv:1708.02002, where p_t = sigmoid(z)."""
    is_target = np.eye(logits.shape[-1], dtype=bool)[labels]
    z = np.where(is_target, logits, -logits).astype(np.float64)
    log_p, log_1_minus_p = -np.logaddexp(0, -z), -np.logaddexp(0, z)
    return np.sum(-np.where(is_target, alpha, 1 - alpha) * np.exp(gamma * log_1_minus_p) * log_p)


def smooth_l1(difference):
    """Sum equation (3) of arXiv:1504.08083."""
    absolute = np.abs(difference.astype(np.float64))
    return np.sum(np.where(absolute < 1, absolute**2 / 2, absolute - 0.5))


def detection_loss(inputs):
    """Compute the focal loss of all anchors plus the box loss of positives, over the number of positives."""
    positive = inputs.target_labels > 0
    box_loss = smooth_l1(inputs.box_offsets[positive] - inputs.target_offsets[positive])
    return (focal_loss(inputs.cls_logits, inputs.target_labels) + box_loss) / max(positive.sum(), 1)


def random_inputs(rng, logit_scale=3.0, positive_fraction=0.4):
    labels = rng.integers(1, K, (B, A)) * (rng.uniform(size=(B, A)) < positive_fraction)
    offsets, targets = rng.normal(0, 2, (2, B, A, 4)).astype(np.float32)
    logits = rng.normal(0, logit_scale, (B, A, K)).astype(np.float32)
    return LossInputs(offsets, logits, target_offsets=targets, target_labels=labels.astype(np.int32))


@pytest.fixture(scope="module")
def focal():
    return SigmoidFocalLoss()


@pytest.fixture(scope="module")
def loss():
    return FocalDetectionLoss()


@pytest.fixture(scope="module")
def gradients(loss, call):
    """gradients(inputs) are the gradients of the loss with respect to box_offsets and cls_logits."""
    net = Gradients(loss)
    return lambda inputs: call(net, *inputs)[:2]


# --- focal loss ---


@pytest.mark.parametrize("logit_scale", [0.1, 3, 30])
def test_focal_loss_is_the_formula(logit_scale, focal, call, rng):
    _, logits, _, labels = random_inputs(rng, logit_scale)
    assert call(focal, logits, labels) == pytest.approx(focal_loss(logits, labels), rel=1e-5)


@pytest.mark.parametrize("alpha, gamma", [(0.75, 2.0), (0.25, 0.0), (0.5, 1.5), (1.0, 0.5)])
def test_focal_loss_with_other_parameters(alpha, gamma, call, rng):
    _, logits, _, labels = random_inputs(rng)
    loss = call(SigmoidFocalLoss(alpha, gamma), logits, labels)
    assert loss == pytest.approx(focal_loss(logits, labels, alpha=alpha, gamma=gamma), rel=1e-5)


@pytest.mark.parametrize("magnitude", [50, 100])
def test_focal_loss_of_extreme_logits(magnitude, focal, call, rng):
    _, logits, _, labels = random_inputs(rng)
    logits = np.where(logits > 0, np.float32(magnitude), np.float32(-magnitude))
    loss = call(focal, logits, labels)
    assert np.isfinite(loss) and loss == pytest.approx(focal_loss(logits, labels), rel=1e-5)


def test_focal_loss_with_gamma_0_and_alpha_half_is_half_of_cross_entropy(call):
    # p = 3/4 for both classes of one anchor of class 1. The cross-entropy of background is log 4, that of class 1 is
    # log 4/3.
    logits = np.full((1, 1, 2), np.log(3), np.float32)
    loss = call(SigmoidFocalLoss(alpha=0.5, gamma=0.0), logits, np.array([[1]], np.int32))
    assert loss == pytest.approx((np.log(4) + np.log(4 / 3)) / 2)


def test_hand_computed_focal_loss(call):
    # The same anchor. Class 1, weight 0.25: (1/4)^2 log 4/3. Background, weight 0.75: (3/4)^2 log 4.
    logits = np.full((1, 1, 2), np.log(3), np.float32)
    loss = call(SigmoidFocalLoss(alpha=0.25, gamma=2.0), logits, np.array([[1]], np.int32))
    assert loss == pytest.approx(0.25 / 16 * np.log(4 / 3) + 0.75 * 9 / 16 * np.log(4))


def test_background_is_trained_like_any_class(focal, call):
    logits = np.full((1, 2, 3), -9, np.float32)
    logits[0, 0, 0] = logits[0, 1, 2] = 9
    assert call(focal, logits, np.array([[0, 2]], np.int32)) < 1e-3  # both anchors are right
    assert call(focal, logits, np.array([[2, 0]], np.int32)) > 9


# --- focal loss and box loss ---


@pytest.mark.parametrize("seed", range(3))
def test_loss_is_the_formula(seed, loss, call):
    inputs = random_inputs(np.random.default_rng(seed))
    assert (inputs.target_labels > 0).any()
    assert call(loss, *inputs)[0] == pytest.approx(detection_loss(inputs), rel=1e-5)


def test_box_and_class_losses_are_those_of_the_formula(loss, call, rng):
    inputs = random_inputs(rng)
    positive = inputs.target_labels > 0
    total, box_loss, cls_loss = call(loss, *inputs)
    expected = smooth_l1(inputs.box_offsets[positive] - inputs.target_offsets[positive]) / positive.sum()
    assert box_loss == pytest.approx(expected, rel=1e-5)
    expected = focal_loss(inputs.cls_logits, inputs.target_labels) / positive.sum()
    assert cls_loss == pytest.approx(expected, rel=1e-5)
    assert box_loss + cls_loss == pytest.approx(total, rel=1e-6)


def test_hand_computed_box_loss(loss, call, rng):
    labels = np.zeros((B, A), np.int32)
    labels[0, 2], labels[1, 5] = 3, 1
    logits = np.where(np.eye(K)[labels] > 0, np.float32(100), np.float32(-100))  # right, so the class loss is 0
    targets = rng.normal(0, 1, (B, A, 4)).astype(np.float32)
    offsets = targets + 77 * (labels == 0)[..., None].astype(np.float32)  # offsets of negatives do not count
    offsets[0, 2] += [0.5, -1, 2, -3]  # 0.125 + 0.5 + 1.5 + 2.5
    offsets[1, 5] += [0, 0, 0, 0.5]  # 0.125
    inputs = LossInputs(offsets, logits, target_offsets=targets, target_labels=labels)
    assert call(loss, *inputs)[0] == pytest.approx((4.625 + 0.125) / 2, rel=1e-5)


def test_loss_of_a_batch_without_positives_is_the_loss_of_its_negatives(loss, gradients, call, rng):
    inputs = random_inputs(rng, positive_fraction=0)
    inputs = inputs._replace(target_offsets=np.zeros_like(inputs.target_offsets))
    total, _, _ = call(loss, *inputs)
    assert total == pytest.approx(focal_loss(inputs.cls_logits, inputs.target_labels), rel=1e-5)
    offsets_gradient, logits_gradient = gradients(inputs)
    assert not offsets_gradient.any()
    assert np.isfinite(logits_gradient).all() and logits_gradient.any()


def test_positives_are_counted_over_the_batch(loss, call, rng):
    inputs = random_inputs(rng)
    inputs.target_labels[0, :3], inputs.target_labels[1] = 1, 0  # three positives in one image, none in the other
    assert call(loss, *inputs)[0] == pytest.approx(detection_loss(inputs), rel=1e-5)


def test_gradients_are_those_of_the_formula(gradients, rng):
    inputs = random_inputs(rng)
    for name, gradient in zip(("box_offsets", "cls_logits"), gradients(inputs)):
        for place in np.ndindex(gradient.shape):
            both_sides = []
            for step in (1e-6, -1e-6):
                moved = getattr(inputs, name).astype(np.float64)
                moved[place] += step
                both_sides.append(detection_loss(inputs._replace(**{name: moved})))
            expected = (both_sides[0] - both_sides[1]) / 2e-6
            assert gradient[place] == pytest.approx(expected, rel=1e-3, abs=1e-5)


@pytest.mark.parametrize("magnitude", [50, 100])
def test_gradients_of_extreme_logits_are_finite(magnitude, gradients, rng):
    inputs = random_inputs(rng)
    inputs.target_labels[0, 0] = 1
    logits = np.where(inputs.cls_logits > 0, np.float32(magnitude), np.float32(-magnitude))
    logits[0, 0] = [magnitude, -magnitude, magnitude, -magnitude]  # wrong for all classes but the last
    inputs = inputs._replace(box_offsets=inputs.box_offsets * 1000, cls_logits=logits)
    offsets_gradient, logits_gradient = gradients(inputs)
    assert np.isfinite(offsets_gradient).all() and np.isfinite(logits_gradient).all()
    # The slope of the loss of a very wrong logit is its weight: 0.25 for the target class, 0.75 for other classes.
    slopes = logits_gradient[0, 0] * np.sum(inputs.target_labels > 0)
    assert slopes == pytest.approx([0.75, -0.25, 0.75, 0], rel=1e-5)


@pytest.mark.parametrize("gamma", [0.0, 0.5])
def test_gradients_with_a_small_gamma_are_finite(gamma, call, rng):
    _, logits, _, labels = random_inputs(rng)
    logits = np.where(logits > 0, np.float32(100), np.float32(-100))
    gradient = call(Gradients(SigmoidFocalLoss(gamma=gamma)), logits, labels)[0]
    assert np.isfinite(gradient).all()


def test_recipes_choose_alpha_and_gamma(load_recipe, small_anchors, call, rng):
    inputs = random_inputs(rng, positive_fraction=0)
    loss = create_loss(load_recipe("ssd_mobilenetv2", alpha=0.6, gamma=1.0), small_anchors)
    expected = focal_loss(inputs.cls_logits, inputs.target_labels, alpha=0.6, gamma=1.0)
    assert call(loss, *inputs)[0] == pytest.approx(expected, rel=1e-5)


def test_only_several_devices_with_the_key_exchange_their_positives(load_recipe, small_anchors):
    off, on = (load_recipe("ssd_mobilenetv2", sync_num_positives=value) for value in (False, True))
    assert create_loss(on, small_anchors, world_size=2).all_reduce is not None
    for cfg, world_size in ((off, 1), (off, 2), (on, 1)):
        assert create_loss(cfg, small_anchors, world_size).all_reduce is None
    assert create_loss(on, small_anchors).all_reduce is None  # one device by default


@pytest.mark.parametrize("positive_fraction", [0.4, 0])
def test_the_mean_loss_of_two_devices_is_the_loss_of_their_joint_batch(positive_fraction, pynative, call, rng):
    batches = [random_inputs(rng, positive_fraction=positive_fraction) for _ in range(2)]
    counts = [int((inputs.target_labels > 0).sum()) for inputs in batches]
    losses = []
    for inputs, other_count in zip(batches, counts[::-1]):
        loss = FocalDetectionLoss(num_devices=2)
        loss.all_reduce = functools.partial(operator.add, other_count)
        total, box_loss, cls_loss = call(loss, *inputs)
        assert total == pytest.approx(box_loss + cls_loss, rel=1e-6)
        losses.append(total)
    joint = LossInputs(*map(np.concatenate, zip(*batches)))
    assert np.mean(losses) == pytest.approx(detection_loss(joint), rel=1e-5)

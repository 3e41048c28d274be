"""The loss for task-aligned targets against float64 sums, and its limits."""

import functools
import operator

import numpy as np
import pytest
from loss_inputs import Gradients

from ssd.models.losses import SmoothL1, create_loss
from ssd.models.task_aligned_loss import TaskAlignedLoss

B, A, K = 2, 30, 4


def random_inputs(rng):
    labels = (rng.integers(1, K, (B, A)) * (rng.uniform(size=(B, A)) < 0.3)).astype(np.int32)
    scores = (rng.uniform(0, 1, (B, A)) * (labels > 0)).astype(np.float32)
    offsets, targets = rng.normal(0, 2, (2, B, A, 4)).astype(np.float32)
    return offsets, rng.normal(0, 3, (B, A, K)).astype(np.float32), targets, labels, scores


def expected_loss(offsets, logits, targets, labels, scores, weight):
    """Return (box loss, class loss) in float64."""
    box, cls = 0.0, 0.0
    for image in range(B):
        for anchor in range(A):
            distance = np.abs(offsets[image, anchor].astype(np.float64) - targets[image, anchor])
            box += scores[image, anchor] * np.where(distance < 1, distance**2 / 2, distance - 0.5).sum()
            for label in range(1, K):
                target = scores[image, anchor] if labels[image, anchor] == label else 0.0
                probability = 1 / (1 + np.exp(-np.float64(logits[image, anchor, label])))
                cls -= target * np.log(probability) + (1 - target) * np.log(1 - probability)
    return weight * box / scores.sum(), cls / scores.sum()


@pytest.fixture(scope="module")
def loss():
    return TaskAlignedLoss(SmoothL1(), box_loss_weight=2.5)


def test_loss_equals_a_sum_in_float64(loss, call):
    for seed in range(3):
        inputs = random_inputs(np.random.default_rng(seed))
        total, box_loss, cls_loss = call(loss, *inputs)
        expected = expected_loss(*inputs, weight=2.5)
        assert (box_loss, cls_loss) == pytest.approx(expected, rel=1e-5)
        assert total == pytest.approx(sum(expected), rel=1e-5)


def test_gradients_are_those_of_the_loss(loss, call):
    inputs = random_inputs(np.random.default_rng(3))
    offsets, logits = call(Gradients(loss), *inputs)[:2]
    divisor = inputs[4].sum()
    is_target = np.eye(K)[inputs[3]] * inputs[4][..., None]
    expected = (1 / (1 + np.exp(-inputs[1].astype(np.float64))) - is_target) / divisor
    np.testing.assert_allclose(logits[..., 1:], expected[..., 1:], rtol=1e-4, atol=1e-6)
    assert not logits[..., 0].any()  # background is no class
    clipped = np.clip(inputs[0] - inputs[2], -1, 1)
    np.testing.assert_allclose(offsets, 2.5 * clipped * inputs[4][..., None] / divisor, rtol=1e-4, atol=1e-6)


def test_a_batch_without_boxes_has_a_finite_loss(loss, call):
    offsets, logits, targets, labels, scores = random_inputs(np.random.default_rng(4))
    total, box_loss, _ = call(loss, offsets, logits, targets, np.zeros_like(labels), np.zeros_like(scores))
    assert box_loss == 0
    assert total == pytest.approx(np.log1p(np.exp(logits[..., 1:].astype(np.float64))).sum(), rel=1e-5)


def test_large_logits_do_not_overflow(loss, call):
    offsets, logits, *targets = random_inputs(np.random.default_rng(5))
    outputs = call(loss, offsets, np.sign(logits) * np.float32(1e4), *targets)
    assert np.isfinite(outputs).all()


def test_recipe_selects_the_loss(load_recipe, small_anchors):
    cfg = load_recipe("ssd_mobilenetv2", loss="task_aligned", prior_bias=0.01, box_loss="ciou", box_loss_weight=3.0)
    loss = create_loss(cfg, small_anchors)
    assert isinstance(loss, TaskAlignedLoss) and loss.box_loss.is_ciou and loss.box_loss_weight == 3
    shared = load_recipe("ssd_mobilenetv2", loss="task_aligned", prior_bias=0.01, sync_num_positives=True)
    assert create_loss(cfg, small_anchors, world_size=2).all_reduce is None
    assert create_loss(shared, small_anchors, world_size=2).all_reduce is not None


@pytest.mark.parametrize("scale", [1, 0.01])  # scores whose sum over both devices is above 1, and below
def test_the_mean_loss_of_two_devices_is_the_loss_of_their_joint_batch(scale, loss, pynative, call, rng):
    batches = [(*inputs, scores * np.float32(scale)) for *inputs, scores in (random_inputs(rng), random_inputs(rng))]
    sums = [float(batch[4].sum()) for batch in batches]
    losses = []
    for batch, other_sum in zip(batches, sums[::-1]):
        device_loss = TaskAlignedLoss(SmoothL1(), box_loss_weight=2.5, num_devices=2)
        device_loss.all_reduce = functools.partial(operator.add, other_sum)
        losses.append(call(device_loss, *batch))
    joint = call(loss, *map(np.concatenate, zip(*batches)))
    np.testing.assert_allclose(np.mean(losses, axis=0), joint, rtol=1e-5)

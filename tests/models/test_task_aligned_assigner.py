"""Task-aligned assignment in the graph against the NumPy references `TaskAlignedMatcher` and `BoxCoder`."""

import numpy as np
import pytest
from gt_batches import B, M, clustered, pad, random_batch, repeated, spread, tiny
from loss_inputs import Gradients

from ssd.boxes.coder import BoxCoder
from ssd.boxes.ops import cyxhw_to_yxyx
from ssd.boxes.task_aligned_matcher import TaskAlignedMatcher
from ssd.models.target_assigner import create_assigner
from ssd.models.task_aligned_assigner import TaskAlignedAssigner

K = 81


@pytest.fixture(scope="module")
def assigner(load_recipe, small_anchors):
    return create_assigner(load_recipe("ssd_mobilenetv2", loss="task_aligned", prior_bias=0.01), small_anchors)


def reference_targets(anchors, boxes, labels, box_offsets, cls_logits):
    """Compute the targets of a padded batch with TaskAlignedMatcher and BoxCoder: offsets, labels, scores."""
    offsets = np.zeros((len(boxes), len(anchors), 4), np.float32)
    targets, target_scores = np.zeros((len(boxes), len(anchors)), np.int32), np.zeros((len(boxes), len(anchors)))
    matcher = TaskAlignedMatcher(anchors.boxes_yxyx)
    for image, (rows, classes) in enumerate(zip(boxes, labels)):
        rows, classes = rows[classes > 0], classes[classes > 0]
        decoded = box_offsets[image].astype(np.float64) * [0.1, 0.1, 0.2, 0.2]
        centers = decoded[:, :2] * anchors.boxes_cyxhw[:, 2:] + anchors.boxes_cyxhw[:, :2]
        predicted = cyxhw_to_yxyx(np.hstack([centers, np.exp(decoded[:, 2:]) * anchors.boxes_cyxhw[:, 2:]]))
        scores = 1 / (1 + np.exp(-cls_logits[image].astype(np.float64)))
        matches, target_scores[image] = matcher.match(rows, classes, predicted, scores)
        positive = matches >= 0
        targets[image, positive] = classes[matches[positive]]
        offsets[image, positive] = BoxCoder().encode(rows[matches[positive]], anchors.boxes_cyxhw[positive])
    return offsets, targets, target_scores


def random_predictions(rng, num_anchors):
    offsets = rng.normal(0, 1, (B, num_anchors, 4)).astype(np.float32)
    return offsets, rng.normal(-2, 2, (B, num_anchors, K)).astype(np.float32)


@pytest.mark.parametrize("kind", [spread, clustered, tiny, repeated])
@pytest.mark.parametrize("seed", range(4))
def test_targets_equal_the_reference(kind, seed, assigner, small_anchors, call):
    rng = np.random.default_rng(seed)
    boxes, labels = random_batch(rng, kind)
    predictions = random_predictions(rng, len(small_anchors))
    offsets, targets, scores = call(assigner, boxes, labels, *predictions)
    expected = reference_targets(small_anchors, boxes, labels, *predictions)
    assert (offsets.dtype, targets.dtype, scores.dtype) == (np.float32, np.int32, np.float32)
    assert targets.any() and 0 <= scores.min() and scores.max() <= 1
    np.testing.assert_array_equal(targets, expected[1])
    # Boxes are rounded to about 1e-7, which is divided by the anchor's side and by the prior scaling of 0.1.
    np.testing.assert_allclose(offsets, expected[0], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(scores, expected[2], rtol=1e-3, atol=1e-5)


def test_extreme_predictions_give_finite_targets(assigner, small_anchors, call):
    boxes, labels = pad([[(0.1, 0.1, 0.5, 0.9, 3), (0.1, 0.6, 0.9, 0.9, 4)]] * B)
    for offset, logit in ((1e4, 1e4), (-1e4, -1e4)):
        predictions = np.full((B, 80, 4), offset, np.float32), np.full((B, 80, K), logit, np.float32)
        offsets, targets, scores = call(assigner, boxes, labels, *predictions)
        assert np.isfinite(offsets).all() and np.isfinite(scores).all()
        assert set(np.unique(targets)) == {0, 3, 4}


def test_more_positives_than_anchors_are_not_needed(call):
    whole, boxes = np.array([[0, 0, 1, 1]], np.float32), np.array([[[0.2, 0.2, 0.9, 0.9]]], np.float32)
    assigner = TaskAlignedAssigner(np.array([[0.5, 0.5, 1, 1]], np.float32), whole)
    predictions = np.zeros((1, 1, 4), np.float32), np.zeros((1, 1, 3), np.float32)
    _, targets, scores = call(assigner, boxes, np.array([[2]], np.int32), *predictions)
    assert targets.tolist() == [[2]] and scores[0, 0] == pytest.approx(0.49)


def test_padding_is_never_matched(assigner, small_anchors, call):
    rng = np.random.default_rng(0)
    boxes, labels = np.tile(np.float32([0.2, 0.2, 0.8, 0.8]), (B, M, 1)), np.zeros((B, M), np.int32)
    outputs = call(assigner, boxes, labels, *random_predictions(rng, 80))
    assert not any(output.any() for output in outputs)


def test_no_gradient_flows_through_the_targets(small_anchors, call):
    rng = np.random.default_rng(1)
    boxes, labels = random_batch(rng, spread)
    net = Gradients(TaskAlignedAssigner(small_anchors.boxes_cyxhw, small_anchors.boxes_yxyx))
    gradients = call(net, boxes, labels, *random_predictions(rng, 80))
    assert not gradients[-1].any() and not gradients[-2].any()

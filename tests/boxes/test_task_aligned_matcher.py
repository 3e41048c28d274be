"""Task-aligned matching in NumPy, with values computed by hand."""

import numpy as np
import pytest

from ssd.boxes.task_aligned_matcher import MIN_IOU, TaskAlignedMatcher

# Anchors of 0.2 x 0.2 in a row, with centers x at 0.1, 0.3, 0.5, 0.7, 0.9
ANCHORS = np.array([[0.4, x - 0.1, 0.6, x + 0.1] for x in (0.1, 0.3, 0.5, 0.7, 0.9)])


def match(gt_boxes, gt_labels, boxes=ANCHORS, scores=None):
    scores = np.full((len(ANCHORS), 3), 0.5) if scores is None else np.asarray(scores)
    return TaskAlignedMatcher(ANCHORS).match(
        np.reshape(gt_boxes, (-1, 4)), np.asarray(gt_labels, int), np.asarray(boxes), scores
    )


def test_candidates_are_anchors_whose_centers_are_inside():
    matches, scores = match([[0.4, 0.25, 0.6, 0.75]], [1])
    assert matches.tolist() == [-1, 0, 0, 0, -1]
    # IoUs of the anchors at 0.3, 0.5 and 0.7: overlap 0.15, 0.2 and 0.15 of widths 0.5 and 0.2
    outer, middle = 0.15 / 0.55, 0.2 / 0.5
    assert scores == pytest.approx([0, (outer / middle) ** 6 * middle, middle, (outer / middle) ** 6 * middle, 0])


def test_rows_of_centers_are_compared_with_rows_of_boxes():
    """The row of the centers, 0.5, is inside the box, although it is larger than the column where the box ends."""
    assert match([[0.4, 0.05, 0.6, 0.45]], [1])[0].tolist() == [0, 0, -1, -1, -1]


def test_centers_on_the_border_are_outside():
    anchors = np.array([[0, 0, 2, 2], [2, 2, 4, 4], [1, 0, 3, 2], [0, 2, 2, 4]])  # centers 1, 1; 3, 3; 2, 1 and 1, 3
    boxes, scores = np.tile([1, 1, 3, 3], (4, 1)), np.full((4, 2), 0.5)
    # No center is inside the box: it gets the anchor with the highest IoU, and that is the first of equal ones.
    matches, _ = TaskAlignedMatcher(anchors).match(np.array([[1, 1, 3, 3]]), np.array([1]), boxes, scores)
    assert matches.tolist() == [-1, -1, 0, -1]


def test_the_score_of_the_box_s_class_counts():
    scores = np.full((5, 3), 0.5)
    scores[1, 2], scores[3, 1] = 0.1, 0.9  # class 2 of the anchor at 0.3; another class of the anchor at 0.7
    matches, targets = match([[0.4, 0.25, 0.6, 0.75]], [2], scores=scores)
    assert matches.tolist() == [-1, 0, 0, 0, -1]
    assert targets[1] == pytest.approx(targets[3] / 5)


def test_predicted_boxes_count_not_anchors():
    boxes = ANCHORS.copy()
    boxes[1] = [0.4, 0.25, 0.6, 0.75]  # fits exactly
    matches, targets = match([[0.4, 0.25, 0.6, 0.75]], [1], boxes=boxes)
    assert matches[1] == 0 and targets[1] == 1  # the maximum is the highest IoU
    assert targets[2] == pytest.approx((0.2 / 0.5) ** 6)


def test_a_box_without_an_anchor_center_gets_the_anchor_with_the_highest_iou():
    matches, targets = match([[0.4, 0.35, 0.6, 0.42]], [1])
    assert matches.tolist() == [-1, 0, -1, -1, -1]
    assert targets[1] == pytest.approx(0.05 / 0.22)


def test_a_shared_anchor_belongs_to_the_box_with_the_higher_iou():
    matches, _ = match([[0.4, 0.2, 0.6, 0.45], [0.4, 0.22, 0.6, 0.9]], [1, 2])
    assert matches.tolist() == [-1, 0, 1, 1, -1]


def test_at_most_the_best_candidates_are_positive():
    side = np.linspace(0.02, 0.98, 25)
    anchors = np.array([[0.4, x - 0.1, 0.6, x + 0.1] for x in side])
    scores = np.full((25, 2), 0.5)
    scores[:, 1] = np.linspace(0.9, 0.1, 25)
    boxes = np.tile([[0.3, 0.1, 0.7, 0.9]], (25, 1))  # equal IoUs
    matches, _ = TaskAlignedMatcher(anchors).match(np.array([[0.3, 0.0, 0.7, 1.0]]), np.array([1]), boxes, scores)
    assert np.flatnonzero(matches == 0).tolist() == list(range(13))


def test_predictions_that_miss_the_box_are_ranked_by_score():
    boxes = np.tile([[0.0, 0.0, 0.1, 0.1]], (5, 1))
    scores = np.full((5, 2), 0.2)
    scores[2, 1] = 0.4
    matches, targets = match([[0.4, 0.25, 0.6, 0.75]], [1], boxes=boxes, scores=scores)
    assert matches.tolist() == [-1, 0, 0, 0, -1]
    assert targets.max() == 0 < MIN_IOU  # no predicted box overlaps the box


def test_scores_of_zero_are_allowed():
    matches, targets = match([[0.4, 0.25, 0.6, 0.75]], [1], scores=np.zeros((5, 3)))
    assert matches.tolist() == [-1, 0, 0, 0, -1] and targets.max() == pytest.approx(0.4)


def test_a_small_box_in_a_large_box_may_get_no_anchor():
    matches, _ = match(
        [[0.3, 0.1, 0.7, 0.9], [0.45, 0.45, 0.55, 0.55]], [1, 2], boxes=np.tile([[0.3, 0.1, 0.7, 0.9]], (5, 1))
    )
    assert set(matches.tolist()) == {-1, 0}


def test_an_image_without_boxes_has_no_matches():
    matches, targets = match(np.zeros((0, 4)), [])
    assert (matches == -1).all() and (targets == 0).all() and len(matches) == len(targets) == 5


def test_the_order_of_boxes_does_not_matter():
    rng = np.random.default_rng(0)
    low = rng.uniform(0, 0.6, (4, 2))
    gt_boxes = np.hstack([low, low + rng.uniform(0.1, 0.4, (4, 2))])
    labels, scores = rng.integers(1, 3, 4), rng.uniform(0, 1, (5, 3))
    order = rng.permutation(4)
    matches, targets = match(gt_boxes, labels, scores=scores)
    shuffled, shuffled_targets = match(gt_boxes[order], labels[order], scores=scores)
    np.testing.assert_array_equal(np.append(order, -1)[shuffled], matches)
    np.testing.assert_allclose(shuffled_targets, targets)

"""Properties of the two matchers: which anchors may be matched, and invariance to order and padding."""

import numpy as np
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from box_strategies import boxes, permutations
from ssd.boxes.matcher import Matcher
from ssd.boxes.ops import pairwise_iou
from ssd.boxes.task_aligned_matcher import TaskAlignedMatcher

thresholds = st.floats(0.1, 0.9)


def has_ties(iou):
    """Whether two overlaps are equal or almost equal, so that the order decides."""
    values = np.sort(iou[iou > 0])
    return bool((np.diff(values) < 1e-9).any())


@given(boxes(0, 5), boxes(1, 12), thresholds)
def test_matches_are_above_the_threshold_or_forced(gt_boxes, anchors, threshold):
    matches = Matcher(threshold).match(gt_boxes, anchors)
    assert matches.shape == (len(anchors),) and (matches >= -1).all() and (matches < len(gt_boxes)).all()
    iou = pairwise_iou(gt_boxes, anchors)
    matched = np.flatnonzero(matches >= 0)
    overlaps = iou[matches[matched], matched]
    assert (overlaps > 0).all()
    forced = matches[matched][overlaps <= threshold]
    assert len(set(forced.tolist())) == len(forced)  # one forced anchor for each box
    if len(gt_boxes):
        assert (matches[iou.max(axis=0) > threshold] >= 0).all()


@given(boxes(2, 4, min_side=1 / 8), boxes(8, 12, min_side=1 / 8), st.floats(0.5, 0.9))
def test_a_box_that_overlaps_a_free_anchor_has_a_match(gt_boxes, anchors, threshold):
    """FORCED_MATCH_ROUNDS is 4, which suffices for four boxes."""
    matches = Matcher(threshold).match(gt_boxes, anchors)
    iou = pairwise_iou(gt_boxes, anchors)
    for row in set(range(len(gt_boxes))) - set(matches.tolist()):
        assert (matches[iou[row] > 0] >= 0).all()


@given(boxes(1, 4), boxes(6, 6), thresholds, permutations(6), st.data())
def test_order_does_not_matter_without_ties(gt_boxes, anchors, threshold, order, data):
    assume(not has_ties(pairwise_iou(gt_boxes, anchors)))
    matches = Matcher(threshold).match(gt_boxes, anchors)
    np.testing.assert_array_equal(Matcher(threshold).match(gt_boxes, anchors[order]), matches[order])
    gt_order = data.draw(permutations(len(gt_boxes)))
    permuted = Matcher(threshold).match(gt_boxes[gt_order], anchors)
    np.testing.assert_array_equal(np.where(permuted >= 0, gt_order[permuted], -1), matches)


@given(boxes(1, 4), boxes(1, 12), thresholds, st.integers(1, 3))
def test_padding_changes_nothing(gt_boxes, anchors, threshold, count):
    padded = np.concatenate([gt_boxes, np.zeros((count, 4))])
    np.testing.assert_array_equal(
        Matcher(threshold).match(padded, anchors), Matcher(threshold).match(gt_boxes, anchors)
    )


@given(boxes(0, 4), boxes(10, 10), boxes(10, 10), arrays(np.float64, (10, 3), elements=st.floats(0, 1)), st.data())
def test_task_aligned_targets_are_scores_of_matched_anchors(gt_boxes, anchors, predicted, scores, data):
    labels = data.draw(arrays(np.int64, len(gt_boxes), elements=st.integers(1, 2)))
    matches, targets = TaskAlignedMatcher(anchors).match(gt_boxes, labels, predicted, scores=scores)
    assert (matches >= -1).all() and (matches < len(gt_boxes)).all()
    assert (targets >= 0).all() and (targets <= 1 + 1e-9).all()  # both are False for NaN
    assert (targets[matches < 0] == 0).all()
    iou = pairwise_iou(gt_boxes, predicted)
    for row in set(matches[matches >= 0].tolist()):
        own = np.flatnonzero(matches == row)
        np.testing.assert_allclose(targets[own].max(), iou[row, own].max())

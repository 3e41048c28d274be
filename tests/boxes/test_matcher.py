"""Matching of boxes that differ only along x, so that IoUs are easy to see: [0, 4] and [1, 5] have 3/5."""

import numpy as np
import pytest

from ssd.boxes.matcher import FORCED_MATCH_ROUNDS, Matcher
from ssd.boxes.ops import pairwise_iou


def spans(*x_ranges):
    """Turn (x0, x1), ... into boxes_yxyx of height 1."""
    return np.array([[0.0, x0, 1.0, x1] for x0, x1 in x_ranges]).reshape(-1, 4)


ANCHORS = spans(*[(0, 4), (4, 8), (8, 12), (20, 24)])


@pytest.mark.parametrize(
    "gt_spans, anchors, expected, why",
    [
        ([], ANCHORS, [-1, -1, -1, -1], "no ground-truth boxes"),
        ([(0, 4), (5, 9)], ANCHORS, [0, 1, -1, -1], "IoUs 4/4 and 3/5; the third anchor's 1/7 is below the threshold"),
        ([(9, 17)], ANCHORS, [-1, -1, 0, -1], "3/9 is below the threshold, but the best IoU: a forced match"),
        ([(30, 34)], ANCHORS, [-1, -1, -1, -1], "no overlap with any anchor, so no forced match"),
        ([(0, 4)], spans((0, 4), (1, 5), (0, 3)), [0, 0, 0], "3/5 and 3/4 are above the threshold too"),
        ([(0, 4)], spans((0, 4), (0, 8)), [0, -1], "4/8 equals the threshold, and is not above it"),
        ([(0, 4), (1, 5)], ANCHORS, [0, 1, -1, -1], "the same best anchor: 4/4 gets it, the other gets its 1/7"),
        ([(1, 5), (0, 4)], ANCHORS, [1, 0, -1, -1], "the same boxes in the other order"),
        ([(0, 3), (1, 4)], spans((0, 4), (2, 6)), [0, 1], "3/4 both: the first box gets it, the second gets its 2/5"),
        ([(1, 4), (0, 3)], spans((0, 4), (2, 6)), [0, 1], "in the other order the second box gets its 1/6"),
        ([(0, 4), (0, 4)], spans((0, 4), (1, 5)), [0, 1], "two equal boxes: each gets an anchor of its own"),
        ([(0, 3), (1, 4)], spans((0, 4), (9, 12)), [0, -1], "no free anchor overlaps the second box: it gets none"),
        ([(0, 4), (4, 5)], spans((0, 4), (1, 5)), [0, 1], "the second box's forced match of 1/4 beats the first's 3/5"),
        ([(4, 5), (0, 4)], spans((0, 4), (1, 5)), [1, 0], "the same boxes in the other order"),
    ],
)
def test_hand_computed_matches(gt_spans, anchors, expected, why):
    matches = Matcher().match(spans(*gt_spans), anchors)
    assert matches.tolist() == expected, why
    assert matches.dtype == np.int64


def test_threshold_applies_to_matches_that_are_not_forced():
    anchors = spans((0, 4), (0, 8))  # IoUs 4/4 and 4/8
    assert Matcher(threshold=0.4).match(spans((0, 4)), anchors).tolist() == [0, 0]
    assert Matcher(threshold=0.6).match(spans((0, 4)), anchors).tolist() == [0, -1]


def test_more_equal_boxes_than_rounds():
    assert FORCED_MATCH_ROUNDS == 4
    anchors = spans(*[(0, 4), (1, 5), (2, 6), (3, 7), (0, 3)])  # IoUs with [0, 4]: 1, 3/5, 2/6, 1/7 and 3/4
    # Six equal boxes: each of the four rounds gives one of them the free anchor with the highest IoU. No round is left
    # for the anchor with 1/7.
    assert Matcher().match(spans(*[(0, 4)] * 6), anchors).tolist() == [0, 2, 3, -1, 1]


def test_boxes_without_their_best_anchor_compete_again_in_the_next_round():
    anchors = spans((0, 4), (1, 5), (2, 6))
    # The first anchor is the best of all boxes: 4/4, 3.9/4.1 and 3.8/4.2. In the next round the second anchor is the
    # best of both other boxes: 3.1/4.9 and 3.2/4.8. The last box gets it, and the second box gets the third anchor.
    assert Matcher().match(spans((0, 4), (0.1, 4.1), (0.2, 4.2)), anchors).tolist() == [0, 2, 1]


def test_order_of_ground_truth_boxes_does_not_matter():
    rng = np.random.default_rng(0)
    low = rng.uniform(0, 0.8, size=(60, 2))
    anchors = np.concatenate([low, low + rng.uniform(0.1, 0.4, size=(60, 2))], axis=1)
    for _ in range(20):
        gt_boxes = anchors[rng.integers(60, size=8)] + rng.normal(0, 0.03, size=(8, 4))
        matches = Matcher().match(gt_boxes, anchors)
        order = rng.permutation(8)
        again = Matcher().match(gt_boxes[order], anchors)
        np.testing.assert_array_equal(np.where(again >= 0, order[again], -1), matches)


def test_every_box_has_an_anchor_and_at_most_one_match_below_the_threshold():
    rng = np.random.default_rng(1)
    low = rng.uniform(0, 0.8, size=(200, 2))
    anchors = np.concatenate([low, low + 0.2], axis=1)
    gt_boxes = anchors[rng.choice(200, 5, replace=False)] + rng.normal(0, 0.05, size=(5, 4))
    matches, iou = Matcher().match(gt_boxes, anchors), pairwise_iou(gt_boxes, anchors)
    assert set(matches) == {-1, 0, 1, 2, 3, 4}
    assert (matches[iou.max(axis=0) > 0.5] >= 0).all()  # every anchor above the threshold is matched
    for index in range(5):
        is_below_threshold = (matches == index) & (iou[index] <= 0.5)
        assert is_below_threshold.sum() <= 1  # only the forced match

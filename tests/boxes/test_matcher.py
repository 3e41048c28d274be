"""Matching on boxes that differ along x alone, so that overlaps can be read off: [0, 4] and [1, 5] share 3 of 5."""

import numpy as np
import pytest

from ssd.boxes.matcher import FORCED_MATCH_ROUNDS, Matcher
from ssd.boxes.ops import pairwise_iou


def spans(*x_ranges):
    """[(x0, x1), …] to boxes_yxyx of height 1."""
    return np.array([[0.0, x0, 1.0, x1] for x0, x1 in x_ranges]).reshape(-1, 4)


ANCHORS = spans((0, 4), (4, 8), (8, 12), (20, 24))


@pytest.mark.parametrize(
    "objects, anchors, expected, why",
    [
        ([], ANCHORS, [-1, -1, -1, -1], "no objects"),
        ([(0, 4), (5, 9)], ANCHORS, [0, 1, -1, -1], "4/4 and 3/5; the 1/7 of the third anchor is too little"),
        ([(9, 17)], ANCHORS, [-1, -1, 0, -1], "3/9 is under the threshold, but it is the best there is"),
        ([(30, 34)], ANCHORS, [-1, -1, -1, -1], "overlaps nothing, so it claims nothing"),
        ([(0, 4)], spans((0, 4), (1, 5), (0, 3)), [0, 0, 0], "3/5 and 3/4 are above the threshold too"),
        ([(0, 4)], spans((0, 4), (0, 8)), [0, -1], "4/8 is the threshold, not above it"),
        ([(0, 4), (1, 5)], ANCHORS, [0, 1, -1, -1], "both want the first: 4/4 keeps it, 3/5 goes on to 1/7"),
        ([(1, 5), (0, 4)], ANCHORS, [1, 0, -1, -1], "the same the other way round"),
        ([(0, 3), (1, 4)], spans((0, 4), (2, 6)), [0, 1], "3/4 each: the earlier keeps it, the other goes on to 2/5"),
        ([(1, 4), (0, 3)], spans((0, 4), (2, 6)), [0, 1], "the earlier is now the other, which goes on to 1/6"),
        ([(0, 4), (0, 4)], spans((0, 4), (1, 5)), [0, 1], "one object twice: each has its own anchor"),
        ([(0, 3), (1, 4)], spans((0, 4), (9, 12)), [0, -1], "no free anchor overlaps the loser: it gets none"),
        ([(0, 4), (4, 5)], spans((0, 4), (1, 5)), [0, 1], "3/5 of the first is no match for the 1/4 that claimed it"),
        ([(4, 5), (0, 4)], spans((0, 4), (1, 5)), [1, 0], "the same the other way round"),
    ],
)
def test_by_hand(objects, anchors, expected, why):
    matched = Matcher().match(spans(*objects), anchors)
    assert matched.tolist() == expected, why
    assert matched.dtype == np.int64


def test_threshold_decides_what_is_not_claimed():
    anchors = spans((0, 4), (0, 8))  # 4/4 and 4/8
    assert Matcher(threshold=0.4).match(spans((0, 4)), anchors).tolist() == [0, 0]
    assert Matcher(threshold=0.6).match(spans((0, 4)), anchors).tolist() == [0, -1]


def test_more_rivals_than_rounds():
    assert FORCED_MATCH_ROUNDS == 4
    anchors = spans((0, 4), (1, 5), (2, 6), (3, 7), (0, 3))  # 1, 3/5, 2/6, 1/7 and 3/4 of [0, 4]
    # Six times the same object: a round each for the first four, in the order of overlap; nobody is left for the 1/7.
    assert Matcher().match(spans(*[(0, 4)] * 6), anchors).tolist() == [0, 2, 3, -1, 1]


def test_a_crowded_anchor_moves_losers_on_in_each_round():
    anchors = spans((0, 4), (1, 5), (2, 6))
    # All want the first anchor, by 4/4, 3.9/4.1 and 3.8/4.2. Both losers then want the second, by 3.1/4.9 and 3.2/4.8:
    # the last, which lost by more, now wins, and the other ends with the third.
    assert Matcher().match(spans((0, 4), (0.1, 4.1), (0.2, 4.2)), anchors).tolist() == [0, 2, 1]


def test_order_of_objects_does_not_matter():
    rng = np.random.default_rng(0)
    low = rng.uniform(0, 0.8, size=(60, 2))
    anchors = np.concatenate([low, low + rng.uniform(0.1, 0.4, size=(60, 2))], axis=1)
    for _ in range(20):
        objects = anchors[rng.integers(60, size=8)] + rng.normal(0, 0.03, size=(8, 4))
        matched = Matcher().match(objects, anchors)
        order = rng.permutation(8)
        again = Matcher().match(objects[order], anchors)
        assert np.array_equal(np.where(again < 0, -1, order[again]), matched)


def test_every_object_has_an_anchor_and_every_anchor_a_reason():
    rng = np.random.default_rng(1)
    low = rng.uniform(0, 0.8, size=(200, 2))
    anchors = np.concatenate([low, low + 0.2], axis=1)
    objects = anchors[rng.choice(200, 5, replace=False)] + rng.normal(0, 0.05, size=(5, 4))
    matched, iou = Matcher().match(objects, anchors), pairwise_iou(objects, anchors)
    assert set(matched) == {-1, 0, 1, 2, 3, 4}
    assert (matched[iou.max(axis=0) > 0.5] >= 0).all()  # above the threshold, an anchor answers for something
    for index in range(5):
        weak = (matched == index) & (iou[index] <= 0.5)
        assert weak.sum() <= 1  # below it, only the one anchor that the object claimed

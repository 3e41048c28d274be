"""Suppression against the plain algorithms, candidate by candidate."""

import numpy as np
import pytest

from ssd.boxes.nms import hard_nms, soft_nms
from ssd.boxes.ops import pairwise_iou


def greedy_nms(boxes, scores, labels, threshold):
    """What is kept, best first: a box goes if a kept one of its class overlaps it by more than the threshold."""
    kept = []
    for index in np.argsort(-scores, kind="stable"):
        same = [other for other in kept if labels[other] == labels[index]]
        if not (pairwise_iou(boxes[index][None], boxes[same]) > threshold).any():
            kept.append(index)
    return kept


def random_candidates(rng, count=120, classes=3):
    """Boxes around few places, so that most overlap others, with different scores, best first."""
    low = rng.uniform(0, 0.6, (8, 2))[rng.integers(8, size=count)] + rng.uniform(0, 0.1, (count, 2))
    boxes = np.hstack([low, low + rng.uniform(0.1, 0.3, (count, 2))]).astype(np.float32)
    scores = np.sort(rng.permutation(1000)[:count] / 1000)[::-1].astype(np.float32)
    return boxes, scores, rng.integers(1, classes + 1, count).astype(np.int32)


def plain_soft_nms(boxes, scores, labels, sigma):
    """The algorithm of the paper, class by class -> [(index, lowered score)], best first"""
    chosen = []
    for label in np.unique(labels):
        left = {index: float(scores[index]) for index in np.flatnonzero(labels == label)}
        while left:
            best = max(left, key=left.get)
            chosen.append((best, left.pop(best)))
            for other in left:
                iou = pairwise_iou(boxes[best][None], boxes[other][None])[0, 0]
                left[other] *= np.exp(-(iou**2) / sigma)
    return sorted(chosen, key=lambda pair: -pair[1])


def boxes_of(*rows):
    """(y0, x0, y1, x1, score, label) of each candidate to the three arrays."""
    table = np.array(rows, np.float32).reshape(-1, 6)
    return table[:, :4], table[:, 4], table[:, 5].astype(np.int32)


@pytest.mark.parametrize("max_detections", [3, 20, 1000])
@pytest.mark.parametrize("threshold", [0.3, 0.6])
@pytest.mark.parametrize("seed", range(4))
def test_hard_is_greedy_within_each_class(threshold, seed, max_detections):
    boxes, scores, labels = random_candidates(np.random.default_rng(seed))
    expected = greedy_nms(boxes, scores, labels, threshold)
    assert 3 < len(expected) < len(boxes)
    assert hard_nms(boxes, scores, labels, threshold, max_detections).tolist() == expected[:max_detections]


def test_hard_on_dense_scores_of_many_classes():
    """200 boxes in each of 10 of 80 classes, at the places of 1,917 anchors."""
    rng = np.random.default_rng(0)
    low = rng.uniform(0, 0.8, (1917, 2))
    anchors = np.hstack([low, low + rng.uniform(0.05, 0.2, (1917, 2))]).astype(np.float32)
    labels = np.repeat(rng.choice(np.arange(1, 81), 10, replace=False), 200)
    boxes = np.concatenate([anchors[rng.choice(1917, 200, replace=False)] for _ in range(10)])
    scores = rng.permutation(np.linspace(0.02, 1, 2000)).astype(np.float32)
    expected = greedy_nms(boxes, scores, labels, 0.3)
    assert hard_nms(boxes, scores, labels, 0.3, 5000).tolist() == expected
    assert hard_nms(boxes, scores, labels, 0.3, 100).tolist() == expected[:100]


def test_hard_looks_far_for_enough_detections():
    """Hundreds of copies of one box, then others: what stays lies behind the first candidates."""
    rows = [(0, 0, 1, 1, 0.99 - i / 10000, 1) for i in range(500)]
    rows += [(i / 10, 0, i / 10 + 0.05, 0.5, 0.5 - i / 100, 1) for i in range(5)]
    assert hard_nms(*boxes_of(*rows), 0.5, 4).tolist() == [0, 500, 501, 502]


@pytest.mark.parametrize("threshold, kept", [(0.49, [0]), (0.5, [0, 1]), (0.51, [0, 1])])
def test_an_overlap_equal_to_the_threshold_stays(threshold, kept):
    whole_and_half = boxes_of((0, 0, 1, 1, 0.9, 1), (0, 0, 1, 0.5, 0.8, 1))
    assert hard_nms(*whole_and_half, threshold, 10).tolist() == kept


def test_a_suppressed_box_suppresses_nothing():
    # Each overlaps the next by 3/5; the first and the last, by 2/6, are apart.
    chain = boxes_of((0, 0, 1, 0.4, 0.9, 1), (0, 0.1, 1, 0.5, 0.8, 1), (0, 0.2, 1, 0.6, 0.7, 1))
    assert hard_nms(*chain, 0.5, 10).tolist() == [0, 2]


def test_classes_do_not_touch_one_another():
    same_place = boxes_of(*[(0.2, 0.2, 0.6, 0.6, 0.9 - label / 100, label) for label in (1, 2, 3, 80)])
    assert hard_nms(*same_place, 0.1, 10).tolist() == [0, 1, 2, 3]
    indices, scores = soft_nms(*(values[None] for values in same_place), 0.5, 10)
    np.testing.assert_array_equal(scores[0], same_place[1][indices[0]])


@pytest.mark.parametrize("sigma", [0.1, 0.5])
@pytest.mark.parametrize("seed", range(4))
def test_soft_is_the_algorithm_of_the_paper(seed, sigma):
    boxes, scores, labels = random_candidates(np.random.default_rng(seed))
    expected = plain_soft_nms(boxes, scores, labels, sigma)
    indices, lowered = soft_nms(boxes[None], scores[None], labels[None], sigma, len(boxes))
    np.testing.assert_allclose(lowered[0], [score for _, score in expected], rtol=1e-4)
    clear = lowered[0] > 1e-3  # below, ties of rounding may change places
    assert indices[0, clear].tolist() == [index for index, _ in expected][: clear.sum()]


def test_soft_by_hand():
    # IoU of the first two is 1/2; the third is apart.
    table = boxes_of((0, 0, 1, 1, 0.9, 1), (0, 0, 1, 0.5, 0.8, 1), (2, 2, 3, 3, 0.5, 1))
    indices, scores = soft_nms(*(values[None] for values in table), 0.5, 2)
    assert indices.tolist() == [[0, 2]]  # 0.8 * exp(-0.25 / 0.5) = 0.485
    assert scores[0].tolist() == pytest.approx([0.9, 0.5])


def test_nothing_to_suppress():
    assert hard_nms(*boxes_of(), 0.5, 10).shape == (0,)
    indices, scores = soft_nms(np.zeros((2, 0, 4), np.float32), np.zeros((2, 0)), np.zeros((2, 0)), 0.5, 10)
    assert indices.shape == scores.shape == (2, 0)

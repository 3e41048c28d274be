"""Hard and soft NMS against straightforward implementations that go box by box."""

import numpy as np
import pytest
from greedy_nms import greedy_nms

from ssd.boxes.nms import hard_nms, soft_nms
from ssd.boxes.ops import pairwise_iou


def random_candidates(rng, count=120, classes=3):
    """Return boxes near 8 places, so that most overlap others, with distinct scores in descending order."""
    low = rng.uniform(0, 0.6, (8, 2))[rng.integers(8, size=count)] + rng.uniform(0, 0.1, (count, 2))
    boxes = np.hstack([low, low + rng.uniform(0.1, 0.3, (count, 2))]).astype(np.float32)
    scores = np.sort(rng.permutation(1000)[:count] / 1000)[::-1].astype(np.float32)
    return boxes, scores, rng.integers(1, classes + 1, count).astype(np.int32)


def paper_soft_nms(boxes, scores, labels, sigma):
    """Run the algorithm of the paper class by class. Returns [(index, lowered score)] by descending score."""
    selected = []
    for label in np.unique(labels):
        remaining = {index: float(scores[index]) for index in np.flatnonzero(labels == label)}
        while remaining:
            best = max(remaining, key=remaining.get)
            selected.append((best, remaining.pop(best)))
            for other in remaining:
                iou = pairwise_iou(boxes[best][None], boxes[other][None])[0, 0]
                remaining[other] *= np.exp(-(iou**2) / sigma)
    return sorted(selected, key=lambda pair: -pair[1])


def candidates(*rows):
    """Turn (y0, x0, y1, x1, score, label) of each candidate into boxes, scores and labels."""
    table = np.array(rows, np.float32).reshape(-1, 6)
    return table[:, :4], table[:, 4], table[:, 5].astype(np.int32)


@pytest.mark.parametrize("max_detections", [3, 20, 1000])
@pytest.mark.parametrize("threshold", [0.3, 0.6])
@pytest.mark.parametrize("seed", range(4))
def test_hard_nms_is_greedy_within_each_class(threshold, seed, max_detections):
    boxes, scores, labels = random_candidates(np.random.default_rng(seed))
    expected = greedy_nms(boxes, scores, labels, iou_threshold=threshold)
    assert 3 < len(expected) < len(boxes)
    kept = hard_nms(boxes, scores, labels, iou_threshold=threshold, max_detections=max_detections)
    assert kept.tolist() == expected[:max_detections]


def test_hard_nms_of_many_classes():
    """10 of 80 classes with 200 boxes each, at 1,917 positions."""
    rng = np.random.default_rng(0)
    low = rng.uniform(0, 0.8, (1917, 2))
    anchors = np.hstack([low, low + rng.uniform(0.05, 0.2, (1917, 2))]).astype(np.float32)
    labels = np.repeat(rng.choice(np.arange(1, 81), 10, replace=False), 200)
    boxes = np.concatenate([anchors[rng.choice(1917, 200, replace=False)] for _ in range(10)])
    scores = rng.permutation(np.linspace(0.02, 1, 2000)).astype(np.float32)
    expected = greedy_nms(boxes, scores, labels, iou_threshold=0.3)
    for max_detections in (5000, 100):
        kept = hard_nms(boxes, scores, labels, iou_threshold=0.3, max_detections=max_detections)
        assert kept.tolist() == expected[:max_detections]


def test_hard_nms_searches_far_enough():
    """500 copies of one box come before all other boxes that are kept."""
    rows = [(0, 0, 1, 1, 0.99 - i / 10000, 1) for i in range(500)]
    rows += [(i / 10, 0, i / 10 + 0.05, 0.5, 0.5 - i / 100, 1) for i in range(5)]
    assert hard_nms(*candidates(*rows), iou_threshold=0.5, max_detections=4).tolist() == [0, 500, 501, 502]


@pytest.mark.parametrize("iou_threshold, kept", [(0.49, [0]), (0.5, [0, 1]), (0.51, [0, 1])])
def test_a_box_with_iou_equal_to_the_threshold_is_kept(iou_threshold, kept):
    whole_and_half = candidates((0, 0, 1, 1, 0.9, 1), (0, 0, 1, 0.5, 0.8, 1))
    assert hard_nms(*whole_and_half, iou_threshold=iou_threshold, max_detections=10).tolist() == kept


def test_a_suppressed_box_suppresses_nothing():
    # The IoU of neighbors is 3/5, above the threshold; that of the first and the last box is 2/6.
    chain = candidates((0, 0, 1, 0.4, 0.9, 1), (0, 0.1, 1, 0.5, 0.8, 1), (0, 0.2, 1, 0.6, 0.7, 1))
    assert hard_nms(*chain, iou_threshold=0.5, max_detections=10).tolist() == [0, 2]


def test_classes_do_not_suppress_one_another():
    same_place = candidates(*[(0.2, 0.2, 0.6, 0.6, 0.9 - label / 100, label) for label in (1, 2, 3, 80)])
    assert hard_nms(*same_place, iou_threshold=0.1, max_detections=10).tolist() == [0, 1, 2, 3]
    indices, scores = soft_nms(*(values[None] for values in same_place), sigma=0.5, max_detections=10)
    np.testing.assert_array_equal(scores[0], same_place[1][indices[0]])


@pytest.mark.parametrize("sigma", [0.1, 0.5])
@pytest.mark.parametrize("seed", range(4))
def test_soft_nms_is_the_algorithm_of_the_paper(seed, sigma):
    boxes, scores, labels = random_candidates(np.random.default_rng(seed))
    expected = paper_soft_nms(boxes, scores, labels, sigma=sigma)
    indices, lowered = soft_nms(boxes[None], scores[None], labels[None], sigma=sigma, max_detections=len(boxes))
    np.testing.assert_allclose(lowered[0], [score for _, score in expected], rtol=1e-4)
    clear = lowered[0] > 1e-3  # below, rounding may change the order of nearly equal scores
    assert indices[0, clear].tolist() == [index for index, _ in expected][: clear.sum()]


def test_hand_computed_soft_nms():
    # The IoU of the first two boxes is 1/2; the third overlaps neither.
    table = candidates((0, 0, 1, 1, 0.9, 1), (0, 0, 1, 0.5, 0.8, 1), (2, 2, 3, 3, 0.5, 1))
    indices, scores = soft_nms(*(values[None] for values in table), sigma=0.5, max_detections=2)
    assert indices.tolist() == [[0, 2]]  # 0.8 * exp(-0.25 / 0.5) = 0.485
    assert scores[0].tolist() == pytest.approx([0.9, 0.5])


def test_equal_scores_keep_their_order():
    boxes = np.array([[i, 0, i + 0.5, 1] for i in range(100)], np.float32)
    kept = hard_nms(boxes, np.full(100, 0.5), np.ones(100, np.int32), iou_threshold=0.5, max_detections=100)
    assert kept.tolist() == list(range(100)) and kept.dtype == np.int64
    indices, scores = soft_nms(
        boxes[None], np.full((1, 100), 0.5), np.ones((1, 100), np.int32), sigma=0.5, max_detections=100
    )
    assert indices[0].tolist() == list(range(100))
    assert (indices.dtype, scores.dtype) == (np.int64, np.float32)


def test_no_candidates():
    assert hard_nms(*candidates(), iou_threshold=0.5, max_detections=10).shape == (0,)
    boxes, empty = np.zeros((2, 0, 4), np.float32), np.zeros((2, 0))
    indices, scores = soft_nms(boxes, empty, empty, sigma=0.5, max_detections=10)
    assert indices.shape == scores.shape == (2, 0)
    assert (indices.dtype, scores.dtype) == (np.int64, np.float32)

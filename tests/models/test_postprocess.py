"""Decoding and top-k against NumPy, non-maximum suppression against the plain greedy algorithm."""

import numpy as np
import pytest
from ssd.boxes.coder import BoxCoder
from ssd.boxes.ops import pairwise_iou
from ssd.models.postprocess import DecodeBoxes, DetectionSelector, TopCandidates, create_candidates

B, K = 2, 5


def sigmoid(logits):
    return 1 / (1 + np.exp(-logits.astype(np.float64)))


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


def candidates_of(*rows):
    """(y0, x0, y1, x1, score, label) of each candidate to the three arrays of an image."""
    table = np.array(rows, np.float32).reshape(-1, 6)
    return table[:, :4], table[:, 4], table[:, 5].astype(np.int32)


# --- in the graph ---


@pytest.fixture(scope="module")
def decode(small_anchors):
    return DecodeBoxes(small_anchors.boxes_cyxhw)


@pytest.fixture(scope="module")
def predictions(small_anchors):
    """box_offsets (B, 80, 4), cls_logits (B, 80, K) with background ahead nearly everywhere."""
    rng = np.random.default_rng(0)
    logits = rng.normal(-2, 2, (B, len(small_anchors), K))
    logits[..., 0] += 8
    return rng.normal(0, 3, (B, len(small_anchors), 4)).astype(np.float32), logits.astype(np.float32)


def test_decode_is_that_of_the_coder(decode, predictions, small_anchors, call):
    expected = BoxCoder().decode(predictions[0], small_anchors.boxes_cyxhw)
    boxes = call(decode, predictions[0])
    np.testing.assert_allclose(boxes, expected, atol=1e-5)
    assert boxes.min() == 0 and boxes.max() == 1  # some were clipped


def test_decode_undoes_encode(decode, small_anchors, call, rng):
    low = rng.uniform(0, 0.5, (B, 80, 2))
    boxes = np.concatenate([low, low + rng.uniform(0.05, 0.5, (B, 80, 2))], axis=2)
    offsets = BoxCoder().encode(boxes, small_anchors.boxes_cyxhw).astype(np.float32)
    np.testing.assert_allclose(call(decode, offsets), boxes, atol=1e-5)


def test_decode_keeps_absurd_offsets_in_the_image(decode, call):
    offsets = np.zeros((B, 80, 4), np.float32)
    offsets[:, :40], offsets[:, 40:] = 1000, -1000  # e^200 is infinite in float32
    boxes = call(decode, offsets)
    assert ((boxes >= 0) & (boxes <= 1)).all()


@pytest.mark.parametrize("top_k", [10, 80 * (K - 1), 5000])
def test_candidates_are_the_best_pairs_of_anchor_and_class(top_k, decode, predictions, small_anchors, call):
    offsets, logits = predictions
    boxes, scores, labels = call(TopCandidates(decode, top_k), offsets, logits)
    count = min(top_k, 80 * (K - 1))
    assert boxes.shape == (B, count, 4) and scores.shape == labels.shape == (B, count)
    assert (boxes.dtype, scores.dtype, labels.dtype) == (np.float32, np.float32, np.int32)
    decoded = BoxCoder().decode(offsets, small_anchors.boxes_cyxhw)
    for image in range(B):
        foreground = logits[image, :, 1:]
        anchors, classes = np.unravel_index(np.argsort(-foreground, axis=None)[:count], foreground.shape)
        np.testing.assert_allclose(scores[image], sigmoid(foreground[anchors, classes]), rtol=1e-5)
        np.testing.assert_array_equal(labels[image], classes + 1)
        np.testing.assert_allclose(boxes[image], decoded[image, anchors], atol=1e-5)
    assert (np.diff(scores) <= 0).all()
    assert labels.min() >= 1  # never background, which has the highest logits


def test_recipes_choose_top_k(load_recipe, small_anchors, predictions, call):
    candidates = create_candidates(load_recipe("ssd_mobilenetv2", pre_nms_top_k=7), small_anchors)
    assert call(candidates, *predictions)[0].shape == (B, 7, 4)


# --- on the host ---


@pytest.mark.parametrize("threshold", [0.3, 0.6])
@pytest.mark.parametrize("seed", range(5))
def test_selection_is_greedy_nms_within_each_class(threshold, seed):
    boxes, scores, labels = random_candidates(np.random.default_rng(seed))
    good = scores >= 0.2
    expected = greedy_nms(boxes[good] * np.float32([375, 500] * 2), scores[good], labels[good], threshold)
    found = DetectionSelector(0.2, threshold, 1000)(boxes, scores, labels, height=375, width=500)
    assert 3 < len(expected) < good.sum()
    np.testing.assert_array_equal(found.scores, scores[good][expected])
    np.testing.assert_array_equal(found.labels, labels[good][expected])
    np.testing.assert_allclose(found.boxes_yxyx, boxes[good][expected] * (375, 500, 375, 500), rtol=1e-6)


def test_selection_does_not_rely_on_the_order_of_candidates(rng):
    candidates = random_candidates(rng)
    selector = DetectionSelector(0.2, 0.5, 20)
    expected = selector(*candidates, 100, 100)
    order = rng.permutation(len(candidates[0]))
    found = selector(*(values[order] for values in candidates), 100, 100)
    np.testing.assert_array_equal(found.scores, expected.scores)
    np.testing.assert_array_equal(found.boxes_yxyx, expected.boxes_yxyx)


@pytest.mark.parametrize("threshold, kept", [(0.49, [0.9]), (0.5, [0.9, 0.8]), (0.51, [0.9, 0.8])])
def test_an_overlap_equal_to_the_threshold_is_kept(threshold, kept):
    whole_and_half = candidates_of((0, 0, 1, 1, 0.9, 1), (0, 0, 1, 0.5, 0.8, 1))
    found = DetectionSelector(0.01, threshold, 10)(*whole_and_half, height=32, width=64)
    assert found.scores.tolist() == pytest.approx(kept)


def test_a_suppressed_box_suppresses_nothing():
    # Each overlaps the next by 3/5; the first and the last, by 2/6, are apart.
    chain = candidates_of((0, 0, 1, 0.4, 0.9, 1), (0, 0.1, 1, 0.5, 0.8, 1), (0, 0.2, 1, 0.6, 0.7, 1))
    found = DetectionSelector(0.01, 0.5, 10)(*chain, 100, 100)
    assert found.scores.tolist() == pytest.approx([0.9, 0.7])


def test_classes_do_not_touch_one_another():
    same_place = candidates_of(*[(0.2, 0.2, 0.6, 0.6, 0.9 - label / 10, label) for label in (1, 2, 3, 80)])
    found = DetectionSelector(0.0, 0.1, 10)(same_place[0], np.float32([0.9, 0.8, 0.7, 0.6]), same_place[2], 640, 480)
    assert found.labels.tolist() == [1, 2, 3, 80]


def test_scores_below_the_minimum_are_dropped():
    apart = candidates_of((0, 0, 0.2, 0.2, 0.5, 1), (0.4, 0.4, 0.6, 0.6, 0.25, 1), (0.8, 0.8, 1, 1, 0.2499, 1))
    assert DetectionSelector(0.25, 0.5, 10)(*apart, 10, 10).scores.tolist() == [0.5, 0.25]


def test_the_cap_keeps_the_best_of_all_classes():
    apart = candidates_of(*[(i / 10, 0, i / 10 + 0.05, 0.5, 0.9 - i / 20, 1 + i % 2) for i in range(10)])
    found = DetectionSelector(0.01, 0.5, 3)(*apart, 100, 100)
    assert found.scores.tolist() == pytest.approx([0.9, 0.85, 0.8])
    assert found.labels.tolist() == [1, 2, 1]


@pytest.mark.parametrize("min_score", [0.9, 0.01])
def test_nothing_found(min_score):
    nothing = candidates_of() if min_score < 0.9 else candidates_of((0, 0, 1, 1, 0.89, 1))
    found = DetectionSelector(min_score, 0.5, 10)(*nothing, 100, 100)
    assert found.boxes_yxyx.shape == (0, 4) and found.scores.shape == found.labels.shape == (0,)


def test_boxes_are_pixels_of_the_original_image():
    found = DetectionSelector(0.01, 0.5, 10)(*candidates_of((0.25, 0.5, 0.75, 1, 0.9, 1)), height=480, width=640)
    assert found.boxes_yxyx.tolist() == [[120, 320, 360, 640]]  # y by the height, x by the width

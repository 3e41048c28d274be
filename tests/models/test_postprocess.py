"""Decoding and top-k against NumPy; which candidates become detections."""

import numpy as np
import pytest

from ssd.boxes.coder import BoxCoder
from ssd.inference.network import create_selector
from ssd.models.postprocess import DecodeBoxes, DetectionSelector, TopKCandidates, create_postprocess

B, K = 2, 5


def sigmoid(logits):
    return 1 / (1 + np.exp(-logits.astype(np.float64)))


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
    boxes, scores, labels = call(TopKCandidates(decode, top_k), offsets, logits)
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


def test_scores_of_the_multibox_loss_are_a_softmax(predictions, small_anchors, load_recipe, call):
    offsets, logits = predictions
    logits = logits.copy()
    logits[0, :, 0] += 100  # so sure of background that foreground is 0 in float32
    cfg = load_recipe("ssd_mobilenetv2", loss="multibox", pre_nms_top_k=20)
    boxes, scores, labels = call(create_postprocess(cfg, small_anchors), offsets, logits)
    shares = np.exp(logits.astype(np.float64) - logits.max(axis=2, keepdims=True))
    shares = (shares / shares.sum(axis=2, keepdims=True))[..., 1:]
    decoded = BoxCoder().decode(offsets, small_anchors.boxes_cyxhw)
    for image in range(B):
        anchors, classes = np.unravel_index(np.argsort(-shares[image], axis=None)[:20], shares[image].shape)
        np.testing.assert_allclose(scores[image], shares[image, anchors, classes], rtol=1e-4, atol=1e-12)
        np.testing.assert_array_equal(labels[image], classes + 1)
        np.testing.assert_allclose(boxes[image], decoded[image, anchors], atol=1e-5)


def test_recipes_choose_top_k(load_recipe, small_anchors, predictions, call):
    candidates = create_postprocess(load_recipe("ssd_mobilenetv2", pre_nms_top_k=7), small_anchors)
    assert call(candidates, *predictions)[0].shape == (B, 7, 4)


# --- on the host ---


def select(selector, boxes, scores, labels, height, width):
    """One image as a batch of one."""
    (found,) = selector(boxes[None], scores[None], labels[None], np.array([[height, width]]))
    return found


def random_candidates(rng, count=120):
    """A batch of three images with boxes around few places, so that many overlap, best first."""
    low = rng.uniform(0, 0.6, (3, 8, 2))[:, rng.integers(8, size=count)] + rng.uniform(0, 0.1, (3, count, 2))
    boxes = np.concatenate([low, low + rng.uniform(0.1, 0.3, (3, count, 2))], axis=-1).astype(np.float32)
    scores = np.sort(rng.uniform(0, 1, (3, count)).astype(np.float32))[:, ::-1]
    return boxes, scores, rng.integers(1, 4, (3, count)).astype(np.int32)


@pytest.mark.parametrize("nms", ["hard", "soft"])
def test_a_batch_is_its_images(nms, rng):
    selector = DetectionSelector(0.1, 0.5, 20, nms)
    batch, sizes = random_candidates(rng), np.array([[100, 200], [300, 50], [7, 9]])
    for row, found in enumerate(selector(*batch, sizes)):
        alone = select(selector, *(values[row] for values in batch), *sizes[row])
        assert 3 < len(found.scores) <= 20
        for field in ("boxes_yxyx", "scores", "labels"):
            np.testing.assert_array_equal(getattr(found, field), getattr(alone, field))


@pytest.mark.parametrize("nms", ["hard", "soft"])
def test_selection_does_not_rely_on_the_order_of_candidates(nms, rng):
    candidates = [values[0] for values in random_candidates(rng)]
    selector = DetectionSelector(0.2, 0.5, 20, nms)
    expected = select(selector, *candidates, 100, 100)
    order = rng.permutation(len(candidates[0]))
    found = select(selector, *(values[order] for values in candidates), 100, 100)
    np.testing.assert_array_equal(found.scores, expected.scores)
    np.testing.assert_array_equal(found.boxes_yxyx, expected.boxes_yxyx)


@pytest.mark.parametrize("nms, scores", [("hard", [0.9]), ("soft", [0.9, 0.8 * np.exp(-(0.5**2) / 0.5)])])
def test_recipes_choose_the_suppression(nms, scores, load_recipe):
    whole_and_half = candidates_of((0, 0, 1, 1, 0.9, 1), (0, 0, 1, 0.5, 0.8, 1))
    selector = create_selector(load_recipe("ssd_mobilenetv2", nms=nms, nms_threshold=0.4))
    assert select(selector, *whole_and_half, 32, 64).scores.tolist() == pytest.approx(scores)


def test_soft_suppression_drops_what_falls_below_the_minimum():
    same_place = candidates_of((0, 0, 1, 1, 0.9, 1), (0, 0, 1, 1, 0.8, 1), (0, 0, 1, 1, 0.7, 2))
    found = select(DetectionSelector(0.2, 0.5, 10, "soft"), *same_place, 32, 64)  # 0.8 * exp(-2) is 0.108
    assert found.scores.tolist() == pytest.approx([0.9, 0.7]) and found.labels.tolist() == [1, 2]


@pytest.mark.parametrize("nms", ["hard", "soft"])
def test_boxes_clipped_to_nothing_are_no_detections(nms):
    outside = candidates_of((0, 0, 0, 1, 0.9, 1), (1, 0.2, 1, 0.2, 0.8, 1), (0.5, 0.5, 0.6, 0.6, 0.7, 1))
    found = select(DetectionSelector(0.0, 0.5, 10, nms), *outside, 100, 100)
    assert found.scores.tolist() == pytest.approx([0.7])


def test_scores_below_the_minimum_are_dropped():
    apart = candidates_of((0, 0, 0.2, 0.2, 0.5, 1), (0.4, 0.4, 0.6, 0.6, 0.25, 1), (0.8, 0.8, 1, 1, 0.2499, 1))
    assert select(DetectionSelector(0.25, 0.5, 10), *apart, 10, 10).scores.tolist() == [0.5, 0.25]


def test_the_cap_keeps_the_best_of_all_classes():
    apart = candidates_of(*[(i / 10, 0, i / 10 + 0.05, 0.5, 0.9 - i / 20, 1 + i % 2) for i in range(10)])
    found = select(DetectionSelector(0.01, 0.5, 3), *apart, 100, 100)
    assert found.scores.tolist() == pytest.approx([0.9, 0.85, 0.8])
    assert found.labels.tolist() == [1, 2, 1]


@pytest.mark.parametrize("min_score", [0.9, 0.01])
def test_nothing_found(min_score):
    nothing = candidates_of() if min_score < 0.9 else candidates_of((0, 0, 1, 1, 0.89, 1))
    found = select(DetectionSelector(min_score, 0.5, 10), *nothing, 100, 100)
    assert found.boxes_yxyx.shape == (0, 4) and found.scores.shape == found.labels.shape == (0,)


def test_boxes_are_pixels_of_the_original_image():
    found = select(DetectionSelector(0.01, 0.5, 10), *candidates_of((0.25, 0.5, 0.75, 1, 0.9, 1)), 480, 640)
    assert found.boxes_yxyx.tolist() == [[120, 320, 360, 640]]  # y by the height, x by the width

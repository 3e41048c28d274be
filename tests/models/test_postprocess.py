"""Decoding and top-k in the graph against NumPy."""

import numpy as np
import pytest
from mindspore import ops

from ssd.boxes.coder import BoxCoder
from ssd.models.postprocess import DecodeBoxes, TopKCandidates, create_postprocess

B, K = 2, 5


def sigmoid(logits):
    return 1 / (1 + np.exp(-logits.astype(np.float64)))


@pytest.fixture(scope="module")
def decode(small_anchors):
    return DecodeBoxes(small_anchors.boxes_cyxhw)


@pytest.fixture(scope="module")
def predictions(small_anchors):
    """box_offsets (B, 80, 4) and cls_logits (B, 80, K), whose maximum is nearly always background."""
    rng = np.random.default_rng(0)
    logits = rng.normal(-2, 2, (B, len(small_anchors), K))
    logits[..., 0] += 8
    return rng.normal(0, 3, (B, len(small_anchors), 4)).astype(np.float32), logits.astype(np.float32)


def test_decoded_boxes_are_those_of_the_coder(decode, predictions, small_anchors, call):
    expected = BoxCoder().decode(predictions[0], small_anchors.boxes_cyxhw)
    boxes = call(decode, predictions[0])
    np.testing.assert_allclose(boxes, expected, atol=1e-5)
    assert boxes.min() == 0 and boxes.max() == 1  # some boxes are clipped


def test_decoding_inverts_encoding(decode, small_anchors, call, rng):
    low = rng.uniform(0, 0.5, (B, 80, 2))
    boxes = np.concatenate([low, low + rng.uniform(0.05, 0.5, (B, 80, 2))], axis=2)
    offsets = BoxCoder().encode(boxes, small_anchors.boxes_cyxhw).astype(np.float32)
    np.testing.assert_allclose(call(decode, offsets), boxes, atol=1e-5)


def test_boxes_of_extreme_offsets_are_in_the_image(decode, call):
    offsets = np.zeros((B, 80, 4), np.float32)
    offsets[:, :40], offsets[:, 40:] = 1000, -1000  # e^200 is infinite in float32
    boxes = call(decode, offsets)
    assert ((boxes >= 0) & (boxes <= 1)).all()


@pytest.mark.parametrize("top_k", [10, 80 * (K - 1), 5000])
def test_candidates_are_the_pairs_of_anchor_and_class_with_the_highest_scores(
    top_k, decode, predictions, small_anchors, call
):
    offsets, logits = predictions
    boxes, scores, labels = call(TopKCandidates(decode, top_k), offsets, logits)
    count = min(top_k, 80 * (K - 1))
    assert boxes.shape == (B, count, 4) and scores.shape == labels.shape == (B, count)
    assert (boxes.dtype, scores.dtype, labels.dtype) == (np.float32, np.float32, np.int32)
    decoded = BoxCoder().decode(offsets, small_anchors.boxes_cyxhw)
    for image in range(B):
        object_logits = logits[image, :, 1:]
        anchors, classes = np.unravel_index(np.argsort(-object_logits, axis=None)[:count], object_logits.shape)
        np.testing.assert_allclose(scores[image], sigmoid(object_logits[anchors, classes]), rtol=1e-5)
        np.testing.assert_array_equal(labels[image], classes + 1)
        np.testing.assert_allclose(boxes[image], decoded[image, anchors], atol=1e-5)
    assert (np.diff(scores) <= 0).all()
    assert labels.min() >= 1  # never background, although its logits are the highest


def topk_in_half_precision(values, k):
    return ops.TopK(sorted=True)(values.astype("float16"), k)


def test_scores_are_exact_if_the_device_sorts_in_half_precision(decode, predictions, monkeypatch, call):
    monkeypatch.setattr(ops, "topk", topk_in_half_precision)  # as some NPUs may
    offsets, logits = predictions
    _, scores, labels = call(TopKCandidates(decode, 20), offsets, logits)
    for image in range(B):
        exact = sigmoid(logits[image, :, 1:])
        for score, label in zip(scores[image], labels[image], strict=True):
            assert np.abs(exact[:, label - 1] / score - 1).min() < 1e-6
    assert (np.diff(scores) <= 1e-2).all()  # sorted, but for rounding


def test_multibox_recipes_have_softmax_scores(predictions, small_anchors, load_recipe, call):
    offsets, logits = predictions
    logits = logits.copy()
    logits[0, :, 0] += 100  # the probability of all object classes is 0 in float32
    cfg = load_recipe("ssd_mobilenetv2", loss="multibox", pre_nms_top_k=20)
    boxes, scores, labels = call(create_postprocess(cfg, small_anchors), offsets, logits)
    exponentials = np.exp(logits.astype(np.float64) - logits.max(axis=2, keepdims=True))
    softmax = (exponentials / exponentials.sum(axis=2, keepdims=True))[..., 1:]
    decoded = BoxCoder().decode(offsets, small_anchors.boxes_cyxhw)
    for image in range(B):
        anchors, classes = np.unravel_index(np.argsort(-softmax[image], axis=None)[:20], softmax[image].shape)
        np.testing.assert_allclose(scores[image], softmax[image, anchors, classes], rtol=1e-4, atol=1e-12)
        np.testing.assert_array_equal(labels[image], classes + 1)
        np.testing.assert_allclose(boxes[image], decoded[image, anchors], atol=1e-5)


def test_recipes_choose_the_number_of_candidates(load_recipe, small_anchors, predictions, call):
    postprocess = create_postprocess(load_recipe("ssd_mobilenetv2", pre_nms_top_k=7), small_anchors)
    assert call(postprocess, *predictions)[0].shape == (B, 7, 4)


def test_recipes_choose_the_scaling_of_offsets(load_recipe, small_anchors, predictions, pynative, call):
    cfg = load_recipe("ssd_mobilenetv2", prior_scaling=[0.05, 0.3], pre_nms_top_k=10)
    boxes = call(create_postprocess(cfg, small_anchors).decode, predictions[0])
    expected = BoxCoder((0.05, 0.3)).decode(predictions[0], small_anchors.boxes_cyxhw)
    np.testing.assert_allclose(boxes, expected, atol=1e-5)

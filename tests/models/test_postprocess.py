"""Decoding and top-k in the graph against NumPy, and selection of detections on the host."""

import numpy as np
import pytest
from mindspore import ops

from ssd.boxes.coder import BoxCoder
from ssd.inference.network import create_nms
from ssd.models.postprocess import DecodeBoxes, MulticlassNMS, TopKCandidates, create_postprocess

B, K = 2, 5


def sigmoid(logits):
    return 1 / (1 + np.exp(-logits.astype(np.float64)))


def candidates(*rows):
    """Turn (y0, x0, y1, x1, score, label) of each candidate into boxes, scores and labels of an image."""
    table = np.array(rows, np.float32).reshape(-1, 6)
    return table[:, :4], table[:, 4], table[:, 5].astype(np.int32)


# --- in the graph ---


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


# --- on the host ---


def select(nms, candidates, image_size=(100, 100)):
    """Return the detections of one image. candidates: boxes, scores and labels; image_size: (height, width)"""
    (detections,) = nms(*(values[None] for values in candidates), sizes=np.array([image_size]))
    return detections


def random_candidates(rng, count=120):
    """Return candidates of three images: boxes near 8 places, so that many overlap, in descending order of scores."""
    low = rng.uniform(0, 0.6, (3, 8, 2))[:, rng.integers(8, size=count)] + rng.uniform(0, 0.1, (3, count, 2))
    boxes = np.concatenate([low, low + rng.uniform(0.1, 0.3, (3, count, 2))], axis=-1).astype(np.float32)
    scores = np.sort(rng.uniform(0, 1, (3, count)).astype(np.float32))[:, ::-1]
    return boxes, scores, rng.integers(1, 4, (3, count)).astype(np.int32)


@pytest.mark.parametrize("nms", ["hard", "soft"])
def test_detections_of_a_batch_are_those_of_its_images(nms, rng):
    multiclass_nms = MulticlassNMS(0.1, 0.5, 20, nms=nms)
    batch, sizes = random_candidates(rng), np.array([[100, 200], [300, 50], [7, 9]])
    for row, detections in enumerate(multiclass_nms(*batch, sizes=sizes)):
        alone = select(multiclass_nms, [values[row] for values in batch], sizes[row])
        assert 3 < len(detections.scores) <= 20
        for field in ("boxes_yxyx", "scores", "labels"):
            np.testing.assert_array_equal(getattr(detections, field), getattr(alone, field))


@pytest.mark.parametrize("nms", ["hard", "soft"])
def test_the_order_of_candidates_does_not_matter(nms, rng):
    image = [values[0] for values in random_candidates(rng)]
    multiclass_nms = MulticlassNMS(0.2, 0.5, 20, nms=nms)
    expected = select(multiclass_nms, image)
    order = rng.permutation(len(image[0]))
    detections = select(multiclass_nms, [values[order] for values in image])
    np.testing.assert_array_equal(detections.scores, expected.scores)
    np.testing.assert_array_equal(detections.boxes_yxyx, expected.boxes_yxyx)


@pytest.mark.parametrize("nms, scores", [("hard", [0.9]), ("soft", [0.9, 0.8 * np.exp(-(0.5**2) / 0.5)])])
def test_recipes_choose_the_nms(nms, scores, load_recipe):
    whole_and_half = candidates((0, 0, 1, 1, 0.9, 1), (0, 0, 1, 0.5, 0.8, 1))
    multiclass_nms = create_nms(load_recipe("ssd_mobilenetv2", nms=nms, nms_threshold=0.4))
    assert select(multiclass_nms, whole_and_half).scores.tolist() == pytest.approx(scores)


def test_soft_nms_drops_boxes_whose_lowered_score_is_below_the_minimum():
    same_place = candidates((0, 0, 1, 1, 0.9, 1), (0, 0, 1, 1, 0.8, 1), (0, 0, 1, 1, 0.7, 2))
    detections = select(MulticlassNMS(0.2, 0.5, 10, nms="soft"), same_place)  # 0.8 * exp(-2) is 0.108
    assert detections.scores.tolist() == pytest.approx([0.9, 0.7]) and detections.labels.tolist() == [1, 2]


@pytest.mark.parametrize("nms", ["hard", "soft"])
def test_boxes_outside_the_image_are_dropped(nms):
    outside = candidates((0, 0, 0, 1, 0.9, 1), (1, 0.2, 1, 0.2, 0.8, 1), (0.5, 0.5, 0.6, 0.6, 0.7, 1))
    detections = select(MulticlassNMS(0.0, 0.5, 10, nms=nms), outside)
    assert detections.scores.tolist() == pytest.approx([0.7])


def test_scores_below_the_minimum_are_dropped():
    apart = candidates((0, 0, 0.2, 0.2, 0.5, 1), (0.4, 0.4, 0.6, 0.6, 0.25, 1), (0.8, 0.8, 1, 1, 0.2499, 1))
    assert select(MulticlassNMS(0.25, 0.5, 10), apart).scores.tolist() == [0.5, 0.25]


def test_max_detections_keeps_the_highest_scores_of_all_classes():
    apart = candidates(*[(i / 10, 0, i / 10 + 0.05, 0.5, 0.9 - i / 20, 1 + i % 2) for i in range(10)])
    detections = select(MulticlassNMS(0.01, 0.5, 3), apart)
    assert detections.scores.tolist() == pytest.approx([0.9, 0.85, 0.8])
    assert detections.labels.tolist() == [1, 2, 1]


@pytest.mark.parametrize("min_score", [0.9, 0.01])
def test_no_detections(min_score):
    image = candidates() if min_score < 0.9 else candidates((0, 0, 1, 1, 0.89, 1))
    detections = select(MulticlassNMS(min_score, 0.5, 10), image)
    assert detections.boxes_yxyx.shape == (0, 4) and detections.scores.shape == detections.labels.shape == (0,)


def test_boxes_are_pixels_of_the_original_image():
    detections = select(MulticlassNMS(0.01, 0.5, 10), candidates((0.25, 0.5, 0.75, 1, 0.9, 1)), (480, 640))
    assert detections.boxes_yxyx.tolist() == [[120, 320, 360, 640]]  # y times the height, x times the width

"""Post-processing with ONNX's operators against NumPy, on random predictions. No MindSpore network is needed."""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from ssd.boxes.coder import BoxCoder
from ssd.boxes.multiclass_nms import MulticlassNMS
from ssd.deployment.onnx_network import IR_VERSION, LOGITS_NAME, OFFSETS_NAME, OPSET
from ssd.deployment.onnx_postprocess import NmsSettings, append_postprocess, with_all_anchors

A, K = 40, 4


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def anchors_cyxhw(rng):
    return rng.uniform(0.1, 0.9, (A, 4)).astype(np.float32)


def create_model(anchors_cyxhw, *, num_classes=K, softmax=False, top_k=1000, nms=None):
    """A model whose input is the raw predictions, so that only the post-processing runs."""
    names = {OFFSETS_NAME: 4, LOGITS_NAME: num_classes}
    nodes = [helper.make_node("Identity", [f"{name}_input"], [name]) for name in names]
    inputs, outputs = (
        [
            helper.make_tensor_value_info(name + suffix, TensorProto.FLOAT, ["batch", len(anchors_cyxhw), size])
            for name, size in names.items()
        ]
        for suffix in ("_input", "")
    )
    graph = helper.make_graph(nodes, "raw", inputs, outputs=outputs)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    append_postprocess(
        model,
        anchors_cyxhw,
        (0.1, 0.2),
        num_classes=num_classes,
        softmax=softmax,
        top_k=top_k,
        nms=nms,
    )
    onnx.checker.check_model(model, full_check=True)
    return model


def run(model, box_offsets, cls_logits):
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {f"{OFFSETS_NAME}_input": box_offsets, f"{LOGITS_NAME}_input": cls_logits})


def random_predictions(rng, batch=3, num_classes=K, spread=2.0):
    offsets = rng.normal(0, 2, (batch, A, 4)).astype(np.float32)
    return offsets, rng.normal(-1, spread, (batch, A, num_classes)).astype(np.float32)


@pytest.mark.parametrize("softmax", [False, True])
def test_boxes_and_scores_of_all_anchors(softmax, anchors_cyxhw, rng):
    offsets, logits = random_predictions(rng)
    *_, boxes, scores = run(with_all_anchors(create_model(anchors_cyxhw, softmax=softmax)), offsets, logits)
    if softmax:
        expected = np.exp(logits) / np.exp(logits).sum(axis=2, keepdims=True)
    else:
        expected = 1 / (1 + np.exp(-logits))
    np.testing.assert_allclose(scores, expected[..., 1:], atol=1e-6)
    decoded = np.stack([BoxCoder().decode(image, anchors_cyxhw) for image in offsets])
    np.testing.assert_allclose(boxes, np.clip(decoded, 0, 1), atol=1e-5)


@pytest.mark.parametrize("top_k", [1, 7, A, 1000])
def test_candidates_are_the_highest_scores(top_k, anchors_cyxhw, rng):
    model = with_all_anchors(create_model(anchors_cyxhw, top_k=top_k))
    boxes, scores, labels, all_boxes, all_scores = run(model, *random_predictions(rng))
    count = min(top_k, A * (K - 1))
    assert scores.shape == labels.shape == (3, count) and boxes.shape == (3, count, 4) and labels.dtype == np.int32
    for image in range(3):
        order = np.argsort(-all_scores[image].ravel(), kind="stable")[:count]
        np.testing.assert_array_equal(scores[image], all_scores[image].ravel()[order])
        np.testing.assert_array_equal(labels[image], order % (K - 1) + 1)
        np.testing.assert_array_equal(boxes[image], all_boxes[image][order // (K - 1)])


@pytest.mark.parametrize(
    "num_classes, min_score, iou_threshold, max_detections",
    [(K, 0.05, 0.5, 100), (K, 0.3, 0.2, 5), (2, 0.01, 0.6, 100), (K, 0.0, 0.9, 1000)],
)
def test_nms_equals_that_of_the_host(num_classes, min_score, iou_threshold, max_detections, anchors_cyxhw, rng):
    predictions = random_predictions(rng, num_classes=num_classes)
    candidates = run(create_model(anchors_cyxhw, num_classes=num_classes), *predictions)
    nms = NmsSettings(min_score, iou_threshold, max_detections)
    boxes, scores, labels = run(create_model(anchors_cyxhw, num_classes=num_classes, nms=nms), *predictions)
    host = MulticlassNMS(min_score=min_score, nms_threshold=iou_threshold, max_detections=max_detections)
    for image, expected in enumerate(host(*candidates[:2], labels=candidates[2], sizes=np.ones((3, 2)))):
        count = len(expected.scores)
        assert count > 3
        np.testing.assert_array_equal(scores[image][:count], expected.scores)
        np.testing.assert_array_equal(labels[image][:count], expected.labels)
        np.testing.assert_array_equal(boxes[image][:count], expected.boxes_yxyx)
        assert not scores[image][count:].any()


def test_nms_of_images_without_detections(anchors_cyxhw, rng):
    offsets, logits = random_predictions(rng)
    model = create_model(anchors_cyxhw, nms=NmsSettings(0.3, 0.5, 10))
    logits[1] = -20
    _, scores, _ = run(model, offsets, logits)
    assert not scores[1].any() and scores[0].any() and scores[2].any()
    _, scores, _ = run(model, offsets, np.full_like(logits, -20))
    assert not scores.any()


def test_a_score_equal_to_the_threshold_is_kept(anchors_cyxhw):
    offsets, logits = np.zeros((1, A, 4), np.float32), np.full((1, A, K), -20, np.float32)
    logits[0, 3, 2] = 0  # a score of 0.5 exactly
    _, scores, labels = run(create_model(anchors_cyxhw, nms=NmsSettings(0.5, 0.5, 10)), offsets, logits)
    assert scores[0].tolist() == [0.5] + [0] * 9 and labels[0, 0] == 2


def test_boxes_outside_the_image_are_dropped(anchors_cyxhw):
    offsets, logits = np.zeros((1, A, 4), np.float32), np.full((1, A, K), -20, np.float32)
    logits[0, :2, 1] = 3
    offsets[0, 0, 0] = 1000  # far below the image
    _, scores, _ = run(create_model(anchors_cyxhw, nms=NmsSettings(0.5, 0.9, 10)), offsets, logits)
    assert np.count_nonzero(scores) == 1

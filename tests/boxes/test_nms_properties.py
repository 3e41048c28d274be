"""Properties of hard NMS, Soft-NMS and MulticlassNMS: kept boxes, order invariance, and batch equals single images."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from box_strategies import boxes, permutations
from ssd.boxes.multiclass_nms import MulticlassNMS
from ssd.boxes.nms import hard_nms, soft_nms
from ssd.boxes.ops import pairwise_iou

ALL = 1000  # more than there are candidates
thresholds = st.sampled_from([0.3, 0.5, 0.6, 0.9])
KINDS = [{"nms": "hard"}, {"nms": "soft"}, {"nms": "hard", "agnostic": True}, {"nms": "soft", "agnostic": True}]


@st.composite
def candidates(draw, min_count=1, max_count=8):
    """(boxes (T, 4) float32, distinct scores (T,) float32, labels (T,) int32) with areas above 0.

    In half of the examples, all boxes overlap with IoUs of 0.25 to 1.
    """
    corners = draw(boxes(min_count, max_count, min_side=1 / 8))
    if draw(st.booleans()):
        corners = corners / 4 + [0, 0, 3 / 4, 3 / 4]
    corners = corners.astype(np.float32)
    count = len(corners)
    scores = draw(st.lists(st.integers(10, 1000), min_size=count, max_size=count, unique=True))
    labels = draw(arrays(np.int32, count, elements=st.integers(1, 2)))
    return corners, np.array(scores, np.float32) / 1000, labels


def detect(found, **settings):
    """The detections of one image of 8x8 pixels."""
    corners, scores, labels = (array[None] for array in found)
    settings = {"min_score": 0.0, "nms_threshold": 0.5, "max_detections": ALL, **settings}
    (detections,) = MulticlassNMS(**settings)(corners, scores, labels, sizes=np.array([[8, 8]]))
    return detections


def rows(detections):
    """The detections as a set."""
    return set(zip(map(tuple, detections.boxes_yxyx.tolist()), detections.labels.tolist()))


@given(candidates(), thresholds)
def test_hard_nms_keeps_boxes_apart_and_drops_only_overlapped_boxes(found, threshold):
    corners, scores, labels = found
    kept = hard_nms(corners, scores, labels, iou_threshold=threshold, max_detections=ALL)
    assert (np.diff(scores[kept]) < 0).all()
    overlaps = (pairwise_iou(corners, corners) > threshold + 1e-5) & (labels[:, None] == labels)
    certain = (pairwise_iou(corners, corners) > threshold - 1e-5) & (labels[:, None] == labels)
    assert (overlaps[np.ix_(kept, kept)] <= np.eye(len(kept), dtype=bool)).all()
    for dropped in set(range(len(scores))) - set(kept.tolist()):
        assert certain[dropped, kept[scores[kept] > scores[dropped]]].any()


@given(candidates(2, 8), thresholds, st.integers(1, 4), st.data())
def test_hard_nms_ignores_the_order_and_a_limit_keeps_the_first(found, threshold, limit, data):
    corners, scores, labels = found
    kept = hard_nms(corners, scores, labels, iou_threshold=threshold, max_detections=ALL)
    limited = hard_nms(corners, scores, labels, iou_threshold=threshold, max_detections=limit)
    assert limited.tolist() == kept[:limit].tolist()
    order = data.draw(permutations(len(scores)))
    permuted = hard_nms(corners[order], scores[order], labels[order], iou_threshold=threshold, max_detections=ALL)
    assert order[permuted].tolist() == kept.tolist()


@given(candidates(), st.floats(0.1, 2))
def test_soft_nms_only_lowers_scores(found, sigma):
    corners, scores, labels = found
    (indices,), (lowered,) = soft_nms(corners[None], scores[None], labels[None], sigma=sigma, max_detections=ALL)
    assert sorted(indices.tolist()) == list(range(len(scores)))  # each box once
    assert (lowered <= scores[indices]).all() and (np.diff(lowered) <= 0).all() and (lowered >= 0).all()
    assert indices[0] == scores.argmax() and lowered[0] == scores.max()


@given(candidates(), thresholds)
def test_soft_nms_finds_all_that_hard_nms_finds(found, threshold):
    """Recall without a score threshold: a lowered score is still above 0."""
    assert rows(detect(found, nms="soft")) >= rows(detect(found, nms="hard", nms_threshold=threshold))


@pytest.mark.parametrize("kind", KINDS, ids=str)
@given(images=st.lists(candidates(4, 4), min_size=2, max_size=3))
def test_a_batch_equals_its_images(kind, images):
    nms = MulticlassNMS(min_score=0.05, nms_threshold=0.5, max_detections=3, **kind)
    batch = nms(*map(np.stack, zip(*images)), sizes=np.full((len(images), 2), 8))
    for found, detections in zip(images, batch):
        single = detect(found, min_score=0.05, max_detections=3, **kind)
        for name in ("boxes_yxyx", "scores", "labels"):
            np.testing.assert_array_equal(getattr(single, name), getattr(detections, name))


@pytest.mark.parametrize("kind", KINDS, ids=str)
@given(found=candidates(), min_score=st.floats(0, 1), limit=st.integers(1, 5))
def test_detections_are_candidates_within_all_limits(kind, found, min_score, limit):
    detections = detect(found, min_score=min_score, max_detections=limit, **kind)
    assert len(detections.scores) <= limit
    assert (np.diff(detections.scores) <= 0).all() and (detections.scores >= min_score).all()
    assert (detections.boxes_yxyx >= 0).all() and (detections.boxes_yxyx <= 8).all()
    corners, _, labels = found
    assert rows(detections) <= set(zip(map(tuple, (corners * 8).tolist()), labels.tolist()))


@pytest.mark.parametrize("nms", ["hard", "soft"])
@given(found=candidates())
def test_kept_labels_filter_the_detections_of_separate_classes(nms, found):
    everything = detect(found, nms=nms)
    chosen = everything.select(everything.labels == 1)
    kept = detect(found, nms=nms, kept_labels=[1])
    np.testing.assert_array_equal(kept.boxes_yxyx, chosen.boxes_yxyx)
    np.testing.assert_array_equal(kept.scores, chosen.scores)


@pytest.mark.parametrize("nms", ["hard", "soft"])
@given(corners=boxes(3, 3))
def test_boxes_without_area_are_never_detected(nms, corners):
    found = corners.astype(np.float32), np.array([0.9, 0.8, 0.7], np.float32), np.ones(3, np.int32)
    detections = detect(found, nms=nms)
    assert (detections.boxes_yxyx[:, 2:] > detections.boxes_yxyx[:, :2]).all()
    assert np.isfinite(detections.scores).all()

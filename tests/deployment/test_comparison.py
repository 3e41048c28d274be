"""Comparisons notice a difference in one value."""

import numpy as np
import pytest

from ssd.boxes.multiclass_nms import Detections
from ssd.deployment.comparison import (
    Outputs,
    check_candidates,
    check_detections,
    compare_anchors,
    compare_candidates,
    draw_images,
)
from ssd.errors import UserError

B, A, K = 2, 6, 3


@pytest.fixture
def all_anchors():
    rng = np.random.default_rng(0)
    return Outputs(rng.random((B, A, 4)), rng.random((B, A, K)))


@pytest.fixture
def candidates(all_anchors):
    order = np.argsort(-all_anchors.scores.reshape(B, -1), axis=1)[:, :5]
    scores = np.take_along_axis(all_anchors.scores.reshape(B, -1), order, axis=1)
    boxes = np.take_along_axis(all_anchors.boxes_yxyx, (order // K)[..., None], axis=1)
    return Outputs(boxes, scores, order % K + 1)


def changed(outputs, name, place, value):
    arrays = {key: None if array is None else array.copy() for key, array in vars(outputs).items()}
    arrays[name][place] += value
    return Outputs(**arrays)


@pytest.mark.parametrize("name, key", [("boxes_yxyx", "boxes"), ("scores", "scores")])
def test_differences_of_anchors(name, key, all_anchors):
    assert compare_anchors(all_anchors, all_anchors, place="m") == {"boxes": 0, "scores": 0}
    small = changed(all_anchors, name, (1, 4, 2), 5e-5)
    assert compare_anchors(small, all_anchors, place="m")[key] == pytest.approx(5e-5)
    for value in (2e-4, -2e-4, np.nan):
        with pytest.raises(UserError, match=f"m: .*{key}"):
            compare_anchors(changed(all_anchors, name, (1, 4, 2), value), all_anchors, place="m")


@pytest.mark.parametrize(
    "name, place, value", [("boxes_yxyx", (1, 0, 2), 1e-6), ("scores", (0, 1), -1e-6), ("labels", (1, 2), 1)]
)
def test_changed_candidates_are_noticed(name, place, value, candidates, all_anchors):
    check_candidates(candidates, all_anchors, place="m")
    with pytest.raises(UserError, match="m: "):
        check_candidates(changed(candidates, name, place, value), all_anchors, place="m")


@pytest.mark.parametrize(
    "name, place, value", [("boxes_yxyx", (1, 0, 2), 2e-4), ("scores", (0, 1), 2e-4), ("labels", (1, 2), 1)]
)
def test_candidates_of_two_runs_are_compared(name, place, value, candidates):
    swapped = Outputs(*(array[:, [0, 2, 1, 3, 4]] for array in vars(candidates).values()))
    tied = changed(candidates, "scores", (slice(None), 2), 0)
    assert compare_candidates(tied, candidates, place="m")["boxes"] == 0
    gap = np.abs(swapped.scores - candidates.scores).max()
    if gap < 1e-4:  # nearly equal scores may change places
        compare_candidates(swapped, candidates, place="m")
    with pytest.raises(UserError, match="m: "):
        compare_candidates(changed(candidates, name, place, value), candidates, place="m")


def test_a_missing_detection_is_noticed():
    boxes, scores, labels = np.array([[0, 0, 1, 1], [0, 0, 0.5, 0.5]]), np.array([0.9, 0.8]), np.array([1, 2])
    whole, part = Detections(boxes, scores, labels), Detections(boxes[:1], scores[:1], labels[:1])
    check_detections([whole], [whole], place="m")
    for found in (part, Detections(boxes, scores, labels[::-1]), Detections(boxes * 0.99, scores, labels)):
        with pytest.raises(UserError, match="m: "):
            check_detections([found], [whole], place="m")


def test_drawn_images_differ():
    images = draw_images((40, 30))
    assert images.shape == (8, 40, 30, 3) and images.dtype == np.uint8
    assert len({image.tobytes() for image in images}) == 8 and images.std() > 20

"""Selection of detections from candidates: order, batches, thresholds and limits."""

import numpy as np
import pytest

from ssd.boxes.multiclass_nms import Detections, MulticlassNMS
from ssd.inference.network import create_nms

B, K = 2, 5


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def candidates(*rows):
    """Turn (y0, x0, y1, x1, score, label) of each candidate into boxes, scores and labels of an image."""
    table = np.array(rows, np.float32).reshape(-1, 6)
    return table[:, :4], table[:, 4], table[:, 5].astype(np.int32)


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


@pytest.mark.parametrize("nms_threshold, count", [(0.4, 1), (0.6, 2)])
def test_hard_nms_drops_boxes_whose_iou_is_above_the_threshold(nms_threshold, count):
    whole_and_half = candidates((0, 0, 1, 1, 0.9, 1), (0, 0, 1, 0.5, 0.8, 1))
    assert len(select(MulticlassNMS(0.1, nms_threshold, 10), whole_and_half).scores) == count


def test_soft_nms_drops_boxes_whose_lowered_score_is_below_the_minimum():
    same_place = candidates((0, 0, 1, 1, 0.9, 1), (0, 0, 1, 1, 0.8, 1), (0, 0, 1, 1, 0.7, 2))
    detections = select(MulticlassNMS(0.2, 0.5, 10, nms="soft"), same_place)  # 0.8 * exp(-2) is 0.108
    assert detections.scores.tolist() == pytest.approx([0.9, 0.7]) and detections.labels.tolist() == [1, 2]


@pytest.mark.parametrize("nms", ["hard", "soft"])
def test_boxes_outside_the_image_are_dropped(nms):
    outside = candidates((0, 0, 0, 1, 0.9, 1), (1, 0.2, 1, 0.2, 0.8, 1), (0.5, 0.5, 0.6, 0.6, 0.7, 1))
    detections = select(MulticlassNMS(0.0, 0.5, 10, nms=nms), outside)
    assert detections.scores.tolist() == pytest.approx([0.7])


@pytest.mark.parametrize("nms", ["hard", "soft"])
def test_scores_below_the_minimum_are_dropped(nms):
    apart = candidates((0, 0, 0.2, 0.2, 0.5, 1), (0.4, 0.4, 0.6, 0.6, 0.25, 1), (0.8, 0.8, 1, 1, 0.2499, 1))
    detections = select(MulticlassNMS(0.25, 0.5, 10, nms=nms, kept_labels=[1]), apart)
    assert detections.scores.tolist() == [0.5, 0.25]
    assert (detections.boxes_yxyx.dtype, detections.scores.dtype) == (np.float32, np.float32)


def test_nms_is_hard_by_default():
    same_place = candidates((0, 0, 1, 1, 0.9, 1), (0, 0, 1, 1, 0.8, 1))
    assert select(MulticlassNMS(0.0, 0.5, 10), same_place).scores.tolist() == pytest.approx([0.9])


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


@pytest.mark.parametrize("nms, scores", [("hard", [0.9, 0.7]), ("soft", [0.9, 0.7, 0.8 * np.exp(-(0.5**2) / 0.5)])])
def test_agnostic_nms_compares_boxes_of_all_classes(nms, scores):
    """The first two boxes have an IoU of 1/2."""
    image = candidates((0, 0, 1, 1, 0.9, 1), (0, 0, 1, 0.5, 0.8, 2), (2, 2, 3, 3, 0.7, 3))
    multiclass_nms = MulticlassNMS(0.1, 0.4, 10, nms=nms)
    assert select(multiclass_nms, image).scores.tolist() == pytest.approx([0.9, 0.8, 0.7])
    multiclass_nms.agnostic = True
    detections = select(multiclass_nms, image)
    assert detections.scores.tolist() == pytest.approx(scores)
    assert detections.labels.tolist() == [1, 3, 2][: len(scores)]


@pytest.mark.parametrize("nms", ["hard", "soft"])
def test_agnostic_nms_of_one_class_is_nms(nms, rng):
    boxes, scores, labels = random_candidates(rng)
    arguments = {"boxes_yxyx": boxes, "scores": scores, "labels": np.ones_like(labels), "sizes": np.full((3, 2), 100)}
    expected = MulticlassNMS(0.1, 0.5, 20, nms=nms)(**arguments)
    arguments["labels"] = labels
    for found, other in zip(MulticlassNMS(0.1, 0.5, 20, nms=nms, agnostic=True)(**arguments), expected):
        np.testing.assert_array_equal(found.boxes_yxyx, other.boxes_yxyx)
        np.testing.assert_array_equal(found.scores, other.scores)


@pytest.mark.parametrize("nms", ["hard", "soft"])
def test_only_kept_classes_compete(nms):
    """Class 1 neither suppresses a box of class 2, nor takes a place of max_detections."""
    image = candidates((0, 0, 1, 1, 0.9, 1), (0, 0, 1, 1, 0.8, 2), (2, 2, 3, 3, 0.7, 3), (4, 4, 5, 5, 0.6, 2))
    detections = select(MulticlassNMS(0.1, 0.5, 2, nms=nms, agnostic=True, kept_labels={2}), image)
    assert detections.scores.tolist() == pytest.approx([0.8, 0.6]) and detections.labels.tolist() == [2, 2]
    assert select(MulticlassNMS(0.1, 0.5, 2, nms=nms, kept_labels=[9]), image).labels.tolist() == []


def test_detections_for_supervision_have_x_first():
    supervision = pytest.importorskip("supervision")
    detections = Detections(np.float32([[1, 2, 30, 40], [5, 6, 7, 8]]), np.float32([0.75, 0.5]), np.int32([2, 1]))
    converted = detections.to_supervision()
    assert isinstance(converted, supervision.Detections) and converted.tracker_id is None
    assert converted.xyxy.tolist() == [[2, 1, 40, 30], [6, 5, 8, 7]] and converted.class_id.tolist() == [2, 1]
    assert converted.confidence.tolist() == [0.75, 0.5] and converted.class_id.dtype == int
    tracked = Detections(detections.boxes_yxyx, detections.scores, detections.labels, track_ids=np.array([1, 0]))
    assert tracked.to_supervision().tracker_id.tolist() == [1, -1]
    assert len(detections.select(np.zeros(2, bool)).to_supervision()) == 0


def test_selected_detections_keep_their_track_ids():
    track_ids = np.array([7, 0, 9])
    three = Detections(np.eye(3, 4), np.float32([0.9, 0.8, 0.7]), np.int32([1, 2, 3]), track_ids=track_ids)
    two = three.select(three.scores < 0.85)
    assert two.labels.tolist() == [2, 3] and two.scores.tolist() == three.scores[1:].tolist()
    assert two.track_ids.tolist() == [0, 9]
    assert two.boxes_yxyx.tolist() == [[0, 1, 0, 0], [0, 0, 1, 0]]

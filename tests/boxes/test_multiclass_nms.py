"""Selection of detections from candidates: order, batches, thresholds and limits."""

import numpy as np
import pytest

from ssd.boxes.multiclass_nms import MulticlassNMS
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

"""Pascal VOC's protocol, on detections made by hand."""

import numpy as np
import pytest

from pets import CATEGORIES, CLASSES, OBJECTS, add_all_but, annotation, detections, write_annotations
from ssd.evaluation.coco_metrics import CocoEvaluator
from ssd.evaluation.voc_metrics import compute_voc_metrics

IDS = {category["name"]: category["id"] for category in CATEGORIES}


def score(evaluator):
    return compute_voc_metrics(evaluator.truth, evaluator.results, IDS)


def evaluator_of(tmp_path, *annotations):
    return CocoEvaluator(write_annotations(tmp_path / "val.json", list(annotations)), CLASSES)


def test_perfect_detections(truth):
    found = score(add_all_but(CocoEvaluator(truth, CLASSES)))
    assert (found.AP, found.AP11) == (1, 1) and found.per_class == dict.fromkeys(CLASSES[1:], (1, 1))


def test_no_detections(truth):
    found = score(CocoEvaluator(truth, CLASSES))
    assert (found.AP, found.AP11) == (0, 0)


def test_half_of_the_cats(truth):
    found = score(add_all_but(CocoEvaluator(truth, CLASSES), left_out=[0]))
    # Precision is 1 up to the recall 0.5: half of the area, and 6 of the points 0, 0.1 ... 1.
    assert found.per_class["cat"] == pytest.approx((1 / 2, 6 / 11))
    assert (found.AP, found.AP11) == pytest.approx((2.5 / 3, (6 / 11 + 2) / 3))


def test_precision_between_hits(tmp_path):
    """Right, wrong, right: precision 1 up to recall 1/2, then 2/3."""
    evaluator = evaluator_of(tmp_path, annotation(1, 11, 90, (0, 0, 10, 10)), annotation(2, 11, 90, (50, 50, 10, 10)))
    for score_, x in ((0.9, 0), (0.8, 80), (0.7, 50)):
        evaluator.add(11, detections(("cat", score_, (x, x, 10, 10))))
    area, eleven = score(evaluator).per_class["cat"]
    assert area == pytest.approx(1 / 2 + 1 / 2 * 2 / 3)
    assert eleven == pytest.approx((6 * 1 + 5 * 2 / 3) / 11)


def test_recall_of_three_in_ten_reaches_the_point(tmp_path):
    boxes = [(12 * number, 0, 10, 10) for number in range(10)]
    evaluator = evaluator_of(tmp_path, *(annotation(1, 11, 90, box) for box in boxes))
    for box in boxes[:3]:
        evaluator.add(11, detections(("cat", 0.5, box)))
    assert score(evaluator).per_class["cat"] == pytest.approx((0.3, 4 / 11))


def test_the_second_to_find_an_object_is_wrong(tmp_path):
    """And does not fall back on an object that it overlaps less, as it would by COCO's rules."""
    evaluator = evaluator_of(tmp_path, annotation(1, 11, 90, (0, 0, 10, 10)), annotation(2, 11, 90, (2, 0, 10, 10)))
    evaluator.add(11, detections(("cat", 0.9, (0, 0, 10, 10)), ("cat", 0.8, (0.5, 0, 10, 10))))
    assert score(evaluator).per_class["cat"][0] == pytest.approx(0.5)
    assert evaluator.summarize().metrics["AP50"] == pytest.approx(1)


@pytest.mark.parametrize("key", ["iscrowd", "ignore", "difficult"])
def test_difficult_objects_are_neither_asked_for_nor_wrong(key, tmp_path):
    difficult = {**annotation(2, 11, 90, (50, 50, 20, 20)), key: 1}
    evaluator = evaluator_of(tmp_path, annotation(1, 11, 90, (0, 0, 10, 10)), difficult)
    evaluator.add(11, detections(*(("cat", 0.9 - x / 100, (50, 50, 20 - x, 20)) for x in range(3))))
    evaluator.add(11, detections(("cat", 0.5, (0, 0, 10, 10))))
    assert score(evaluator).per_class["cat"] == (1, 1)


@pytest.mark.parametrize("width, ap", [(20, 1), (20.1, 0)])
def test_an_overlap_of_one_half_is_enough(width, ap, tmp_path):
    evaluator = evaluator_of(tmp_path, annotation(1, 11, 90, (0, 0, 10, 10)))
    evaluator.add(11, detections(("cat", 0.9, (0, 0, width, 10))))
    assert score(evaluator).per_class["cat"][0] == ap


def test_classes_without_objects_do_not_count(tmp_path):
    evaluator = evaluator_of(tmp_path, annotation(1, 11, 90, (0, 0, 10, 10)))
    evaluator.add(11, detections(("cat", 0.9, (0, 0, 10, 10)), ("dog", 0.95, (0, 0, 10, 10))))
    found = score(evaluator)
    assert found.per_class["dog"] == (-1, -1) and found.AP == found.AP11 == 1
    nothing = score(evaluator_of(tmp_path))
    assert nothing.AP == nothing.AP11 == -1


def test_images_do_not_touch_and_order_does_not_matter(truth):
    evaluator = add_all_but(CocoEvaluator(truth, CLASSES))
    evaluator.add(13, detections(("cat", 0.95, OBJECTS[0][2])))
    expected = score(evaluator)
    assert expected.per_class["cat"][0] == pytest.approx(2 / 3)  # wrong, right, right: at best 2 of 3, for both cats
    order = np.random.default_rng(0).permutation(len(evaluator.results))
    evaluator.results = [evaluator.results[i] for i in order]
    assert score(evaluator) == expected

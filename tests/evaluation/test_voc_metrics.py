"""Pascal VOC's metrics of hand-made detections."""

import numpy as np
import pytest

from ssd.evaluation.coco_metrics import CocoEvaluator
from ssd.evaluation.voc_metrics import compute_voc_metrics
from toy_annotations import (
    CATEGORIES,
    CLASSES,
    OBJECTS,
    add_exact_detections,
    make_annotation,
    make_detections,
    write_annotations,
)

CATEGORY_IDS = {category["name"]: category["id"] for category in CATEGORIES}


def voc_metrics(evaluator):
    return compute_voc_metrics(evaluator.ground_truth, evaluator.results, CATEGORY_IDS)


def create_evaluator(tmp_path, *annotations):
    return CocoEvaluator(write_annotations(tmp_path / "val.json", list(annotations)), CLASSES)


def test_perfect_detections(annotation_path):
    result = voc_metrics(add_exact_detections(CocoEvaluator(annotation_path, CLASSES)))
    assert (result.AP, result.AP11) == (1, 1) and result.per_class == dict.fromkeys(CLASSES[1:], (1, 1))


def test_no_detections(annotation_path):
    result = voc_metrics(CocoEvaluator(annotation_path, CLASSES))
    assert (result.AP, result.AP11) == (0, 0)


def test_average_precision_of_a_missed_object(annotation_path):
    result = voc_metrics(add_exact_detections(CocoEvaluator(annotation_path, CLASSES), left_out=[0]))
    # Precision is 1 up to recall 0.5: half of the area, and 6 of the recalls 0, 0.1 ... 1.
    assert result.per_class["cat"] == pytest.approx((1 / 2, 6 / 11))
    assert (result.AP, result.AP11) == pytest.approx((2.5 / 3, (6 / 11 + 2) / 3))


def test_precision_between_true_positives(tmp_path):
    """True, false, true positive: precision 1 up to recall 1/2, then 2/3."""
    evaluator = create_evaluator(
        tmp_path, make_annotation(11, 90, (0, 0, 10, 10)), make_annotation(11, 90, (50, 50, 10, 10))
    )
    for score, x in ((0.9, 0), (0.8, 80), (0.7, 50)):
        evaluator.add(11, make_detections(("cat", score, (x, x, 10, 10))))
    ap, ap11 = voc_metrics(evaluator).per_class["cat"]
    assert ap == pytest.approx(1 / 2 + 1 / 2 * 2 / 3)
    assert ap11 == pytest.approx((6 * 1 + 5 * 2 / 3) / 11)


def test_recall_of_three_in_ten_reaches_the_threshold_of_three_tenths(tmp_path):
    boxes = [(12 * number, 0, 10, 10) for number in range(10)]
    evaluator = create_evaluator(tmp_path, *(make_annotation(11, 90, box) for box in boxes))
    for box in boxes[:3]:
        evaluator.add(11, make_detections(("cat", 0.5, box)))
    assert voc_metrics(evaluator).per_class["cat"] == pytest.approx((0.3, 4 / 11))


def test_the_second_detection_of_an_object_is_a_false_positive(tmp_path):
    """COCO would match it with another object that it overlaps less."""
    evaluator = create_evaluator(
        tmp_path, make_annotation(11, 90, (0, 0, 10, 10)), make_annotation(11, 90, (2, 0, 10, 10))
    )
    evaluator.add(11, make_detections(("cat", 0.9, (0, 0, 10, 10)), ("cat", 0.8, (0.5, 0, 10, 10))))
    assert voc_metrics(evaluator).per_class["cat"][0] == pytest.approx(0.5)
    assert evaluator.summarize().metrics["AP50"] == pytest.approx(1)


@pytest.mark.parametrize("key", ["iscrowd", "ignore", "difficult"])
def test_difficult_objects_are_ignored(key, tmp_path):
    difficult = {**make_annotation(11, 90, (50, 50, 20, 20)), key: 1}
    evaluator = create_evaluator(tmp_path, make_annotation(11, 90, (0, 0, 10, 10)), difficult)
    evaluator.add(11, make_detections(*(("cat", 0.9 - x / 100, (50, 50, 20 - x, 20)) for x in range(3))))
    evaluator.add(11, make_detections(("cat", 0.5, (0, 0, 10, 10))))
    assert voc_metrics(evaluator).per_class["cat"] == (1, 1)


@pytest.mark.parametrize("width, ap", [(20, 1), (20.1, 0)])
def test_an_iou_of_one_half_is_a_match(width, ap, tmp_path):
    evaluator = create_evaluator(tmp_path, make_annotation(11, 90, (0, 0, 10, 10)))
    evaluator.add(11, make_detections(("cat", 0.9, (0, 0, width, 10))))
    assert voc_metrics(evaluator).per_class["cat"][0] == ap


def test_the_mean_excludes_classes_without_objects(tmp_path):
    evaluator = create_evaluator(tmp_path, make_annotation(11, 90, (0, 0, 10, 10)))
    evaluator.add(11, make_detections(("cat", 0.9, (0, 0, 10, 10)), ("dog", 0.95, (0, 0, 10, 10))))
    result = voc_metrics(evaluator)
    assert result.per_class["dog"] == (-1, -1) and result.AP == result.AP11 == 1
    empty = voc_metrics(create_evaluator(tmp_path))
    assert empty.AP == empty.AP11 == -1


def test_images_are_separate_and_the_order_of_results_does_not_matter(annotation_path):
    evaluator = add_exact_detections(CocoEvaluator(annotation_path, CLASSES))
    evaluator.add(13, make_detections(("cat", 0.95, OBJECTS[0][2])))
    expected = voc_metrics(evaluator)
    assert expected.per_class["cat"][0] == pytest.approx(2 / 3)  # false, true, true positive: the envelope is 2/3
    order = np.random.default_rng(0).permutation(len(evaluator.results))
    evaluator.results = [evaluator.results[i] for i in order]
    assert voc_metrics(evaluator) == expected

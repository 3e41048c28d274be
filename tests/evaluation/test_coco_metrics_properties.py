"""Properties of COCO's and VOC's metrics: limits, order invariance, and what better and worse detections change."""

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from box_strategies import boxes
from ssd.boxes.multiclass_nms import Detections
from ssd.evaluation.average_precision import coco_average_precision, voc_average_precision
from ssd.evaluation.coco_metrics import CocoEvaluator
from toy_annotations import CLASSES, make_annotation, write_annotations

IMAGES, SIDE = (11, 12), 100  # ids, and height and width in pixels
ROUNDING = 1e-12  # of means over thresholds, classes and images
outcomes = arrays(np.bool_, st.integers(0, 12), elements=st.booleans())


@st.composite
def evaluations(draw):
    """(annotations, {image id: Detections}) of two images, with distinct scores."""
    annotations, detections = [], {}
    scores = draw(st.permutations(range(1, 11)))
    for image_id in IMAGES:
        for corners in draw(boxes(1, 3, min_side=1 / 8)):
            y0, x0, y1, x1 = corners * SIDE
            category_id = draw(st.sampled_from([90, 7]))
            number = len(annotations) + 1
            annotations.append(make_annotation(image_id, category_id, (x0, y0, x1 - x0, y1 - y0), annotation_id=number))
        found = (draw(boxes(0, 5, min_side=1 / 8)) * SIDE).astype(np.float32)
        values = np.array([scores.pop() for _ in found], np.float32) / 10
        labels = draw(arrays(np.int64, len(found), elements=st.integers(1, 2)))
        detections[image_id] = Detections(found, values, labels)
    return annotations, detections


@pytest.fixture(scope="module")
def measure(tmp_path_factory):
    """measure(annotations, {image id: Detections}) is {name of a metric: value}."""
    path = tmp_path_factory.mktemp("metrics") / "annotations.json"

    def measure(annotations, detections):
        evaluator = CocoEvaluator(write_annotations(path, annotations, image_ids=IMAGES), CLASSES)
        for image_id, found in detections.items():
            evaluator.add(image_id, found)
        return evaluator.summarize().metrics

    return measure


@given(evaluations())
def test_metrics_are_shares_and_ignore_the_order(measure, case):
    annotations, detections = case
    metrics = measure(annotations, detections)
    assert all(value == -1 or 0 <= value <= 1 for value in metrics.values()), metrics  # False for NaN
    assert metrics["AR1"] <= metrics["AR10"] + ROUNDING and metrics["AR10"] <= metrics["AR100"] + ROUNDING
    assert metrics["AP"] <= metrics["AP50"] + ROUNDING
    reordered = {image_id: found.select(slice(None, None, -1)) for image_id, found in reversed(detections.items())}
    assert measure(annotations[::-1], reordered) == pytest.approx(metrics, abs=ROUNDING)


@given(evaluations())
def test_only_the_order_of_scores_counts(measure, case):
    annotations, detections = case
    changed = {key: dataclasses.replace(found, scores=found.scores**3 / 2) for key, found in detections.items()}
    assert measure(annotations, changed) == pytest.approx(measure(annotations, detections), abs=ROUNDING)


@given(evaluations())
def test_exact_detections_are_perfect_and_a_lower_mistake_does_not_matter(measure, case):
    annotations, _ = case
    exact = {}
    for image_id in IMAGES:
        own = [entry for entry in annotations if entry["image_id"] == image_id]
        x, y, width, height = np.array([entry["bbox"] for entry in own]).T
        labels = [1 if entry["category_id"] == 90 else 2 for entry in own]
        corners = np.stack([y, x, y + height, x + width], axis=1)
        mistake = np.array([[0, 0, 1, 1]])
        exact[image_id] = Detections(
            np.concatenate([corners, mistake]), np.array([0.9] * len(own) + [0.1]), np.array([*labels, 1])
        )
    metrics = measure(annotations, exact)
    assert (metrics["AP"], metrics["AR100"]) == (pytest.approx(1), pytest.approx(1))


@given(outcomes, st.integers(0, 3), st.integers(0, 3))
def test_average_precision_is_a_share_that_better_detections_raise(is_true_positive, missed, num_mistakes):
    num_gt = max(int(is_true_positive.sum()) + missed, 1)

    def measures(found):
        return np.array([coco_average_precision(found, num_gt), *voc_average_precision(found, num_gt)])

    values = measures(is_true_positive)
    assert (values >= 0).all() and (values <= 1).all()
    best = np.sort(is_true_positive)[::-1]
    assert (measures(best) >= values - ROUNDING).all()
    with_mistakes = np.concatenate([is_true_positive, np.zeros(num_mistakes, bool)])
    np.testing.assert_allclose(measures(with_mistakes), values)
    if missed and not math.isclose(values[0], 1):
        assert (measures(np.append(is_true_positive, True)) >= values).all()

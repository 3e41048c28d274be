"""The confusion matrix, counted by hand."""

import numpy as np
import pytest

from ssd.evaluation.report.confusion import confusion_matrix

CAT, DOG, BIRD = 1, 2, 3
BOX, FAR = (10, 10, 40, 40), (60, 60, 30, 30)


def nonzero_counts(matches, min_score=0.3):
    """Return {(ground-truth class, detected class): count} of all counts above 0. Class 0 is background."""
    matrix = confusion_matrix(matches, min_score)
    return {(row, column): int(matrix[row, column]) for row, column in np.argwhere(matrix).tolist()}


def test_rows_are_annotated_and_columns_detected(match_rows):
    objects = [(11, CAT, BOX), (11, BIRD, FAR), (12, CAT, BOX)]
    detections = [(11, DOG, 0.9, BOX), (11, CAT, 0.8, (70, 0, 20, 20)), (12, CAT, 0.7, BOX)]
    assert nonzero_counts(match_rows(objects, detections)) == {(CAT, DOG): 1, (0, CAT): 1, (BIRD, 0): 1, (CAT, CAT): 1}


def test_detections_below_min_score_are_left_out(match_rows):
    matches = match_rows([(11, CAT, BOX)], [(11, CAT, 0.29, BOX), (11, DOG, 0.2, FAR)])
    assert nonzero_counts(matches) == {(CAT, 0): 1}
    assert nonzero_counts(matches, 0.29) == {(CAT, CAT): 1}
    assert nonzero_counts(matches, 0.0) == {(CAT, CAT): 1, (0, DOG): 1}


def test_the_highest_score_is_assigned_first_and_each_object_once(match_rows):
    detections = [(11, CAT, 0.8, BOX), (11, DOG, 0.9, BOX)]
    assert nonzero_counts(match_rows([(11, CAT, BOX)], detections)) == {(CAT, DOG): 1, (0, CAT): 1}


def test_the_free_object_with_the_highest_iou_is_assigned(match_rows):
    near = (12, 10, 40, 40)  # IoU 38/42 with BOX
    objects = [(11, CAT, BOX), (11, DOG, near)]
    assert nonzero_counts(match_rows(objects, [(11, DOG, 0.9, near)])) == {(DOG, DOG): 1, (CAT, 0): 1}
    both = [(11, DOG, 0.9, near), (11, BIRD, 0.8, near)]
    assert nonzero_counts(match_rows(objects, both)) == {(DOG, DOG): 1, (CAT, BIRD): 1}


@pytest.mark.parametrize("shift, expected", [(13, {(CAT, CAT): 1}), (14, {(CAT, 0): 1, (0, CAT): 1})])
def test_the_iou_must_be_at_least_one_half(shift, expected, match_rows):
    # Shifted by 13 of 40 pixels the IoU is 27/53, by 14 it is 26/54.
    matches = match_rows([(11, CAT, BOX)], [(11, CAT, 0.9, (10 + shift, 10, 40, 40))])
    assert nonzero_counts(matches) == expected


def test_detections_inside_crowd_regions_are_not_counted(match_rows):
    objects = [(11, CAT, (0, 0, 60, 60), True)]
    assert nonzero_counts(match_rows(objects, [(11, DOG, 0.9, BOX), (11, DOG, 0.8, FAR)])) == {(0, DOG): 1}


def test_no_objects_and_no_detections(match_rows):
    matrix = confusion_matrix(match_rows([], []), 0.3)
    assert matrix.shape == (4, 4) and not matrix.any()


@pytest.mark.parametrize("seed", range(3))
def test_every_object_and_every_detection_is_counted_once(seed, random_rows, match_rows):
    objects, detections = random_rows(seed)
    objects = [row[:3] for row in objects]  # no crowds
    matches = match_rows(objects, detections)
    matrix = confusion_matrix(matches, 0.3)
    assert matrix[1:].sum(axis=1).tolist() == np.bincount(matches.ground_truth.labels, minlength=4)[1:].tolist()
    detected_labels = matches.detections.labels[matches.scores >= 0.3]
    assert matrix[:, 1:].sum(axis=0).tolist() == np.bincount(detected_labels, minlength=4)[1:].tolist()

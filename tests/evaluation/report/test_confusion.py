"""Which classes are taken for which, counted by hand."""

import numpy as np
import pytest

from ssd.evaluation.report.confusion import confusion_matrix

CAT, DOG, BIRD = 1, 2, 3
BOX, FAR = (10, 10, 40, 40), (60, 60, 30, 30)


def pairs(matches, min_score=0.3):
    """{(annotated, detected): count} of all that is not 0; 0 is nothing."""
    matrix = confusion_matrix(matches, min_score)
    return {(row, column): int(matrix[row, column]) for row, column in np.argwhere(matrix).tolist()}


def test_rows_are_annotated_and_columns_detected(match_rows):
    objects = [(11, CAT, BOX), (11, BIRD, FAR), (12, CAT, BOX)]
    detections = [(11, DOG, 0.9, BOX), (11, CAT, 0.8, (70, 0, 20, 20)), (12, CAT, 0.7, BOX)]
    assert pairs(match_rows(objects, detections)) == {(CAT, DOG): 1, (0, CAT): 1, (BIRD, 0): 1, (CAT, CAT): 1}


def test_low_scores_are_left_out(match_rows):
    matches = match_rows([(11, CAT, BOX)], [(11, CAT, 0.29, BOX), (11, DOG, 0.2, FAR)])
    assert pairs(matches) == {(CAT, 0): 1}
    assert pairs(matches, 0.29) == {(CAT, CAT): 1}
    assert pairs(matches, 0.0) == {(CAT, CAT): 1, (0, DOG): 1}


def test_the_best_score_chooses_first_and_each_object_once(match_rows):
    detections = [(11, CAT, 0.8, BOX), (11, DOG, 0.9, BOX)]
    assert pairs(match_rows([(11, CAT, BOX)], detections)) == {(CAT, DOG): 1, (0, CAT): 1}


def test_the_highest_overlap_that_is_free_is_chosen(match_rows):
    near = (12, 10, 40, 40)  # 38 of 42 pixels in common with BOX
    objects = [(11, CAT, BOX), (11, DOG, near)]
    assert pairs(match_rows(objects, [(11, DOG, 0.9, near)])) == {(DOG, DOG): 1, (CAT, 0): 1}
    both = [(11, DOG, 0.9, near), (11, BIRD, 0.8, near)]
    assert pairs(match_rows(objects, both)) == {(DOG, DOG): 1, (CAT, BIRD): 1}


@pytest.mark.parametrize("shift, expected", [(13, {(CAT, CAT): 1}), (14, {(CAT, 0): 1, (0, CAT): 1})])
def test_overlap_of_half(shift, expected, match_rows):
    # Shifted by 13 of 40 pixels: 27 of 53 in common; by 14: 26 of 54.
    matches = match_rows([(11, CAT, BOX)], [(11, CAT, 0.9, (10 + shift, 10, 40, 40))])
    assert pairs(matches) == expected


def test_crowd_regions_have_no_row_and_forgive(match_rows):
    objects = [(11, CAT, (0, 0, 60, 60), True)]
    assert pairs(match_rows(objects, [(11, DOG, 0.9, BOX), (11, DOG, 0.8, FAR)])) == {(0, DOG): 1}


def test_nothing_at_all(match_rows):
    matrix = confusion_matrix(match_rows([], []), 0.3)
    assert matrix.shape == (4, 4) and not matrix.any()


@pytest.mark.parametrize("seed", range(3))
def test_every_object_and_every_detection_is_counted_once(seed, random_rows, match_rows):
    objects, detections = random_rows(seed)
    objects = [row[:3] for row in objects]  # no crowds
    matches = match_rows(objects, detections)
    matrix = confusion_matrix(matches, 0.3)
    assert matrix[1:].sum(axis=1).tolist() == np.bincount(matches.objects.labels, minlength=4)[1:].tolist()
    shown = matches.detections.labels[matches.scores >= 0.3]
    assert matrix[:, 1:].sum(axis=0).tolist() == np.bincount(shown, minlength=4)[1:].tolist()

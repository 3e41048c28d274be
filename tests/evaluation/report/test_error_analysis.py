"""Types of errors and AP50 without them, on hand-made boxes and against pycocotools."""

import numpy as np
import pytest

from ssd.evaluation.report.error_analysis import ERROR_TYPES, classify_errors, compute_ap50, compute_ap50_without

CAT, DOG, BIRD = 1, 2, 3
BOX = (10, 10, 40, 40)  # x, y, w, h
FAR = (60, 60, 30, 30)
# Shifted by 20 of 40 pixels: IoU 20/60.
OFF = (30, 10, 40, 40)


def gains(matches):
    errors, ap50 = classify_errors(matches), compute_ap50(matches)
    return {error_type: compute_ap50_without(matches, errors, error_type) - ap50 for error_type in ERROR_TYPES}


# --- AP50 itself ---


@pytest.mark.parametrize("seed", range(6))
def test_ap50_equals_that_of_pycocotools(seed, evaluate_rows, random_rows, match_rows):
    rows = random_rows(seed)
    assert any(iscrowd for *_, iscrowd in rows[0])
    expected = evaluate_rows(*rows).coco_metrics.metrics["AP50"]
    assert 0.05 < expected < 0.95
    matches = match_rows(*rows)
    assert compute_ap50(matches) == pytest.approx(expected, abs=1e-9)
    assert (matches.ignored & (matches.scores > 0.25)).any(), "some detections lie in crowd regions"
    assert matches.ignored.sum() >= 20, "and some are more than 100 of one class in one image"


def test_ap50_with_a_class_that_only_the_annotation_file_has(evaluate_rows, match_rows):
    rows = [(11, CAT, BOX), (12, DOG, BOX)], [(11, CAT, 0.9, BOX)]
    options = {"classes": ("background", "cat"), "file_classes": ("background", "cat", "dog")}
    expected = evaluate_rows(*rows, **options).coco_metrics.metrics["AP50"]
    matches = match_rows(*rows, **options)
    assert compute_ap50(matches) == pytest.approx(expected) == pytest.approx(0.5)
    assert matches.classes == options["file_classes"]


def test_no_objects(match_rows):
    for rows in (([], []), ([], [(11, CAT, 0.9, BOX)])):
        matches = match_rows(*rows)
        assert compute_ap50(matches) == -1
        assert set(gains(matches).values()) == {0}


# --- types of errors ---


def classify(match_rows, objects, detections):
    """Return {score: (type, ground-truth index, IoU)} of the errors, and whether each object is missed."""
    matches = match_rows(objects, detections)
    errors = classify_errors(matches)
    by_score = {
        round(matches.scores[i].item(), 6): (str(errors.types[i]), int(errors.gt_indices[i]), round(errors.ious[i], 6))
        for i in np.flatnonzero(errors.types != "")
    }
    return by_score, errors.missed_gt.tolist()


@pytest.mark.parametrize(
    "detected, box, error_type, iou",
    [
        (CAT, OFF, "localisation", 1 / 3),
        (DOG, BOX, "class", 1),
        (DOG, OFF, "both", 1 / 3),
        (CAT, FAR, "background", 0),
        (DOG, FAR, "background", 0),
        (CAT, (48, 10, 40, 40), "background", 0),  # IoU 2/78, below 0.1
    ],
)
def test_type_of_a_single_false_positive(detected, box, error_type, iou, match_rows):
    by_score, missed = classify(match_rows, [(11, CAT, BOX)], [(11, detected, 0.8, box)])
    assert by_score == {0.8: (error_type, -1 if error_type == "background" else 0, round(iou, 6))}
    assert missed == [error_type not in ("localisation", "class")]  # fixing these two would match the object


def test_the_second_detection_of_an_object_is_a_duplicate(match_rows):
    rows = [(11, CAT, 0.8, BOX), (11, CAT, 0.7, BOX)]
    assert classify(match_rows, [(11, CAT, BOX)], rows) == ({0.7: ("duplicate", 0, 1.0)}, [False])


def test_a_false_positive_that_meets_several_conditions_has_the_first_type(match_rows):
    objects = [(11, CAT, OFF), (11, DOG, BOX)]
    # Its IoU is 1/3 with the cat and 1 with the dog.
    assert classify(match_rows, objects, [(11, CAT, 0.8, BOX)])[0] == {0.8: ("localisation", 0, round(1 / 3, 6))}


def test_images_are_separate(match_rows):
    by_score, missed = classify(match_rows, [(12, CAT, BOX)], [(11, CAT, 0.8, BOX), (13, CAT, 0.7, BOX)])
    assert by_score == {0.8: ("background", -1, 0), 0.7: ("background", -1, 0)} and missed == [True]


def test_a_detection_inside_a_crowd_region_is_no_error(match_rows):
    objects = [(11, CAT, (0, 0, 90, 90), True)]
    assert classify(match_rows, objects, [(11, CAT, 0.8, BOX)]) == ({}, [])
    # A crowd of cats does not cover dogs, and is no object for a class error.
    assert classify(match_rows, objects, [(11, DOG, 0.8, BOX)])[0] == {0.8: ("background", -1, 0)}


@pytest.mark.parametrize("seed", range(3))
def test_all_false_positives_and_no_others_have_a_type(seed, random_rows, match_rows):
    matches = match_rows(*random_rows(seed))
    errors = classify_errors(matches)
    assert ((errors.types != "") == matches.false_positives).all()
    assert set(errors.types[matches.false_positives].tolist()) <= set(ERROR_TYPES[:-1])
    has_gt = errors.gt_indices >= 0
    assert (has_gt == (matches.false_positives & (errors.types != "background"))).all()
    gt_image_indices = matches.ground_truth.image_indices[errors.gt_indices[has_gt]]
    assert (matches.detections.image_indices[has_gt] == gt_image_indices).all()


def test_the_order_of_detections_does_not_matter(random_rows, match_rows):
    objects, detections = random_rows(7)
    detections = [(image, label, score + i / 1e4, box) for i, (image, label, score, box) in enumerate(detections)]
    assert gains(match_rows(objects, detections)) == gains(match_rows(objects, detections[::-1]))


# --- AP50 without the errors of one type ---

TWO_CATS = [(11, CAT, BOX), (12, CAT, BOX)]


@pytest.mark.parametrize(
    "rows, error_type, before, after",
    [
        # One of two objects is detected: precision 1 at 51 of 101 recalls, 0, 0.01 … 0.50.
        ([(12, CAT, 0.8, OFF)], "localisation", 51 / 101, 1),
        ([(12, DOG, 0.8, BOX)], "class", 51 / 101, 1),
        ([], "missed", 51 / 101, 1),
        # A false positive with a higher score: precision 1/2 instead of 1 there.
        ([(12, DOG, 0.8, OFF), (12, CAT, 0.95, FAR)], "background", 51 / 202, 51 / 101),
        ([(11, CAT, 0.95, BOX)], "duplicate", 51 / 101, 51 / 101),
    ],
)
def test_gain_by_hand(rows, error_type, before, after, match_rows):
    matches = match_rows(TWO_CATS, [(11, CAT, 0.9, BOX), *rows])
    assert compute_ap50(matches) == pytest.approx(before)
    assert compute_ap50_without(matches, classify_errors(matches), error_type) == pytest.approx(after)


def test_duplicates_and_errors_of_class_and_box_are_removed(match_rows):
    # By score: true positive, duplicate, true positive. From recall 0.51 the precision is 2/3.
    matches = match_rows(TWO_CATS, [(11, CAT, 0.9, BOX), (11, CAT, 0.8, BOX), (12, CAT, 0.7, BOX)])
    assert compute_ap50(matches) == pytest.approx((51 + 50 * 2 / 3) / 101)
    assert compute_ap50_without(matches, classify_errors(matches), "duplicate") == pytest.approx(1)
    objects = [*TWO_CATS, (13, DOG, BOX)]
    matches = match_rows(objects, [(11, CAT, 0.9, BOX), (13, CAT, 0.8, OFF), (12, CAT, 0.7, BOX), (13, DOG, 0.6, BOX)])
    assert compute_ap50(matches) == pytest.approx(((51 + 50 * 2 / 3) / 101 + 1) / 2)
    assert compute_ap50_without(matches, classify_errors(matches), "both") == pytest.approx(1)


@pytest.mark.parametrize("error_type, label, box", [("localisation", CAT, OFF), ("class", DOG, BOX)])
def test_the_detection_with_the_highest_score_is_fixed_and_the_others_removed(error_type, label, box, match_rows):
    rows = [(12, label, 0.8, box), (12, label, 0.7, box), (12, label, 0.6, box)]
    matches = match_rows(TWO_CATS, [(11, CAT, 0.9, BOX), *rows])
    assert (classify_errors(matches).types == error_type).sum() == 3
    assert compute_ap50_without(matches, classify_errors(matches), error_type) == pytest.approx(1)


def test_an_error_about_a_detected_object_is_removed(match_rows):
    matches = match_rows(TWO_CATS, [(11, CAT, 0.9, OFF), (11, CAT, 0.8, BOX)])
    assert classify_errors(matches).types.tolist() == ["localisation", ""]
    assert compute_ap50(matches) == pytest.approx(51 / 202)
    assert compute_ap50_without(matches, classify_errors(matches), "localisation") == pytest.approx(51 / 101)


def test_without_detections_all_errors_are_missed_objects(match_rows):
    matches = match_rows(TWO_CATS, [])
    assert compute_ap50(matches) == 0
    assert gains(matches) == {**dict.fromkeys(ERROR_TYPES, 0), "missed": 1}


@pytest.mark.parametrize("seed", range(4))
def test_no_fix_lowers_ap50(seed, random_rows, match_rows):
    values = gains(match_rows(*random_rows(seed)))
    assert min(values.values()) >= -1e-12
    assert sum(value > 0.001 for value in values.values()) >= 4
    assert np.isfinite(list(values.values())).all()

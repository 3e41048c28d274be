"""Kinds of error and AP50 without them, on boxes typed by hand and against pycocotools."""

import numpy as np
import pytest

from ssd.evaluation.report.error_analysis import KINDS, ap50_of, ap50_without, find_errors

CAT, DOG, BIRD = 1, 2, 3
BOX = (10, 10, 40, 40)  # x, y, w, h
FAR = (60, 60, 30, 30)
# Shifted by 20 of 40 pixels: 20 of 60 in common, IoU 1/3.
OFF = (30, 10, 40, 40)


def gains(matches):
    errors, ap50 = find_errors(matches), ap50_of(matches)
    return {kind: ap50_without(matches, errors, kind) - ap50 for kind in KINDS}


# --- AP50 itself ---


@pytest.mark.parametrize("seed", range(6))
def test_ap50_is_that_of_pycocotools(seed, evaluate_rows, random_rows, match_rows):
    rows = random_rows(seed)
    assert any(crowd for *_, crowd in rows[0])
    expected = evaluate_rows(*rows).scores.metrics["AP50"]
    assert 0.05 < expected < 0.95
    matches = match_rows(*rows)
    assert ap50_of(matches) == pytest.approx(expected, abs=1e-9)
    in_crowds = (~matches.counted & (matches.scores > 0.25)).sum()
    assert in_crowds, "some detections lie in crowd regions"
    assert (~matches.counted).sum() >= 20, "and some are more than 100 of one class in one image"


def test_ap50_with_classes_that_the_detector_does_not_know(evaluate_rows, match_rows):
    rows = [(11, CAT, BOX), (12, DOG, BOX)], [(11, CAT, 0.9, BOX)]
    known = ("background", "cat", "dog")
    expected = evaluate_rows(*rows, classes=("background", "cat"), known=known).scores.metrics["AP50"]
    matches = match_rows(*rows, classes=("background", "cat"), known=known)
    assert ap50_of(matches) == pytest.approx(expected) == pytest.approx(0.5)
    assert matches.classes == known


def test_nothing_annotated_and_nothing_detected(match_rows):
    for rows in (([], []), ([], [(11, CAT, 0.9, BOX)])):
        matches = match_rows(*rows)
        assert ap50_of(matches) == -1
        assert set(gains(matches).values()) == {0}


# --- kinds ---


def kinds_of(match_rows, objects, detections, **more):
    """{score: (kind, near, IoU)} of what is no hit, and which objects are missed."""
    matches = match_rows(objects, detections, **more)
    errors = find_errors(matches)
    wrong = {
        round(score, 6): (kind, near, round(iou, 6))
        for score, kind, near, iou in zip(
            matches.scores.tolist(), errors.kinds.tolist(), errors.near.tolist(), errors.ious.tolist()
        )
        if kind
    }
    return wrong, errors.missed.tolist()


@pytest.mark.parametrize(
    "detected, box, kind, iou",
    [
        (CAT, OFF, "localisation", 1 / 3),
        (DOG, BOX, "class", 1),
        (DOG, OFF, "both", 1 / 3),
        (CAT, FAR, "background", 0),
        (DOG, FAR, "background", 0),
        (CAT, (48, 10, 40, 40), "background", 0),  # 2 of 78 pixels in common: less than 0.1
    ],
)
def test_kind_of_a_lone_mistake(detected, box, kind, iou, match_rows):
    wrong, missed = kinds_of(match_rows, [(11, CAT, BOX)], [(11, detected, 0.8, box)])
    assert wrong == {0.8: (kind, -1 if kind == "background" else 0, round(iou, 6))}
    assert missed == [kind not in ("localisation", "class")]  # these two would find the object if they were fixed


def test_the_second_detection_of_an_object_is_a_duplicate(match_rows):
    rows = [(11, CAT, 0.8, BOX), (11, CAT, 0.7, BOX)]
    assert kinds_of(match_rows, [(11, CAT, BOX)], rows) == ({0.7: ("duplicate", 0, 1.0)}, [False])


def test_a_mistake_of_several_kinds_has_the_first(match_rows):
    objects = [(11, CAT, OFF), (11, DOG, BOX)]
    # As a cat it is off OFF by 1/3; as a dog it would fit BOX.
    assert kinds_of(match_rows, objects, [(11, CAT, 0.8, BOX)])[0] == {0.8: ("localisation", 0, round(1 / 3, 6))}


def test_images_do_not_see_one_another(match_rows):
    wrong, missed = kinds_of(match_rows, [(12, CAT, BOX)], [(11, CAT, 0.8, BOX), (13, CAT, 0.7, BOX)])
    assert wrong == {0.8: ("background", -1, 0), 0.7: ("background", -1, 0)} and missed == [True]


def test_what_lies_in_a_crowd_region_is_no_error(match_rows):
    objects = [(11, CAT, (0, 0, 90, 90), True)]
    assert kinds_of(match_rows, objects, [(11, CAT, 0.8, BOX)]) == ({}, [])
    # A crowd of cats says nothing of dogs, and is no object that a dog could be on.
    assert kinds_of(match_rows, objects, [(11, DOG, 0.8, BOX)])[0] == {0.8: ("background", -1, 0)}


@pytest.mark.parametrize("seed", range(3))
def test_every_mistake_has_one_kind_and_hits_have_none(seed, random_rows, match_rows):
    matches = match_rows(*random_rows(seed))
    errors = find_errors(matches)
    assert ((errors.kinds != "") == matches.mistakes).all()
    assert set(errors.kinds[matches.mistakes].tolist()) <= set(KINDS[:-1])
    near = errors.near >= 0
    assert (near == (matches.mistakes & (errors.kinds != "background"))).all()
    assert (matches.detections.images[near] == matches.objects.images[errors.near[near]]).all()


def test_the_order_of_detections_does_not_matter(random_rows, match_rows):
    objects, detections = random_rows(7)
    detections = [(image, label, score + i / 1e4, box) for i, (image, label, score, box) in enumerate(detections)]
    assert gains(match_rows(objects, detections)) == gains(match_rows(objects, detections[::-1]))


# --- AP50 without the errors of a kind ---

TWO_CATS = [(11, CAT, BOX), (12, CAT, BOX)]


@pytest.mark.parametrize(
    "rows, kind, before, after",
    [
        # One of two objects is found: precision 1 at 51 of 101 recalls, 0, 0.01 … 0.50.
        ([(12, CAT, 0.8, OFF)], "localisation", 51 / 101, 1),
        ([(12, DOG, 0.8, BOX)], "class", 51 / 101, 1),
        ([], "missed", 51 / 101, 1),
        # A better scored mistake: precision 1/2 instead of 1 there.
        ([(12, DOG, 0.8, OFF), (12, CAT, 0.95, FAR)], "background", 51 / 202, 51 / 101),
        ([(11, CAT, 0.95, BOX)], "duplicate", 51 / 101, 51 / 101),
    ],
)
def test_gain_by_hand(rows, kind, before, after, match_rows):
    matches = match_rows(TWO_CATS, [(11, CAT, 0.9, BOX), *rows])
    assert ap50_of(matches) == pytest.approx(before)
    assert ap50_without(matches, find_errors(matches), kind) == pytest.approx(after)


def test_duplicates_and_what_is_wrong_in_both_go(match_rows):
    # By score: hit, duplicate, hit. The second object is found at precision 2/3, from recall 0.51 on.
    matches = match_rows(TWO_CATS, [(11, CAT, 0.9, BOX), (11, CAT, 0.8, BOX), (12, CAT, 0.7, BOX)])
    assert ap50_of(matches) == pytest.approx((51 + 50 * 2 / 3) / 101)
    assert ap50_without(matches, find_errors(matches), "duplicate") == pytest.approx(1)
    objects = [*TWO_CATS, (13, DOG, BOX)]
    matches = match_rows(objects, [(11, CAT, 0.9, BOX), (13, CAT, 0.8, OFF), (12, CAT, 0.7, BOX), (13, DOG, 0.6, BOX)])
    assert ap50_of(matches) == pytest.approx(((51 + 50 * 2 / 3) / 101 + 1) / 2)
    assert ap50_without(matches, find_errors(matches), "both") == pytest.approx(1)


@pytest.mark.parametrize("kind, label, box", [("localisation", CAT, OFF), ("class", DOG, BOX)])
def test_an_object_is_fixed_once_by_the_best_detection(kind, label, box, match_rows):
    rows = [(12, label, 0.8, box), (12, label, 0.7, box), (12, label, 0.6, box)]
    matches = match_rows(TWO_CATS, [(11, CAT, 0.9, BOX), *rows])
    assert (find_errors(matches).kinds == kind).sum() == 3
    assert ap50_without(matches, find_errors(matches), kind) == pytest.approx(1)


def test_an_object_that_is_found_is_not_fixed_again(match_rows):
    matches = match_rows(TWO_CATS, [(11, CAT, 0.9, OFF), (11, CAT, 0.8, BOX)])
    assert find_errors(matches).kinds.tolist() == ["localisation", ""]
    assert ap50_of(matches) == pytest.approx(51 / 202)
    assert ap50_without(matches, find_errors(matches), "localisation") == pytest.approx(51 / 101)  # the error goes


def test_without_any_detection_all_is_lost_to_missed_objects(match_rows):
    matches = match_rows(TWO_CATS, [])
    assert ap50_of(matches) == 0
    assert gains(matches) == {**dict.fromkeys(KINDS, 0), "missed": 1}


@pytest.mark.parametrize("seed", range(4))
def test_no_fix_makes_it_worse(seed, random_rows, match_rows):
    values = gains(match_rows(*random_rows(seed)))
    assert min(values.values()) >= -1e-12
    assert sum(value > 0.001 for value in values.values()) >= 4
    assert np.isfinite(list(values.values())).all()

"""COCO's evaluation of detections made by hand."""

import pytest

from pets import CLASSES, OBJECTS, add_all_but, annotation, detections, write_annotations
from ssd.errors import UserError
from ssd.evaluation.coco_metrics import METRICS, CocoEvaluator


def test_perfect_detections(truth, capsys):
    scores = add_all_but(CocoEvaluator(truth, CLASSES)).summarize()
    assert tuple(scores.metrics) == METRICS
    assert [scores.metrics[name] for name in ("AP", "AP50", "AP75", "AR100")] == pytest.approx([1] * 4)
    assert "Average Precision  (AP) @[ IoU=0.50:0.95 | area=   all | maxDets=100 ] = 1.000" in scores.table
    assert capsys.readouterr().out == ""  # the table is given back, not printed


def test_no_detections(truth):
    scores = CocoEvaluator(truth, CLASSES).summarize()
    assert scores.metrics["AP"] == scores.metrics["AR100"] == 0
    assert "= 0.000" in scores.table


def test_figures_that_have_nothing_to_score_are_minus_one(truth):
    metrics = add_all_but(CocoEvaluator(truth, CLASSES)).summarize().metrics
    assert [metrics["AP_small"], metrics["AP_medium"]] == pytest.approx([1, 1])
    assert metrics["AP_large"] == metrics["AR_large"] == -1  # no object is larger than 96x96


def test_half_of_the_cats_by_hand(truth):
    evaluator = add_all_but(CocoEvaluator(truth, CLASSES), left_out=[0])
    # Precision of the cats is 1 up to the recall 0.5: at 51 of the 101 places 0, 0.01 ... 1. Dog and bird are perfect.
    assert evaluator.summarize().metrics["AP"] == pytest.approx((51 / 101 + 1 + 1) / 3)


def test_images_without_detections_count(truth):
    evaluator = CocoEvaluator(truth, CLASSES)
    evaluator.add(11, detections(("cat", 0.9, OBJECTS[0][2]), ("dog", 0.8, OBJECTS[1][2])))
    for image_id in (12, 13):
        evaluator.add(image_id, detections())
    assert evaluator.summarize().metrics["AP"] == pytest.approx((51 / 101 + 1 + 0) / 3)


def test_a_better_score_in_the_wrong_place_costs_precision(truth):
    evaluator = add_all_but(CocoEvaluator(truth, CLASSES))
    evaluator.add(13, detections(("bird", 0.99, (5, 5, 20, 20))))
    assert evaluator.summarize().metrics["AP"] == pytest.approx((1 + 1 + 0.5) / 3)


def test_category_ids_are_those_of_the_file(truth):
    evaluator = CocoEvaluator(truth, CLASSES)
    evaluator.add(11, detections(*((name, 0.5, (1, 2, 3, 4)) for name in CLASSES[1:])))
    assert [result["category_id"] for result in evaluator.results] == [90, 7, 55]
    assert [result["image_id"] for result in evaluator.results] == [11] * 3
    assert evaluator.results[0]["bbox"] == [1, 2, 3, 4]
    assert evaluator.results[0]["score"] == pytest.approx(0.5)


def test_a_box_of_the_right_place_and_wrong_class_is_no_hit(truth):
    evaluator = CocoEvaluator(truth, CLASSES)
    evaluator.add(12, detections(("cat", 0.9, OBJECTS[3][2])))
    assert evaluator.summarize().metrics["AP"] == 0


@pytest.mark.parametrize("inside, ap", [(True, 1), (False, 0.5)])
def test_crowds_forgive_what_lies_in_them(inside, ap, tmp_path):
    region = (50, 40, 60, 50)
    rows = [annotation(1, 11, 90, OBJECTS[0][2]), annotation(2, 11, 90, region, iscrowd=1)]
    evaluator = CocoEvaluator(write_annotations(tmp_path / "val.json", rows), ("background", "cat"))
    evaluator.add(11, detections(("cat", 0.8, OBJECTS[0][2])))
    evaluator.add(11, detections(("cat", 0.9, (55, 45, 20, 20) if inside else (85, 0, 20, 20))))
    assert evaluator.summarize().metrics["AP"] == pytest.approx(ap)


def test_scoring_twice_gives_the_same_and_more_can_follow(truth):
    evaluator = add_all_but(CocoEvaluator(truth, CLASSES), left_out=[3])
    first = evaluator.summarize()
    again = evaluator.summarize()
    assert (again.metrics, again.table, again.per_class) == (first.metrics, first.table, first.per_class)
    assert set(evaluator.results[0]) == {"image_id", "category_id", "bbox", "score"}
    evaluator.add(12, detections(("bird", 0.9, OBJECTS[3][2])))
    assert first.metrics["AP"] == pytest.approx(2 / 3) and evaluator.summarize().metrics["AP"] == pytest.approx(1)


def test_a_class_that_the_file_does_not_know_is_refused(truth):
    with pytest.raises(UserError) as error:
        CocoEvaluator(truth, ("background", "cat", "fish"))
    assert str(error.value).startswith(f"{truth}: got classes ['bird', 'cat', 'dog'], expected 'fish' among them; ")


def test_an_image_that_the_file_does_not_know_is_refused(truth):
    with pytest.raises(UserError, match="val.json: got no image 99"):
        CocoEvaluator(truth, CLASSES).add(99, detections(("cat", 0.5, (0, 0, 9, 9))))


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(UserError, match="got no such file, expected the validation annotations"):
        CocoEvaluator(tmp_path / "val.json", CLASSES)


def test_figures_of_each_class(truth):
    evaluator = add_all_but(CocoEvaluator(truth, CLASSES), left_out=[0])
    evaluator.add(13, detections(("bird", 0.99, (5, 5, 20, 20))))
    scores = evaluator.summarize()
    table = {row.name: (row.objects, row.detections, row.AP, row.AP50, row.AP75, row.AR100) for row in scores.per_class}
    assert table["cat"] == pytest.approx((2, 1, 51 / 101, 51 / 101, 51 / 101, 0.5))
    assert table["dog"] == pytest.approx((1, 1, 1, 1, 1, 1))
    assert table["bird"] == pytest.approx((1, 2, 0.5, 0.5, 0.5, 1))
    assert list(table) == ["cat", "dog", "bird"]
    assert sum(row.AP for row in scores.per_class) / 3 == pytest.approx(scores.metrics["AP"])


def test_a_class_without_objects_has_no_figures(tmp_path):
    path = write_annotations(tmp_path / "val.json", [annotation(1, 11, 90, OBJECTS[0][2], iscrowd=1)])
    evaluator = CocoEvaluator(path, CLASSES)
    evaluator.add(11, detections(("dog", 0.5, (1, 2, 3, 4))))
    cat, dog, _ = evaluator.summarize().per_class
    assert (cat.objects, cat.AP, cat.AR100) == (0, -1, -1)  # a crowd is no object
    assert (dog.objects, dog.detections, dog.AP) == (0, 1, -1)


@pytest.mark.parametrize("ids", [(0, 1, 2, 3), (5, 5, 5, 5)])
def test_ids_of_annotations_do_not_matter(ids, tmp_path):
    """pycocotools takes the id 0 for no match, and annotations with one id for one."""
    rows = [annotation(number, *row) for number, row in zip(ids, OBJECTS)]
    evaluator = add_all_but(CocoEvaluator(write_annotations(tmp_path / "val.json", rows), CLASSES))
    assert evaluator.summarize().metrics["AP"] == pytest.approx(1)


def test_annotations_need_neither_area_nor_crowd_flag(tmp_path):
    """create_data.py takes such files, and pycocotools would end with a KeyError after the training."""
    rows = [annotation(number, *row) for number, row in enumerate(OBJECTS, start=1)]
    expected = add_all_but(CocoEvaluator(write_annotations(tmp_path / "whole.json", rows), CLASSES), left_out=[0])
    bare = [{key: row[key] for key in ("id", "image_id", "category_id", "bbox")} for row in rows]
    evaluator = add_all_but(CocoEvaluator(write_annotations(tmp_path / "val.json", bare), CLASSES), left_out=[0])
    assert evaluator.summarize().metrics == expected.summarize().metrics

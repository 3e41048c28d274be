"""COCO's metrics of hand-made detections."""

import pytest

from ssd.errors import UserError
from ssd.evaluation.coco_metrics import METRICS, CocoEvaluator
from toy_annotations import (
    CLASSES,
    OBJECTS,
    add_exact_detections,
    make_annotation,
    make_detections,
    write_annotations,
)


def test_perfect_detections(annotation_path, capsys):
    result = add_exact_detections(CocoEvaluator(annotation_path, CLASSES)).summarize()
    assert list(result.metrics) == list(METRICS)
    assert [result.metrics[name] for name in ("AP", "AP50", "AP75", "AR100")] == pytest.approx([1] * 4)
    first_line = result.table.splitlines()[0]
    assert "IoU=0.50:0.95" in first_line and first_line.endswith("1.000")
    assert capsys.readouterr().out == ""  # the table is returned, not printed


def test_no_detections(annotation_path):
    result = CocoEvaluator(annotation_path, CLASSES).summarize()
    assert result.metrics["AP"] == result.metrics["AR100"] == 0
    assert "= 0.000" in result.table


def test_metrics_of_sizes_without_objects_are_minus_one(annotation_path):
    metrics = add_exact_detections(CocoEvaluator(annotation_path, CLASSES)).summarize().metrics
    assert [metrics["AP_small"], metrics["AP_medium"]] == pytest.approx([1, 1])
    assert metrics["AP_large"] == metrics["AR_large"] == -1  # no object is larger than 96x96


def test_average_precision_of_a_missed_object_by_hand(annotation_path):
    evaluator = add_exact_detections(CocoEvaluator(annotation_path, CLASSES), left_out=[0])
    # The precision of cats is 1 up to recall 0.5, so at 51 of the 101 recalls 0, 0.01 ... 1. Dog and bird are perfect.
    assert evaluator.summarize().metrics["AP"] == pytest.approx((51 / 101 + 1 + 1) / 3)


def test_images_without_detections_count(annotation_path):
    evaluator = CocoEvaluator(annotation_path, CLASSES)
    evaluator.add(11, make_detections(("cat", 0.9, OBJECTS[0][2]), ("dog", 0.8, OBJECTS[1][2])))
    for image_id in (12, 13):
        evaluator.add(image_id, make_detections())
    assert evaluator.summarize().metrics["AP"] == pytest.approx((51 / 101 + 1 + 0) / 3)


def test_a_false_positive_with_the_highest_score_lowers_precision(annotation_path):
    evaluator = add_exact_detections(CocoEvaluator(annotation_path, CLASSES))
    evaluator.add(13, make_detections(("bird", 0.99, (5, 5, 20, 20))))
    assert evaluator.summarize().metrics["AP"] == pytest.approx((1 + 1 + 0.5) / 3)


def test_category_ids_are_those_of_the_file(annotation_path):
    evaluator = CocoEvaluator(annotation_path, CLASSES)
    evaluator.add(11, make_detections(*((name, 0.5, (1, 2, 3, 4)) for name in CLASSES[1:])))
    assert [result["category_id"] for result in evaluator.results] == [90, 7, 55]
    assert [result["image_id"] for result in evaluator.results] == [11] * 3
    assert evaluator.results[0]["bbox"] == [1, 2, 3, 4]
    assert evaluator.results[0]["score"] == pytest.approx(0.5)


def test_an_exact_box_of_the_wrong_class_is_a_false_positive(annotation_path):
    evaluator = CocoEvaluator(annotation_path, CLASSES)
    evaluator.add(12, make_detections(("cat", 0.9, OBJECTS[3][2])))
    assert evaluator.summarize().metrics["AP"] == 0


@pytest.mark.parametrize("inside, ap", [(True, 1), (False, 0.5)])
def test_detections_inside_crowd_regions_are_ignored(inside, ap, tmp_path):
    region = (50, 40, 60, 50)
    rows = [make_annotation(11, 90, OBJECTS[0][2]), make_annotation(11, 90, region, iscrowd=1)]
    evaluator = CocoEvaluator(write_annotations(tmp_path / "val.json", rows), ("background", "cat"))
    evaluator.add(11, make_detections(("cat", 0.8, OBJECTS[0][2])))
    evaluator.add(11, make_detections(("cat", 0.9, (55, 45, 20, 20) if inside else (85, 0, 20, 20))))
    assert evaluator.summarize().metrics["AP"] == pytest.approx(ap)


def test_summarize_can_be_repeated_and_more_detections_added(annotation_path):
    evaluator = add_exact_detections(CocoEvaluator(annotation_path, CLASSES), left_out=[3])
    first = evaluator.summarize()
    again = evaluator.summarize()
    assert (again.metrics, again.table, again.per_class) == (first.metrics, first.table, first.per_class)
    assert set(evaluator.results[0]) == {"image_id", "category_id", "bbox", "score"}
    evaluator.add(12, make_detections(("bird", 0.9, OBJECTS[3][2])))
    assert first.metrics["AP"] == pytest.approx(2 / 3) and evaluator.summarize().metrics["AP"] == pytest.approx(1)


@pytest.mark.parametrize("classes", [("background", "cat", "fish"), ("background", "fish", "cat")])
def test_a_class_without_a_category_raises(classes, annotation_path):
    with pytest.raises(UserError, match="'fish'") as error:
        CocoEvaluator(annotation_path, classes)
    assert str(error.value).startswith(f"{annotation_path}: ")
    assert all(name in str(error.value) for name in CLASSES[1:])


def test_an_unknown_image_raises(annotation_path):
    with pytest.raises(UserError, match="99") as error:
        CocoEvaluator(annotation_path, CLASSES).add(99, make_detections(("cat", 0.5, (0, 0, 9, 9))))
    assert str(error.value).startswith(f"{annotation_path}: ")


def test_a_missing_annotation_file_raises(tmp_path):
    with pytest.raises(UserError, match="--data_dir") as error:
        CocoEvaluator(tmp_path / "val.json", CLASSES)
    assert str(error.value).startswith(f"{tmp_path / 'val.json'}: ")


def test_metrics_of_each_class(annotation_path):
    evaluator = add_exact_detections(CocoEvaluator(annotation_path, CLASSES), left_out=[0])
    evaluator.add(13, make_detections(("bird", 0.99, (5, 5, 20, 20))))
    result = evaluator.summarize()
    table = {row.name: (row.objects, row.detections, row.AP, row.AP50, row.AP75, row.AR100) for row in result.per_class}
    assert table["cat"] == pytest.approx((2, 1, 51 / 101, 51 / 101, 51 / 101, 0.5))
    assert table["dog"] == pytest.approx((1, 1, 1, 1, 1, 1))
    assert table["bird"] == pytest.approx((1, 2, 0.5, 0.5, 0.5, 1))
    assert list(table) == ["cat", "dog", "bird"]
    assert sum(row.AP for row in result.per_class) / 3 == pytest.approx(result.metrics["AP"])


def test_objects_that_count(tmp_path):
    rows = [make_annotation(*row, annotation_id=number) for number, row in enumerate(OBJECTS, start=1)]  # two are cats
    rows += [make_annotation(11, 90, (1, 2, 3, 4), iscrowd=1), {**make_annotation(11, 7, (1, 2, 3, 4)), "difficult": 1}]
    path = write_annotations(tmp_path / "val.json", rows)
    evaluator = CocoEvaluator(path, CLASSES)
    assert [evaluator.count_objects(keys) for keys in ((), ("iscrowd",), ("iscrowd", "difficult"))] == [6, 5, 4]
    assert CocoEvaluator(path, ("background", "dog")).count_objects(("iscrowd",)) == 2  # other classes do not count


def test_iou_thresholds_and_detections_of_class_metrics(tmp_path):
    birds = [(10 * number, 0, 6, 6) for number in range(11)]
    rows = [make_annotation(11, 90, (0, 0, 100, 50)), make_annotation(12, 7, (0, 0, 100, 50))]
    rows += [make_annotation(13, 55, box) for box in birds]
    evaluator = CocoEvaluator(write_annotations(tmp_path / "val.json", rows), CLASSES)
    evaluator.add(11, make_detections(("cat", 0.9, (0, 0, 100, 26))))  # IoU 0.52 reaches only the threshold 0.50
    evaluator.add(12, make_detections(("dog", 0.9, (0, 0, 77, 50))))  # IoU 0.77 reaches 0.50, 0.55 … 0.75
    evaluator.add(13, make_detections(*(("bird", 0.9, box) for box in birds)))  # more detections than AR10 counts
    rows = [(row.AP, row.AP50, row.AP75, row.AR100) for row in evaluator.summarize().per_class]
    assert rows == [pytest.approx(row) for row in [(0.1, 1, 0, 0.1), (0.6, 1, 1, 0.6), (1, 1, 1, 1)]]


def test_metrics_of_a_class_without_objects_are_minus_one(tmp_path):
    path = write_annotations(tmp_path / "val.json", [make_annotation(11, 90, OBJECTS[0][2], iscrowd=1)])
    evaluator = CocoEvaluator(path, CLASSES)
    evaluator.add(11, make_detections(("dog", 0.5, (1, 2, 3, 4))))
    cat, dog, _ = evaluator.summarize().per_class
    assert (cat.objects, cat.AP, cat.AR100) == (0, -1, -1)  # a crowd region is not an object
    assert (dog.objects, dog.detections, dog.AP) == (0, 1, -1)


@pytest.mark.parametrize("ids", [(0, 1, 2, 3), (5, 5, 5, 5)])
def test_annotation_ids_do_not_matter(ids, tmp_path):
    """pycocotools alone reads id 0 as "no match" and confuses annotations with equal ids."""
    rows = [make_annotation(*row, annotation_id=number) for number, row in zip(ids, OBJECTS)]
    evaluator = add_exact_detections(CocoEvaluator(write_annotations(tmp_path / "val.json", rows), CLASSES))
    assert evaluator.summarize().metrics["AP"] == pytest.approx(1)


@pytest.mark.parametrize(
    "changes",
    [
        {"area": None},
        {"area": "1500"},
        {"area": [1]},
        {"iscrowd": None},
        {"iscrowd": "0"},
        {"id": None},
        {"bbox": ["10", "20", "30", "50"]},
        {"bbox": [40, 70, -30, -50]},
    ],
)
def test_unusual_values_of_older_shards_are_read(changes, tmp_path):
    rows = [make_annotation(*row, annotation_id=number) for number, row in enumerate(OBJECTS, start=1)]
    expected = add_exact_detections(CocoEvaluator(write_annotations(tmp_path / "whole.json", rows), CLASSES))
    rows[0].update(changes)  # the cat at 10, 20 with 30x50 pixels
    evaluator = add_exact_detections(CocoEvaluator(write_annotations(tmp_path / "val.json", rows), CLASSES))
    assert evaluator.summarize().metrics == expected.summarize().metrics


def test_unusable_values_of_older_shards_are_named(tmp_path):
    path = write_annotations(tmp_path / "val.json", [make_annotation(11, 90, OBJECTS[0][2], iscrowd="yes")])
    with pytest.raises(UserError, match="val.json: annotation 1: iscrowd 'yes'"):
        CocoEvaluator(path, CLASSES)


def test_annotations_of_unlisted_images_are_ignored(tmp_path):
    rows = [make_annotation(*row, annotation_id=number) for number, row in enumerate(OBJECTS, start=1)]
    rows.append(make_annotation(99, 90, (1, 2, 3, 4), annotation_id=9))
    evaluator = add_exact_detections(CocoEvaluator(write_annotations(tmp_path / "val.json", rows), CLASSES))
    assert evaluator.summarize().metrics["AP"] == pytest.approx(1)


def test_area_and_iscrowd_are_optional(tmp_path):
    """create_data.py accepts such files; pycocotools alone raises KeyError."""
    rows = [make_annotation(*row, annotation_id=number) for number, row in enumerate(OBJECTS, start=1)]
    expected = add_exact_detections(
        CocoEvaluator(write_annotations(tmp_path / "whole.json", rows), CLASSES), left_out=[0]
    )
    bare = [{key: row[key] for key in ("id", "image_id", "category_id", "bbox")} for row in rows]
    evaluator = add_exact_detections(
        CocoEvaluator(write_annotations(tmp_path / "val.json", bare), CLASSES), left_out=[0]
    )
    assert evaluator.summarize().metrics == expected.summarize().metrics

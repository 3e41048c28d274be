"""Images of an evaluation: which boxes are drawn, and where."""

import json
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from rotated_images import BOXES_XYWH, COLORS, write_shards
from ssd.boxes.multiclass_nms import Detections
from ssd.evaluation.coco_metrics import CocoEvaluator
from ssd.inference.drawing import GROUND_TRUTH_COLOR, class_color
from ssd.training import validation
from ssd.training.validation import ValidationImages

CLASSES = ("background", "cat", "dog")
GREY = np.full((100, 200, 3), 128, np.uint8)
ANNOTATIONS = [(11, 90, [20, 30, 40, 50]), (12, 7, [100, 10, 60, 60]), (11, 55, [120, 10, 60, 60])]  # 55: no class here


@pytest.fixture
def evaluated(tmp_path):
    """An image with a cat; one with a dog, in which a cat and, with a low score, a dog are detected."""
    path = tmp_path / "val.json"
    names = {90: "cat", 7: "dog", 55: "bird"}
    annotations = [
        {"id": number, "image_id": image, "category_id": category, "bbox": box, "area": box[2] * box[3], "iscrowd": 0}
        for number, (image, category, box) in enumerate(ANNOTATIONS)
    ]
    images = [{"id": number, "width": 200, "height": 100, "file_name": f"{number}.jpg"} for number in (11, 12, 13)]
    categories = [{"id": number, "name": name} for number, name in names.items()]
    path.write_text(json.dumps({"images": images, "categories": categories, "annotations": annotations}))
    evaluator = CocoEvaluator(path, CLASSES)
    boxes_yxyx = np.array([[10, 100, 70, 160], [40, 10, 90, 90]], np.float32)
    evaluator.add(12, Detections(boxes_yxyx, np.array([0.9, 0.2]), np.array([1, 2])))
    evaluator.add(13, Detections(boxes_yxyx, np.array([0.9, 0.8]), np.array([1, 2])))
    return SimpleNamespace(evaluator=evaluator)


def is_color(picture, y, x, color):
    return tuple(picture[y, x].tolist()) == tuple(color)


def draw(evaluated, min_score=0.3, images=((11, GREY), (12, GREY)), data_dir=Path("no dataset.json")):
    encoded = {image_id: cv2.imencode(".png", image)[1].tobytes() for image_id, image in images}
    evaluated.image_ids = [*encoded, 13]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(validation, "read_images", lambda folder, split, ids: {key: encoded[key] for key in ids})
        draw_images = ValidationImages(data_dir, classes=CLASSES, min_score=min_score, count=len(images))
        return draw_images(evaluated)


def test_ground_truth_is_drawn_at_its_place(evaluated):
    pictures = draw(evaluated)
    assert list(pictures) == ["11", "12"]
    picture = pictures["11"]
    assert picture.shape == (100, 200, 3) and picture.dtype == np.uint8
    # x 20..60, y 30..80: the borders on each side, at half of their length
    assert all(is_color(picture, y, x, GROUND_TRUTH_COLOR) for y, x in ((30, 40), (79, 55), (55, 20), (55, 59)))
    np.testing.assert_array_equal(picture[:60, 70:], GREY[:60, 70:])  # neither a class that is not known here


@pytest.mark.parametrize("min_score, shown", [(0.3, [True, False]), (0.1, [True, True]), (0.95, [False, False])])
def test_detections_above_the_score_are_drawn(min_score, shown, evaluated):
    picture = draw(evaluated, min_score)["12"]
    assert is_color(picture, 40, 159, class_color(1)) == shown[0]
    assert is_color(picture, 65, 10, class_color(2)) == shown[1]


def test_large_images_are_drawn_smaller(evaluated):
    large = np.full((1000, 2000, 3), 128, np.uint8)
    picture = draw(evaluated, images=[(11, large)])["11"]
    assert picture.shape == (320, 640, 3)
    assert is_color(picture, round(30 * 0.32), 12, GROUND_TRUTH_COLOR)  # the upper border of the cat's box, x 6..19


def test_without_images_nothing_is_drawn(evaluated):
    assert draw(evaluated, images=[]) == {}


@pytest.mark.parametrize("is_old, shape", [(False, (64, 96, 3)), (True, (96, 64, 3))])
def test_images_are_upright_unless_the_shards_are_old(is_old, shape, tmp_path):
    folder = write_shards(tmp_path, [6], is_old)
    (annotation_path,) = (folder / "annotations").iterdir()
    evaluator = CocoEvaluator(annotation_path, ["background", *COLORS])
    result = SimpleNamespace(evaluator=evaluator, image_ids=[101])
    picture = ValidationImages(folder, classes=["background", *COLORS], min_score=0.3)(result)["101"]
    assert picture.shape == shape
    if not is_old:
        x, y, width, height = BOXES_XYWH["green"]
        borders = [(y + height // 2, x), (y + height // 2, x + width - 1), (y + height - 1, x + width // 2)]
        assert all(is_color(picture, *border, GROUND_TRUTH_COLOR) for border in borders)

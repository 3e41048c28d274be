"""detections.json: its form, and the category ids in it."""

import json

import numpy as np

from fake_predictor import CATEGORY_IDS, CLASSES
from ssd.boxes.multiclass_nms import Detections
from ssd.inference.detections_json import CocoResults


def test_detections_json_has_one_detection_per_line(tmp_path):
    results = CocoResults(("background", "猫"), [0, 90])
    for number in (1, 2):
        boxes_yxyx = np.float32([[1, 2, 4, 8], [0, 0, 1, 1]])
        detections = Detections(boxes_yxyx, np.float32([0.75, 0.5]), np.int32([1, 1]))
        results.add(number, "a.jpg", detections, frame=number)
    no_detections = Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int32))
    results.add(3, "b.jpg", no_detections)
    assert results.num_images == 3
    results.write(tmp_path / "detections.json")
    text = (tmp_path / "detections.json").read_text(encoding="utf-8")
    assert [json.loads(line.strip("[], ")) for line in text.splitlines()] == results.entries
    assert json.loads(text) == results.entries and results.entries[0] == {
        "image_id": 1,
        "category_id": 90,
        "bbox": [2.0, 1.0, 6.0, 3.0],
        "score": 0.75,
        "file_name": "a.jpg",
        "frame": 1,
        "category_name": "猫",
    }


def test_without_detections_the_list_is_empty(tmp_path):
    CocoResults(CLASSES, CATEGORY_IDS).write(tmp_path / "detections.json")
    assert json.loads((tmp_path / "detections.json").read_text()) == []


def test_tracked_detections_have_track_ids():
    results = CocoResults(CLASSES, CATEGORY_IDS)
    boxes_yxyx, scores, labels = np.eye(2, 4), np.float32([0.75, 0.5]), np.int32([1, 1])
    results.add(1, "a.mp4", Detections(boxes_yxyx, scores, labels, track_ids=np.array([3, 0])))
    assert [entry["track_id"] for entry in results.entries] == [3, None]
    results.add(2, "a.jpg", Detections(boxes_yxyx, scores, labels))
    assert "track_id" not in results.entries[2]

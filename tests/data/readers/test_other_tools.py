"""Files of other annotation tools: the message names the tool."""

import json

import pytest

from ssd.data.readers import other_tools
from ssd.data.readers.coco_layouts import CocoFolder
from ssd.data.readers.other_tools import recognize_folder, recognize_json, recognize_text
from ssd.errors import UserError

FILES = {
    "labelme": {"version": "5.0.1", "flags": {}, "shapes": [], "imagePath": "a.jpg", "imageData": None},
    "VGG Image Annotator": {"_via_settings": {}, "_via_img_metadata": {}, "_via_attributes": {}},
    "VGG Image Annotator ": {"a.jpg123": {"filename": "a.jpg", "size": 123, "regions": [], "file_attributes": {}}},
    "VGG Image Annotator 3": {"project": {}, "config": {}, "attribute": {}, "file": {}, "metadata": {}, "view": {}},
    "Label Studio": [{"id": 1, "annotations": [{"result": []}], "data": {"image": "a.jpg"}}],
    "Label Studio ": [{"image": "a.jpg", "id": 1, "label": [], "annotator": 1, "annotation_id": 1, "lead_time": 3.5}],
    "Create ML": [{"image": "a.jpg", "annotations": [{"label": "a", "coordinates": {"x": 1}}]}],
    "Create ML ": [{"imagefilename": "a.jpg", "annotations": []}],
    "Datumaro": {"info": {}, "categories": {"label": {}}, "items": []},
    "FiftyOne": {"samples": []},
    "VoTT": {"asset": {}, "regions": [], "version": "2.2.0"},
    "VoTT ": {"name": "p", "assets": {}, "tags": [], "videoSettings": {}},
    "Supervisely": {"description": "", "size": {"height": 1, "width": 1}, "objects": [], "tags": []},
    "GeoJSON": {"type": "FeatureCollection", "features": []},
    "list of detections": [{"image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4], "score": 0.5}],
    "list of annotations": [{"image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4]}],
    "Scalabel": [{"name": "a.jpg", "labels": [{"box2d": {}}]}],
}
CVAT = '<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n  <version>1.1</version>\n</annotations>\n'
VOC = "<annotation><folder>a</folder></annotation>"


@pytest.mark.parametrize("tool", FILES)
def test_a_file_is_recognized(tool, tmp_path):
    assert tool.strip() in recognize_json(FILES[tool])
    path = tmp_path / "train.json"
    path.write_text(json.dumps(FILES[tool]))
    (tmp_path / "train").mkdir()
    with pytest.raises(UserError) as caught:
        CocoFolder(tmp_path).read({"train": ["train"]})
    assert str(caught.value).startswith(f"{path}: ") and tool.strip() in str(caught.value)


@pytest.mark.parametrize("content", [None, 5, "x", [], {}, [5], [{}], {"a": 5}, {"a": {}}, {"images": []}])
def test_other_content_is_not_recognized(content):
    assert recognize_json(content) is None


@pytest.mark.parametrize("text, tool", [(CVAT, "CVAT"), (VOC, "create_data.py voc")])
def test_xml_is_recognized(text, tool, tmp_path):
    assert tool in recognize_text(text)
    path = tmp_path / "annotations.xml"
    path.write_text(text)
    with pytest.raises(UserError, match=f"^{path}: .*{tool}"):
        CocoFolder(tmp_path).read({"train": ["annotations.xml"]})
    for splits in (["train2017"], None):  # the file is in the folder, but is not asked for
        with pytest.raises(UserError, match=f"annotations.xml .*{tool}"):
            CocoFolder(tmp_path).read({"train": splits})


@pytest.mark.parametrize(
    "path, text, part",
    [
        ("data.yaml", "names: [a]", "create_data.py yolo"),
        ("Annotations/a.xml", VOC, "create_data.py voc"),
        ("VOC2007/Annotations/a.xml", VOC, "create_data.py voc"),
        ("a.json", json.dumps(FILES["labelme"]), "a.json .*labelme"),
        ("images/a.json", json.dumps(FILES["labelme"]), "a.json .*labelme"),
    ],
)
def test_folders_of_other_formats_are_recognized(path, text, part, tmp_path):
    (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / path).write_text(text)
    with pytest.raises(UserError, match=f"train2017.*{part}"):
        CocoFolder(tmp_path).read({"train": ["train2017"]})


def test_other_files_beside_coco_files_do_not_count(tmp_path):
    """The message is then about the missing split, because the user has COCO annotations."""
    (tmp_path / "data.yaml").write_text("names: [a]")
    (tmp_path / "a.json").write_text(json.dumps(FILES["labelme"]))
    assert recognize_folder(tmp_path) is not None
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "instances_train2017.json").write_text('{"images": [], "annotations": []}')
    assert recognize_folder(tmp_path) is None


def test_damaged_files_are_passed_over(tmp_path):
    (tmp_path / "a.json").write_text("{")
    (tmp_path / "b.json").write_text("[" * 10**5)
    (tmp_path / "c.xml").write_bytes(b"\xff\xfe\xff")
    (tmp_path / "d.json").mkdir()
    assert recognize_folder(tmp_path) is None
    (tmp_path / "e.json").write_text(json.dumps(FILES["labelme"]))
    assert "e.json" in recognize_folder(tmp_path)


def test_only_some_files_are_opened(tmp_path, monkeypatch):
    monkeypatch.setattr(other_tools, "MAX_BYTES", 1000)
    (tmp_path / "b.json").write_text(json.dumps(FILES["labelme"] | {"imageData": "x" * 1000}))
    assert recognize_folder(tmp_path) is None

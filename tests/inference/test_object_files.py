"""Label files in YOLO's format, crops, and the names of both."""

import numpy as np
import pytest

from fake_predictor import CLASSES, files_in
from ssd.boxes.multiclass_nms import Detections
from ssd.data.images import decode_image
from ssd.errors import UserError
from ssd.inference.object_files import ObjectFiles, class_folders, label_text, unique_stems
from ssd.inference.output_folder import open_output_folder

# Two boxes in an image of 40 x 80 pixels: y0, x0, y1, x1.
FOUND = Detections(np.float32([[10, 20, 30, 60], [0, 0, 20.2, 0.4]]), np.float32([0.75, 0.5]), np.int32([2, 1]))
NOTHING = FOUND.select(np.zeros(2, bool))


def write(output, detections=FOUND, subfolders=("labels", "crops"), suffix=".png"):
    pixels = np.arange(40 * 80 * 3).astype(np.uint8).reshape(40, 80, 3)
    with open_output_folder(output, [], subfolders=subfolders) as folder:
        files = ObjectFiles(folder, CLASSES)
        names = files.write(pixels, detections, stem="deep/a", suffix=suffix)
        for name in names:
            folder.publish(name)
    return files, names, pixels


def test_label_files_have_fractions_and_scores():
    assert label_text(FOUND, size=(40, 80)).splitlines() == [
        "1 0.500000 0.500000 0.500000 0.500000 0.750000",
        "0 0.002500 0.252500 0.005000 0.505000 0.500000",
    ]
    assert label_text(NOTHING, size=(40, 80)) == ""


def test_label_files_are_read_back_as_boxes():
    rows = np.array([line.split() for line in label_text(FOUND, size=(40, 80)).splitlines()], float)
    center, size = rows[:, [2, 1]] * [40, 80], rows[:, [4, 3]] * [40, 80]
    np.testing.assert_allclose(np.hstack([center - size / 2, center + size / 2]), FOUND.boxes_yxyx, atol=1e-4)


def test_crops_have_all_pixels_that_a_box_touches(tmp_path):
    files, names, pixels = write(tmp_path)
    assert names == ["labels/deep/a.txt", "crops/dog/deep/a-1.png", "crops/cat/deep/a-2.png"]
    assert (files.num_label_files, files.num_crops) == (1, 2)
    dog, cat = (decode_image((tmp_path / name).read_bytes()) for name in names[1:])
    np.testing.assert_array_equal(dog, pixels[10:30, 20:60])
    np.testing.assert_array_equal(cat, pixels[0:21, 0:1])


def test_a_box_at_the_border_has_a_pixel(tmp_path):
    border = Detections(np.float32([[40, 80, 40, 80]]), np.float32([0.5]), np.int32([1]))
    _, names, pixels = write(tmp_path, border, subfolders=["crops"])
    assert decode_image((tmp_path / names[0]).read_bytes()).tolist() == pixels[39:, 79:].tolist()


def test_only_requested_files_are_written(tmp_path):
    for subfolders, expected in ((["labels"], 1), (["crops"], 2), ([], 0)):
        assert len(write(tmp_path / str(expected), subfolders=subfolders)[1]) == expected


def test_an_image_without_detections_has_an_empty_label_file(tmp_path):
    files, names, _ = write(tmp_path, NOTHING)
    assert names == ["labels/deep/a.txt"] and (tmp_path / names[0]).read_bytes() == b""
    assert (files.num_label_files, files.num_crops) == (1, 0)


def test_a_full_disk_is_one_line(tmp_path, monkeypatch):
    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_bytes", fail)
    with pytest.raises(UserError, match=f"^{tmp_path}/labels/deep/a.txt: .*no space left"):
        write(tmp_path)
    monkeypatch.undo()
    assert files_in(tmp_path) == []


def test_folders_of_classes_are_safe_and_unique():
    names = ["background", "../../etc", "a/b", "a_b", "A_B", "", ".", "..", "traffic light", "猫", "x\0\ny", "é" * 200]
    folders = class_folders([*names, "é" * 300, "class 6", " -C*? ", "C-D.(e)+", "Dog", "dog"])
    assert folders == [
        "background",
        "_.._etc",
        "a_b",
        "a_b-3",
        "A_B-4",
        "class 5",
        "class 6",
        "class 7",
        "traffic light",
        "猫",
        "x__y",
        "é" * 50,
        "é" * 50 + "-12",
        "class 6-13",
        "-C__",
        "C-D.(e)+",
        "Dog",
        "dog-17",
    ]


def test_stems_are_unique():
    names = ["a.jpg", "a.png", "a.png.bmp", "b.jpg", "d/a.jpg", "d/b.tar.jpg"]
    assert list(unique_stems(names).values()) == ["a.jpg", "a.png_", "a.png", "b", "d/a", "d/b.tar"]

"""Image files are found although annotations name them as another machine, tool or file system does."""

import unicodedata
from pathlib import Path

import pytest

from ssd.data.readers.image_finder import find_images


@pytest.fixture
def make(tmp_path):
    """make("a.jpg", …) creates empty files below a folder, and returns the folder."""

    def create(*names):
        for name in names:
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        return tmp_path

    return create


def find_one(name, folder):
    (path,) = find_images([name], [folder])
    return path and path.relative_to(folder).as_posix()


@pytest.mark.parametrize(
    "name, expected",
    [
        ("a.jpg", "a.jpg"),
        ("images/train/b.jpg", "images/train/b.jpg"),
        ("./images/train/b.jpg", "images/train/b.jpg"),
        ("/home/anna/set/images/train/b.jpg", "images/train/b.jpg"),
        ("/home/anna/a.jpg", "a.jpg"),
        ("../a.jpg", "a.jpg"),
        ("..\\images\\train\\b.jpg", "images/train/b.jpg"),
        ("D:\\set\\images\\train\\b.jpg", "images/train/b.jpg"),
        ("D:/set/a.jpg", "a.jpg"),
        ("\\\\server\\share\\a.jpg", "a.jpg"),
        ("https://host.example/p/images/train/b.jpg", "images/train/b.jpg"),
        ("https://host.example/a.jpg?size=large#1", "a.jpg"),
        ("s3://bucket/set/a.jpg", "a.jpg"),
        ("file:///data/a.jpg", "a.jpg"),
        ("data/obj_train_data/frame_000001.PNG", "obj_train_data/frame_000001.PNG"),
        ("images/train/b.JPG", "images/train/b.jpg"),
        ("frame_000001.png", None),  # in a folder that the name does not state
        ("images/val/b.jpg", None),
        ("b.jpg", None),
        ("", None),
        ("images/train", None),  # a folder
        ("a\0.jpg", None),
        ("x" * 5000 + ".jpg", None),
    ],
)
def test_a_name_of_another_machine(name, expected, make):
    folder = make("a.jpg", "images/train/b.jpg", "obj_train_data/frame_000001.PNG")
    assert find_one(name, folder) == expected


def test_percent_encoded_names(make):
    folder = make("my photo.jpg", "100%.jpg", "a%20b.jpg", "猫.jpg")
    assert find_one("my%20photo.jpg", folder) == "my photo.jpg"
    assert find_one("https://host/%E7%8C%AB.jpg", folder) == "猫.jpg"
    assert find_one("100%.jpg", folder) == "100%.jpg"
    assert find_one("a%20b.jpg", folder) == "a%20b.jpg"  # the exact name has priority


@pytest.mark.parametrize("stored, stated", [("NFC", "NFD"), ("NFD", "NFC")])
def test_letters_composed_in_another_way(stored, stated, make):
    folder = make(unicodedata.normalize(stored, "Zürich/é.jpg"))
    assert find_one(unicodedata.normalize(stated, "Zürich/é.jpg"), folder) is not None


def test_two_similar_files_are_ambiguous(make):
    folder = make("a.JPG", "a.Jpg", "b.jpg", "b.JPG")
    assert find_images(["a.jpg", "b.jpg"], [folder]) == [None, folder / "b.jpg"]


def test_the_case_of_a_name_matters_and_that_of_its_suffix_does_not(make):
    assert find_images(["A.jpg", "b.jpg"], [make("a.jpg", "b.JPG")]) == [None, make() / "b.JPG"]


def test_an_absent_camera_is_not_taken_from_the_other_one(make):
    folder = make("cam2/1.jpg", "cam2/2.jpg")
    names = ["cam1/1.jpg", "cam2/1.jpg", "/home/anna/cam1/2.jpg", "/home/anna/cam2/2.jpg"]
    assert find_images(names, [folder]) == [None, folder / "cam2/1.jpg", None, folder / "cam2/2.jpg"]


def test_two_names_never_share_a_file_that_fits_only_similarly(make):
    folder = make("1.jpg")
    assert find_images(["/a/cam1/1.jpg", "/a/cam2/1.jpg"], [folder]) == [None, None]
    assert find_images(["/a/cam1/1.jpg", "1.jpg"], [folder]) == [None, folder / "1.jpg"]
    assert find_images(["1.jpg", "1.jpg"], [folder]) == [folder / "1.jpg"] * 2  # repeated entries are found elsewhere


def test_the_first_folder_has_priority(make):
    folder = make("x/a.jpg", "y/a.jpg", "y/b.jpg")
    assert find_images(["a.jpg", "b.jpg"], [folder / "x", folder / "y"]) == [folder / "x/a.jpg", folder / "y/b.jpg"]
    assert find_images(["a.jpg"], [folder / "absent", folder / "y"]) == [folder / "y/a.jpg"]
    assert find_images(["a.jpg"], []) == [None]


def test_an_absolute_name_that_exists_is_used(make):
    folder = make("x/a.jpg", "y/a.jpg")
    assert find_images([str(folder / "y/a.jpg")], [folder / "x"]) == [folder / "y/a.jpg"]


def test_no_names():
    assert find_images([], [Path("absent")]) == []

"""Places of YOLO label files: beside their images or in labels, with any case of the suffix, and files left over."""

import unicodedata

import pytest

from ssd.data.readers.yolo_label_files import SECOND_LABELS, SHARED_LABELS, WITHOUT_LABEL_FILE, LabelFiles


@pytest.fixture
def write(tmp_path):
    """write("images/a.jpg", "labels/a.txt") writes files that contain a label, and returns LabelFiles."""

    def create(*names):
        for name in names:
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("0 0.5 0.5 1 1\n")
        return LabelFiles(tmp_path)

    return create


@pytest.mark.parametrize(
    "image, label",
    [
        ("images/train/a.jpg", "labels/train/a.txt"),
        ("images/train/a.jpg", "images/train/a.txt"),
        ("train/images/a.jpg", "train/labels/a.txt"),
        ("images/images/deep/a.b.jpg", "images/labels/deep/a.b.txt"),
        ("Images/a.JPG", "Labels/a.TXT"),
        ("train/a.jpg", "train/a.Txt"),
        ("a.heic", "a.txt"),
    ],
)
def test_labels_are_in_the_usual_places(image, label, write, tmp_path):
    problems = {}
    assert write(image, label).find(tmp_path / image, problems) == tmp_path / label
    assert problems == {}


@pytest.mark.parametrize("forms", [("NFC", "NFD"), ("NFD", "NFC")])
def test_letters_may_be_composed_in_another_way(forms, write, tmp_path):
    image, label = (unicodedata.normalize(form, f"{part}/é.x") for form, part in zip(forms, ("images", "labels")))
    labels, problems = write(f"{image}.jpg", f"{label}.txt"), {}
    assert labels.find(tmp_path / f"{image}.jpg", problems) == tmp_path / f"{label}.txt"
    assert labels.find_without_image() == [] and problems == {}


def test_labels_in_their_own_folder_and_in_lower_case_have_precedence(write, tmp_path):
    labels, problems = write("images/a.jpg", "images/a.txt", "labels/a.TXT", "labels/a.txt"), {}
    (tmp_path / "images" / "a.Txt").write_text("a caption of the image\n")
    assert labels.find(tmp_path / "images" / "a.jpg", problems) == tmp_path / "labels" / "a.txt"
    unused = [text.split(",")[0] for text in problems.pop(SECOND_LABELS)]
    assert unused == [str(tmp_path / "labels" / "a.TXT"), str(tmp_path / "images" / "a.txt")] and problems == {}


def test_images_without_a_label_file_are_recorded(write, tmp_path):
    labels, problems = write("images/a.jpg", "labels/A.txt", "labels/a.txt.bak", "labels/.a.txt"), {}
    for name in ("a.jpg", "missing.jpg"):
        assert labels.find(tmp_path / "images" / name, problems) is None
    assert labels.find(tmp_path / "absent" / "b.jpg", problems) is None
    assert [text.rpartition("/")[2] for text in problems[WITHOUT_LABEL_FILE]] == ["a.jpg", "missing.jpg", "b.jpg"]


def test_images_that_share_a_label_file_are_recorded(write, tmp_path):
    labels, problems = write("images/a.jpg", "images/a.png", "labels/a.txt"), {}
    for name in ("a.jpg", "a.png", "a.png"):
        assert labels.find(tmp_path / "images" / name, problems) == tmp_path / "labels" / "a.txt"
    assert problems == {SHARED_LABELS: [f"{tmp_path / 'images' / 'a.png'} and a.jpg"] * 2}


def test_label_files_without_an_image_are_found(write, tmp_path):
    """The image of b.txt exists, although no split uses it. Text files without labels are left out."""
    labels = write("images/a.jpg", "images/b.PNG", "images/c.dng", *(f"labels/{name}.txt" for name in "abcd"))
    (tmp_path / "labels" / "classes.txt").write_text("cat\ndog\n")
    (tmp_path / "labels" / "latin.txt").write_bytes(b"\xff\xfe\n")
    (tmp_path / "labels" / "empty.txt").touch()
    assert labels.find_without_image() == []
    labels.find(tmp_path / "images" / "a.jpg", {})
    assert labels.find_without_image() == [str(tmp_path / "labels" / f"{name}.txt") for name in ("c", "d", "empty")]

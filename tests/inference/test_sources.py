"""What --input may be: which files are found, what their pictures are called, and what is refused before any work."""

import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from ssd.errors import UserError
from ssd.inference.sources import DEFAULT_RATE, Video, open_source


@pytest.fixture
def folder(tmp_path):
    """photos/ with images in two levels, and with what is no image, or hidden."""
    for name in ("b.jpg", "a.PNG", "sub/a.jpeg", "sub/deep/c.bmp", "note.txt", ".hidden.jpg", ".git/d.jpg", "clip.mp4"):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    return tmp_path / "photos"


def names(inputs, output="/nowhere"):
    return [photo.name for photo in open_source([str(word) for word in inputs], Path(output))]


def write_video(path, count=5, size=(64, 48), rate=12.5, codec="MJPG"):
    """A video whose frame i is grey of the value 40 * i."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*codec), rate, size)
    for number in range(count):
        writer.write(np.full((size[1], size[0], 3), 40 * number, np.uint8))
    writer.release()
    return path


# --- images ---


def test_a_folder_is_searched_to_its_depths_and_sorted(folder):
    assert names([folder]) == ["a.PNG", "b.jpg", "sub/a.jpeg", "sub/deep/c.bmp"]
    assert names([f"{folder}/"]) == names([folder])
    assert [photo.path for photo in open_source([str(folder)], Path("/nowhere"))][1] == folder / "b.jpg"


def test_a_folder_may_be_named_from_within(folder, monkeypatch):
    monkeypatch.chdir(folder)
    assert names(["."]) == ["a.PNG", "b.jpg", "sub/a.jpeg", "sub/deep/c.bmp"]
    assert names(["sub"]) == ["a.jpeg", "deep/c.bmp"]


def test_files_are_taken_whatever_they_are_called(folder):
    assert names([folder / "note.txt"]) == ["note.txt"]
    assert names([folder / "b.jpg", folder / "a.PNG"]) == ["a.PNG", "b.jpg"]
    assert names([folder / "b.jpg", folder / "sub" / "a.jpeg"]) == ["b.jpg", "sub/a.jpeg"]
    assert names([folder / "sub" / "deep" / "c.bmp", folder / "sub" / "a.jpeg"]) == ["a.jpeg", "deep/c.bmp"]


def test_an_image_named_twice_comes_once(folder):
    assert names([folder / "b.jpg", folder, f"{folder}/sub/../b.jpg", f"{folder}/*.jpg"]) == names([folder])


@pytest.mark.parametrize(
    "pattern, expected",
    [
        ("*.jpg", ["b.jpg"]),
        ("[ab].*", ["a.PNG", "b.jpg"]),
        ("sub/*", ["a.jpeg", "deep/c.bmp"]),  # a folder that matches is searched
        ("**/*.*", ["a.PNG", "b.jpg", "sub/a.jpeg", "sub/deep/c.bmp"]),
        ("*/*.jpeg", ["sub/a.jpeg"]),
    ],
)
def test_a_pattern_finds_images(pattern, expected, folder):
    assert names([folder / pattern]) == expected


def test_a_file_of_the_pattern_s_name_is_that_file(tmp_path):
    (tmp_path / "a[1].jpg").write_bytes(b"")
    (tmp_path / "a1.jpg").write_bytes(b"")
    assert names([tmp_path / "a[1].jpg"]) == ["a[1].jpg"]


def test_earlier_results_are_not_found(folder):
    output = folder / "output" / "predictions"
    before = names([folder])
    output.mkdir(parents=True)
    (output / "b.jpg").write_bytes(b"")
    assert names([folder], output) == names([f"{folder}/*"], output) == names([f"{folder}/**/*"], output) == before
    assert names([folder]) == sorted([*before, "output/predictions/b.jpg"])


@pytest.mark.parametrize("place", ["results", "results/more"])
def test_results_beside_the_images_are_not_found_by_a_pattern(place, folder):
    before = names([f"{folder}/*"])
    (folder / place).mkdir(parents=True)
    (folder / place / "b.jpg").write_bytes(b"")
    assert names([f"{folder}/*"], folder / "results") == before
    assert names(sorted(folder.glob("[!c.]*")), folder / "results") == sorted([*before, "note.txt"])  # by the shell
    assert names([f"{folder}/*/*"], folder / "results") == ["sub/a.jpeg", "sub/deep/c.bmp"]
    assert names([folder / "results"], folder / "other")[0].endswith("b.jpg")


def test_a_picture_has_a_name_of_its_own(tmp_path):
    drawn = {
        "a": "a.png.png",
        "a.JPEG": "a.JPEG",
        "a.Tif": "a.Tif.png",
        "a.bmp": "a.bmp.png.png",
        "a.bmp.png": "a.bmp.png",
        "a.jpg": "a.jpg",
        "a.png": "a.png",
    }
    for name in drawn:
        (tmp_path / name).write_bytes(b"")
    photos = open_source([str(tmp_path), str(tmp_path / "a")], Path("/nowhere"))
    assert {photo.name: photo.drawn_name for photo in photos} == drawn


def test_an_input_is_never_written_over(folder, tmp_path):
    for inputs, output in (
        ([folder], folder),
        ([folder / "b.jpg"], folder),
        ([folder / "sub" / "a.jpeg"], folder / "sub" / ".." / "sub"),
    ):
        with pytest.raises(UserError, match="would replace an input, expected another folder"):
            names(inputs, output)
    (tmp_path / "link").symlink_to(folder)
    with pytest.raises(UserError, match="would replace an input"):
        names([folder], tmp_path / "link")
    assert names([folder / "sub" / "deep" / "c.bmp"], folder / "sub" / "deep") == ["c.bmp"]  # drawn into c.bmp.png


@pytest.mark.parametrize(
    "word, told",
    [
        ("absent.jpg", "which does not exist"),
        ("*.jpg", "which matches no image"),
        ("empty", "a folder without images"),
        ("-1", "which does not exist"),
    ],
)
def test_nothing_found_is_refused(word, told, tmp_path, monkeypatch):
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "note.txt").write_bytes(b"")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as error:
        names([word])
    assert str(error.value).startswith(f"--input: got {word}, {told}") and "expected" in str(error.value)


# --- videos ---


def test_a_video_tells_its_rate_and_frames_in_rgb(tmp_path):
    path = tmp_path / "clip.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 12.5, (64, 48))
    for color in ((0, 0, 255), (255, 0, 0)):  # red, then blue, as OpenCV writes them
        writer.write(np.full((48, 64, 3), color, np.uint8))
    writer.release()
    video = open_source([str(path)], tmp_path / "output")
    assert (video.name, video.drawn_name, video.rate, video.total, video.live) == (
        "clip.avi",
        "clip.mp4",
        12.5,
        2,
        False,
    )
    red, blue = video
    assert red.shape == (48, 64, 3) and red.dtype == np.uint8
    np.testing.assert_allclose(red.mean(axis=(0, 1)), [255, 0, 0], atol=8)
    np.testing.assert_allclose(blue.mean(axis=(0, 1)), [0, 0, 255], atol=8)
    assert list(video) == []  # once


def test_a_video_comes_alone(folder, tmp_path):
    write_video(tmp_path / "photos" / "other.avi")
    with pytest.raises(UserError, match="got a video among 2 files, expected images, or one video alone"):
        names([folder / "clip.mp4", folder / "b.jpg"])


def test_a_pattern_means_videos_where_it_matches_no_image(folder, tmp_path):
    write_video(folder / "clip.mp4", codec="mp4v")
    assert open_source([f"{folder}/c*"], tmp_path).name == "clip.mp4"
    assert names([f"{folder}/*"]) == names([folder])


def test_a_video_is_never_written_over(tmp_path):
    write_video(tmp_path / "clip.mp4", codec="mp4v")
    with pytest.raises(UserError, match="would replace an input"):
        names([tmp_path / "clip.mp4"], tmp_path)


def test_a_video_that_does_not_open_is_refused_in_one_line(tmp_path, capfd):
    whole = write_video(tmp_path / "clip.mp4", codec="mp4v").read_bytes()
    for content in (b"", b"no video", whole[: len(whole) // 2]):
        (tmp_path / "clip.mp4").write_bytes(content)
        with pytest.raises(UserError, match="clip.mp4, which OpenCV cannot open, expected a video"):
            names([tmp_path / "clip.mp4"])
    assert capfd.readouterr().err == ""


# --- cameras ---


def test_a_camera_that_is_not_there_is_refused_in_one_line(capfd):
    with pytest.raises(UserError, match="got camera 123, which OpenCV cannot open, expected a connected camera"):
        names(["123"])
    assert capfd.readouterr().err == ""


def test_a_number_is_a_camera_unless_a_file_has_that_name(tmp_path, monkeypatch):
    opened = []

    class Capture:
        def __init__(self, where):
            opened.append(where)

        def isOpened(self):
            return True

        def get(self, _):
            return 0.0

    monkeypatch.setattr(cv2, "VideoCapture", Capture)
    monkeypatch.chdir(tmp_path)
    camera = open_source(["0"], tmp_path)
    assert opened == [0] and isinstance(camera, Video) and camera.live and camera.total is None
    assert (camera.name, camera.drawn_name, camera.rate) == ("camera0", "camera0.mp4", DEFAULT_RATE)
    (tmp_path / "0").mkdir()
    Image.new("RGB", (4, 4)).save(tmp_path / "0" / "a.png")
    assert names(["0"]) == ["a.png"] and opened == [0]


@pytest.mark.parametrize("rate", [0.0, -1.0, float("nan"), float("inf")])
def test_a_rate_that_is_none_becomes_the_usual_one(rate):
    class Capture:
        def get(self, _):
            return rate

    assert Video(Capture(), "camera0", live=True).rate == DEFAULT_RATE


def test_links_are_read_where_they_lead(folder, tmp_path):
    os.symlink(folder / "b.jpg", folder / "z.jpg")
    os.symlink(tmp_path / "nowhere", folder / "y.jpg")
    assert names([folder]) == ["a.PNG", "b.jpg", "sub/a.jpeg", "sub/deep/c.bmp", "y.jpg", "z.jpg"]
    assert names([folder / "y.jpg"]) == ["y.jpg"]  # told by prediction, as a file that cannot be read

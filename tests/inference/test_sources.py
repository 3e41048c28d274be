"""Values of --input: the files they stand for, the names of annotated copies, and errors before any other work."""

import os
from pathlib import Path

import cv2
import pytest
from PIL import Image

from ssd.errors import UserError
from ssd.inference.sources import find_inputs
from ssd.inference.video_source import Video
from ssd.inference.video_times import DEFAULT_FPS
from video_files import write_video


@pytest.fixture
def folder(tmp_path):
    """photos/ with images in two levels, files that are not images, and hidden files."""
    for name in ("b.jpg", "a.PNG", "sub/a.jpeg", "sub/deep/c.bmp", "note.txt", ".hidden.jpg", ".git/d.jpg", "clip.mp4"):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    return tmp_path / "photos"


def names(inputs, output="/nowhere"):
    return [image.name for image in find_inputs([str(path) for path in inputs], Path(output)).images]


# --- images ---


def test_a_folder_is_searched_recursively_and_sorted(folder):
    assert names([folder]) == ["a.PNG", "b.jpg", "sub/a.jpeg", "sub/deep/c.bmp"]
    assert names([f"{folder}/"]) == names([folder])
    assert find_inputs([str(folder)], Path("/nowhere")).images[1].path == folder / "b.jpg"


def test_relative_folders_are_supported(folder, monkeypatch):
    monkeypatch.chdir(folder)
    assert names(["."]) == ["a.PNG", "b.jpg", "sub/a.jpeg", "sub/deep/c.bmp"]
    assert names(["sub"]) == ["a.jpeg", "deep/c.bmp"]


def test_files_given_by_name_may_have_any_suffix(folder):
    assert names([folder / "note.txt"]) == ["note.txt"]
    assert names([folder / "b.jpg", folder / "a.PNG"]) == ["a.PNG", "b.jpg"]
    assert names([folder / "b.jpg", folder / "sub" / "a.jpeg"]) == ["b.jpg", "sub/a.jpeg"]
    assert names([folder / "sub" / "deep" / "c.bmp", folder / "sub" / "a.jpeg"]) == ["a.jpeg", "deep/c.bmp"]


def test_an_image_given_twice_is_listed_once(folder):
    assert names([folder / "b.jpg", folder, f"{folder}/sub/../b.jpg", f"{folder}/*.jpg"]) == names([folder])


@pytest.mark.parametrize(
    "pattern, expected",
    [
        ("*.jpg", ["b.jpg"]),
        ("[ab].*", ["a.PNG", "b.jpg"]),
        ("sub/*", ["a.jpeg", "deep/c.bmp"]),  # matching folders are searched
        ("**/*.*", ["a.PNG", "b.jpg", "sub/a.jpeg", "sub/deep/c.bmp"]),
        ("*/*.jpeg", ["sub/a.jpeg"]),
    ],
)
def test_a_pattern_finds_images(pattern, expected, folder):
    assert names([folder / pattern]) == expected


def test_a_file_whose_name_looks_like_a_pattern_is_that_file(tmp_path):
    (tmp_path / "a[1].jpg").write_bytes(b"")
    (tmp_path / "a1.jpg").write_bytes(b"")
    assert names([tmp_path / "a[1].jpg"]) == ["a[1].jpg"]


def test_results_of_a_previous_run_are_not_inputs(folder):
    output = folder / "output" / "predictions"
    before = names([folder])
    output.mkdir(parents=True)
    (output / "b.jpg").write_bytes(b"")
    assert names([folder], output) == names([f"{folder}/*"], output) == names([f"{folder}/**/*"], output) == before
    assert names([folder]) == sorted([*before, "output/predictions/b.jpg"])


@pytest.mark.parametrize("subfolder", ["results", "results/more"])
def test_results_beside_the_images_are_not_matched_by_a_pattern(subfolder, folder):
    before = names([f"{folder}/*"])
    (folder / subfolder).mkdir(parents=True)
    (folder / subfolder / "b.jpg").write_bytes(b"")
    assert names([f"{folder}/*"], folder / "results") == before
    assert names(sorted(folder.glob("[!c.]*")), folder / "results") == sorted(
        [*before, "note.txt"]
    )  # as the shell expands it
    assert names([f"{folder}/*/*"], folder / "results") == ["sub/a.jpeg", "sub/deep/c.bmp"]
    assert names([folder / "results"], folder / "other")[0].endswith("b.jpg")


def test_output_names_are_unique(tmp_path):
    output_names = {
        "a": "a.png.png",
        "a.JPEG": "a.JPEG",
        "a.Tif": "a.Tif.png",
        "a.bmp": "a.bmp.png.png",
        "a.bmp.png": "a.bmp.png",
        "a.jpg": "a.jpg",
        "a.png": "a.png",
    }
    for name in output_names:
        (tmp_path / name).write_bytes(b"")
    images = find_inputs([str(tmp_path), str(tmp_path / "a")], Path("/nowhere")).images
    assert {image.name: image.output_name for image in images} == output_names


def test_overwriting_an_input_is_an_error(folder, tmp_path):
    for inputs, output in (
        ([folder], folder),
        ([folder / "b.jpg"], folder),
        ([folder / "sub" / "a.jpeg"], folder / "sub" / ".." / "sub"),
    ):
        with pytest.raises(UserError, match="--output: .*(b.jpg|a.PNG|a.jpeg)"):
            names(inputs, output)
    (tmp_path / "link").symlink_to(folder)
    with pytest.raises(UserError, match="--output: .*link"):
        names([folder], tmp_path / "link")
    assert names([folder / "sub" / "deep" / "c.bmp"], folder / "sub" / "deep") == ["c.bmp"]  # its copy is c.bmp.png


@pytest.mark.parametrize("argument", ["absent.jpg", "*.jpg", "empty", "-1"])
def test_arguments_without_images_are_errors(argument, tmp_path, monkeypatch):
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "note.txt").write_bytes(b"")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as error:
        names([argument])
    assert str(error.value).startswith("--input: ") and argument in str(error.value)


# --- videos ---


def stems(inputs, output="/nowhere"):
    found = find_inputs([str(path) for path in inputs], Path(output))
    return {video.name: video.output_stem for video in found.videos}


def test_videos_are_found_beside_images(folder):
    for name in ("sub/deep/clip.MOV", ".hidden.mp4", "sub/b.avi"):
        (folder / name).write_bytes(b"")
    expected = {"clip.mp4": "clip", "sub/b.avi": "sub/b", "sub/deep/clip.MOV": "sub/deep/clip"}
    assert stems([folder]) == stems([f"{folder}/**/*"]) == expected
    assert names([folder]) == ["a.PNG", "b.jpg", "sub/a.jpeg", "sub/deep/c.bmp"]
    assert stems([folder / "clip.mp4", folder / "b.jpg"]) == {"clip.mp4": "clip"}
    found = find_inputs([str(folder)], Path("/nowhere"))
    assert len(found) == 7 and {"sub/b.mp4", "sub/b.json", "detections.json", "b.jpg"} <= found.output_names


def test_results_of_videos_do_not_collide(tmp_path):
    expected = {
        "a.avi": "a.avi",
        "a.mov": "a.mov",
        "b.mkv": "b.mkv.mp4",
        "b.mkv.mp4": "b.mkv",
        "b.mp4": "b",
        "c.mkv": "c",
        "d/c.mkv": "d/c",
        "detections.mp4": "detections.mp4",
    }
    for name in expected:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    assert stems([tmp_path]) == expected


def test_typescript_is_no_video(folder):
    (folder / "app.ts").write_text("export const a = 1;")
    (folder / "tv.ts").write_bytes(b"\x47" + bytes(187))
    assert list(stems([folder])) == ["clip.mp4", "tv.ts"]


def test_overwriting_a_video_is_an_error(tmp_path):
    write_video(tmp_path / "clip.mp4", codec="mp4v")
    with pytest.raises(UserError, match="--output: .*clip.mp4"):
        names([tmp_path / "clip.mp4"], tmp_path)
    assert stems([write_video(tmp_path / "clip.avi")], tmp_path) == {"clip.avi": "clip"}


def test_a_damaged_video_is_an_error_in_one_line(tmp_path, capfd):
    whole = write_video(tmp_path / "clip.mp4", codec="mp4v").read_bytes()
    for content in (b"", b"no video", whole[: len(whole) // 2]):
        (tmp_path / "clip.mp4").write_bytes(content)
        with pytest.raises(UserError, match="^/.*clip.mp4: "):
            names([tmp_path / "clip.mp4"])
    assert capfd.readouterr().err == ""


# --- cameras ---


def test_a_missing_camera_is_an_error_in_one_line(capfd):
    with pytest.raises(UserError, match="--input: .*camera 123"):
        names(["123"])
    assert capfd.readouterr().err == ""


def test_a_number_is_a_camera_unless_a_file_has_that_name(tmp_path, monkeypatch):
    opened = []

    class FakeCapture:
        def __init__(self, source):
            opened.append(source)

        def isOpened(self):
            return True

        def get(self, _):
            return 0.0

    monkeypatch.setattr(cv2, "VideoCapture", FakeCapture)
    monkeypatch.chdir(tmp_path)
    camera = find_inputs(["0"], tmp_path).camera
    assert opened == [0] and isinstance(camera, Video) and camera.is_live and camera.num_frames is None
    assert (camera.name, camera.fps) == ("camera0", DEFAULT_FPS)
    (tmp_path / "0").mkdir()
    Image.new("RGB", (4, 4)).save(tmp_path / "0" / "a.png")
    assert names(["0"]) == ["a.png"] and opened == [0]


def test_links_to_files_are_followed(folder, tmp_path):
    os.symlink(folder / "b.jpg", folder / "z.jpg")
    os.symlink(tmp_path / "nowhere", folder / "y.jpg")
    assert names([folder]) == ["a.PNG", "b.jpg", "sub/a.jpeg", "sub/deep/c.bmp", "y.jpg", "z.jpg"]
    assert names([folder / "y.jpg"]) == ["y.jpg"]  # reported later, when it cannot be read

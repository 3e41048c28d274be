"""A run of predict.py with a fake detector: images and videos together, files that cannot be read, earlier results."""

import json
import re
from pathlib import Path

import pytest
from PIL import Image

from fake_predictor import FakeCapture, FakePredictor, InterruptAfter, files_in
from ssd.errors import UserError
from ssd.inference import prediction
from ssd.inference.prediction import MAX_VIDEO_BATCH, Failures, PredictionOptions, choose_batch_size, predict
from ssd.inference.sources import InputImage, Inputs, InputVideo, find_inputs
from ssd.inference.video_source import UnreadableVideoError, Video
from video_files import read_video, write_matroska, write_video

IMAGE = InputImage(Path("a.jpg"), name="a.jpg", output_name="a.jpg")
VIDEO = InputVideo(Path("a.mp4"), name="a.mp4", output_stem="a")


@pytest.fixture
def folder(tmp_path):
    """photos/ with an image, two videos in subfolders, and two files that are neither."""
    folder = tmp_path / "photos"
    write_video(folder / "one" / "clip.avi", num_frames=10)
    write_matroska(folder / "two" / "clip.mkv", [0, 500, 600])
    Image.new("RGB", (64, 48), "white").save(folder / "a.png")
    for name in ("b.jpg", "no.mp4"):
        (folder / name).write_bytes(b"nothing")
    return folder


OPTIONS = PredictionOptions(batch_size=4, num_workers=2, display_score=0.3)


def run(output, *inputs, detector=None):
    found = find_inputs([str(path) for path in inputs], output)
    return predict(detector or FakePredictor(), found, output, options=OPTIONS)


def rows_of(path):
    return json.loads(path.read_text())


def test_images_and_videos_in_folders(folder, tmp_path, capfd):
    output = tmp_path / "out"
    assert run(output, folder) == Failures(num_unreadable=2, num_incomplete=0)
    assert files_in(output) == [
        ".results.json",
        "a.png",
        "detections.json",
        "one/clip.json",
        "one/clip.mp4",
        "two/clip.json",
        "two/clip.mp4",
    ]
    assert [row["file_name"] for row in rows_of(output / "detections.json")] == ["a.png"]
    rows = rows_of(output / "two" / "clip.json")
    assert [(row["image_id"], row["frame"], row["time"]) for row in rows] == [(1, 0, 0), (2, 5, 0.5), (3, 6, 0.6)]
    assert {row["file_name"] for row in rows} == {"two/clip.mkv"}
    fps, frames = read_video(output / "two" / "clip.mp4")
    assert fps == 10 and len(frames) == 7
    assert [round(frame[40:].mean() / 40) for frame in frames] == [0, 0, 0, 0, 0, 1, 2]
    assert [row["time"] for row in rows_of(output / "one" / "clip.json")][:3] == [0, 0.08, 0.16]
    printed = capfd.readouterr()
    assert re.findall(r"^(.+?): .", printed.err, re.MULTILINE) == [f"{folder}/b.jpg", f"{folder}/no.mp4"]
    assert [
        text for text in ("1 image", "13 frames", "2 videos", "14 detections", str(output)) if text not in printed.out
    ] == []


def test_lost_frames_are_one_line_and_a_failure(folder, tmp_path, capfd):
    path = folder / "one" / "clip.avi"
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 9 // 10])
    assert run(tmp_path / "out", path) == Failures(num_unreadable=0, num_incomplete=1)
    (line,) = capfd.readouterr().err.splitlines()
    read = len(rows_of(tmp_path / "out" / "clip.json"))
    assert 0 < read < 10 and line.startswith(f"{path}: ")
    assert re.findall(r"\b\d+\b", line.removeprefix(str(path))) == [str(10 - read), "10"]


def test_a_second_run_archives_the_first(folder, tmp_path):
    output = tmp_path / "out"
    run(output, folder)
    (output / "mine.txt").write_text("my own")
    run(output, folder / "two")
    first = ["a.png", "detections.json", "one/clip.json", "one/clip.mp4", "two/clip.json", "two/clip.mp4"]
    assert files_in(output) == sorted(
        [".results.json", "clip.json", "clip.mp4", "mine.txt", *(f"earlier-1/{name}" for name in first)]
    )


def test_a_run_without_results_changes_nothing(folder, tmp_path, monkeypatch):
    output = tmp_path / "out"
    assert run(output, folder / "b.jpg") == Failures(num_unreadable=1, num_incomplete=0)
    assert not output.exists()
    run(output, folder)
    before = {name: (output / name).read_bytes() for name in files_in(output)}
    empty = write_video(tmp_path / "empty.avi", num_frames=1)
    monkeypatch.setattr(Video, "__iter__", lambda self: iter(()))
    with pytest.raises(UnreadableVideoError, match="empty.avi"):
        run(output, empty)
    assert run(output, empty, folder / "b.jpg") == Failures(num_unreadable=2, num_incomplete=0)
    monkeypatch.undo()
    monkeypatch.setattr(FakePredictor, "detect_batch", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run(output, folder)
    assert {name: (output / name).read_bytes() for name in files_in(output)} == before


def test_a_full_disk_leaves_the_earlier_results(folder, tmp_path, monkeypatch):
    """The video is complete, but its list cannot be written."""
    output = tmp_path / "out"
    run(output, folder / "one")
    before = {name: (output / name).read_bytes() for name in files_in(output)}

    def fail(self, path):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(prediction.CocoResults, "write", fail)
    with pytest.raises(UserError, match=f"^{output}/clip.json: .*no space left"):
        run(output, folder / "two")
    assert {name: (output / name).read_bytes() for name in files_in(output)} == before


def test_ctrl_c_keeps_what_is_done(folder, tmp_path, monkeypatch):
    class StopInVideo(InterruptAfter):
        def __enter__(self):
            return self

        def __exit__(self, *error):
            pass

    monkeypatch.setattr(prediction, "Interrupt", lambda: StopInVideo(5))  # in the first video, after two batches
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "out", folder)
    assert files_in(tmp_path / "out") == [".results.json", "a.png", "detections.json", "one/clip.json", "one/clip.mp4"]
    num_frames = len(read_video(tmp_path / "out" / "one" / "clip.mp4")[1])
    assert 0 < num_frames < 10 and len(rows_of(tmp_path / "out" / "one" / "clip.json")) == num_frames


def test_a_batch_is_no_larger_than_the_number_of_inputs():
    camera = Inputs(camera=Video(FakeCapture(), "camera0"))
    assert [choose_batch_size(4, Inputs(images=[IMAGE] * number)) for number in (1, 9)] == [1, 4]
    assert choose_batch_size(64, Inputs(images=[IMAGE] * 99)) == 64
    assert choose_batch_size(4, Inputs(videos=[VIDEO])) == 4
    assert choose_batch_size(64, Inputs(videos=[VIDEO])) == MAX_VIDEO_BATCH
    assert choose_batch_size(64, Inputs(images=[IMAGE], videos=[VIDEO])) == MAX_VIDEO_BATCH
    assert choose_batch_size(4, camera) == 1

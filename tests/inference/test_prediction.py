"""A run of predict.py with a fake detector: images and videos together, files that cannot be read, earlier results."""

import dataclasses
import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fake_predictor import FakeCapture, FakePredictor, InterruptAfter, files_in
from media_server import jpeg_stream, serve
from ssd.boxes.multiclass_nms import Detections
from ssd.errors import UserError
from ssd.inference import prediction
from ssd.inference.drawing import DrawingStyle
from ssd.inference.prediction import MAX_VIDEO_BATCH, Failures, PredictionOptions, choose_batch_size, predict
from ssd.inference.result_options import ResultOptions
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


def run(output, *inputs, detector=None, **results):
    found = find_inputs([str(path) for path in inputs], output)
    options = dataclasses.replace(OPTIONS, results=ResultOptions(**results))
    return predict(detector or FakePredictor(), found, output, options=options)


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


# --- choice of detections and result files ---


def test_label_files_and_crops_of_images_and_videos(folder, tmp_path, capfd):
    output = tmp_path / "out"
    Image.new("RGB", (64, 48), "white").save(folder / "a.jpg")
    run(output, folder, save_txt=True, save_crops=True, vid_stride=4)
    frames = {"one/clip.avi": (0, 1, 2), "two/clip.mkv": (0,)}  # every fourth of 10 and of 3 frames
    expected = {f"labels/{name}/{n:06d}.txt" for name, numbers in frames.items() for n in numbers}
    expected |= {f"crops/dog/{name}/{n:06d}-1.jpg" for name, numbers in frames.items() for n in numbers}
    expected |= {"labels/a.jpg.txt", "labels/a.png.txt", "crops/dog/a.jpg-1.jpg", "crops/dog/a.png-1.png"}
    assert {name for name in files_in(output) if name.startswith(("labels", "crops"))} == expected
    assert (output / "labels/a.png.txt").read_text() == "1 0.500000 0.375000 1.000000 0.250000 0.750000\n"
    with Image.open(output / "crops/dog/a.png-1.png") as crop:
        assert crop.size == (64, 12)
    printed = capfd.readouterr().out
    summary = ("2 images", "4 frames", "6 detections", "6 label files", "6 crops")
    assert [text for text in summary if text not in printed] == []
    run(output, folder / "one", save_txt=True)
    assert {f"earlier-1/{name}" for name in expected} <= set(files_in(output))
    assert (output / "labels").is_dir() and not (output / "crops").exists()


def test_only_the_chosen_classes_are_written(folder, tmp_path):
    run(tmp_path / "out", folder / "a.png", classes=("cat",), save_txt=True, save_crops=True)
    assert rows_of(tmp_path / "out" / "detections.json") == []
    assert (tmp_path / "out" / "labels" / "a.txt").read_bytes() == b"" and list(
        (tmp_path / "out/crops").iterdir()
    ) == []
    run(tmp_path / "other", folder / "a.png", classes=("18",))
    assert [row["category_name"] for row in rows_of(tmp_path / "other" / "detections.json")] == ["dog"]
    with pytest.raises(UserError, match="--classes: .*'dgo'.*'dog'"):
        run(tmp_path / "third", folder / "a.png", classes=("cat", "dgo"))
    assert not (tmp_path / "third").exists()


def test_the_nms_of_the_detector_is_adjusted(folder, tmp_path):
    detector = FakePredictor()
    run(tmp_path / "out", folder / "a.png", detector=detector, agnostic_nms=True, classes=("dog", "cat"))
    assert detector.nms.agnostic and detector.nms.kept_labels == {1, 2} and detector.nms.min_score == 0.3


def test_the_style_applies_to_images_and_videos(tmp_path):
    """The box starts in row 60. Captions are above. The lower half of its line is 1 row, or else 4 rows, wide."""
    Image.new("RGB", (320, 240), "white").save(tmp_path / "a.png")
    write_video(tmp_path / "clip.avi", num_frames=6, size=(320, 240))

    def drawn(**style):
        output = tmp_path / "out" / str(style)
        run(output, tmp_path / "a.png", tmp_path / "clip.avi", style=DrawingStyle(**style))
        with Image.open(output / "a.png") as image:
            return [picture.astype(int) for picture in (np.array(image), read_video(output / "clip.mp4")[1][5])]

    for plain, bare, thick in zip(drawn(), drawn(has_captions=False), drawn(line_width=9)):
        assert np.abs(plain - bare)[:57].max() > 100 > 50 > np.abs(plain - bare)[70:].max()
        assert np.abs(plain - thick)[62:64, 10:100].min(axis=(0, 1)).max() > 50


def test_tracks_start_anew_in_each_video(folder, tmp_path, capfd):
    pytest.importorskip("supervision")

    class Steady(FakePredictor):
        """Finds a dog with a high and a cat with a low score."""

        def detect_batch(self, batch, batch_size):
            boxes_yxyx, scores = np.float32([[10, 10, 40, 50]] * 2), np.float32([0.9, 0.2])
            min_scores.append(self.nms.min_score)
            found = Detections(boxes_yxyx, scores, np.int32([2, 1])).select(scores >= self.nms.min_score)
            return [found] * len(batch)

    min_scores = []

    assert run(tmp_path / "out", folder, detector=Steady(), track=True).num_incomplete == 0
    for stem, count in (("one/clip", 10), ("two/clip", 3)):
        assert [row["track_id"] for row in rows_of(tmp_path / "out" / f"{stem}.json")] == [1] * count
    rows = rows_of(tmp_path / "out" / "detections.json")
    assert [row["category_name"] for row in rows] == ["dog"] and "track_id" not in rows[0]
    assert min_scores == [0.3, 0.1, 0.1, 0.1, 0.1]  # an image, then batches of 10 and of 3 frames
    assert " 2 tracks" in capfd.readouterr().out


# --- addresses ---


def test_a_lost_stream_is_one_line_and_a_failure(tmp_path, capfd):
    with serve({"/live": jpeg_stream(6, seconds=0.03)}) as (server, _):
        assert run(tmp_path / "out", f"{server}/live", save_txt=True) == Failures(0, num_incomplete=1)
    (line,) = capfd.readouterr().err.splitlines()
    name = f"{server.partition('//')[2].replace(':', '_')}_live"
    rows = rows_of(tmp_path / "out" / f"{name}.json")
    assert line.startswith(f"{server}/live: ") and f" {len(rows)} frames" in line
    assert 1 <= len(rows) <= 6 and {row["file_name"] for row in rows} == {name}
    labels = [path.stem for path in sorted((tmp_path / "out" / "labels" / name).iterdir())]
    assert labels == [f"{row['frame']:06d}" for row in rows]


def test_images_and_videos_at_addresses(folder, tmp_path):
    answers = {
        "/a.png": ("image/png", (folder / "a.png").read_bytes()),
        "/clip": ("video/x-msvideo", (folder / "one" / "clip.avi").read_bytes()),
    }
    with serve(answers) as (server, _):
        assert run(tmp_path / "out", f"{server}/a.png", f"{server}/clip") == Failures(0, 0)
    assert files_in(tmp_path / "out") == [".results.json", "a.png", "clip.json", "clip.mp4", "detections.json"]
    assert [row["time"] for row in rows_of(tmp_path / "out" / "clip.json")][:3] == [0, 0.08, 0.16]

"""Results of prediction with a fake detector: drawn images, videos, detections.json, and early stops."""

import json
import re

import cv2
import numpy as np
import pytest
from PIL import Image

from ssd.data.images import decode_image
from ssd.errors import UserError
from ssd.inference.detections_json import CocoResults, read_category_ids
from ssd.inference.drawing import draw_detections
from ssd.inference.image_files import predict_image_files
from ssd.inference.prediction import MAX_VIDEO_BATCH, choose_batch_size
from ssd.inference.predictor import PreprocessedImage
from ssd.inference.sources import DEFAULT_FPS, Video, open_inputs
from ssd.inference.video import Mp4Writer, predict_video
from ssd.models.postprocess import Detections

CLASSES = ("background", "cat", "dog")
CATEGORY_IDS = [0, 17, 18]


class FakePredictor:
    """Detects one `dog` in each image; its box is the wider, the brighter the image is."""

    classes = CLASSES

    def __init__(self):
        self.batch_lengths = []

    def preprocess(self, image):
        return PreprocessedImage(np.full((2, 2, 3), image.mean(), np.float32), original_size=image.shape[:2])

    def detect_batch(self, batch, batch_size):
        assert 1 <= len(batch) <= batch_size
        self.batch_lengths.append(len(batch))
        return [expected_detections(image.pixels.mean(), image.original_size) for image in batch]


def expected_detections(brightness, size):
    height, width = size
    box_yxyx = [height / 4, 0, height / 2, width * brightness / 255]
    return Detections(np.float32([box_yxyx]), np.float32([0.75]), np.int32([2]))


class InterruptAfter:
    """An Interrupt that is false for the first n checks and true afterwards."""

    def __init__(self, n):
        self.checks_left = n

    def __bool__(self):
        self.checks_left -= 1
        return self.checks_left < 0


@pytest.fixture
def folder(tmp_path):
    """Seven images of 64x48 pixels, each brighter than the one before."""
    for number in range(7):
        path = tmp_path / "photos" / ("deep/" if number == 6 else "") / f"{number}.{'jpg' if number % 2 else 'png'}"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (64, 48), (30 * number,) * 3).save(path, quality=100)
    return tmp_path / "photos"


def predict_folder(inputs, output, batch_size=3, interrupt=False):
    predictor, results = FakePredictor(), CocoResults(CLASSES, CATEGORY_IDS)
    num_unreadable = predict_image_files(
        predictor,
        images=open_inputs([str(path) for path in inputs], output),
        output=output,
        results=results,
        batch_size=batch_size,
        num_workers=2,
        interrupt=interrupt,
    )
    return predictor, results, num_unreadable


def files_in(output):
    return sorted(path.relative_to(output).as_posix() for path in output.rglob("*") if path.is_file())


# --- images ---


def test_every_image_is_drawn_and_added_in_order(folder, tmp_path):
    output = tmp_path / "output"
    predictor, results, num_unreadable = predict_folder([folder], output)
    assert num_unreadable == 0 and results.num_images == 7 and predictor.batch_lengths == [3, 3, 1]
    assert files_in(output) == ["0.png", "1.jpg", "2.png", "3.jpg", "4.png", "5.jpg", "deep/6.png"]
    assert [entry["image_id"] for entry in results.entries] == [1, 2, 3, 4, 5, 6, 7]
    assert [entry["file_name"] for entry in results.entries] == files_in(output)
    assert results.entries[4] == {
        "image_id": 5,
        "category_id": 18,
        "bbox": pytest.approx([0, 12, 64 * 120 / 255, 12]),
        "score": 0.75,
        "file_name": "4.png",
        "category_name": "dog",
    }


def test_drawn_images_show_the_detections(folder, tmp_path):
    predict_folder([folder], tmp_path / "output")
    for name in files_in(tmp_path / "output"):
        image = decode_image((folder / name).read_bytes())
        detections = expected_detections(image.mean(), image.shape[:2])
        expected = draw_detections(
            image,
            boxes_yxyx=detections.boxes_yxyx,
            scores=detections.scores,
            labels=detections.labels,
            classes=CLASSES,
        )
        drawn = decode_image((tmp_path / "output" / name).read_bytes())
        assert (expected != image).any()
        if name.endswith("png"):
            np.testing.assert_array_equal(drawn, expected)
        else:
            assert np.abs(drawn.astype(int) - expected).mean() < 5  # JPEG is lossy
            with Image.open(tmp_path / "output" / name) as stored:
                assert stored.format == "JPEG"


@pytest.mark.parametrize("batch_size", [1, 2, 7, 32])
def test_results_do_not_depend_on_the_batch_size(batch_size, folder, tmp_path):
    _, results, _ = predict_folder([folder], tmp_path / "output", batch_size)
    _, others, _ = predict_folder([folder], tmp_path / "other", 3)
    assert results.entries == others.entries
    for name in files_in(tmp_path / "output"):
        assert (tmp_path / "output" / name).read_bytes() == (tmp_path / "other" / name).read_bytes()


def test_unreadable_files_are_reported_and_skipped(folder, tmp_path, capfd):
    (folder / "0.png").write_bytes(b"no image")
    (folder / "3.jpg").write_bytes((folder / "3.jpg").read_bytes()[:-5])
    (folder / "deep" / "6.png").unlink()
    (folder / "deep" / "6.png").symlink_to(tmp_path / "nowhere")
    predictor, results, num_unreadable = predict_folder([folder], tmp_path / "output")
    assert num_unreadable == 3 and results.num_images == 4 and predictor.batch_lengths == [3, 1]
    assert files_in(tmp_path / "output") == ["1.jpg", "2.png", "4.png", "5.jpg"]
    assert [entry["image_id"] for entry in results.entries] == [2, 3, 5, 6]  # positions among all inputs
    stderr = capfd.readouterr().err
    assert re.findall(r"^(.+?): .", stderr, re.MULTILINE) == [
        f"{folder}/0.png",
        f"{folder}/3.jpg",
        f"{folder}/deep/6.png",
    ]


def test_without_readable_images_the_network_does_not_run(folder, tmp_path):
    for path in folder.rglob("*.*"):
        path.write_bytes(b"")
    predictor, results, num_unreadable = predict_folder([folder], tmp_path / "output")
    assert num_unreadable == 7 and results.num_images == 0 and predictor.batch_lengths == []


def test_inputs_are_not_modified(folder, tmp_path):
    before = {path: path.read_bytes() for path in folder.rglob("*.*")}
    predict_folder([folder], folder / "output")
    assert {path: path.read_bytes() for path in before} == before


def test_an_image_that_cannot_be_written_is_an_error(folder, tmp_path):
    (tmp_path / "output").mkdir()
    (tmp_path / "output" / "deep").write_bytes(b"a file in the place of a folder")
    with pytest.raises(UserError, match="deep/6.png"):
        predict_folder([folder], tmp_path / "output")


def test_an_interrupt_leaves_complete_images_and_their_entries(folder, tmp_path):
    _, results, _ = predict_folder([folder], tmp_path / "output", batch_size=2, interrupt=InterruptAfter(4))
    assert 0 < results.num_images < 7
    assert files_in(tmp_path / "output") == [entry["file_name"] for entry in results.entries]


# --- videos ---


class FakeCapture:
    """A fake cv2.VideoCapture: frame i is grey with the value i * step. Without num_frames it never ends."""

    def __init__(self, num_frames=None, fps=30.0, size=(64, 48), step=1):
        self.num_frames, self.fps, self.size, self.step = num_frames, fps, size, step
        self.num_read = 0

    def get(self, property_id):
        return {cv2.CAP_PROP_FPS: self.fps, cv2.CAP_PROP_FRAME_COUNT: self.num_frames or -1}[property_id]

    def read(self):
        if self.num_frames is not None and self.num_read >= self.num_frames:
            return False, None
        value = self.num_read * self.step % 256
        self.num_read += 1
        return True, np.full((self.size[1], self.size[0], 3), value, np.uint8)


def predict_frames(video, output, batch_size=4, interrupt=False, predictor=None, seconds=(0.0,)):
    """seconds: [time], which stands still unless the test advances it"""
    output.mkdir(exist_ok=True)
    predictor, results = predictor or FakePredictor(), CocoResults(CLASSES, CATEGORY_IDS)
    predict_video(
        predictor,
        video=video,
        output=output,
        results=results,
        batch_size=batch_size,
        num_workers=2,
        interrupt=interrupt,
        clock=lambda: seconds[0],
    )
    return predictor, results


def read_video(path):
    """Return the frame rate and the list of frames of a video file."""
    capture = cv2.VideoCapture(str(path))
    frames = []
    while True:
        success, frame = capture.read()
        if not success:
            return capture.get(cv2.CAP_PROP_FPS), frames
        frames.append(frame)


@pytest.mark.parametrize("fps", [25.0, 29.97, 12.5, 59.94005994])
def test_a_video_keeps_its_number_of_frames_rate_and_size(fps, tmp_path):
    video = Video(FakeCapture(10, fps=fps, step=20), "clip.avi", is_camera=False)
    predictor, results = predict_frames(video, tmp_path / "output")
    assert predictor.batch_lengths == [4, 4, 2]
    assert files_in(tmp_path / "output") == ["clip.mp4"]
    written_fps, frames = read_video(tmp_path / "output" / "clip.mp4")
    assert written_fps == pytest.approx(fps, abs=0.001) and len(frames) == 10
    for number, (frame, entry) in enumerate(zip(frames, results.entries)):
        assert frame.shape == (48, 64, 3)
        assert abs(frame[40:].mean() - 20 * number) < 12  # below the box, in the order of the source
        assert entry["frame"] == number and entry["image_id"] == number + 1 and entry["file_name"] == "clip.avi"
        assert entry["bbox"][2] == pytest.approx(64 * 20 * number / 255, abs=0.1)


@pytest.mark.parametrize("fps, rounded", [(90.123, 90.12), (239.6934, 239.69), (1000.06, 1000.1)])
def test_high_fractional_rates_are_rounded_for_mpeg4(fps, rounded, tmp_path, capfd):
    """MPEG-4 cannot store 239693 / 1000, which OpenCV would ask for."""
    predict_frames(Video(FakeCapture(10, fps=fps), "slow.mov", is_camera=False), tmp_path / "output")
    written_fps, frames = read_video(tmp_path / "output" / "slow.mp4")
    assert written_fps == pytest.approx(rounded, abs=1e-4) and len(frames) == 10
    assert capfd.readouterr().err == ""


def test_an_odd_side_loses_one_pixel(tmp_path):
    predict_frames(Video(FakeCapture(3, size=(65, 49)), "odd.mp4", is_camera=False), tmp_path / "output")
    assert read_video(tmp_path / "output" / "odd.mp4")[1][0].shape == (48, 64, 3)


def test_drawn_frames_keep_their_colours(tmp_path):
    class Red(FakeCapture):
        def read(self):
            success, frame = super().read()
            return success, frame if frame is None else np.full_like(frame, (0, 0, 255))  # OpenCV's order

    predict_frames(Video(Red(3), "red.mp4", is_camera=False), tmp_path / "output")
    _, frames = read_video(tmp_path / "output" / "red.mp4")
    np.testing.assert_allclose(frames[1][40:].mean(axis=(0, 1)), [0, 0, 255], atol=12)


def test_a_camera_runs_until_it_is_interrupted(tmp_path):
    capture = FakeCapture(fps=0.0)
    camera = Video(capture, "camera0", is_camera=True)
    predictor, results = predict_frames(camera, tmp_path / "output", batch_size=1, interrupt=InterruptAfter(6))
    assert results.num_images == 6 and predictor.batch_lengths == [1] * 6 and capture.num_read <= 7
    fps, frames = read_video(tmp_path / "output" / "camera0.mp4")
    assert len(frames) == 6 and fps == DEFAULT_FPS
    assert [entry["frame"] for entry in results.entries] == list(range(6))


def test_a_camera_s_video_lasts_as_long_as_it_ran(tmp_path):
    """At 30 frames/s and 0.2 s per prediction each frame stays for 6. Time starts after the first prediction."""
    seconds = [0.0]

    class SlowPredictor(FakePredictor):
        def detect_batch(self, batch, batch_size):
            seconds[0] += 0.2
            return super().detect_batch(batch, batch_size)

    _, results = predict_frames(
        Video(FakeCapture(fps=30.0, step=20), "camera0", is_camera=True),
        output=tmp_path / "output",
        batch_size=1,
        interrupt=InterruptAfter(5),
        predictor=SlowPredictor(),
        seconds=seconds,
    )
    _, frames = read_video(tmp_path / "output" / "camera0.mp4")
    assert len(frames) == 19 and [entry["frame"] for entry in results.entries] == [0, 1, 6, 12, 18]
    assert [entry["image_id"] for entry in results.entries] == [1, 2, 3, 4, 5]
    expected = [0] + 5 * [1] + 6 * [2] + 6 * [3] + [4]
    assert all(abs(frame[40:].mean() - 20 * number) < 12 for number, frame in zip(expected, frames))


def test_a_disconnected_camera_ends_the_video(tmp_path):
    class Unplugged(FakeCapture):
        def get(self, property_id):
            return -1.0

    _, results = predict_frames(Video(Unplugged(3), "camera0", is_camera=True), tmp_path / "output", batch_size=1)
    assert results.num_images == 3 and len(read_video(tmp_path / "output" / "camera0.mp4")[1]) == 3


def test_an_interrupt_leaves_a_complete_video(tmp_path):
    video = Video(FakeCapture(100), "clip.mp4", is_camera=False)
    _, results = predict_frames(video, tmp_path / "output", batch_size=4, interrupt=InterruptAfter(2))
    assert results.num_images == 8 == len(read_video(tmp_path / "output" / "clip.mp4")[1])


def test_missing_frames_are_reported(tmp_path, capfd):
    class Short(FakeCapture):
        def get(self, property_id):
            return 30.0 if property_id == cv2.CAP_PROP_FPS else 10

    predict_frames(Video(Short(7), "clip.mp4", is_camera=False), tmp_path / "output")
    stderr = capfd.readouterr().err
    assert stderr.startswith("clip.mp4: ") and re.findall(r"\b\d+\b", stderr) == ["7", "10"]


def test_a_video_without_frames_is_refused(tmp_path):
    with pytest.raises(UserError, match="^clip.mp4: "):
        predict_frames(Video(FakeCapture(0), "clip.mp4", is_camera=False), tmp_path / "output")


def test_a_frame_of_another_size_is_an_error(tmp_path):
    with pytest.raises(UserError, match="a.mp4: .*32x24 .*64x48"):
        with Mp4Writer(tmp_path / "a.mp4", 25.0) as writer:
            writer.write(np.zeros((48, 64, 3), np.uint8))
            writer.write(np.zeros((24, 32, 3), np.uint8))


def test_a_video_that_cannot_be_written_is_an_error(tmp_path, capfd):
    with pytest.raises(UserError, match="nowhere/a.mp4: "):
        with Mp4Writer(tmp_path / "nowhere" / "a.mp4", 25.0) as writer:
            writer.write(np.zeros((48, 64, 3), np.uint8))
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("size", [(8192, 16), (1, 1)])
def test_a_size_beyond_mpeg4_is_an_error_in_one_line(size, tmp_path, capfd):
    with pytest.raises(UserError, match=f"a.mp4: .*{size[0]}x{size[1]} "):
        with Mp4Writer(tmp_path / "a.mp4", 25.0) as writer:
            writer.write(np.zeros((size[1], size[0], 3), np.uint8))
    assert capfd.readouterr().err == ""


def test_a_full_disk_is_noticed(tmp_path):
    with pytest.raises(UserError, match="a.mp4: .*1 of 2 frames"):
        with Mp4Writer(tmp_path / "a.mp4", 25.0) as writer:
            writer.write(np.zeros((48, 64, 3), np.uint8))
            writer.num_frames += 1  # as if OpenCV had accepted a frame and not written it


# --- detections.json ---


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


def test_a_file_that_cannot_be_written_is_an_error(tmp_path):
    with pytest.raises(UserError, match="nowhere/detections.json: "):
        CocoResults(CLASSES, CATEGORY_IDS).write(tmp_path / "nowhere" / "detections.json")


def test_category_ids_come_from_dataset_json_or_are_the_labels(tiny_recipe, shapes_records, tmp_path):
    dataset_info = json.loads((shapes_records / "dataset.json").read_text())
    dataset_info["category_ids"] = [90, 7, 55, 3, 2, 1][: len(dataset_info["category_ids"])]
    (tmp_path / "dataset.json").write_text(json.dumps(dataset_info))
    assert read_category_ids(tiny_recipe(data_dir=str(tmp_path), num_classes=None)) == [
        0,
        *dataset_info["category_ids"],
    ]
    assert read_category_ids(tiny_recipe(data_dir="/nowhere", num_classes=4)) == [0, 1, 2, 3]


# --- batches ---


def test_a_batch_is_no_larger_than_the_number_of_inputs(tiny_recipe):
    cfg = tiny_recipe(batch_size=4)
    assert choose_batch_size(cfg, [None] * 9) == 4 and choose_batch_size(cfg, [None]) == 1
    assert choose_batch_size(cfg, Video(FakeCapture(3), "a.mp4", is_camera=False)) == 3
    assert choose_batch_size(cfg, Video(FakeCapture(), "a.mp4", is_camera=False)) == 4
    assert choose_batch_size(cfg, Video(FakeCapture(), "camera0", is_camera=True)) == 1
    large = tiny_recipe(batch_size=64)
    assert choose_batch_size(large, [None] * 99) == 64
    assert choose_batch_size(large, Video(FakeCapture(99), "a.mp4", is_camera=False)) == MAX_VIDEO_BATCH

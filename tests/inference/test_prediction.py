"""What predict.py leaves behind, with a stand-in for the network: pictures, videos, lists, and how it ends early."""

import json
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from PIL import Image

from ssd.data.images import decode_image
from ssd.errors import UserError
from ssd.inference import video as video_prediction
from ssd.inference.detections_json import DetectionList, category_ids
from ssd.inference.drawing import draw_detections
from ssd.inference.image_files import predict_image_files, prefetch
from ssd.inference.prediction import MOST_FRAMES, choose_batch_size
from ssd.inference.sources import DEFAULT_RATE, Video, open_source
from ssd.inference.video import DrawnVideo, predict_video
from ssd.models.postprocess import Detections

CLASSES = ("background", "cat", "dog")
ID_OF = [0, 17, 18]


class BrightBox:
    """Stands in for Predictor: finds one `dog` in each image, as wide as the image is bright."""

    classes = CLASSES

    def __init__(self):
        self.batches = []

    def prepare(self, image):
        return np.full((2, 2, 3), image.mean(), np.float32), image.shape[:2]

    def detect(self, prepared, sizes, batch_size):
        assert 1 <= len(prepared) == len(sizes) <= batch_size
        self.batches.append(len(prepared))
        return [expected(image.mean(), size) for image, size in zip(prepared, sizes)]


def expected(brightness, size):
    box = [[size[0] / 4, 0, size[0] / 2, size[1] * brightness / 255]]
    return Detections(np.float32(box), np.float32([0.75]), np.int32([2]))


class Never:
    def __bool__(self):
        return False


class After:
    """An interrupt that is heard when it has been asked for the n-th time."""

    def __init__(self, n):
        self.left = n

    def __bool__(self):
        self.left -= 1
        return self.left < 0


@pytest.fixture
def folder(tmp_path):
    """Seven images of 64x48, brighter from one to the next."""
    for number in range(7):
        path = tmp_path / "photos" / ("deep/" if number == 6 else "") / f"{number}.{'jpg' if number % 2 else 'png'}"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (64, 48), (30 * number,) * 3).save(path, quality=100)
    return tmp_path / "photos"


def predict_folder(inputs, output, batch_size=3, interrupt=Never()):
    predictor, listed = BrightBox(), DetectionList(CLASSES, ID_OF)
    photos = open_source([str(word) for word in inputs], output)
    failed = predict_image_files(predictor, photos, output, listed, batch_size, 2, interrupt)
    return predictor, listed, failed


def written(output):
    return sorted(path.relative_to(output).as_posix() for path in output.rglob("*") if path.is_file())


# --- images ---


def test_every_image_is_drawn_and_listed_in_order(folder, tmp_path):
    output = tmp_path / "output"
    predictor, listed, failed = predict_folder([folder], output)
    assert failed == 0 and listed.images == 7 and predictor.batches == [3, 3, 1]
    assert written(output) == ["0.png", "1.jpg", "2.png", "3.jpg", "4.png", "5.jpg", "deep/6.png"]
    assert [row["image_id"] for row in listed.rows] == [1, 2, 3, 4, 5, 6, 7]
    assert [row["file_name"] for row in listed.rows] == written(output)
    assert listed.rows[4] == {
        "image_id": 5,
        "category_id": 18,
        "bbox": pytest.approx([0, 12, 64 * 120 / 255, 12]),
        "score": 0.75,
        "file_name": "4.png",
        "category_name": "dog",
    }


def test_pictures_show_what_is_listed(folder, tmp_path):
    predict_folder([folder], tmp_path / "output")
    for name in written(tmp_path / "output"):
        image = decode_image((folder / name).read_bytes())
        found = expected(image.mean(), image.shape[:2])
        drawn = draw_detections(image, found.boxes_yxyx, found.scores, found.labels, CLASSES)
        picture = decode_image((tmp_path / "output" / name).read_bytes())
        assert (drawn != image).any()
        if name.endswith("png"):
            np.testing.assert_array_equal(picture, drawn)
        else:
            assert np.abs(picture.astype(int) - drawn).mean() < 5  # a JPEG
            with Image.open(tmp_path / "output" / name) as stored:
                assert stored.format == "JPEG"


@pytest.mark.parametrize("batch_size", [1, 2, 7, 32])
def test_the_size_of_batches_changes_nothing(batch_size, folder, tmp_path):
    _, listed, _ = predict_folder([folder], tmp_path / "output", batch_size)
    _, others, _ = predict_folder([folder], tmp_path / "other", 3)
    assert listed.rows == others.rows
    for name in written(tmp_path / "output"):
        assert (tmp_path / "output" / name).read_bytes() == (tmp_path / "other" / name).read_bytes()


def test_files_that_are_no_images_are_told_and_passed_over(folder, tmp_path, capfd):
    (folder / "0.png").write_bytes(b"no image")
    (folder / "3.jpg").write_bytes((folder / "3.jpg").read_bytes()[:-5])
    (folder / "deep" / "6.png").unlink()
    (folder / "deep" / "6.png").symlink_to(tmp_path / "nowhere")
    predictor, listed, failed = predict_folder([folder], tmp_path / "output")
    assert failed == 3 and listed.images == 4 and predictor.batches == [3, 1]
    assert written(tmp_path / "output") == ["1.jpg", "2.png", "4.png", "5.jpg"]
    assert [row["image_id"] for row in listed.rows] == [2, 3, 5, 6]  # places in the list, failed ones counted
    assert capfd.readouterr().err.splitlines() == [
        f"{folder}/0.png: got a file that is not an image of a known kind, expected a whole image; passed over",
        f"{folder}/3.jpg: got a JPEG that ends too early, expected a whole image; passed over",
        f"{folder}/deep/6.png: got no such file or directory, expected a whole image; passed over",
    ]


def test_when_no_file_is_an_image_nothing_runs(folder, tmp_path):
    for path in folder.rglob("*.*"):
        path.write_bytes(b"")
    predictor, listed, failed = predict_folder([folder], tmp_path / "output")
    assert failed == 7 and listed.images == 0 and predictor.batches == []


def test_inputs_stay_as_they_are(folder, tmp_path):
    before = {path: path.read_bytes() for path in folder.rglob("*.*")}
    predict_folder([folder], folder / "output")
    assert {path: path.read_bytes() for path in before} == before


def test_a_picture_that_cannot_be_written_ends_it(folder, tmp_path):
    (tmp_path / "output").mkdir()
    (tmp_path / "output" / "deep").write_bytes(b"a file where a folder has to be")
    with pytest.raises(UserError, match="deep: got file exists, expected to draw .*6.png"):
        predict_folder([folder], tmp_path / "output")


def test_an_interrupt_leaves_whole_pictures_and_their_list(folder, tmp_path):
    _, listed, _ = predict_folder([folder], tmp_path / "output", batch_size=2, interrupt=After(4))
    assert 0 < listed.images < 7
    assert written(tmp_path / "output") == [row["file_name"] for row in listed.rows]


def test_work_is_done_ahead_but_not_far():
    from concurrent.futures import ThreadPoolExecutor

    started = []
    with ThreadPoolExecutor(2) as pool:
        results = prefetch(pool, lambda item: started.append(item) or item * item, range(100), 5)
        assert next(results) == 0
        assert len(started) <= 6
        assert list(results) == [item * item for item in range(1, 100)]
    assert sorted(started) == list(range(100))


# --- videos ---


@pytest.fixture(autouse=True)
def clock(monkeypatch):
    """[seconds]: the time by which a camera's frames are held, which stands still."""
    now = [0.0]
    monkeypatch.setattr(video_prediction, "time", SimpleNamespace(monotonic=lambda: now[0]))
    return now


class Capture:
    """Stands in for cv2.VideoCapture: frame i is grey of the value i * step; a camera if it has no end."""

    def __init__(self, count=None, rate=30.0, size=(64, 48), step=1):
        self.count, self.rate, self.size, self.step = count, rate, size, step
        self.read_so_far = 0

    def get(self, what):
        return {cv2.CAP_PROP_FPS: self.rate, cv2.CAP_PROP_FRAME_COUNT: self.count or -1}[what]

    def read(self):
        if self.count is not None and self.read_so_far >= self.count:
            return False, None
        value = self.read_so_far * self.step % 256
        self.read_so_far += 1
        return True, np.full((self.size[1], self.size[0], 3), value, np.uint8)


def predict_frames(video, output, batch_size=4, interrupt=Never()):
    output.mkdir(exist_ok=True)
    predictor, listed = BrightBox(), DetectionList(CLASSES, ID_OF)
    predict_video(predictor, video, output, listed, batch_size, 2, interrupt)
    return predictor, listed


def read_video(path):
    capture = cv2.VideoCapture(str(path))
    frames = []
    while True:
        is_read, frame = capture.read()
        if not is_read:
            return capture.get(cv2.CAP_PROP_FPS), frames
        frames.append(frame)


@pytest.mark.parametrize("rate", [25.0, 29.97, 12.5, 59.94005994])
def test_a_video_keeps_its_frames_rate_and_size(rate, tmp_path):
    video = Video(Capture(10, rate, step=20), "clip.avi", live=False)
    predictor, listed = predict_frames(video, tmp_path / "output")
    assert predictor.batches == [4, 4, 2]
    assert written(tmp_path / "output") == ["clip.mp4"]
    found_rate, frames = read_video(tmp_path / "output" / "clip.mp4")
    assert found_rate == pytest.approx(rate, abs=0.001) and len(frames) == 10
    for number, (frame, row) in enumerate(zip(frames, listed.rows)):
        assert frame.shape == (48, 64, 3)
        assert abs(frame[40:].mean() - 20 * number) < 12  # below the box, in the order of the source
        assert row["frame"] == number and row["image_id"] == number + 1 and row["file_name"] == "clip.avi"
        assert row["bbox"][2] == pytest.approx(64 * 20 * number / 255, abs=0.1)


@pytest.mark.parametrize("rate, kept", [(90.123, 90.12), (239.6934, 239.69), (1000.06, 1000.1)])
def test_high_rates_that_are_not_whole_are_written(rate, kept, tmp_path, capfd):
    """MPEG-4 cannot hold 239693 / 1000, which OpenCV would ask for."""
    predict_frames(Video(Capture(10, rate), "slow.mov", live=False), tmp_path / "output")
    found, frames = read_video(tmp_path / "output" / "slow.mp4")
    assert found == pytest.approx(kept, abs=1e-4) and len(frames) == 10
    assert capfd.readouterr().err == ""


def test_an_odd_side_is_one_pixel_less(tmp_path):
    predict_frames(Video(Capture(3, size=(65, 49)), "odd.mp4", live=False), tmp_path / "output")
    assert read_video(tmp_path / "output" / "odd.mp4")[1][0].shape == (48, 64, 3)


def test_drawn_frames_have_their_colours(tmp_path):
    class Red(Capture):
        def read(self):
            is_read, frame = super().read()
            return is_read, frame if frame is None else np.full_like(frame, (0, 0, 255))  # OpenCV's order

    predict_frames(Video(Red(3), "red.mp4", live=False), tmp_path / "output")
    _, frames = read_video(tmp_path / "output" / "red.mp4")
    np.testing.assert_allclose(frames[1][40:].mean(axis=(0, 1)), [0, 0, 255], atol=12)


def test_a_camera_goes_on_until_it_is_interrupted(tmp_path):
    capture = Capture(rate=0.0)
    camera = Video(capture, "camera0", live=True)
    predictor, listed = predict_frames(camera, tmp_path / "output", batch_size=1, interrupt=After(6))
    assert listed.images == 6 and predictor.batches == [1] * 6 and capture.read_so_far <= 7
    rate, frames = read_video(tmp_path / "output" / "camera0.mp4")
    assert len(frames) == 6 and rate == DEFAULT_RATE
    assert [row["frame"] for row in listed.rows] == list(range(6))


def test_a_camera_s_video_lasts_as_long_as_it_ran(clock, tmp_path):
    """At 0.2 s a frame each frame of a camera of 30 a second stays for 6; time runs from when the first is done."""

    class Slow(BrightBox):
        def detect(self, *batch):
            clock[0] += 0.2
            return super().detect(*batch)

    (tmp_path / "output").mkdir()
    camera, listed = Video(Capture(rate=30.0, step=20), "camera0", live=True), DetectionList(CLASSES, ID_OF)
    predict_video(Slow(), camera, tmp_path / "output", listed, 1, 2, After(5))
    _, frames = read_video(tmp_path / "output" / "camera0.mp4")
    assert len(frames) == 19 and [row["frame"] for row in listed.rows] == [0, 1, 6, 12, 18]
    assert [row["image_id"] for row in listed.rows] == [1, 2, 3, 4, 5]
    shown = [0] + 5 * [1] + 6 * [2] + 6 * [3] + [4]
    assert all(abs(frame[40:].mean() - 20 * number) < 12 for number, frame in zip(shown, frames))


def test_a_camera_that_goes_away_ends_it(tmp_path):
    class Unplugged(Capture):
        def get(self, what):
            return -1.0

    _, listed = predict_frames(Video(Unplugged(3), "camera0", live=True), tmp_path / "output", batch_size=1)
    assert listed.images == 3 and len(read_video(tmp_path / "output" / "camera0.mp4")[1]) == 3


def test_an_interrupt_finishes_the_video(tmp_path):
    video = Video(Capture(100), "clip.mp4", live=False)
    _, listed = predict_frames(video, tmp_path / "output", batch_size=4, interrupt=After(2))
    assert listed.images == 8 == len(read_video(tmp_path / "output" / "clip.mp4")[1])


def test_fewer_frames_than_the_file_says_are_told(tmp_path, capfd):
    class Short(Capture):
        def get(self, what):
            return 30.0 if what == cv2.CAP_PROP_FPS else 10

    predict_frames(Video(Short(7), "clip.mp4", live=False), tmp_path / "output")
    assert capfd.readouterr().err == "clip.mp4: got 7 of the 10 frames it says it has\n"


def test_a_video_without_frames_is_refused(tmp_path):
    with pytest.raises(UserError, match="clip.mp4: got no frame, expected a video that OpenCV can decode"):
        predict_frames(Video(Capture(0), "clip.mp4", live=False), tmp_path / "output")


def test_a_frame_of_another_size_is_refused(tmp_path):
    with pytest.raises(UserError, match="got a frame of 32x24 pixels after others of 64x48"):
        with DrawnVideo(tmp_path / "a.mp4", 25.0) as video:
            video.write(np.zeros((48, 64, 3), np.uint8))
            video.write(np.zeros((24, 32, 3), np.uint8))


def test_a_video_that_cannot_be_written_is_refused(tmp_path, capfd):
    with pytest.raises(UserError, match="a.mp4: got a file that cannot be written"):
        with DrawnVideo(tmp_path / "nowhere" / "a.mp4", 25.0) as video:
            video.write(np.zeros((48, 64, 3), np.uint8))
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("size", [(8192, 16), (1, 1)])
def test_a_size_that_mpeg4_has_not_is_refused_in_one_line(size, tmp_path, capfd):
    with pytest.raises(UserError, match=f"2 to 8191 pixels a side, not {size[0]}x{size[1]}"):
        with DrawnVideo(tmp_path / "a.mp4", 25.0) as video:
            video.write(np.zeros((size[1], size[0], 3), np.uint8))
    assert capfd.readouterr().err == ""


def test_a_full_disk_is_noticed(tmp_path):
    with pytest.raises(UserError, match="got 1 of 2 frames on the disk, expected all; check the space left"):
        with DrawnVideo(tmp_path / "a.mp4", 25.0) as video:
            video.write(np.zeros((48, 64, 3), np.uint8))
            video.count += 1  # a frame that OpenCV took and did not write


# --- the list ---


def test_detections_are_written_one_a_line(tmp_path):
    listed = DetectionList(("background", "猫"), [0, 90])
    for number in (1, 2):
        boxes = np.float32([[1, 2, 4, 8], [0, 0, 1, 1]])
        listed.add(number, "a.jpg", Detections(boxes, np.float32([0.75, 0.5]), np.int32([1, 1])), frame=number)
    listed.add(3, "b.jpg", Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int32)))
    assert listed.images == 3
    listed.write(tmp_path / "detections.json")
    text = (tmp_path / "detections.json").read_text(encoding="utf-8")
    assert len(text.splitlines()) == 4
    rows = json.loads(text)
    assert rows == listed.rows and rows[0] == {
        "image_id": 1,
        "category_id": 90,
        "bbox": [2.0, 1.0, 6.0, 3.0],
        "score": 0.75,
        "file_name": "a.jpg",
        "frame": 1,
        "category_name": "猫",
    }


def test_an_empty_list_is_a_list(tmp_path):
    DetectionList(CLASSES, ID_OF).write(tmp_path / "detections.json")
    assert json.loads((tmp_path / "detections.json").read_text()) == []


def test_a_list_that_cannot_be_written_is_refused(tmp_path):
    with pytest.raises(UserError, match="nowhere/detections.json: got no such file or directory"):
        DetectionList(CLASSES, ID_OF).write(tmp_path / "nowhere" / "detections.json")


def test_category_ids_follow_the_data_or_the_labels(tiny_recipe, shapes_records, tmp_path):
    described = json.loads((shapes_records / "dataset.json").read_text())
    described["category_ids"] = [90, 7, 55, 3, 2, 1][: len(described["category_ids"])]
    (tmp_path / "dataset.json").write_text(json.dumps(described))
    assert category_ids(tiny_recipe(data_dir=str(tmp_path), num_classes=None)) == [0, *described["category_ids"]]
    assert category_ids(tiny_recipe(data_dir="/nowhere", num_classes=4)) == [0, 1, 2, 3]


# --- batches ---


def test_batches_are_no_larger_than_what_there_is(tiny_recipe):
    cfg = tiny_recipe(batch_size=4)
    assert choose_batch_size(cfg, [None] * 9) == 4 and choose_batch_size(cfg, [None]) == 1
    assert choose_batch_size(cfg, Video(Capture(3), "a.mp4", live=False)) == 3
    assert choose_batch_size(cfg, Video(Capture(), "a.mp4", live=False)) == 4
    assert choose_batch_size(cfg, Video(Capture(), "camera0", live=True)) == 1
    large = tiny_recipe(batch_size=64)
    assert choose_batch_size(large, [None] * 99) == 64
    assert choose_batch_size(large, Video(Capture(99), "a.mp4", live=False)) == MOST_FRAMES

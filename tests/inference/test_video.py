"""Videos and cameras with a fake detector: annotated frames, frame rates, sizes and early stops."""

from pathlib import Path

import numpy as np
import pytest

from fake_predictor import CATEGORY_IDS, CLASSES, FakeCapture, FakePredictor, InterruptAfter, files_in
from ssd.errors import UserError
from ssd.inference.detections_json import CocoResults
from ssd.inference.mp4_writer import Mp4Writer
from ssd.inference.object_files import ObjectFiles
from ssd.inference.output_folder import OutputFolder
from ssd.inference.video import predict_video
from ssd.inference.video_source import UnreadableVideoError, Video, open_video
from ssd.inference.video_times import DEFAULT_FPS
from video_files import read_video, write_matroska, write_video


def predict_frames(video, output, batch_size=4, interrupt=False, detector=None, seconds=(0.0,)):
    """Write the annotated video to output/out.mp4.

    seconds: [time], which stands still unless the test advances it
    """
    output.mkdir(exist_ok=True)
    predictor, results = detector or FakePredictor(), CocoResults(CLASSES, CATEGORY_IDS)
    predict_video(
        predictor,
        video=video,
        writer=Mp4Writer(output / "out.mp4", video.output_fps),
        results=results,
        batch_size=batch_size,
        num_workers=2,
        interrupt=interrupt,
        clock=lambda: seconds[0],
        object_files=ObjectFiles(OutputFolder(output, work=output, names=[], subfolders={}), CLASSES),
    )
    return predictor, results


def file_of(capture, name="clip.avi"):
    return Video(capture, name, Path(name))


@pytest.mark.parametrize("fps", [25.0, 29.97, 12.5, 59.94005994])
def test_a_video_keeps_its_number_of_frames_rate_and_size(fps, tmp_path):
    video = file_of(FakeCapture(10, fps=fps, step=20))
    predictor, results = predict_frames(video, tmp_path / "output")
    assert predictor.batch_lengths == [4, 4, 2]
    assert files_in(tmp_path / "output") == ["out.mp4"]
    written_fps, frames = read_video(tmp_path / "output" / "out.mp4")
    assert written_fps == pytest.approx(fps, abs=0.001) and len(frames) == 10
    for number, (frame, entry) in enumerate(zip(frames, results.entries)):
        assert frame.shape == (48, 64, 3)
        assert abs(frame[40:].mean() - 20 * number) < 12  # below the box, in the order of the source
        assert entry["frame"] == number and entry["image_id"] == number + 1 and entry["file_name"] == "clip.avi"
        assert entry["bbox"][2] == pytest.approx(64 * 20 * number / 255, abs=0.1)


@pytest.mark.parametrize("fps, rounded", [(90.123, 90.12), (239.6934, 239.69), (1000.06, 1000.1)])
def test_high_fractional_rates_are_rounded_for_mpeg4(fps, rounded, tmp_path, capfd):
    """MPEG-4 cannot store 239693 / 1000, which OpenCV would ask for."""
    predict_frames(file_of(FakeCapture(10, fps=fps)), tmp_path / "output")
    written_fps, frames = read_video(tmp_path / "output" / "out.mp4")
    assert written_fps == pytest.approx(rounded, abs=1e-4) and len(frames) == 10
    assert capfd.readouterr().err == ""


def test_an_odd_side_loses_one_pixel(tmp_path):
    predict_frames(file_of(FakeCapture(3, size=(65, 49))), tmp_path / "output")
    assert read_video(tmp_path / "output" / "out.mp4")[1][0].shape == (48, 64, 3)


def test_drawn_frames_keep_their_colours(tmp_path):
    class Red(FakeCapture):
        def read(self):
            success, frame = super().read()
            return success, frame if frame is None else np.full_like(frame, (0, 0, 255))  # OpenCV's order

    predict_frames(file_of(Red(3)), tmp_path / "output")
    _, frames = read_video(tmp_path / "output" / "out.mp4")
    np.testing.assert_allclose(frames[1][40:].mean(axis=(0, 1)), [0, 0, 255], atol=12)


def test_a_camera_runs_until_it_is_interrupted(tmp_path):
    capture = FakeCapture(fps=0.0)
    camera = Video(capture, "camera0")
    predictor, results = predict_frames(camera, tmp_path / "output", batch_size=1, interrupt=InterruptAfter(6))
    assert results.num_images == 6 and predictor.batch_lengths == [1] * 6 and capture.num_read <= 7
    fps, frames = read_video(tmp_path / "output" / "out.mp4")
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
        Video(FakeCapture(fps=30.0, step=20), "camera0"),
        output=tmp_path / "output",
        batch_size=1,
        interrupt=InterruptAfter(5),
        detector=SlowPredictor(),
        seconds=seconds,
    )
    _, frames = read_video(tmp_path / "output" / "out.mp4")
    assert len(frames) == 19 and [entry["frame"] for entry in results.entries] == [0, 1, 6, 12, 18]
    assert [entry["image_id"] for entry in results.entries] == [1, 2, 3, 4, 5]
    expected = [0] + 5 * [1] + 6 * [2] + 6 * [3] + [4]
    assert all(abs(frame[40:].mean() - 20 * number) < 12 for number, frame in zip(expected, frames))


def test_a_disconnected_camera_ends_the_video(tmp_path):
    class Unplugged(FakeCapture):
        def get(self, property_id):
            return -1.0

    _, results = predict_frames(Video(Unplugged(3), "camera0"), tmp_path / "output", batch_size=1)
    assert results.num_images == 3 and len(read_video(tmp_path / "output" / "out.mp4")[1]) == 3


def test_an_interrupt_leaves_a_complete_video(tmp_path):
    video = file_of(FakeCapture(100))
    _, results = predict_frames(video, tmp_path / "output", batch_size=4, interrupt=InterruptAfter(2))
    assert results.num_images == 8 == len(read_video(tmp_path / "output" / "out.mp4")[1])


def test_a_video_without_frames_is_refused(tmp_path):
    with pytest.raises(UnreadableVideoError, match="^clip.avi: "):
        predict_frames(file_of(FakeCapture(0)), tmp_path / "output")


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


def striding(video, stride):
    video.stride = stride
    return video


@pytest.mark.parametrize("stride, rate", [(1, 12.0), (3, 4.0), (100, 0.12)])
def test_a_video_with_a_stride_keeps_its_speed_and_times(stride, rate, tmp_path):
    video = striding(file_of(FakeCapture(10, fps=12.0, step=20)), stride)
    _, results = predict_frames(video, tmp_path / "output")
    written_fps, frames = read_video(tmp_path / "output" / "out.mp4")
    expected = list(range(0, 10, stride))
    assert written_fps == pytest.approx(rate) and len(frames) == len(expected) == video.num_frames
    assert [entry["time"] for entry in results.entries] == [round(number / 12, 6) for number in expected]
    assert [entry["bbox"][2] for entry in results.entries] == pytest.approx([64 * 20 * n / 255 for n in expected])
    assert [entry["frame"] for entry in results.entries] == list(range(len(expected)))


def test_skipped_frames_are_not_lost(tmp_path):
    path = write_video(tmp_path / "a.mp4", num_frames=10, codec="mp4v")
    video = striding(open_video(path, "a.mp4"), 4)
    assert [frame.time for frame in video] == pytest.approx([0, 0.32, 0.64])
    assert video.find_loss() is None and (video.num_frames, video.output_fps) == (3, 3.125)


def test_a_stride_at_a_variable_rate(tmp_path):
    """Every second frame, at 0, 0.2, 2.3 and 2.4 s, is shown at its time."""
    path = write_matroska(tmp_path / "a.mkv", [0, 100, 200, 300, 2300, 2333, 2400, 2433])
    video = striding(open_video(path, "a.mkv"), 2)
    _, results = predict_frames(video, tmp_path / "output")
    assert [entry["time"] for entry in results.entries] == pytest.approx([0, 0.2, 2.3, 2.4])
    fps, frames = read_video(tmp_path / "output" / "out.mp4")
    assert [entry["frame"] / fps for entry in results.entries] == pytest.approx([0, 0.2, 2.3, 2.4], abs=0.01)
    assert len(frames) == results.entries[-1]["frame"] + 1


def test_a_camera_with_a_stride(tmp_path):
    camera = striding(Video(FakeCapture(fps=30.0), "camera0"), 3)
    _, results = predict_frames(camera, tmp_path / "output", batch_size=1, interrupt=InterruptAfter(4))
    assert [round(entry["bbox"][2] * 255 / 64) for entry in results.entries] == [0, 3, 6, 9]
    assert read_video(tmp_path / "output" / "out.mp4")[0] == 10

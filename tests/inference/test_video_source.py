"""Frames of video files: their times, orientation, and those that cannot be read."""

import cv2
import numpy as np
import pytest

from fake_predictor import FakeCapture
from ssd.inference.video_source import UnreadableVideoError, Video, check_video, open_video
from ssd.inference.video_times import DEFAULT_FPS
from video_files import blocks, rotate, write_matroska, write_video

VARIABLE_TIMES = [0, 100, 200, 300, 2300, 2333, 2367, 2400]  # milliseconds


def read(path):
    """Return (times, text on lost frames) of a video file."""
    video = open_video(path, path.name)
    return [frame.time for frame in video], video.find_loss()


def test_a_video_has_its_rate_and_rgb_frames(tmp_path):
    path = tmp_path / "clip.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), fps=12.5, frameSize=(64, 48))
    for color in ((0, 0, 255), (255, 0, 0)):  # red, then blue, in OpenCV's BGR order
        writer.write(np.full((48, 64, 3), color, np.uint8))
    writer.release()
    video = open_video(path, "clip.avi")
    assert (video.name, video.fps, video.output_fps) == ("clip.avi", 12.5, 12.5)
    assert (video.num_frames, video.is_live) == (2, False)
    red, blue = video
    assert red.pixels.shape == (48, 64, 3) and red.pixels.dtype == np.uint8
    np.testing.assert_allclose(red.pixels.mean(axis=(0, 1)), [255, 0, 0], atol=8)
    np.testing.assert_allclose(blue.pixels.mean(axis=(0, 1)), [0, 0, 255], atol=8)
    assert (red.time, blue.time) == (0, 0.08) and video.find_loss() is None
    assert list(video) == []  # frames can be read once


@pytest.mark.parametrize("name, codec", [("a.avi", "MJPG"), ("a.mkv", "MJPG"), ("a.mp4", "mp4v"), ("a.mov", "mp4v")])
def test_times_come_from_the_container(name, codec, tmp_path):
    times, loss = read(write_video(tmp_path / name, codec=codec))
    assert times == pytest.approx([0, 0.08, 0.16, 0.24, 0.32]) and loss is None


def test_times_of_a_variable_rate(tmp_path):
    path = write_matroska(tmp_path / "a.mkv", VARIABLE_TIMES)
    video = open_video(path, "a.mkv")
    assert video.num_frames == 8 and video.output_fps == 30
    assert [frame.time for frame in video] == pytest.approx([time / 1000 for time in VARIABLE_TIMES])
    assert video.find_loss() is None


def test_many_packets_of_sound_between_frames_do_not_end_the_video(tmp_path):
    """OpenCV gives up after 4096 packets of other streams, unless OPENCV_FFMPEG_READ_ATTEMPTS is set."""
    times, loss = read(write_matroska(tmp_path / "a.mkv", [0, 1000, 2000], audio_packets=5000))
    assert times == [0, 1, 2] and loss is None


def test_videos_of_phones_are_upright(tmp_path):
    path = write_video(tmp_path / "a.mp4", num_frames=1, codec="mp4v")
    upright = open_video(rotate(path), "a.mp4")
    assert [frame.pixels.shape for frame in upright] == [(64, 48, 3)]


@pytest.mark.parametrize("name, codec", [("a.avi", "MJPG"), ("a.mkv", "MJPG")])
def test_frames_of_a_truncated_file_are_counted(name, codec, tmp_path, capfd):
    path = write_video(tmp_path / name, num_frames=20, codec=codec)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])
    times, loss = read(path)
    assert 0 < len(times) < 20 and loss.startswith(f"{20 - len(times)} of 20 frames ")
    assert capfd.readouterr() == ("", "")


def test_the_frames_after_a_damaged_frame_are_read(tmp_path, capfd):
    path = write_video(tmp_path / "a.mkv", num_frames=20, codec="DIVX")
    content = bytearray(path.read_bytes())
    start, end = blocks(path)[7]
    content[start + 3 : end] = bytes(end - start - 3)
    path.write_bytes(content)
    times, loss = read(path)
    assert len(times) == 19 and times[-1] == pytest.approx(19 * 0.08)
    assert loss.startswith("1 of 20 frames ") and capfd.readouterr() == ("", "")


def test_a_number_of_frames_that_the_header_overstates_is_no_loss(tmp_path):
    """A Matroska file stores only a duration, which is longer if the sound is longer."""
    path = write_video(tmp_path / "a.mkv")
    content = bytearray(path.read_bytes())
    duration = content.index(b"\x44\x89\x88") + 3
    content[duration : duration + 8] = np.array(10000.0, ">f8").tobytes()
    path.write_bytes(content)
    video = open_video(path, "a.mkv")
    assert video.capture.get(cv2.CAP_PROP_FRAME_COUNT) > 100 and video.num_frames == 5
    assert len(list(video)) == 5 and video.find_loss() is None


def test_a_video_ends_where_the_frame_size_changes(tmp_path):
    class Resized(FakeCapture):
        def read(self):
            self.size = (64, 48) if self.num_read < 3 else (32, 24)
            return super().read()

    video = Video(Resized(9), "a.mkv", write_video(tmp_path / "a.mkv"))
    assert len(list(video)) == 3
    assert [text for text in ("frame 3 ", "32x24", "64x48") if text not in video.find_loss()] == []


def test_a_file_that_is_no_video_is_refused(tmp_path, capfd):
    (tmp_path / "a.mp4").write_bytes(b"no video")
    for function in (lambda: check_video(tmp_path / "a.mp4"), lambda: open_video(tmp_path / "a.mp4", "a.mp4")):
        with pytest.raises(UnreadableVideoError, match="a.mp4: "):
            function()
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("fps", [0.0, -1.0, float("nan"), float("inf")])
def test_an_invalid_rate_becomes_the_default(fps):
    class Invalid(FakeCapture):
        def get(self, _):
            return fps

    camera = Video(Invalid(), "camera0")
    assert camera.fps == DEFAULT_FPS and camera.num_frames is None

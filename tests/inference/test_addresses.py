"""Addresses as inputs: downloads, streams, secrets in addresses, and servers that do not answer as they should."""

import base64
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from media_server import jpeg_stream, send, serve
from ssd.errors import UserError
from ssd.inference import addresses
from ssd.inference.addresses import Downloads, is_address, stream_name, without_secrets
from ssd.inference.live_stream import LatestFrames
from ssd.inference.sources import find_inputs
from video_files import write_video

JPEG = cv2.imencode(".jpg", np.full((48, 64, 3), 200, np.uint8))[1].tobytes()


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return write_video(tmp_path_factory.mktemp("clip") / "clip.avi", num_frames=10).read_bytes()


@pytest.mark.parametrize(
    "text, expected",
    [
        ("rtsp://camera/live", True),
        ("HTTP://a.org/b.jpg", True),
        ("photos/a.jpg", False),
        ("/data/a:b//c.jpg", False),
        ("0", False),
    ],
)
def test_addresses_have_a_scheme(text, expected):
    assert is_address(text) is expected


def test_a_file_whose_name_looks_like_an_address_is_that_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "http:").mkdir()
    (tmp_path / "http:" / "a.jpg").write_bytes(JPEG)
    assert not is_address("http://a.jpg")


@pytest.mark.parametrize(
    "address, shown, name",
    [
        ("rtsp://me:p%40ss@10.0.0.8:554/live/ch0?key=1", "rtsp://10.0.0.8:554/live/ch0", "10.0.0.8_554_live_ch0"),
        ("rtsp://me:a@b@cam", "rtsp://cam", "cam"),
        ("http://cam/?token=a/b@c", "http://cam/", "cam"),
        ("udp://@:1234", "udp://:1234", "1234"),
        ("rtsp://../../x", "rtsp://../../x", "x"),
        ("rtsp://cam/" + "é" * 300, "rtsp://cam/" + "é" * 300, "cam_" + "é" * 48),
        ("rtsp:///", "rtsp:///", "stream"),
    ],
)
def test_passwords_and_tokens_are_neither_shown_nor_in_names(address, shown, name):
    assert (without_secrets(address), stream_name(address)) == (shown, name)


def test_images_and_videos_are_downloaded(clip, tmp_path):
    answers = {
        "/a/photo.jpg": ("image/jpeg", JPEG),
        "/snapshot": ("image/jpeg", JPEG),
        "/b/my%20clip.avi": ("application/octet-stream", clip),
    }
    with serve(answers) as (server, requests):
        photo, video = f"{server}/a/photo.jpg?size=2", f"{server}/b/my clip.avi"
        inputs = find_inputs([photo, f"{server}/a/photo.jpg?size=3", photo, f"{server}/snapshot", video], tmp_path)
        alone = find_inputs([photo], tmp_path)
    assert [image.name for image in inputs.images] == ["a/photo-2.jpg", "a/photo.jpg", "snapshot.jpg"]
    assert [(item.name, item.output_stem) for item in inputs.videos] == [("b/my clip.avi", "b/my clip")]
    assert inputs.images[0].path.read_bytes() == JPEG and inputs.videos[0].path.read_bytes() == clip
    assert requests == ["/a/photo.jpg?size=2", "/a/photo.jpg?size=3", "/snapshot", "/b/my%20clip.avi", requests[0]]
    assert [image.name for image in alone.images] == ["photo.jpg"]
    folder = inputs.images[0].path.parents[2]
    assert folder.exists()
    del inputs
    assert not folder.exists()  # nothing stays on the disk


def test_downloads_and_files_of_the_same_name_are_different_inputs(tmp_path):
    (tmp_path / "photo.jpg").write_bytes(JPEG)
    with serve({"/photo.jpg": ("image/jpeg", JPEG)}) as (server, _):
        inputs = find_inputs([f"{server}/photo.jpg", str(tmp_path / "photo.jpg")], tmp_path / "out")
    assert [image.name for image in inputs.images] == ["photo.jpg", "downloads/photo.jpg"]


@pytest.mark.parametrize("path", ["/..%2F..%2Fphoto.jpg", "/%2e%2e/%2e%2e/photo.jpg", "/.jpg", f"/{'n' * 300}.jpg"])
def test_names_of_addresses_stay_in_the_temporary_folder(path):
    with serve({path: ("image/jpeg", JPEG)}) as (server, _):
        downloads = Downloads()
        file = downloads.fetch(f"{server}{path}")
    assert Path(downloads._folder.name).resolve() in file.resolve().parents
    assert file.suffix == ".jpg" and file.read_bytes() == JPEG


def test_the_password_is_sent_if_the_server_asks_for_it():
    expected = f"Basic {base64.b64encode(b'me:p@ss').decode()}"

    def answer(handler):
        if handler.headers.get("Authorization") == expected:
            send(handler, JPEG, **{"Content-Type": "image/jpeg", "Content-Length": len(JPEG)})
        else:
            send(handler, b"", status=401, **{"WWW-Authenticate": 'Basic realm="camera"', "Content-Length": 0})

    with serve({"/a.jpg": answer}) as (server, _):
        assert Downloads().fetch(server.replace("//", "//me:p%40ss@") + "/a.jpg").read_bytes() == JPEG
        with pytest.raises(UserError, match="^--input: http://127.0.0.1:[0-9]+/a.jpg .*401") as error:
            Downloads().fetch(server.replace("//", "//me:wrong@") + "/a.jpg?token=secret")
        assert "wrong" not in str(error.value) and "secret" not in str(error.value)


def short(handler):
    send(handler, JPEG[:100], **{"Content-Type": "image/jpeg", "Content-Length": len(JPEG)})


def silent(handler):
    time.sleep(0.5)


@pytest.mark.parametrize(
    "path, reason",
    [("/absent.jpg", "404"), ("/short.jpg", f"100 of {len(JPEG)}"), ("/page", "web page"), ("/silent.jpg", "0.2 s")],
)
def test_an_answer_without_an_image_is_one_line(path, reason, monkeypatch, tmp_path):
    monkeypatch.setattr(addresses, "TIMEOUT", 0.2)
    answers = {"/short.jpg": short, "/page": ("text/html", b"<p>"), "/silent.jpg": silent}
    with serve(answers) as (server, _):
        with pytest.raises(UserError) as error:
            find_inputs([f"{server}{path}"], tmp_path)
    assert str(error.value).startswith(f"--input: {server}{path} ") and reason in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("address", ["http://127.0.0.1:1/a.jpg", "http://", "http://[::1/a.jpg", "http://a b/c.jpg"])
def test_an_address_without_a_server_is_one_line(address, tmp_path):
    with pytest.raises(UserError, match="^--input: .*http:") as error:
        find_inputs([address], tmp_path)
    assert "\n" not in str(error.value)


def test_streams_are_not_downloaded(tmp_path):
    answers = {
        "/live": jpeg_stream(50),
        "/list.m3u8": ("application/vnd.apple.mpegurl", b""),
        "/endless.mp4": lambda handler: send(handler, b"", **{"Content-Type": "video/mp4"}),
    }
    with serve(answers) as (server, _):
        assert [Downloads().fetch(f"{server}{path}") for path in answers] == [None] * 3
        assert Downloads().fetch("rtsp://camera/live") is None
        camera = find_inputs([f"{server.replace('//', '//me:secret@')}/live"], tmp_path).camera
        assert isinstance(camera.capture, LatestFrames)  # a slow detector skips frames
        assert camera.is_live and camera.place == f"{server}/live" and camera.name.endswith("_live")
        assert next(iter(camera)).pixels.shape == (48, 64, 3)
        camera.capture.release()
        with pytest.raises(UserError, match=f"^--input: {server}/live .*stream"):
            find_inputs([f"{server}/live", str(tmp_path)], tmp_path)


def test_a_stream_that_cannot_be_opened_is_one_line(tmp_path, capfd):
    with pytest.raises(UserError, match="^--input: .*rtsp://127.0.0.1:1/live") as error:
        find_inputs(["rtsp://me:secret@127.0.0.1:1/live"], tmp_path)
    assert "secret" not in str(error.value) and capfd.readouterr() == ("", "")

"""Damaged and truncated video files are noticed, whole files are not, whatever their container."""

import pytest

from ssd.inference.container_check import ContainerCheck, check_container
from video_files import blocks, write_video

CONTAINERS = [("a.avi", "MJPG"), ("a.mkv", "MJPG"), ("a.mov", "mp4v")]


@pytest.mark.parametrize("name, codec", CONTAINERS)
def test_a_whole_file_is_not_damaged_and_a_truncated_file_is(name, codec, tmp_path):
    path = write_video(tmp_path / name, codec=codec)
    whole, counts_frames = path.read_bytes(), name == "a.mov"
    assert check_container(path) == ContainerCheck(is_damaged=False, counts_frames=counts_frames)
    for length in (len(whole) - 1, len(whole) // 2):
        path.write_bytes(whole[:length])
        assert check_container(path) == ContainerCheck(is_damaged=True, counts_frames=counts_frames)


@pytest.mark.parametrize("damage", [bytes(4), b"\xb5"])
def test_a_damaged_block_of_matroska_is_noticed(damage, tmp_path):
    path = write_video(tmp_path / "a.mkv")
    content = bytearray(path.read_bytes())
    end_of_frame = blocks(path)[2][1]
    content[end_of_frame : end_of_frame + len(damage)] = damage  # id and size of the next block
    path.write_bytes(content)
    assert check_container(path).is_damaged


def test_a_damaged_chunk_of_avi_is_noticed(tmp_path):
    path = write_video(tmp_path / "a.avi")
    content = path.read_bytes()
    path.write_bytes(content[: content.rindex(b"00dc", 0, content.index(b"idx1"))] + bytes(8) + content[-2000:])
    assert check_container(path).is_damaged


def test_sizes_that_their_writer_never_stored_are_no_damage(tmp_path):
    """A recording that was stopped, and a live recording."""
    path = write_video(tmp_path / "a.avi")
    content = bytearray(path.read_bytes())
    content[4:8] = bytes(4)
    path.write_bytes(content)
    assert check_container(path).is_damaged is None
    path = write_video(tmp_path / "a.mkv")
    content = bytearray(path.read_bytes())
    size = content.index(b"\x18\x53\x80\x67") + 4
    content[size : size + 8] = b"\x01" + b"\xff" * 7
    path.write_bytes(content)
    assert check_container(path).is_damaged is None


def test_a_fragmented_file_stores_no_number_of_frames(tmp_path):
    def box(kind, content=b""):
        return (8 + len(content)).to_bytes(4, "big") + kind + content

    (tmp_path / "a.mp4").write_bytes(box(b"ftyp", b"isom") + box(b"moov") + box(b"moof") + box(b"mdat"))
    assert check_container(tmp_path / "a.mp4") == ContainerCheck(is_damaged=False, counts_frames=False)
    large = (1).to_bytes(4, "big") + b"mdat" + (24).to_bytes(8, "big") + bytes(8)  # a size of 64 bits
    (tmp_path / "a.mp4").write_bytes(box(b"ftyp", b"isom") + large + b"appended by a camera")
    assert check_container(tmp_path / "a.mp4") == ContainerCheck(is_damaged=False, counts_frames=True)
    (tmp_path / "a.mp4").write_bytes(box(b"ftyp", b"isom") + large[:-1])
    assert check_container(tmp_path / "a.mp4").is_damaged


def test_other_files_are_not_checked(tmp_path):
    for content in (b"", b"GIF89a", b"RIFF\x00\x00\x00\x00WAVE"):
        (tmp_path / "a.ts").write_bytes(content)
        assert check_container(tmp_path / "a.ts") == ContainerCheck(is_damaged=None)


def test_a_damaged_packet_of_a_transport_stream_is_noticed(tmp_path):
    packets = bytearray((bytes(4) + b"\x47" + bytes(187)) * 9)  # as on Blu-ray discs
    for damaged in (False, True):
        packets[7 * 192 + 4] = 0 if damaged else 0x47
        (tmp_path / "a.m2ts").write_bytes(packets)
        assert check_container(tmp_path / "a.m2ts") == ContainerCheck(damaged)

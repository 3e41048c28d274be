"""An archive is whole or counts as none, whoever writes it, and old ones make room."""

import os
import time
import zipfile

import numpy as np
import pytest

from ssd.runtime import graph_archive
from ssd.runtime.graph_archive import GraphArchive, drop_old


@pytest.fixture
def archive(tmp_path):
    """archive("a") is the archive of this test with a private folder a, unpacked there."""

    def make(folder):
        made = GraphArchive(tmp_path / "cache" / "key.zip", tmp_path / folder)
        made.unpack()
        return made

    return make


def fill(archive, content):
    for number in range(3):
        (archive.folder / f"graph_{number}").write_bytes(content * 1000)


def content_of(archive):
    return {path.name: path.read_bytes()[:1] for path in archive.folder.iterdir()}


def whole(content):
    return {f"graph_{number}": content for number in range(3)}


def test_two_writers_leave_one_whole_archive(archive):
    first, second = archive("a"), archive("b")
    fill(first, b"1")
    fill(second, b"2")
    first.pack()
    second.pack()
    assert content_of(archive("c")) == whole(b"2")
    assert [path.name for path in first.path.parent.iterdir()] == ["key.zip"]


def test_an_archive_is_written_only_for_something_new(archive):
    first = archive("a")
    first.pack()
    assert not first.path.exists()
    fill(first, b"1")
    first.pack()
    inode = first.path.stat().st_ino
    first.pack()
    archive("b").pack()
    assert first.path.stat().st_ino == inode


def test_a_writer_that_stops_midway_leaves_the_old_archive(archive, monkeypatch):
    first = archive("a")
    fill(first, b"1")
    first.pack()
    second = archive("b")
    fill(second, b"2")

    def full(self, *args):
        raise OSError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(zipfile.ZipFile, "write", full)
        second.pack()
    assert content_of(archive("c")) == whole(b"1")
    assert [path.name for path in first.path.parent.iterdir()] == ["key.zip"]
    (first.path.parent / ".unfinished-killed").write_bytes(b"half")  # what a kill leaves is not taken for an archive
    assert content_of(archive("d")) == whole(b"1")


@pytest.mark.parametrize("damage", ["empty", "cut", "garbage", "flipped"])
def test_a_damaged_archive_counts_as_none_and_is_replaced(damage, archive):
    first = archive("a")
    (first.folder / "graph").write_bytes(np.random.default_rng(0).bytes(5000))
    first.pack()
    good = first.path.read_bytes()
    flipped = good[:2500] + bytes([good[2500] ^ 1]) + good[2501:]
    first.path.write_bytes({"empty": b"", "cut": good[:-1], "garbage": b"x" * 99, "flipped": flipped}[damage])
    second = archive("b")
    assert content_of(second) == {}
    fill(second, b"2")
    second.pack()
    assert content_of(archive("c")) == whole(b"2")


def test_old_archives_go_first_by_age_then_by_size(tmp_path, monkeypatch):
    def write(name, days, size):
        (tmp_path / name).write_bytes(b"x" * size)
        then = time.time() - days * 86400
        os.utime(tmp_path / name, (then, then))

    for name, days in (("today.zip", 0), ("month.zip", 29), ("older.zip", 31), (".unfinished-x", 40)):
        write(name, days, 10)
    drop_old(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["month.zip", "today.zip"]
    write("week.zip", 7, 10)
    monkeypatch.setattr(graph_archive, "BYTES_IN_ALL", 25)
    drop_old(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["today.zip", "week.zip"]


def test_using_an_archive_makes_it_young(archive):
    first = archive("a")
    fill(first, b"1")
    first.pack()
    os.utime(first.path, (0, 0))
    archive("b")
    assert first.path.stat().st_mtime > time.time() - 86400

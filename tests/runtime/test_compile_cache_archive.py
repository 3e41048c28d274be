"""An archive of compiled graphs is whole or ignored, whoever writes it, and old archives make room."""

import os
import shutil
import signal
import time
import zipfile

import numpy as np
import pytest

from ssd.runtime import compile_cache as module
from ssd.runtime.compile_cache import cache_folder, compile_cache, private_folder, prune
from ssd.runtime.device import Runtime

GRAPH_MODE = {"mode": 0, "device_target": "CPU"}


@pytest.fixture
def run(tmp_path, monkeypatch):
    """run(b"1") is a process that finds {name: first byte} in the cache and compiles three graphs of such bytes."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    monkeypatch.setattr("sys.argv", [str(module.PACKAGE.parent / "train.py")])
    for name in (module.ENABLE, module.PATH):
        monkeypatch.delenv(name, raising=False)

    def start(content=b"", before_save=lambda: None):
        monkeypatch.setattr(module, "_was_used", False)
        with compile_cache("train", settings=GRAPH_MODE, data=[], runtime=Runtime()):
            folder = module.Path(os.environ[module.PATH])
            found = {path.name: path.read_bytes()[:1] for path in folder.iterdir()}
            for number in range(3) if content else ():
                (folder / f"graph_{number}").write_bytes(content * 1000)
            before_save()
        return found

    return start


def whole(content):
    return {f"graph_{number}": content for number in range(3)}


def archive():
    (path,) = cache_folder().glob("*.zip")
    return path


def names():
    return sorted(path.name for path in cache_folder().iterdir())


def test_of_two_writers_the_last_leaves_one_whole_archive(run):
    def run_another_process():
        variables = {name: os.environ.pop(name) for name in (module.ENABLE, module.PATH)}
        run(b"2")
        os.environ.update(variables)

    run(b"1", before_save=run_another_process)
    assert names() == [archive().name] and run() == whole(b"1")


def test_an_archive_is_written_only_for_something_new(run):
    run()
    assert names() == []
    run(b"1")
    inode = archive().stat().st_ino
    run()
    assert archive().stat().st_ino == inode


def test_a_writer_that_stops_midway_leaves_the_old_archive(run, monkeypatch):
    run(b"1")

    def fail(*args, **kwargs):
        raise OSError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(zipfile.ZipFile, "write", fail)
        run(b"2")
    assert names() == [archive().name] and run() == whole(b"1")
    (cache_folder() / ".unfinished-killed").mkdir()  # left by a killed process, and no archive
    assert run() == whole(b"1")


def start_process_with_a_private_folder():
    """Return the id of a child process that has a private folder, and runs until it is killed."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            with private_folder(cache_folder()):
                os.write(writer, b"1")
                time.sleep(60)
        finally:
            os._exit(1)
    os.read(reader, 1)
    os.close(reader), os.close(writer)
    return child


def test_the_private_folder_of_a_killed_process_is_removed_by_the_next_one_and_not_before(run):
    run(b"1")
    child = start_process_with_a_private_folder()
    assert len(names()) == 2 and run() == whole(b"1") and len(names()) == 2  # the child is still running
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    assert len(names()) == 2 and run() == whole(b"1") and names() == [archive().name]


@pytest.mark.parametrize("damage", ["empty", "cut", "garbage", "flipped"])
def test_a_damaged_archive_is_ignored_and_replaced(damage, run):
    def compile_noise():
        (module.Path(os.environ[module.PATH]) / "graph").write_bytes(np.random.default_rng(0).bytes(5000))

    run(before_save=compile_noise)
    good = archive().read_bytes()
    flipped = good[:2500] + bytes([good[2500] ^ 1]) + good[2501:]
    archive().write_bytes({"empty": b"", "cut": good[:-1], "garbage": b"x" * 99, "flipped": flipped}[damage])
    assert run(b"2") == {}
    assert run() == whole(b"2")


def test_old_archives_go_first_by_age_then_by_size(tmp_path, monkeypatch):
    def write(name, days, size):
        (tmp_path / name).write_bytes(b"x" * size)
        then = time.time() - days * 86400
        os.utime(tmp_path / name, (then, then))

    for name, days in (("today.zip", 0), ("month.zip", 29), ("older.zip", 31)):
        write(name, days, size=10)
    (tmp_path / "run-killed").mkdir()
    os.utime(tmp_path / "run-killed", (0, 0))
    prune(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["month.zip", "today.zip"]
    write("week.zip", 7, size=10)
    monkeypatch.setattr(module, "MAX_BYTES", 25)
    prune(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["today.zip", "week.zip"]


def test_using_an_archive_makes_it_young(run):
    run(b"1")
    os.utime(archive(), (0, 0))
    run()
    assert archive().stat().st_mtime > time.time() - 86400


def test_the_folder_may_be_deleted_at_any_time(run):
    assert run(b"1", before_save=lambda: shutil.rmtree(cache_folder())) == {}
    assert run(b"2") == {}
    assert run() == whole(b"2")

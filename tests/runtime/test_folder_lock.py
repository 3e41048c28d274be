"""Locks of folders: one owner at a time, named in the message, and no lock outlives its process."""

import errno
import fcntl
import json
import multiprocessing
import os
import platform
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from process_group import kill_group
from ssd.errors import UserError
from ssd.runtime import folder_lock
from ssd.runtime.folder_lock import lock_folder

SSD = Path(__file__).resolve().parents[2] / "examples" / "det" / "ssd"
HOLDER = """
import os, pathlib, sys, time
from ssd.runtime.folder_lock import lock_folder
with lock_folder(pathlib.Path(sys.argv[1]), "ckpt_save_dir"):
    print("locked", flush=True)
    if os.environ.get("FORKS"):
        os.fork()
    time.sleep(60)
"""


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def hold():
    """hold(folder) starts a process that holds the lock of a folder, and returns it after it has the lock."""
    started = []

    def start(folder, **environment):
        command = [sys.executable, "-c", HOLDER, str(folder), "--lr\n0.1"]
        env = {**os.environ, "PYTHONPATH": str(SSD), **environment}
        process = subprocess.Popen(command, stdout=subprocess.PIPE, env=env, start_new_session=True)
        started.append(process)
        assert process.stdout.readline() == b"locked\n"
        return process

    yield start
    for process in started:
        kill_group(process)
        process.stdout.close()


def refusal(folder, key="ckpt_save_dir"):
    with pytest.raises(UserError) as error, lock_folder(folder, key):
        pytest.fail("the folder was locked twice")
    return str(error.value)


def test_a_folder_in_use_is_refused_with_its_owner(hold, tmp_path):
    process = hold(tmp_path / "ckpt")
    (tmp_path / "link").symlink_to("ckpt")
    for path in (tmp_path / "ckpt", tmp_path / "x" / ".." / "ckpt", tmp_path / "link"):
        (tmp_path / "x").mkdir(exist_ok=True)
        message = refusal(path)
        assert message.startswith(f"ckpt_save_dir: {path} ") and "\n" not in message
        for text in (f"process {process.pid} ", platform.node(), "--lr 0.1"):
            assert text in message


@pytest.mark.parametrize("forks", ["", "1"])
def test_the_lock_of_a_killed_process_is_free(forks, hold, tmp_path):
    """A forked child that is still running does not keep the lock."""
    process = hold(tmp_path, FORKS=forks)
    time.sleep(0.1 if forks else 0)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert names(tmp_path) == [".ckpt_save_dir.lock"]
    with lock_folder(tmp_path, "ckpt_save_dir"):
        owner = json.loads((tmp_path / ".ckpt_save_dir.lock").read_text())
        assert owner["process"] == os.getpid()
    assert names(tmp_path) == []


def test_a_forked_child_that_leaves_the_block_does_not_end_the_lock(tmp_path):
    with lock_folder(tmp_path, "ckpt_save_dir"):
        child = os.fork()
        if child:
            os.waitpid(child, 0)
            refusal(tmp_path)
    if not child:
        os._exit(0)


def test_missing_folders_are_created_and_removed_if_they_stay_empty(tmp_path):
    with lock_folder(tmp_path / "a" / "b", "ckpt_save_dir"):
        assert (tmp_path / "a" / "b").is_dir()
    assert names(tmp_path) == []
    with lock_folder(tmp_path / "a" / "b", "ckpt_save_dir"):
        (tmp_path / "a" / "b" / "last.ckpt").touch()
    assert names(tmp_path / "a" / "b") == ["last.ckpt"]
    (tmp_path / "empty").mkdir()
    with lock_folder(tmp_path / "empty", "ckpt_save_dir"):
        pass
    assert (tmp_path / "empty").is_dir()


def test_different_keys_do_not_exclude_each_other(tmp_path):
    """An evaluation may write to the folder in which a training saves its checkpoints."""
    with lock_folder(tmp_path, "ckpt_save_dir"), lock_folder(tmp_path, "--output"):
        assert names(tmp_path) == [".ckpt_save_dir.lock", ".output.lock"]


def test_a_lock_beside_the_folder_outlives_its_replacement(tmp_path):
    folder, lock_file = tmp_path / "coco", tmp_path / ".coco.lock"
    with lock_folder(folder, "OUT", lock_file=lock_file):
        assert not folder.exists()
        with pytest.raises(UserError, match=f"^OUT: {folder} "), lock_folder(folder, "OUT", lock_file=lock_file):
            pass


def test_waiting_for_the_lock(tmp_path):
    with lock_folder(tmp_path, "output_dir"):
        start = time.monotonic()
        with pytest.raises(UserError), lock_folder(tmp_path, "output_dir", wait_s=0.3):
            pass
        assert 0.3 <= time.monotonic() - start < 5
    entered, release = threading.Event(), threading.Event()

    def other():
        with lock_folder(tmp_path, "output_dir"):
            entered.set()
            release.wait(10)

    thread = threading.Thread(target=other)
    thread.start()
    entered.wait(10)
    threading.Timer(0.2, release.set).start()
    with lock_folder(tmp_path, "output_dir", wait_s=10):
        assert release.is_set()
    thread.join()


def test_a_file_system_without_locks_gives_a_warning(tmp_path, monkeypatch, capsys):
    def fail(*args):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", fail)
    with lock_folder(tmp_path, "ckpt_save_dir"):
        (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("ckpt_save_dir: ") and str(tmp_path) in line and "no locks available" in line


def test_a_folder_that_cannot_be_written_to_is_left_to_the_block(tmp_path, capsys):
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file" / "ckpt", tmp_path / "file", Path("/proc/ckpt")):
        with lock_folder(folder, "ckpt_save_dir"):
            pass
    assert capsys.readouterr().err == "" and names(tmp_path) == ["file"]


def _take_turns(arguments):
    folder, turns = arguments
    folder_lock.POLL_SECONDS = 0.0001
    count = 0
    for _ in range(turns):
        with lock_folder(folder, "ckpt_save_dir", wait_s=30):
            try:
                descriptor = os.open(folder.parent / "owner", os.O_CREAT | os.O_EXCL)
            except FileExistsError:
                count += 1
            else:
                os.close(descriptor)
                os.unlink(folder.parent / "owner")
    return count


def test_removed_lock_files_and_folders_give_no_second_owner(tmp_path):
    """Processes create and remove the folder and the lock file in turns. Each removal is a chance for a race."""
    # Not fork, because MindSpore's threads may have been started by other tests in this process
    with multiprocessing.get_context("spawn").Pool(3) as pool:
        assert sum(pool.map(_take_turns, [(tmp_path / "ckpt", 60)] * 3)) == 0
    assert list(tmp_path.rglob("*.lock")) == []


def test_a_lock_file_that_cannot_be_closed_is_no_error(tmp_path, monkeypatch):
    close = os.close

    def fail(descriptor):
        close(descriptor)
        raise OSError(5, "Input/output error")

    with lock_folder(tmp_path, "ckpt_save_dir"):
        monkeypatch.setattr("ssd.runtime.folder_lock.os.close", fail)
    monkeypatch.undo()
    assert list(tmp_path.iterdir()) == []

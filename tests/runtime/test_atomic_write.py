"""Atomic writing: the target is either complete or as it was before, and a killed process leaves nothing for good."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from failing_renames import fail_to_rename
from ssd.runtime.atomic_write import PREFIX, move_all, replace_file, replace_folder, work_folder

SSD = Path(__file__).resolve().parents[2] / "examples" / "det" / "ssd"
FAILURES = [ValueError, OSError, KeyboardInterrupt]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def run_and_kill(code: str, path: Path) -> None:
    """Run a script, with `path` defined, in a process that kills itself at the end as `kill -9` does."""
    script = f"""
import os, pathlib, signal
from ssd.runtime import atomic_write
path = pathlib.Path({str(path)!r})
{code}
    os.kill(os.getpid(), signal.SIGKILL)
"""
    result = subprocess.run([sys.executable, "-c", script], env={**os.environ, "PYTHONPATH": str(SSD)}, timeout=60)
    assert result.returncode == -signal.SIGKILL


# --- replace_file ---


@pytest.mark.parametrize("existing", [None, b"old"])
def test_file_is_replaced_when_the_block_ends(existing, tmp_path):
    path = tmp_path / "a.json"
    if existing:
        path.write_bytes(existing)
    with replace_file(path) as unfinished:
        assert unfinished.name == "a.json"  # writers such as OpenCV choose the format by the suffix
        unfinished.write_bytes(b"new")
        assert (path.read_bytes() if path.exists() else None) == existing
    assert path.read_bytes() == b"new"
    assert names(tmp_path) == ["a.json"]


def test_file_gets_missing_parent_folders(tmp_path):
    with replace_file(tmp_path / "b" / "c" / "a.json") as unfinished:
        unfinished.write_bytes(b"new")
    assert (tmp_path / "b" / "c" / "a.json").read_bytes() == b"new"
    assert names(tmp_path / "b" / "c") == ["a.json"]


@pytest.mark.parametrize("failure", FAILURES)
@pytest.mark.parametrize("existing", [None, b"old"])
def test_file_stays_when_the_block_fails(existing, failure, tmp_path):
    path = tmp_path / "a.json"
    if existing:
        path.write_bytes(existing)
    with pytest.raises(failure):
        with replace_file(path) as unfinished:
            unfinished.write_bytes(b"half")
            unfinished.with_suffix(".tmp").write_bytes(b"a helper file, such as MindSpore's")
            raise failure
    assert names(tmp_path) == (["a.json"] if existing else [])
    assert not existing or path.read_bytes() == existing


def test_file_stays_when_nothing_was_written(tmp_path):
    (tmp_path / "a.json").write_bytes(b"old")
    with pytest.raises(FileNotFoundError):
        with replace_file(tmp_path / "a.json"):
            pass
    assert names(tmp_path) == ["a.json"] and (tmp_path / "a.json").read_bytes() == b"old"


def test_file_leftover_of_a_killed_process_is_removed(tmp_path):
    path = tmp_path / "a.json"
    path.write_bytes(b"old")
    run_and_kill("with atomic_write.replace_file(path) as unfinished:\n    unfinished.write_bytes(b'half')", path)
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == [f"{PREFIX}a.json", "a.json"]
    with replace_file(path) as unfinished:
        assert names(unfinished.parent) == []
        unfinished.write_bytes(b"new")
    assert names(tmp_path) == ["a.json"] and path.read_bytes() == b"new"


# --- replace_folder ---


def write_folder(path: Path, text: str) -> None:
    path.mkdir(parents=True, exist_ok=True)
    (path / f"{text}.txt").write_text(text)


@pytest.mark.parametrize("existing", [False, True])
def test_folder_is_replaced_when_the_block_ends(existing, tmp_path):
    path = tmp_path / "data"
    if existing:
        write_folder(path, "old")
    with replace_folder(path) as new:
        assert names(new) == []
        write_folder(new, "new")
        assert path.exists() == existing
    assert names(path) == ["new.txt"]
    assert names(tmp_path) == ["data"]


@pytest.mark.parametrize("failure", FAILURES)
@pytest.mark.parametrize("existing", [False, True])
def test_folder_stays_when_the_block_fails(existing, failure, tmp_path):
    path = tmp_path / "data"
    if existing:
        write_folder(path, "old")
    with pytest.raises(failure):
        with replace_folder(path) as new:
            write_folder(new, "half")
            raise failure
    assert names(tmp_path) == (["data"] if existing else [])
    assert not existing or names(path) == ["old.txt"]


@pytest.mark.parametrize("failing_rename", ["new", "old, before", "old, after"])
def test_folder_returns_when_a_rename_is_interrupted(failing_rename, tmp_path, monkeypatch):
    """Ctrl-C around the rename of the old folder, or during that of the new one."""
    path = tmp_path / "data"
    write_folder(path, "old")
    rename = Path.rename

    def interrupted_rename(source, target):
        if failing_rename == "old, after" and source == path:
            rename(source, target)
        if source == path if failing_rename.startswith("old") else source.name == "new":
            monkeypatch.undo()
            raise KeyboardInterrupt
        return rename(source, target)

    monkeypatch.setattr(Path, "rename", interrupted_rename)
    with pytest.raises(KeyboardInterrupt):
        with replace_folder(path) as new:
            write_folder(new, "new")
    assert names(tmp_path) == ["data"] and names(path) == ["old.txt"]


def test_folder_leftover_of_a_killed_process_is_removed(tmp_path):
    path = tmp_path / "data"
    write_folder(path, "old")
    run_and_kill("with atomic_write.replace_folder(path) as new:\n    (new / 'half.txt').write_text('')", path)
    assert names(path) == ["old.txt"] and names(tmp_path) == [f"{PREFIX}data", "data"]
    with replace_folder(path) as new:
        assert names(new) == []
        write_folder(new, "new")
    assert names(tmp_path) == ["data"] and names(path) == ["new.txt"]


def test_folder_returns_after_a_kill_between_the_two_renames(tmp_path):
    """Only the scratch folder still holds the old data then. The next writer puts it back, even if it fails itself."""
    path = tmp_path / "data"
    write_folder(path, "old")
    kill_between = """
rename = pathlib.Path.rename
def kill_after_rename(source, target):
    rename(source, target)
    os.kill(os.getpid(), signal.SIGKILL)
pathlib.Path.rename = kill_after_rename
with atomic_write.replace_folder(path) as new:
    (new / 'new.txt').write_text('')
if True:"""
    run_and_kill(kill_between, path)
    assert names(tmp_path) == [f"{PREFIX}data"]
    with pytest.raises(ValueError):
        with replace_folder(path):
            raise ValueError
    assert names(tmp_path) == ["data"] and names(path) == ["old.txt"]


# --- work_folder ---


def test_finished_parts_stay_and_the_rest_is_removed(tmp_path):
    parent = tmp_path / "b" / "c"
    with work_folder(parent) as work:
        assert work.parent == parent and work.name.startswith(PREFIX) and names(work) == []
        write_folder(work / "part", "finished")
        write_folder(work / "scrap", "half")
        (work / "part").rename(parent / "part")
    assert names(parent) == ["part"] and names(parent / "part") == ["finished.txt"]


@pytest.mark.parametrize("failure", [None, *FAILURES])
def test_created_folders_are_removed_if_they_are_empty(failure, tmp_path):
    parent = tmp_path / "b" / "c"
    try:
        with work_folder(parent) as work:
            write_folder(work, "half")
            if failure:
                raise failure
    except BaseException as error:
        assert type(error) is failure
    assert names(tmp_path) == []


@pytest.mark.parametrize("failure", FAILURES)
def test_existing_folder_stays_when_the_block_fails(failure, tmp_path):
    (tmp_path / "data").mkdir()
    with pytest.raises(failure):
        with work_folder(tmp_path / "data") as work:
            write_folder(work, "half")
            raise failure
    assert names(tmp_path) == ["data"] and names(tmp_path / "data") == []


def test_work_leftover_of_a_killed_process_is_removed(tmp_path):
    write_folder(tmp_path / "data", "old")
    run_and_kill("with atomic_write.work_folder(path) as work:\n    (work / 'a').write_text('')", tmp_path / "data")
    assert len(names(tmp_path / "data")) == 2
    with work_folder(tmp_path / "data") as work:
        assert names(tmp_path / "data") == sorted([work.name, "old.txt"])
    assert names(tmp_path / "data") == ["old.txt"]


# --- move_all ---


@pytest.mark.parametrize("failure", FAILURES)
@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("failing", [None, "a", "b"])
def test_all_files_move_or_none(failing, after, failure, tmp_path, monkeypatch):
    for name in ("a", "b"):
        write_folder(tmp_path / name, name)
    (tmp_path / "new").mkdir()
    moves = [(tmp_path / name, tmp_path / "new" / name) for name in ("a", "b")]
    if failing is None:
        move_all(moves)
        assert names(tmp_path) == ["new"] and names(tmp_path / "new") == ["a", "b"]
        return
    fail_to_rename(failing, monkeypatch, after=after, error=failure())
    with pytest.raises(failure):
        move_all(moves)
    assert names(tmp_path) == ["a", "b", "new"] and names(tmp_path / "new") == []
    assert (tmp_path / "a" / "a.txt").read_text() == "a"

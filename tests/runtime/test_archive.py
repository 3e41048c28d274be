"""Files of earlier runs move to a new folder earlier-N, with their paths, and nothing else moves."""

import pytest

from failing_renames import fail_to_rename
from ssd.errors import UserError
from ssd.runtime.archive import archive_files


def test_files_keep_their_paths_and_empty_folders_go(tmp_path):
    for name in ("a", "b/c/d", "b/e", "f/g"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "earlier-1").touch()  # a file of the user
    archive = archive_files(tmp_path, [tmp_path / "a", tmp_path / "b/c/d", tmp_path / "f/g"], key="output_dir")
    assert archive == tmp_path / "earlier-2"
    found = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*"))
    assert found == [
        "b",
        "b/e",
        "earlier-1",
        "earlier-2",
        "earlier-2/a",
        "earlier-2/b",
        "earlier-2/b/c",
        "earlier-2/b/c/d",
        "earlier-2/f",
        "earlier-2/f/g",
    ]


def test_nothing_to_move_is_no_archive(tmp_path):
    assert archive_files(tmp_path, [], key="output_dir") is None and list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("key, option", [("ckpt_save_dir", "--ckpt_save_dir"), ("--output", "--output")])
def test_a_file_that_cannot_be_moved_is_an_error(key, option, tmp_path):
    with pytest.raises(UserError, match=f"^{key}: .*{tmp_path}.* {option} "):
        archive_files(tmp_path, [tmp_path / "absent"], key=key)


@pytest.mark.parametrize("failing", ["a", "b", "c"])
def test_files_stay_together_if_one_cannot_be_moved(failing, tmp_path, monkeypatch):
    for name in ("a", "d/b", "c"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    fail_to_rename(failing, monkeypatch)
    with pytest.raises(UserError, match="output_dir"):
        archive_files(tmp_path, [tmp_path / "a", tmp_path / "d/b", tmp_path / "c"], key="output_dir")
    found = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*"))
    assert found == ["a", "c", "d", "d/b"] and (tmp_path / "d" / "b").read_text() == "d/b"

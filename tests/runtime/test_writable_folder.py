"""Early check of an output folder."""

import re
from pathlib import Path

import pytest

from ssd.errors import UserError
from ssd.runtime.writable_folder import require_writable


def test_a_folder_below_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "output"):
        for key, option in (("output_dir", "--output_dir"), ("--output", "--output")):
            with pytest.raises(UserError, match=rf"^{key}: .*{re.escape(str(tmp_path))}/file .* {option} "):
                require_writable(folder, key=key)


def test_a_folder_that_does_not_exist_yet_is_not_created(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for folder in (tmp_path, tmp_path / "not" / "yet", Path("not/yet")):
        require_writable(folder, key="output_dir")
    assert list(tmp_path.iterdir()) == []


def test_a_read_only_folder_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("os.access", lambda *_: False)  # root may write anywhere
    with pytest.raises(UserError, match="^output_dir: .* not writable"):
        require_writable(tmp_path, key="output_dir")

"""Refusals of make_shapes.py: no file of the user is lost, no incomplete dataset is left, and numbers are checked."""

from __future__ import annotations

import json

import pytest

import make_shapes
from folder_contents import read_files


def run_refused(capsys, arguments):
    """Run the command with a list of arguments that it must refuse. Returns the error, which must be one line."""
    with pytest.raises(SystemExit) as exit_error:
        make_shapes.main([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    assert (exit_error.value.code, out) == (2, "") and err.startswith("error: ") and err.count("\n") == 1
    return err


def test_a_folder_that_is_not_empty_is_kept(tmp_path, capsys):
    make_shapes.make_shapes(tmp_path / "data", train=2, val=1, size=64)
    before = read_files(tmp_path)
    assert "--overwrite" in run_refused(capsys, [tmp_path / "data", "--train", 1, "--val", 0])
    assert read_files(tmp_path) == before


def test_overwrite_replaces_a_data_set_and_an_empty_folder(tmp_path):
    for name in ("old", "empty", "new"):
        (tmp_path / name).mkdir()
    make_shapes.make_shapes(tmp_path / "old", train=4, val=1, size=64, seed=9)
    for name in ("old", "empty", "new"):
        make_shapes.make_shapes(tmp_path / name, train=2, val=0, size=64, overwrite=name != "new")
    assert read_files(tmp_path / "old") == read_files(tmp_path / "empty") == read_files(tmp_path / "new")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "new", "old"]  # no temporary folder is left


@pytest.mark.parametrize(
    "files",
    [
        {"notes.txt": "mine"},
        {"annotations/instances_train2017.json": '{"info": {"description": "COCO 2017"}}', "train2017/1.jpg": "mine"},
        {"annotations/instances_train2017.json": "OWN ANNOTATIONS"},  # no train2017
        {"annotations/instances_train2017.json": "OWN ANNOTATIONS", "train2017/1.jpg": "", "best.ckpt": "mine"},
    ],
    ids=["other files", "COCO itself", "incomplete", "more than a data set"],
)
def test_overwrite_removes_only_a_data_set_of_this_tool(tmp_path, capsys, files):
    for name, text in files.items():
        path = tmp_path / "data" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        own_annotations = json.dumps({"info": {"description": make_shapes.DESCRIPTION, "version": "1.0"}})
        path.write_text(own_annotations if text == "OWN ANNOTATIONS" else text)
    before = read_files(tmp_path)
    err = run_refused(capsys, [tmp_path / "data", "--train", 1, "--val", 0, "--overwrite"])
    assert all(name.split("/")[0] in err for name in files)
    assert read_files(tmp_path) == before


def test_a_file_is_not_replaced(tmp_path, capsys):
    (tmp_path / "file").write_text("mine")
    for out in (tmp_path / "file", tmp_path / "file" / "data"):
        assert f"{tmp_path / 'file'}: " in run_refused(capsys, [out, "--overwrite"])
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize("existing", [False, True])
def test_an_interrupted_run_changes_nothing(tmp_path, monkeypatch, existing):
    out = tmp_path / "data"
    if existing:
        make_shapes.make_shapes(out, train=2, val=1, size=64)
    before = read_files(tmp_path)
    draw_image = make_shapes.draw_image

    def draw_until_val(seed, split, index, size):
        if split == "val2017":
            assert len(list(tmp_path.iterdir())) == 2 + existing  # the temporary folder and the lock are beside it
            raise KeyboardInterrupt
        return draw_image(seed=seed, split=split, index=index, size=size)

    monkeypatch.setattr(make_shapes, "draw_image", draw_until_val)
    with pytest.raises(KeyboardInterrupt):
        make_shapes.make_shapes(out, train=1, val=1, size=64, seed=5, overwrite=True)
    assert read_files(tmp_path) == before
    assert [path.name for path in tmp_path.iterdir()] == (["data"] if existing else [])


@pytest.mark.parametrize("option, value", [("train", 0), ("train", -1), ("val", -1), ("size", 63), ("seed", -1)])
def test_numbers_out_of_range_are_refused(tmp_path, capsys, option, value):
    assert f"--{option}: {value} " in run_refused(capsys, [tmp_path / "data", f"--{option}={value}"])
    assert list(tmp_path.iterdir()) == []

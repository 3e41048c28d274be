"""The output folder: earlier results are archived with the first new result, and files of users stay."""

import json

import pytest

from fake_predictor import files_in
from ssd.errors import UserError
from ssd.inference.output_folder import MANIFEST_NAME, open_output_folder


def publish(path, **contents):
    """Publish files in a run. A keyword a__jpg stands for the name a.jpg."""
    contents = {name.replace("__", ".").replace("_", "/"): text for name, text in contents.items()}
    with open_output_folder(path, names={*contents, "planned.jpg"}) as output:
        for name, text in contents.items():
            output.unfinished(name).write_text(text)
            output.publish(name)


def content_of(path):
    return {name: (path / name).read_text() for name in files_in(path) if not name.endswith(MANIFEST_NAME)}


def test_results_of_the_previous_run_are_archived(tmp_path):
    publish(tmp_path, a__jpg="1", deep_b__jpg="1", detections__json="1")
    (tmp_path / "notes.txt").write_text("my own")
    (tmp_path / "deep" / "mine.txt").write_text("my own")
    publish(tmp_path, a__jpg="2", detections__json="2")
    publish(tmp_path, c__jpg="3", detections__json="3")
    assert content_of(tmp_path) == {
        "c.jpg": "3",
        "deep/mine.txt": "my own",
        "detections.json": "3",
        "earlier-1/a.jpg": "1",
        "earlier-1/deep/b.jpg": "1",
        "earlier-1/detections.json": "1",
        "earlier-2/a.jpg": "2",
        "earlier-2/detections.json": "2",
        "notes.txt": "my own",
    }


def test_a_run_without_results_changes_nothing(tmp_path):
    publish(tmp_path / "new" / "out")
    assert list(tmp_path.iterdir()) == []
    publish(tmp_path, a__jpg="1")
    before = content_of(tmp_path)
    publish(tmp_path)
    with pytest.raises(ZeroDivisionError), open_output_folder(tmp_path, names={"a.jpg"}) as output:
        output.unfinished("a.jpg").write_text("half")
        raise ZeroDivisionError
    assert content_of(tmp_path) == before and output.has_results is False


def test_results_of_earlier_versions_and_files_of_the_same_name_are_archived(tmp_path):
    """Earlier versions wrote no manifest."""
    for name in ("a.jpg", "b.jpg", "detections.json"):
        (tmp_path / name).write_text("old")
    publish(tmp_path, a__jpg="new")
    assert content_of(tmp_path) == {
        "a.jpg": "new",
        "b.jpg": "old",
        "earlier-1/a.jpg": "old",
        "earlier-1/detections.json": "old",
    }


def test_a_manifest_never_names_files_of_other_folders(tmp_path):
    (tmp_path / "mine.txt").write_text("my own")
    out = tmp_path / "out"
    publish(out, a__jpg="1")
    (out / MANIFEST_NAME).write_text(json.dumps(["../mine.txt", str(tmp_path / "mine.txt"), "absent"]))
    publish(out, b__jpg="2")
    (out / MANIFEST_NAME).write_text("{damaged")
    publish(out, c__jpg="3")
    assert content_of(tmp_path) == {"mine.txt": "my own", "out/a.jpg": "1", "out/b.jpg": "2", "out/c.jpg": "3"}


def test_a_folder_that_cannot_be_written_is_an_error(tmp_path):
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "out"):
        with pytest.raises(UserError, match=f"^--output: {path} "):
            publish(path)

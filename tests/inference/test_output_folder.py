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


# --- subfolders for an unknown number of files ---


def publish_crop(path, name, text, inputs=()):
    """Publish a file in the subfolder crops of a run, and the file a.jpg."""
    with open_output_folder(path, names={"a.jpg"}, subfolders=["crops"], inputs=inputs) as output:
        for file in ("a.jpg", f"{output.subfolders['crops']}/{name}"):
            output.unfinished(file).write_text(text)
            output.publish(file)


def test_subfolders_are_archived_as_a_whole(tmp_path):
    publish_crop(tmp_path, "dog/1.jpg", "1")
    publish_crop(tmp_path, "cat/1.jpg", "2")
    publish(tmp_path, b__jpg="3")
    assert content_of(tmp_path) == {
        "b.jpg": "3",
        "earlier-1/a.jpg": "1",
        "earlier-1/crops/dog/1.jpg": "1",
        "earlier-2/a.jpg": "2",
        "earlier-2/crops/cat/1.jpg": "2",
    }
    assert not (tmp_path / "crops").exists()


def test_a_result_may_have_the_name_of_a_file_in_an_archived_subfolder(tmp_path):
    publish_crop(tmp_path, "dog/1.jpg", "1")
    publish(tmp_path, crops_dog_1__jpg="2")
    assert content_of(tmp_path) == {
        "crops/dog/1.jpg": "2",
        "earlier-1/a.jpg": "1",
        "earlier-1/crops/dog/1.jpg": "1",
    }


def test_a_folder_of_users_is_not_a_subfolder_of_results(tmp_path):
    (tmp_path / "crops").mkdir()
    (tmp_path / "crops" / "mine.txt").write_text("my own")
    publish_crop(tmp_path, "1.jpg", "1")
    publish_crop(tmp_path, "1.jpg", "2")
    assert content_of(tmp_path) == {
        "a.jpg": "2",
        "crops-2/1.jpg": "2",
        "crops/mine.txt": "my own",
        "earlier-1/a.jpg": "1",
        "earlier-1/crops-2/1.jpg": "1",
    }


def test_a_subfolder_has_no_other_results(tmp_path):
    with open_output_folder(tmp_path, names={"crops/a.jpg", "labels.txt"}, subfolders=["crops", "labels"]) as output:
        assert output.subfolders == {"crops": "crops-2", "labels": "labels"}


def test_folders_of_files_are_published_at_once(tmp_path):
    with open_output_folder(tmp_path, names=[], subfolders=["crops"]) as output:
        for number in range(2):
            output.unfinished(f"crops/dog/clip.mp4/{number}.jpg").write_text("1")
        output.publish("crops/dog/clip.mp4")
    assert sorted(content_of(tmp_path)) == ["crops/dog/clip.mp4/0.jpg", "crops/dog/clip.mp4/1.jpg"]


@pytest.mark.parametrize("name", ["a.jpg", "crops/dog/1.jpg"])
def test_results_that_would_be_moved_are_no_inputs(name, tmp_path):
    publish_crop(tmp_path, "dog/1.jpg", "1")
    before = content_of(tmp_path)
    with pytest.raises(UserError, match=f"^--output: .*{name}"):
        publish_crop(tmp_path, "dog/1.jpg", "2", inputs=[tmp_path / name])
    assert content_of(tmp_path) == before


@pytest.mark.parametrize("name", ["./", "", ".", "../other/", "/"])
def test_a_damaged_manifest_moves_no_other_folder(name, tmp_path):
    (tmp_path / "other").mkdir()
    publish(tmp_path / "out", a__jpg="1")
    (tmp_path / "out" / "mine.txt").write_text("my own")
    (tmp_path / "out" / MANIFEST_NAME).write_text(json.dumps([name]))
    publish(tmp_path / "out", b__jpg="2")
    assert content_of(tmp_path) == {"out/a.jpg": "1", "out/b.jpg": "2", "out/mine.txt": "my own"}
    assert (tmp_path / "other").is_dir()

"""Image files with a fake detector: annotated copies, unreadable files and early stops."""

import re

import numpy as np
import pytest
from PIL import Image

from fake_predictor import CATEGORY_IDS, CLASSES, FakePredictor, InterruptAfter, expected_detections, files_in
from ssd.data.images import decode_image
from ssd.errors import UserError
from ssd.inference.detections_json import CocoResults
from ssd.inference.drawing import draw_detections
from ssd.inference.image_files import predict_image_files
from ssd.inference.object_files import ObjectFiles
from ssd.inference.output_folder import open_output_folder
from ssd.inference.sources import find_inputs


@pytest.fixture
def folder(tmp_path):
    """Seven images of 64x48 pixels, each brighter than the one before."""
    for number in range(7):
        path = tmp_path / "photos" / ("deep/" if number == 6 else "") / f"{number}.{'jpg' if number % 2 else 'png'}"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (64, 48), (30 * number,) * 3).save(path, quality=100)
    return tmp_path / "photos"


def predict_folder(inputs, output, batch_size=3, interrupt=False):
    predictor, results = FakePredictor(), CocoResults(CLASSES, CATEGORY_IDS)
    found = find_inputs([str(path) for path in inputs], output)
    with open_output_folder(output, names=found.output_names) as folder:
        num_unreadable = predict_image_files(
            predictor,
            images=found.images,
            output=folder,
            results=results,
            batch_size=batch_size,
            num_workers=2,
            interrupt=interrupt,
            object_files=ObjectFiles(folder, CLASSES),
        )
    (output / ".results.json").unlink(missing_ok=True)
    return predictor, results, num_unreadable


def test_every_image_is_drawn_and_added_in_order(folder, tmp_path):
    output = tmp_path / "output"
    predictor, results, num_unreadable = predict_folder([folder], output)
    assert num_unreadable == 0 and results.num_images == 7 and predictor.batch_lengths == [3, 3, 1]
    assert files_in(output) == ["0.png", "1.jpg", "2.png", "3.jpg", "4.png", "5.jpg", "deep/6.png"]
    assert [entry["image_id"] for entry in results.entries] == [1, 2, 3, 4, 5, 6, 7]
    assert [entry["file_name"] for entry in results.entries] == files_in(output)
    assert results.entries[4] == {
        "image_id": 5,
        "category_id": 18,
        "bbox": pytest.approx([0, 12, 64 * 120 / 255, 12]),
        "score": 0.75,
        "file_name": "4.png",
        "category_name": "dog",
    }


def test_drawn_images_show_the_detections(folder, tmp_path):
    predict_folder([folder], tmp_path / "output")
    for name in files_in(tmp_path / "output"):
        image = decode_image((folder / name).read_bytes())
        detections = expected_detections(image.mean(), image.shape[:2])
        expected = draw_detections(
            image,
            boxes_yxyx=detections.boxes_yxyx,
            scores=detections.scores,
            labels=detections.labels,
            classes=CLASSES,
        )
        drawn = decode_image((tmp_path / "output" / name).read_bytes())
        assert (expected != image).any()
        if name.endswith("png"):
            np.testing.assert_array_equal(drawn, expected)
        else:
            assert np.abs(drawn.astype(int) - expected).mean() < 5  # JPEG is lossy
            with Image.open(tmp_path / "output" / name) as stored:
                assert stored.format == "JPEG"


@pytest.mark.parametrize("batch_size", [1, 2, 7, 32])
def test_results_do_not_depend_on_the_batch_size(batch_size, folder, tmp_path):
    _, results, _ = predict_folder([folder], tmp_path / "output", batch_size)
    _, others, _ = predict_folder([folder], tmp_path / "other", 3)
    assert results.entries == others.entries
    for name in files_in(tmp_path / "output"):
        assert (tmp_path / "output" / name).read_bytes() == (tmp_path / "other" / name).read_bytes()


def test_unreadable_files_are_reported_and_skipped(folder, tmp_path, capfd):
    (folder / "0.png").write_bytes(b"no image")
    (folder / "3.jpg").write_bytes((folder / "3.jpg").read_bytes()[:-5])
    (folder / "deep" / "6.png").unlink()
    (folder / "deep" / "6.png").symlink_to(tmp_path / "nowhere")
    predictor, results, num_unreadable = predict_folder([folder], tmp_path / "output")
    assert num_unreadable == 3 and results.num_images == 4 and predictor.batch_lengths == [3, 1]
    assert files_in(tmp_path / "output") == ["1.jpg", "2.png", "4.png", "5.jpg"]
    assert [entry["image_id"] for entry in results.entries] == [2, 3, 5, 6]  # positions among all inputs
    stderr = capfd.readouterr().err
    assert re.findall(r"^(.+?): .", stderr, re.MULTILINE) == [
        f"{folder}/0.png",
        f"{folder}/3.jpg",
        f"{folder}/deep/6.png",
    ]


def test_without_readable_images_the_network_does_not_run(folder, tmp_path):
    for path in folder.rglob("*.*"):
        path.write_bytes(b"")
    predictor, results, num_unreadable = predict_folder([folder], tmp_path / "output")
    assert num_unreadable == 7 and results.num_images == 0 and predictor.batch_lengths == []


def test_inputs_are_not_modified(folder, tmp_path):
    before = {path: path.read_bytes() for path in folder.rglob("*.*")}
    predict_folder([folder], folder / "output")
    assert {path: path.read_bytes() for path in before} == before


def test_an_image_that_cannot_be_written_is_an_error(folder, tmp_path):
    (tmp_path / "output").mkdir()
    (tmp_path / "output" / "deep").write_bytes(b"a file in the place of a folder")
    with pytest.raises(UserError, match="deep/6.png"):
        predict_folder([folder], tmp_path / "output")


def test_an_interrupt_leaves_complete_images_and_their_entries(folder, tmp_path):
    _, results, _ = predict_folder([folder], tmp_path / "output", batch_size=2, interrupt=InterruptAfter(4))
    assert 0 < results.num_images < 7
    assert files_in(tmp_path / "output") == [entry["file_name"] for entry in results.entries]

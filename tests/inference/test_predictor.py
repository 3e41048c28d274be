"""Predictor: the same detections as evaluation, for arrays and files, one by one and in batches."""

import dataclasses
import json
import logging
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from rotated_images import store
from ssd.boxes.multiclass_nms import Detections
from ssd.checkpoints.loading import load_weights
from ssd.checkpoints.records import METADATA_KEY
from ssd.checkpoints.saving import save_checkpoint
from ssd.config.loading import CONFIGS, coco_classes
from ssd.config.metadata import model_metadata
from ssd.data.images import decode_image
from ssd.data.mindrecord import convert
from ssd.data.readers.splits import open_dataset_folder, read_splits
from ssd.errors import UserError
from ssd.evaluation.evaluator import evaluate
from ssd.inference.predictor import Predictor
from ssd.models.detector import create_detector

SSD = CONFIGS.parent / "examples" / "det" / "ssd"


@pytest.fixture(scope="module")
def cfg(tiny_recipe, shapes_records):
    return tiny_recipe(data_dir=str(shapes_records), num_classes=None, batch_size=4, min_score=0.3)


@pytest.fixture(scope="module")
def checkpoint(cfg, save_random_detector, tmp_path_factory):
    return save_random_detector(cfg, tmp_path_factory.mktemp("checkpoint") / "ssd-1.ckpt")


@pytest.fixture(scope="module")
def predictor(cfg, checkpoint):
    return Predictor(cfg, checkpoint)


@pytest.fixture(scope="module")
def paths(shapes_coco):
    paths = sorted((shapes_coco / "val2017").iterdir())
    assert len(paths) == 4
    return paths


def assert_same_detections(found, expected, tolerance=0.0):
    assert isinstance(found, Detections) and len(found.scores) == len(expected.scores) > 0
    np.testing.assert_array_equal(found.labels, expected.labels)
    np.testing.assert_allclose(found.scores, expected.scores, rtol=0, atol=tolerance)
    np.testing.assert_allclose(found.boxes_yxyx, expected.boxes_yxyx, rtol=0, atol=100 * tolerance)


def test_detections_equal_those_of_evaluation(cfg, predictor, checkpoint, paths, shapes_coco):
    evaluated = evaluate(cfg.model_copy(update={"ckpt_path": str(checkpoint)})).result
    ground_truth = json.loads((shapes_coco / "annotations" / "instances_val2017.json").read_text())
    image_ids = {image["file_name"]: image["id"] for image in ground_truth["images"]}
    names = {category["id"]: category["name"] for category in ground_truth["categories"]}
    for path, found in zip(paths, predictor(paths)):
        expected = [result for result in evaluated.evaluator.results if result["image_id"] == image_ids[path.name]]
        assert len(found.scores) == len(expected) > 3
        y0, x0, y1, x1 = found.boxes_yxyx.T
        boxes_xywh = np.stack([x0, y0, x1 - x0, y1 - y0], axis=1)
        np.testing.assert_array_equal(boxes_xywh, [result["bbox"] for result in expected])
        np.testing.assert_array_equal(found.scores, [result["score"] for result in expected])
        assert [predictor.classes[label] for label in found.labels] == [
            names[result["category_id"]] for result in expected
        ]


def test_detections_in_rotated_and_transparent_files_equal_those_of_evaluation(
    cfg, predictor, checkpoint, shapes_coco, tmp_path
):
    coco = shutil.copytree(shapes_coco, tmp_path / "coco")
    path = coco / "annotations" / "instances_val2017.json"
    content = json.loads(path.read_text())
    paths = {}
    for image, orientation in zip(content["images"], (3, 5, 6, None)):
        with Image.open(coco / "val2017" / image["file_name"]) as file:
            upright = np.asarray(file.convert("RGB"))
        name = f"{image['id']}.jpg" if orientation else f"{image['id']}.png"
        if orientation is None:
            alpha = np.full(upright.shape[:2], 255, np.uint8)
            alpha[:40] = 0
            Image.fromarray(np.dstack([upright, alpha])).save(coco / "val2017" / name)
        else:
            store(coco / "val2017" / name, orientation, upright)
        image["file_name"] = name
        paths[image["id"]] = coco / "val2017" / name
    path.write_text(json.dumps(content))
    splits = read_splits(open_dataset_folder("coco", coco))
    convert(*splits, tmp_path / "records", overwrite=False, num_workers=1)
    changes = {"ckpt_path": str(checkpoint), "data_dir": str(tmp_path / "records")}
    evaluated = evaluate(cfg.model_copy(update=changes)).result
    for image_id, found in zip(paths, predictor([*paths.values()])):
        expected = [result for result in evaluated.evaluator.results if result["image_id"] == image_id]
        assert len(found.scores) == len(expected) > 0
        y0, x0, y1, x1 = found.boxes_yxyx.T
        boxes_xywh = np.stack([x0, y0, x1 - x0, y1 - y0], axis=1)
        np.testing.assert_array_equal(boxes_xywh, [result["bbox"] for result in expected])
        np.testing.assert_array_equal(found.scores, [result["score"] for result in expected])


def test_a_batch_gives_the_same_detections_as_single_images(predictor, paths):
    together = predictor(paths[:3])  # padded to a batch of four
    for path, found in zip(paths, together):
        assert_same_detections(predictor(path), found, 1e-5)  # another graph may sum in another order


def test_order_and_batch_neighbours_do_not_matter(predictor, paths):
    forward, backward = predictor(paths), predictor(paths[::-1])
    for first, second in zip(forward, backward[::-1]):
        assert_same_detections(first, second)
    many = predictor(paths * 2 + paths[:1])  # in batches of 4, 4 and 1
    assert len(many) == 9
    for found, expected in zip(many, forward * 2 + forward[:1]):
        assert_same_detections(found, expected)


def test_npus_get_batches_of_one_size(cfg, predictor, paths, monkeypatch):
    """Each size is a graph, which takes an NPU minutes to compile. On a CPU, small batches are faster."""
    sizes = []

    def detect_batch(self, batch, batch_size):
        sizes.append((len(batch), batch_size))
        return list(batch)

    monkeypatch.setattr(Predictor, "detect_batch", detect_batch)
    for number in (1, 2, 3, 4, 9):
        predictor((paths * 3)[:number])
    assert sizes == [(1, 1), (2, 2), (3, 4), (4, 4), (4, 4), (4, 4), (1, 4)]
    sizes.clear()
    monkeypatch.setattr(predictor, "cfg", cfg.model_copy(update={"device_target": "Ascend"}))
    for number in (1, 2, 3, 4, 9):
        predictor((paths * 3)[:number])
    assert sizes == [(1, 4), (2, 4), (3, 4), (4, 4), (4, 4), (4, 4), (1, 4)]


def test_path_string_and_array_give_the_same_detections(predictor, paths):
    pixels = decode_image(paths[0].read_bytes())
    expected = predictor(paths[0])
    for image in (str(paths[0]), pixels, np.asfortranarray(pixels), pixels[::-1][::-1], pixels[..., ::-1][..., ::-1]):
        assert_same_detections(predictor(image), expected)
    (alone,) = predictor((pixels,))
    assert_same_detections(alone, expected)


def test_boxes_are_in_pixels_of_the_upright_image(predictor, paths, tmp_path):
    image = Image.open(paths[0]).convert("RGB").resize((200, 80))
    upright, stored = tmp_path / "upright.png", tmp_path / "stored.png"
    image.save(upright)
    exif = Image.Exif()
    exif[0x0112] = 6  # viewers rotate it by 90 degrees clockwise
    image.transpose(Image.Transpose.ROTATE_90).save(stored, exif=exif)
    found = predictor(stored)
    assert_same_detections(found, predictor(upright))
    assert found.boxes_yxyx[:, 2].max() <= 80 < found.boxes_yxyx[:, 3].max() <= 200


def test_an_empty_list_gives_an_empty_list(predictor):
    assert predictor([]) == [] and predictor(()) == []


def test_class_names_come_from_the_data_or_are_numbered(predictor, cfg, checkpoint, shapes_records):
    known = tuple(json.loads((shapes_records / "dataset.json").read_text())["classes"])
    assert predictor.classes == known and known[0] == "background"
    without_names = Predictor(cfg.model_copy(update={"classes": None}), checkpoint)
    assert without_names.classes == ("background", *(f"class {number}" for number in range(1, len(known))))


def test_a_checkpoint_with_its_classes_needs_no_data(cfg, checkpoint, paths, predictor, tmp_path, load_recipe, capsys):
    detector = create_detector(cfg)
    load_weights(detector, checkpoint)
    metadata = {**model_metadata(cfg), "data": {"category_ids": list(range(0, 10 * cfg.num_classes, 10))}}
    save_checkpoint(detector, tmp_path / "best.ckpt", {METADATA_KEY: metadata})
    without_data = cfg.model_copy(update={"data_dir": "/nowhere", "classes": coco_classes(), "num_classes": 81})
    found = Predictor(without_data, tmp_path)  # a folder
    assert found.checkpoint == tmp_path / "best.ckpt"
    assert found.classes == cfg.classes and found.category_ids == list(range(0, 10 * cfg.num_classes, 10))
    assert_same_detections(found(paths[0]), predictor(paths[0]))
    assert capsys.readouterr().err == ""


def test_another_image_size_than_in_training_is_reported(cfg, tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("ssd"), "propagate", True)  # for caplog
    path = tmp_path / "best.ckpt"
    save_checkpoint(create_detector(cfg), path, {METADATA_KEY: model_metadata(cfg)})
    Predictor(cfg.model_copy(update={"image_size": (96, 96)}), path)
    (line,) = {record.message for record in caplog.records if record.levelno >= logging.WARNING}
    assert line.startswith(f"{path}: image_size: ") and "[64, 64]" in line and "[96, 96]" in line


@pytest.mark.parametrize(
    "image, value",
    [
        (np.zeros((8, 8, 3), np.float32), "float32"),
        (np.zeros((8, 8), np.uint8), "(8, 8)"),
        (np.zeros((8, 8, 4), np.uint8), "(8, 8, 4)"),
        (np.zeros((2, 8, 8, 3), np.uint8), "(2, 8, 8, 3)"),
        (np.zeros((0, 8, 3), np.uint8), "(0, 8, 3)"),
        ([None], "NoneType"),
        ("absent.jpg", "absent.jpg: "),
    ],
)
def test_inputs_that_are_not_images_are_errors(image, value, predictor):
    with pytest.raises(UserError) as error:
        predictor(image)
    assert value in str(error.value)


def test_a_damaged_file_is_an_error(predictor, tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"\xff\xd8\xff\xe0")
    with pytest.raises(UserError, match="a.jpg: "):
        predictor(tmp_path / "a.jpg")


def test_overrides_need_the_path_of_a_recipe(cfg, checkpoint):
    with pytest.raises(UserError, match="min_score"):
        Predictor(cfg, checkpoint, min_score=0.5)
    with pytest.raises(UserError, match="min_scor\\b"):
        Predictor(SSD / "ssd_shapes.yaml", checkpoint, min_scor=0.5)


def test_the_default_checkpoint_is_that_of_the_recipe(cfg, checkpoint, tmp_path):
    assert Predictor(cfg.model_copy(update={"ckpt_save_dir": str(checkpoint.parent)})).checkpoint == checkpoint
    assert Predictor(cfg.model_copy(update={"ckpt_path": str(checkpoint)})).checkpoint == checkpoint
    with pytest.raises(UserError, match="ckpt_path"):
        Predictor(cfg.model_copy(update={"ckpt_save_dir": str(tmp_path)}))


def test_detections_are_sorted_by_score_and_above_min_score(predictor, paths):
    found = dataclasses.asdict(predictor(paths[0]))
    assert set(found) == {"boxes_yxyx", "scores", "labels", "track_ids"} and found["track_ids"] is None
    assert (np.diff(found["scores"]) <= 0).all() and found["scores"].min() >= 0.3 and found["labels"].min() >= 1


def test_a_script_with_a_predictor_exits_silently(load_recipe, shapes_records, paths, tmp_path):
    """MindSpore complains about networks that exist when the interpreter exits; the script keeps one."""
    save_checkpoint(create_detector(load_recipe("ssd_shapes", data_dir=str(shapes_records))), tmp_path / "best.ckpt")
    script = tmp_path / "script.py"
    recipe, checkpoint = str(SSD / "ssd_shapes.yaml"), str(tmp_path / "best.ckpt")
    script.write_text(f"""
from ssd.inference.predictor import Predictor
predictor = Predictor({recipe!r}, {checkpoint!r}, data_dir={str(shapes_records)!r})
detections = predictor({str(paths[0])!r})
print(type(detections).__name__, detections.boxes_yxyx.shape[1])
""")
    environment = {**os.environ, "PYTHONPATH": str(SSD)}
    result = subprocess.run([sys.executable, script], env=environment, capture_output=True, text=True, timeout=300)
    assert (result.returncode, result.stdout, result.stderr) == (0, "Detections 4\n", "")

"""Class names and category ids come from the checkpoint, and else from the recipe and its data."""

import json
import logging

import pytest

from ssd.config.loading import coco_classes
from ssd.inference.stored_classes import find_category_ids, with_stored_classes

PETS = ("background", "cat", "dog")
STORED = {"classes": {"classes": list(PETS)}, "data": {"category_ids": [0, 17, 18]}}


@pytest.fixture
def warnings(caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("ssd"), "propagate", True)  # for caplog
    return caplog


def test_the_names_of_the_checkpoint_replace_those_of_coco(load_recipe, warnings):
    cfg = load_recipe("ssd_mobilenetv2", data_dir="/nowhere")
    assert cfg.classes == coco_classes() and len(cfg.classes) == 81
    found = with_stored_classes(cfg, STORED, path="a.ckpt")
    assert (found.classes, found.num_classes) == (PETS, 3)
    assert find_category_ids(found, STORED) == [0, 17, 18]
    assert warnings.messages == []


@pytest.mark.parametrize("names", [("background", "dog", "cat"), ("background", "car")])
def test_other_names_in_the_recipe_are_reported(names, tiny_recipe, warnings):
    cfg = tiny_recipe(classes=names, num_classes=None)
    assert with_stored_classes(cfg, STORED, path="a.ckpt").classes == PETS
    (line,) = warnings.messages
    assert line.startswith("a.ckpt: classes: ")


@pytest.mark.parametrize("stored", [None, {}, {"classes": {"classes": None}}, {"classes": {"classes": list(PETS)}}])
def test_the_same_or_unknown_names_change_nothing(stored, tiny_recipe, warnings):
    cfg = tiny_recipe(classes=PETS, num_classes=None)
    assert with_stored_classes(cfg, stored, path="a.ckpt") is cfg
    assert warnings.messages == []


def test_category_ids_of_older_checkpoints_come_from_the_data_or_are_the_labels(tiny_recipe, shapes_records, tmp_path):
    dataset_info = json.loads((shapes_records / "dataset.json").read_text())
    ids = dataset_info["category_ids"] = [90, 7, 55, 3, 2, 1, 8, 9][: len(dataset_info["category_ids"])]
    (tmp_path / "dataset.json").write_text(json.dumps(dataset_info))
    cfg = tiny_recipe(data_dir=str(tmp_path), num_classes=None)
    assert find_category_ids(cfg, None) == [0, *ids]
    other = cfg.model_copy(update={"classes": PETS, "num_classes": 3})  # names of the checkpoint, ids of other data
    assert find_category_ids(other, None) == [0, 1, 2]
    renamed = ("background", *(f"other {label}" for label in range(1, cfg.num_classes)))
    other = cfg.model_copy(update={"classes": renamed})  # as many names, but those of other data
    assert find_category_ids(other, None) == list(range(cfg.num_classes))
    assert find_category_ids(tiny_recipe(data_dir="/nowhere", num_classes=4), None) == [0, 1, 2, 3]

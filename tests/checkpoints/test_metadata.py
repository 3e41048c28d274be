"""A checkpoint of another recipe is refused even if every parameter shape fits."""

import json
import os
import shutil

import pytest
from mindspore import nn

from ssd.checkpoints.loading import load_pretrained, load_weights
from ssd.checkpoints.metadata import describe_mismatches, find_metadata, find_mismatches, read_metadata, refuse_mismatch
from ssd.checkpoints.reading import read_checkpoint
from ssd.checkpoints.records import METADATA_KEY, OLD_METADATA_KEY
from ssd.checkpoints.saving import save_checkpoint
from ssd.config.metadata import model_metadata, training_metadata
from ssd.errors import UserError
from ssd.models.detector import create_detector

PETS = ["background", "cat", "dog", "fish"]
OTHERS = ["background", "car", "bus", "tram", "van"]


@pytest.fixture(scope="module")
def save(tiny_recipe, tmp_path_factory, randomize):
    """save(classes=…, …) is (recipe, path of a checkpoint with random weights, with or without metadata)."""

    def make(has_metadata=True, **overrides):
        cfg = tiny_recipe(**{"num_classes": None, "classes": PETS, **overrides})
        path = tmp_path_factory.mktemp("ckpt") / "best.ckpt"
        records = {METADATA_KEY: model_metadata(cfg)} if has_metadata else None
        save_checkpoint(randomize(create_detector(cfg), 1), path, records)
        return cfg, path

    return make


def changed(before, after):
    """Names of layers with a parameter that differs."""
    return sorted({name.rpartition(".")[0] for name in before if not (before[name] == after[name]).all()})


def test_stored_metadata_is_read_back(save):
    cfg, path = save()
    expected = model_metadata(cfg)
    assert read_metadata(path) == expected
    assert {group: set(keys) for group, keys in expected.items()} == {
        "classes": {"classes", "loss"},
        "anchors": {
            "prior_scaling",
            "anchors",
            "box_sizes",
            "min_scale",
            "max_scale",
            "aspect_ratios",
            "clip_default_boxes",
        },
        "network": {
            "backbone",
            "backbone_out_indices",
            "backbone_padding",
            "backbone_taps",
            "backbone_max_stride",
            "neck",
            "head",
            "extra_layers",
            "fpn_channels",
            "num_addition_layers",
        },
        "input": {"image_size", "steps", "normalization"},
    }
    assert expected["classes"]["classes"] == PETS
    assert expected["network"]["extra_layers"] == [{"out_channels": 16, "expand_ratio": 1.0, "stride": 2, "pad": True}]
    assert expected["input"]["normalization"] == {"mean": [123.675, 116.28, 103.53], "std": [58.395, 57.12, 57.375]}


def test_files_without_metadata_have_none(save):
    _, path = save(has_metadata=False)
    assert read_metadata(path) is None
    assert find_metadata({}) is None


def test_metadata_of_version_0_1_is_read(save):
    """It has the same keys ungrouped, lacks those that the detector does not use, and those that were added later."""
    expected = model_metadata(save()[0])
    later = {"box_sizes", "backbone", "backbone_out_indices", "neck", "head", "fpn_channels", "num_addition_layers"}
    later |= set(expected["input"])
    old = {key: value for group in expected.values() for key, value in group.items() if key not in later}
    stored = find_metadata({OLD_METADATA_KEY: old})
    assert {group: set(keys) for group, keys in stored.items()} == {
        "classes": {"classes", "loss"},
        "anchors": set(expected["anchors"]),
        "network": {"backbone_padding", "backbone_max_stride", "extra_layers"},
    }
    assert find_mismatches(expected, stored, groups=tuple(expected)) == []
    stored = find_metadata({OLD_METADATA_KEY: {**old, "min_scale": 0.15}})
    assert find_mismatches(expected, stored, groups=tuple(expected)) == [("min_scale", 0.2, 0.15)]
    boxes = {**expected, "anchors": {**expected["anchors"], "box_sizes": [10.0]}}
    assert find_mismatches(boxes, find_metadata({OLD_METADATA_KEY: old}), groups=("anchors",)) == [
        ("box_sizes", [10.0], None)
    ]


def test_keys_that_the_anchors_do_not_use_are_not_compared(load_recipe):
    grid = model_metadata(load_recipe("ssd_resnet50_fpn"))["anchors"]
    assert {key for key, value in grid.items() if value is not None} == {"anchors", "prior_scaling"}
    sizes = model_metadata(load_recipe("ssd_resnet50"))["anchors"]
    assert sizes["box_sizes"] and sizes["min_scale"] is None


@pytest.mark.parametrize(
    "overrides, parts",
    [
        (
            {"classes": ["background", "cat", "fish", "dog"]},
            ["classes", "'fish' as class 2", "'dog' as class 2"],
        ),
        ({"classes": PETS[:3]}, ["classes", "3 class names", "4 class names"]),
        ({"prior_scaling": [0.1, 0.1]}, ["prior_scaling", "[0.1, 0.1]", "[0.1, 0.2]"]),
        ({"min_scale": 0.1}, ["min_scale", "0.1", "0.2"]),
        ({"loss": "multibox"}, ["loss", "multibox", "focal"]),
        ({"backbone_padding": "torch"}, ["backbone_padding", "torch", "mindcv"]),
        ({"box_sizes": [10, 20, 30, 40]}, ["box_sizes", "[10.0, 20.0, 30.0, 40.0]", "no value"]),
        (
            {"aspect_ratios": [[3], [2], [2]]},
            ["aspect_ratios", "[[3.0], [2.0], [2.0]]", "[[2.0], [2.0], [2.0]]"],
        ),
    ],
)
def test_other_settings_are_refused_and_nothing_is_loaded(overrides, parts, save, tiny_recipe, values_of):
    _, path = save()
    cfg = tiny_recipe(**{"num_classes": None, "classes": PETS, **overrides})
    net = create_detector(cfg)
    before = values_of(net)
    with pytest.raises(UserError) as error:
        load_weights(net, path, metadata=model_metadata(cfg))
    message = str(error.value)
    assert message.startswith(f"{path}: ") and "\n" not in message
    for part in parts:
        assert part in message
    assert not changed(before, values_of(net))


@pytest.mark.parametrize("has_metadata", [True, False])
def test_the_same_settings_and_unknown_ones_are_loaded(has_metadata, save, values_of):
    cfg, path = save(has_metadata)
    net = create_detector(cfg)
    load_weights(net, path, metadata=model_metadata(cfg))
    content = read_checkpoint(path)
    assert all((value == content[name].asnumpy()).all() for name, value in values_of(net).items())


def test_unknown_class_names_are_not_compared(tiny_recipe):
    known, unknown = (
        model_metadata(tiny_recipe(num_classes=None if names else 4, classes=names)) for names in (PETS, None)
    )
    groups = ("classes", "anchors", "network")
    assert find_mismatches(known, unknown, groups) == find_mismatches(unknown, known, groups) == []
    refuse_mismatch(unknown, known, "a.ckpt")
    assert find_mismatches(known, None, groups) == []


# --- settings that change results, but not the meaning of the weights ---


def test_another_image_size_is_loaded_with_a_warning_and_refused_on_resume(save, tiny_recipe):
    cfg, path = save()
    other = tiny_recipe(num_classes=None, classes=PETS, image_size=[64, 96])
    metadata, stored = model_metadata(other), read_metadata(path)
    load_weights(create_detector(other), path, metadata=metadata)
    warning = describe_mismatches({"input": metadata["input"]}, stored, path)
    assert warning.startswith(f"{path}: image_size: ") and "[64, 96]" in warning and "\n" not in warning
    with pytest.raises(UserError, match="image_size"):
        refuse_mismatch(metadata, stored, path)
    assert describe_mismatches(model_metadata(cfg), stored, path) is None
    assert describe_mismatches(metadata, None, path) is None


def test_all_differences_are_in_one_warning():
    expected = {"input": {"image_size": [300, 300], "steps": [16, 32]}, "data": {"validation_data": "a"}}
    stored = {"input": {"image_size": [192, 192], "steps": [16, 24]}, "data": {"validation_data": "b"}}
    warning = describe_mismatches(expected, stored, "a.ckpt")
    for part in ("image_size", "[192, 192]", "[300, 300]", "steps", "[16, 24]", "[16, 32]", "data_dir"):
        assert part in warning
    assert "\n" not in warning


@pytest.mark.parametrize("key", ["training_data", "validation_data", "category_ids"])
def test_other_data_are_refused_on_resume(key):
    with pytest.raises(UserError, match="^last.ckpt: data_dir: "):
        refuse_mismatch({"data": {key: "a"}}, {"data": {key: "b"}}, "last.ckpt")
    refuse_mismatch({"data": {key: "a"}}, {"data": {}}, "last.ckpt")  # stored by an earlier version
    refuse_mismatch({"data": {key: "a"}}, {}, "last.ckpt")


def test_the_data_are_identified_by_annotations_and_counts(load_recipe, shapes_records, tmp_path):
    cfg = load_recipe("ssd_shapes", data_dir=str(shapes_records))
    data = training_metadata(cfg)["data"]
    assert data["category_ids"] == [0, *json.loads((shapes_records / "dataset.json").read_text())["category_ids"]]
    assert data == training_metadata(cfg)["data"] and data["training_data"] != data["validation_data"]
    shutil.copy(shapes_records / "dataset.json", tmp_path)
    copied = cfg.model_copy(update={"data_dir": str(tmp_path)})
    assert training_metadata(copied)["data"] == data  # another folder
    info = json.loads((tmp_path / "dataset.json").read_text())
    info["train"]["source_sha256"] = "0" * 64
    (tmp_path / "dataset.json").write_text(json.dumps(info))
    changed_data = training_metadata(copied)["data"]
    assert changed_data["training_data"] != data["training_data"]
    assert changed_data["validation_data"] == data["validation_data"]


def test_shards_without_dataset_json_are_identified_by_names_and_sizes(load_recipe, tmp_path):
    cfg = load_recipe("ssd_shapes", data_dir=str(tmp_path))
    assert training_metadata(cfg)["data"]["training_data"] is None
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "coco0").write_bytes(b"one")
    first = training_metadata(cfg)["data"]["training_data"]
    os.utime(tmp_path / "train" / "coco0", (1, 1))  # copying changes file times
    assert training_metadata(cfg)["data"]["training_data"] == first
    (tmp_path / "train" / "coco0").write_bytes(b"other")
    assert training_metadata(cfg)["data"]["training_data"] != first


# --- a detector to start from ---

CLASS_PREDICTORS = [f"head.cls.{level}.3" for level in range(3)]
BOX_PREDICTORS = [f"head.box.{level}.3" for level in range(3)]


@pytest.mark.parametrize(
    "has_metadata, overrides, expected",
    [
        (True, {}, []),
        (False, {}, CLASS_PREDICTORS),
        (True, {"classes": OTHERS}, CLASS_PREDICTORS),
        (False, {"classes": OTHERS}, CLASS_PREDICTORS),
        (True, {"classes": [*PETS[:2], "bird", "fish"]}, CLASS_PREDICTORS),
        (True, {"min_scale": 0.1}, BOX_PREDICTORS + CLASS_PREDICTORS),
        (True, {"backbone_padding": "torch"}, []),
        (True, {"loss": "multibox"}, CLASS_PREDICTORS),
        (False, {"aspect_ratios": [[2, 3], [2], [2]]}, BOX_PREDICTORS + CLASS_PREDICTORS),
    ],
)
def test_everything_that_can_fit_is_loaded(has_metadata, overrides, expected, save, tiny_recipe, values_of):
    _, path = save(has_metadata)
    cfg = tiny_recipe(**{"num_classes": None, "classes": PETS, **overrides})
    net = create_detector(cfg)
    before = values_of(net)
    kept = load_pretrained(net, path, use_ema=True, metadata=model_metadata(cfg))
    assert kept == [f"{layer}.{kind}" for layer in expected for kind in ("weight", "bias")]
    content, after = read_checkpoint(path), values_of(net)
    for name, value in after.items():
        assert (value == (before[name] if name in kept else content[name].asnumpy())).all(), name


def test_another_network_is_refused(save, tiny_recipe, values_of):
    _, path = save()
    layers = [{"out_channels": 16, "expand_ratio": 2, "stride": 2}]
    cfg = tiny_recipe(num_classes=None, classes=OTHERS, extra_layers=layers)
    net = create_detector(cfg)
    before = values_of(net)
    with pytest.raises(UserError, match=str(path)):
        load_pretrained(net, path, use_ema=True, metadata=model_metadata(cfg))
    assert not changed(before, values_of(net))


@pytest.mark.parametrize("recipe, count", [("ssd_resnet50", 6), ("ssd_resnet50_fpn", 1)])
def test_predictors_of_other_heads(recipe, count, load_recipe):
    from ssd.models.head import create_head, predictor_parameter_names

    cell = nn.Cell()
    cell.head = create_head(load_recipe(recipe), [8] * 6, [6] * 6)
    shapes = {parameter.name: parameter.shape for parameter in cell.get_parameters()}
    of_boxes, of_classes = predictor_parameter_names(cell.head)
    assert {shapes[name][0] for name in of_boxes} == {4 * 6} and {shapes[name][0] for name in of_classes} == {81 * 6}
    assert len(of_boxes) == len(of_classes) == 2 * count

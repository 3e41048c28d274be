"""A checkpoint of another recipe is refused even if every parameter shape fits."""

import json

import pytest
from mindspore import nn

from ssd.checkpoints.loading import load_pretrained, load_weights, read_checkpoint, save_checkpoint
from ssd.checkpoints.metadata import METADATA_KEY, OLD_KEY, find_mismatches, read_metadata, refuse_mismatch
from ssd.config.schema import model_metadata
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
    assert read_metadata(read_checkpoint(path), expected) == expected
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
        "network": {"backbone_padding", "backbone_max_stride", "extra_layers"},
    }
    assert expected["classes"]["classes"] == PETS
    assert expected["network"]["extra_layers"] == [{"out_channels": 16, "expand_ratio": 1.0, "stride": 2, "pad": True}]
    assert read_metadata({}, expected) is None


def test_metadata_of_version_0_1_is_read(save):
    """It has the same keys ungrouped, and lacks those that the detector does not use."""
    expected = model_metadata(save()[0])
    old = {key: value for group in expected.values() for key, value in group.items() if key != "box_sizes"}
    assert read_metadata({OLD_KEY: json.dumps(old)}, expected) == expected
    changed_key = json.dumps({**old, "min_scale": 0.15})
    stored = read_metadata({OLD_KEY: changed_key}, expected)
    assert find_mismatches(expected, stored, groups=tuple(expected)) == [("min_scale", 0.2, 0.15)]


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

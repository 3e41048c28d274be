"""A checkpoint whose predictions mean something else is refused, though every shape fits."""

import json

import pytest
from mindspore import nn

from ssd.checkpoints.loading import load_pretrained, load_weights, read_checkpoint, save_checkpoint
from ssd.checkpoints.metadata import (
    METADATA_KEY,
    OF_NETWORK,
    differences,
    model_metadata,
    read_metadata,
    refuse_mismatch,
)
from ssd.errors import UserError
from ssd.models.detector import create_detector

PETS = ["background", "cat", "dog", "fish"]
OTHERS = ["background", "car", "bus", "tram", "van"]


@pytest.fixture(scope="module")
def save(tiny_recipe, tmp_path_factory, randomize):
    """save(classes=…, …) is (recipe, path of a checkpoint with drawn weights that says what it means, or nothing)."""

    def make(says=True, **overrides):
        cfg = tiny_recipe(**{"num_classes": None, "classes": PETS, **overrides})
        path = tmp_path_factory.mktemp("ckpt") / "best.ckpt"
        words = {METADATA_KEY: json.dumps(model_metadata(cfg))} if says else None
        save_checkpoint(randomize(create_detector(cfg), 1), path, words)
        return cfg, path

    return make


def changed(before, after):
    """Names of layers with a parameter that differs."""
    return sorted({name.rpartition(".")[0] for name in before if not (before[name] == after[name]).all()})


def test_what_is_kept_comes_back(save):
    cfg, path = save()
    there = read_metadata(read_checkpoint(path))
    assert there == model_metadata(cfg) and there["classes"] == PETS
    assert set(there) == {
        "classes",
        "loss",
        "prior_scaling",
        "anchors",
        "min_scale",
        "max_scale",
        "aspect_ratios",
        "clip_default_boxes",
        "backbone_padding",
        "backbone_max_stride",
        "extra_layers",
    }
    assert there["extra_layers"] == [{"out_channels": 16, "expand_ratio": 1.0, "stride": 2, "pad": True}]
    assert read_metadata({}) is None


def test_keys_that_a_kind_of_anchors_has_not_do_not_count(load_recipe):
    grid = load_recipe("ssd_resnet50_fpn")
    assert set(model_metadata(grid)) == {"classes", "loss", "prior_scaling", "anchors", *OF_NETWORK}
    assert "box_sizes" in model_metadata(load_recipe("ssd_resnet50"))


@pytest.mark.parametrize(
    "overrides, told",
    [
        (
            {"classes": ["background", "cat", "fish", "dog"]},
            "classes: got 'fish' as class 2, expected 'dog' as class 2",
        ),
        ({"classes": PETS[:3]}, "classes: got 3 names with background, expected 4 names with background"),
        ({"prior_scaling": [0.1, 0.1]}, "prior_scaling: got [0.1, 0.1], expected [0.1, 0.2]"),
        ({"min_scale": 0.1}, "min_scale: got 0.1, expected 0.2"),
        ({"loss": "multibox"}, "loss: got multibox, expected focal"),
        ({"backbone_padding": "torch"}, "backbone_padding: got torch, expected mindcv"),
        ({"box_sizes": [10, 20, 30, 40]}, "box_sizes: got [10.0, 20.0, 30.0, 40.0], expected nothing"),
        (
            {"aspect_ratios": [[3], [2], [2]]},
            "aspect_ratios: got [[3.0], [2.0], [2.0]], expected [[2.0], [2.0], [2.0]]",
        ),
    ],
)
def test_another_meaning_is_refused_and_nothing_loaded(overrides, told, save, tiny_recipe, values_of):
    _, path = save()
    cfg = tiny_recipe(**{"num_classes": None, "classes": PETS, **overrides})
    net = create_detector(cfg)
    before = values_of(net)
    with pytest.raises(UserError) as error:
        load_weights(net, path, meaning=model_metadata(cfg))
    assert str(error.value).startswith(f"{path}: {told}, with which it was trained; ")
    assert not changed(before, values_of(net))


@pytest.mark.parametrize("says", [True, False])
def test_the_same_meaning_and_none_are_loaded(says, save, values_of):
    cfg, path = save(says)
    net = create_detector(cfg)
    load_weights(net, path, meaning=model_metadata(cfg))
    content = read_checkpoint(path)
    assert all((value == content[name].asnumpy()).all() for name, value in values_of(net).items())


def test_names_that_are_not_known_are_not_compared(tiny_recipe):
    known, unknown = (
        model_metadata(tiny_recipe(num_classes=None if names else 4, classes=names)) for names in (PETS, None)
    )
    assert differences(known, unknown) == differences(unknown, known) == []
    refuse_mismatch(unknown, known, "a.ckpt")
    assert differences(known, None) == []


# --- a detector to start from ---

CLASS_PREDICTORS = [f"head.cls.{level}.3" for level in range(3)]
BOX_PREDICTORS = [f"head.box.{level}.3" for level in range(3)]


@pytest.mark.parametrize(
    "says, overrides, expected",
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
def test_all_but_what_cannot_fit_is_loaded(says, overrides, expected, save, tiny_recipe, values_of):
    _, path = save(says)
    cfg = tiny_recipe(**{"num_classes": None, "classes": PETS, **overrides})
    net = create_detector(cfg)
    before = values_of(net)
    fresh = load_pretrained(net, path, True, model_metadata(cfg))
    assert fresh == [f"{layer}.{kind}" for layer in expected for kind in ("weight", "bias")]
    content, after = read_checkpoint(path), values_of(net)
    for name, value in after.items():
        assert (value == (before[name] if name in fresh else content[name].asnumpy())).all(), name


def test_another_network_is_refused(save, tiny_recipe, values_of):
    _, path = save()
    layers = [{"out_channels": 16, "expand_ratio": 2, "stride": 2}]
    cfg = tiny_recipe(num_classes=None, classes=OTHERS, extra_layers=layers)
    net = create_detector(cfg)
    before = values_of(net)
    with pytest.raises(UserError, match="expected"):
        load_pretrained(net, path, True, model_metadata(cfg))
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

"""Keys of MindCV's recipes: their translation to our Config, and refused contradictions between them."""

import pytest
import yaml

from ssd.boxes.anchors import create_anchors
from ssd.config.loading import CONFIGS, load_config
from ssd.config.mindcv_recipes import translate_mindcv_keys
from ssd.errors import UserError

RECIPES = CONFIGS.parent / "examples" / "det" / "ssd"

# Model keys of the published recipes, in the form of MindCV's example.
PUBLISHED = {
    "ssd_mobilenetv2": {
        "backbone": "mobilenet_v2_100",
        "backbone_out_indices": [13, 18],
        "backbone_features_only": True,
        "image_size": [300, 300],
        "steps": [16, 32, 64, 100, 150, 300],
        "aspect_ratios": [[], [2, 3], [2, 3], [2, 3], [2, 3], [2, 3]],
        "extras_in_channels": [256, 576, 1280, 512, 256, 256],
        "extras_out_channels": [576, 1280, 512, 256, 256, 128],
        "extras_ratio": [0.2, 0.2, 0.2, 0.25, 0.5, 0.25],
        "extras_strides": [1, 1, 2, 2, 2, 2],
        "feature_size": [19, 10, 5, 3, 2, 1],
        "num_default": [3, 6, 6, 6, 6, 6],
        "num_ssd_boxes": 1917,
        "max_boxes": 100,
        "alpha": 0.75,
    },
    "ssd_resnet50_fpn": {
        "backbone": "resnet50",
        "backbone_out_indices": [2, 3, 4],
        "use_fpn": True,
        "use_anchor_generator": True,
        "image_size": [640, 640],
        "steps": [8, 16, 32, 64, 128],
        "aspect_ratios": [[2, 3]] * 5,  # ignored, because its anchors are grid anchors
        "min_scale": 0.2,
        "max_scale": 0.95,
        "extras_out_channels": [256] * 5,
        "num_addition_layers": 4,
        "feature_size": [80, 40, 20, 10, 5],
        "num_default": [6] * 5,
        "num_ssd_boxes": 51150,
        "max_boxes": 100,
        "alpha": 0.25,
        "lr_init": 0.01333,
        "lr_end_rate": 0.0,
        "weight_decay": 0.0004,
    },
}
FPN, EXTRAS = PUBLISHED["ssd_resnet50_fpn"], PUBLISHED["ssd_mobilenetv2"]
# Keys that are not compared: paths, settings of the machine, and channels that only published recipes repeat.
PATHS = {"data_dir", "backbone_ckpt_path", "ckpt_path", "ckpt_save_dir", "output_dir"}
RUNTIME = {"device_target", "amp_level", "dataset_sink_mode", "num_parallel_workers"}


@pytest.fixture
def load(tmp_path):
    """load(values) is the Config of a recipe with these values."""

    def load_values(values):
        path = tmp_path / "published.yaml"
        path.write_text(yaml.safe_dump({"data_dir": str(tmp_path), "device_target": "CPU", **values}))
        return load_config(path)

    return load_values


def assert_refused(load, values, parts):
    """Assert that `load` raises UserError with one line that contains each of `parts`."""
    with pytest.raises(UserError) as caught:
        load(values)
    message = str(caught.value)
    assert "\n" not in message
    for part in parts:
        assert str(part) in message


def compared_keys(config, without=()):
    """Return the keys that a published recipe and ours must have in common."""
    return config.model_dump(exclude=PATHS | RUNTIME | {"backbone_channels", *without})


# --- translated keys ---


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_keys_give_the_config_of_our_recipe(name, load, tmp_path):
    ours = load_config(RECIPES / f"{name}.yaml", {"data_dir": str(tmp_path)})
    assert compared_keys(load(PUBLISHED[name])) == compared_keys(ours)


def test_backbone_channels_are_kept_for_the_check_against_the_network(load):
    assert load(EXTRAS).backbone_channels == (576, 1280)
    assert load(FPN).backbone_channels is None


def test_hand_written_translations():
    ours, derived = translate_mindcv_keys({"use_fpn": True, "extras_out_channels": [64, 64], "steps": [8, 16], "lr": 1})
    assert ours == {"neck": "fpn", "head": "shared", "fpn_channels": 64, "steps": [8, 16], "lr": 1}
    assert derived == {}
    ours, derived = translate_mindcv_keys({"use_anchor_generator": True, "aspect_ratios": [[2]], "num_ssd_boxes": 7})
    assert ours == {"anchors": "grid"} and derived == {"num_ssd_boxes": 7}
    ours, _ = translate_mindcv_keys(
        {
            "backbone_out_indices": [4],
            "extras_in_channels": [16, 32, 64],
            "extras_out_channels": [32, 64, 128],
            "extras_ratio": [0.1, 0.2, 0.3],
            "extras_strides": [1, 2, 1],
        }
    )
    assert ours["backbone_channels"] == (32,)  # the first level is from the backbone, the other two are blocks
    assert ours["extra_layers"] == [
        {"out_channels": 64, "expand_ratio": 0.2, "stride": 2},
        {"out_channels": 128, "expand_ratio": 0.3, "stride": 1},
    ]


def test_false_switches_change_nothing():
    assert translate_mindcv_keys({"use_fpn": False, "use_anchor_generator": False}) == ({}, {})


def test_translation_does_not_change_its_input():
    values = {"use_fpn": True, "max_boxes": 5, "num_ssd_boxes": 7, "distribute": True}
    before = dict(values)
    translate_mindcv_keys(values)
    assert values == before


def test_max_boxes_becomes_max_detections_unless_both_are_given():
    assert translate_mindcv_keys({"max_boxes": 50})[0] == {"max_detections": 50}
    assert translate_mindcv_keys({"max_boxes": 50, "max_detections": 20})[0] == {"max_detections": 20}


@pytest.mark.parametrize("key, value", [("head", "separate"), ("anchors", "default"), ("fpn_channels", 128)])
def test_overrides_override_published_keys(key, value, tmp_path):
    path = tmp_path / "published.yaml"
    own = {name: FPN[name] for name in FPN if name not in ("num_ssd_boxes", "num_default", "feature_size")}
    path.write_text(yaml.safe_dump({"data_dir": str(tmp_path), "device_target": "CPU", **own}))
    assert getattr(load_config(path, {key: value, "aspect_ratios": [[2, 3]] * 5}), key) == value


# --- retired keys ---


def test_overridden_extras_lists_are_checked_against_the_recipe_s(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(PUBLISHED["ssd_mobilenetv2"]))
    right = PUBLISHED["ssd_mobilenetv2"]["extras_in_channels"]
    load_config(path, {"extras_in_channels": right})
    wrong = [*right[:3], 511, *right[4:]]
    assert_refused(
        lambda overrides: load_config(path, overrides),
        {"extras_in_channels": wrong},
        parts=["extras_in_channels", wrong, right],
    )


def test_extras_lists_without_out_channels_are_not_ignored():
    with pytest.raises(UserError, match="extras_ratio: .*0.2.*extras_out_channels"):
        load_config(RECIPES / "ssd_mobilenetv2.yaml", {"extras_ratio": [0.2]})
    assert load_config(RECIPES / "ssd_mobilenetv2.yaml", {"extras_in_channels": [1, 2]}).extras_in_channels == (1, 2)


def test_retired_keys_have_no_effect(load):
    retired = {
        "all_reduce_fusion_config": [29, 58, 89],
        "backbone_ckpt_auto_mapping": True,
        "backbone_features_only": True,
        "distribute": True,
        "enable_modelarts": False,
    }
    assert load({**EXTRAS, **retired}) == load(EXTRAS)


@pytest.mark.parametrize("key, value", [("backbone_features_only", False), ("enable_modelarts", True)])
def test_unsupported_values_of_retired_keys_are_refused(key, value, load):
    assert_refused(load, {**EXTRAS, key: value}, parts=[key, value, not value])


# --- derived keys ---


@pytest.mark.parametrize(
    "key, wrong, right",
    [
        ("num_ssd_boxes", 1916, 1917),
        ("feature_size", [38, 19, 10, 5, 3, 1], [19, 10, 5, 3, 2, 1]),
        ("num_default", [4, 6, 6, 6, 4, 4], [3, 6, 6, 6, 6, 6]),
        ("extras_in_channels", [256, 576, 1280, 512, 256, 128], [256, 576, 1280, 512, 256, 256]),
    ],
)
def test_wrong_derived_keys_are_refused_with_both_values(key, wrong, right, load):
    assert_refused(load, {**EXTRAS, key: wrong}, parts=[key, wrong, right])


@pytest.mark.parametrize("key", ["num_ssd_boxes", "feature_size", "num_default", "extras_in_channels"])
def test_derived_keys_may_be_absent(key, load):
    assert load({name: value for name, value in EXTRAS.items() if name != key}) == load(EXTRAS)


@pytest.mark.parametrize("key", ["num_ssd_boxes", "feature_size", "num_default"])
def test_derived_keys_may_be_empty(key, load):
    assert load({**EXTRAS, key: None}) == load(EXTRAS)


def test_the_first_entry_of_extras_in_channels_is_not_compared(load):
    assert load({**EXTRAS, "extras_in_channels": [999, 576, 1280, 512, 256, 256]}) == load(EXTRAS)


def test_feature_sizes_of_images_that_are_not_square(load):
    values = {key: value for key, value in FPN.items() if key not in ("feature_size", "num_ssd_boxes")}
    values["image_size"] = [640, 320]
    right = [[80, 40], [40, 20], [20, 10], [10, 5], [5, 3]]  # 320 / 128 is rounded up
    boxes = 6 * (80 * 40 + 40 * 20 + 20 * 10 + 10 * 5 + 5 * 3)
    config = load({**values, "feature_size": right, "num_ssd_boxes": boxes})
    assert create_anchors(config).feature_sizes == [tuple(size) for size in right]
    assert_refused(load, {**values, "feature_size": [80, 40, 20, 10, 5]}, parts=["feature_size", right])


# --- contradictions ---


@pytest.mark.parametrize("key", ["extras_ratio", "extras_strides", "extras_in_channels"])
def test_extras_lists_need_an_entry_for_each_level(key, load):
    assert_refused(load, {**EXTRAS, key: EXTRAS[key][:-1]}, parts=[key, EXTRAS[key][:-1], 6])


@pytest.mark.parametrize("key", ["extras_ratio", "extras_strides"])
def test_extras_need_ratios_and_strides(key, load):
    assert_refused(load, {name: value for name, value in EXTRAS.items() if name != key}, parts=[key, "None"])


@pytest.mark.parametrize("key", ["extras_in_channels", "extras_out_channels", "extras_ratio", "extras_strides"])
@pytest.mark.parametrize("value", [5, "1,2", [], [[1]], [None], {"a": 1}, ["a", "b"], True])
def test_values_of_extras_that_are_no_lists_of_numbers_are_refused(key, value):
    with pytest.raises(UserError, match=f"^{key}: "):
        translate_mindcv_keys({**EXTRAS, key: value})


@pytest.mark.parametrize("key", ["steps", "backbone_out_indices"])
@pytest.mark.parametrize("value", [5, None, "text", {}])
def test_levels_that_are_no_list_are_refused_with_their_key(key, value, load):
    for extras in (EXTRAS, FPN):
        assert_refused(load, {**extras, key: value}, parts=[f"{key}: "])


@pytest.mark.parametrize("channels", [[256, 256, 256, 256, 128], [256] * 4])
def test_all_levels_of_an_fpn_have_the_same_channels(channels, load):
    assert_refused(load, {**FPN, "extras_out_channels": channels}, parts=["extras_out_channels", channels])


# --- published files ---


@pytest.mark.parametrize("suffix", ["", "_gpu"])
@pytest.mark.parametrize("name", ["ssd_mobilenetv2", "ssd_mobilenetv3", "ssd_resnet50_fpn"])
def test_published_files_give_the_config_of_our_recipe(name, suffix, reference, tmp_path):
    overrides = {"data_dir": str(tmp_path), "device_target": "CPU"}
    published = load_config(reference / "recipes" / f"{name}{suffix}.yaml", overrides)
    ours = load_config(RECIPES / f"{name}.yaml", overrides)
    # The score threshold and the first evaluation during training do not affect the model.
    without = {"min_score", "eval_start_epoch"}
    assert compared_keys(published, without) == compared_keys(ours, without)
    if published.backbone_channels:
        expected = {"ssd_mobilenetv2": (576, 1280), "ssd_mobilenetv3": (672, 960)}[name]
        assert published.backbone_channels == expected

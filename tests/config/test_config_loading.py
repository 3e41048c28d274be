"""Recipes: every shipped one loads, layers beat one another in the right order, and mistakes are refused by name."""

import dataclasses
import json

import pydantic
import pytest
import yaml

from ssd.boxes.anchors import create_anchors
from ssd.config.loading import CONFIGS, find_device, load_config
from ssd.data.dataset_info import DatasetInfo, SplitInfo
from ssd.errors import UserError

RECIPES = CONFIGS.parent / "examples" / "det" / "ssd"
SHIPPED = sorted(path.name for path in RECIPES.glob("*.yaml"))
MINIMAL = {
    "backbone": "mobilenet_v2_100",
    "backbone_out_indices": [13, 18],
    "image_size": [64, 96],
    "steps": [16, 32],
    "aspect_ratios": [[2], [2]],
    "device_target": "CPU",
}


@pytest.fixture
def recipe(tmp_path):
    """recipe(**changes) writes MINIMAL with changes to a file and returns its path; None leaves a key out."""

    def write(**changes):
        values = {"data_dir": str(tmp_path / "no data"), **MINIMAL, **changes}
        path = tmp_path / "recipe.yaml"
        path.write_text(yaml.safe_dump({key: value for key, value in values.items() if value is not None}))
        return path

    return write


def refused(path, overrides, *parts):
    """load_config refuses in one line that holds each of `parts`."""
    with pytest.raises(UserError) as caught:
        load_config(path, overrides)
    message = str(caught.value)
    assert "\n" not in message and "got " in message and "expected" in message
    for part in parts:
        assert str(part) in message


# --- shipped recipes ---


def test_the_published_configurations_are_shipped():
    assert {"ssd_mobilenetv2.yaml", "ssd_mobilenetv3.yaml", "ssd_resnet50_fpn.yaml"} <= set(SHIPPED)


def test_plus_is_the_published_network_trained_otherwise():
    """What it changes has no part in a detector's graph: steps and the cost of inference are the published recipe's."""
    plus, published = (load_config(RECIPES / f"ssd_mobilenetv2{name}.yaml").model_dump() for name in ("_plus", ""))
    changed = {key for key in plus if plus[key] != published[key]}
    assert changed == {"prior_bias", "augment", "ckpt_save_dir", "output_dir"}


@pytest.mark.parametrize("device_target", ["Ascend", "GPU", "CPU"])
@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_recipes_load_without_data(name, device_target, tmp_path):
    config = load_config(RECIPES / name, {"data_dir": str(tmp_path), "device_target": device_target})
    assert config.num_classes == len(config.classes) == 81
    assert config.classes[0] == "background" and config.classes[1] == "person" and config.classes[80] == "toothbrush"
    assert config.device_target == device_target
    assert len(create_anchors(config).feature_sizes) == len(config.steps)


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_recipes_name_what_users_edit(name):
    values = yaml.safe_load((RECIPES / name).read_text())
    assert {"data_dir", "backbone_ckpt_path", "ckpt_path"} <= values.keys()


@pytest.mark.parametrize(
    "name, anchors", [("ssd_mobilenetv2", 1917), ("ssd_mobilenetv3", 1917), ("ssd_resnet50_fpn", 51150)]
)
def test_shipped_recipes_have_the_published_anchors(name, anchors, tmp_path):
    assert len(create_anchors(load_config(RECIPES / f"{name}.yaml", {"data_dir": str(tmp_path)}))) == anchors


def test_without_a_device_target_the_machine_s_is_taken(recipe):
    assert load_config(recipe(device_target=None)).device_target == find_device()


# --- who beats whom ---


def test_later_bases_beat_earlier_and_the_file_beats_its_bases(recipe, tmp_path):
    (tmp_path / "first.yaml").write_text(
        "{lr: 1, momentum: 0.1, alpha: 0.1, augment: {flip_prob: 0.1, color_prob: 0.1}}"
    )
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "second.yaml").write_text(
        "{__BASE__: ../below.yaml, momentum: 0.2, augment: {flip_prob: 0.2}}"
    )
    (tmp_path / "below.yaml").write_text("{momentum: 0.9, alpha: 0.2, gamma: 0.2}")
    config = load_config(recipe(__BASE__=["first.yaml", "deep/second.yaml"], gamma=3.0))
    assert config.lr == 1  # of the first base alone
    assert config.momentum == 0.2  # the second beats the first, and its own base
    assert config.alpha == 0.2  # from below the second, which still beats the first
    assert config.gamma == 3  # the file beats all
    assert config.augment.flip_prob == 0.2 and config.augment.color_prob == 0.1  # merged key by key
    assert config.augment.contrast == 0.4  # and the rest by default


def test_overrides_beat_all(recipe, tmp_path):
    (tmp_path / "base.yaml").write_text("{lr: 1, augment: {flip_prob: 0.1, color_prob: 0.1}}")
    path = recipe(__BASE__="base.yaml", lr=2.0, augment={"flip_prob": 0.2})
    config = load_config(path, {"lr": 3, "augment.flip_prob": 0.3})
    assert config.lr == 3 and config.augment.flip_prob == 0.3 and config.augment.color_prob == 0.1
    assert load_config(path, {"augment": {"flip_prob": 0.4}}).augment.flip_prob == 0.4
    both = load_config(path, {"augment.flip_prob": 0.5, "augment.color_prob": 0.6}).augment
    assert (both.flip_prob, both.color_prob) == (0.5, 0.6)


def test_loading_twice_is_independent(recipe):
    path = recipe()
    load_config(path, {"lr": 3, "augment.flip_prob": 0})
    assert load_config(path).lr == 0.05 and load_config(path).augment.flip_prob == 0.5


def test_the_cpu_fragment_beats_the_recipe_and_overrides_beat_it(recipe):
    path = recipe(amp_level="O2", dataset_sink_mode=True)
    on_cpu = load_config(path)
    assert on_cpu.amp_level == "O0" and on_cpu.dataset_sink_mode is False
    assert load_config(path, {"amp_level": "O3"}).amp_level == "O3"


@pytest.mark.parametrize("device_target", ["Ascend", "GPU"])
def test_the_recipe_beats_an_accelerator_s_fragment(device_target, recipe):
    default = load_config(recipe(device_target=device_target))
    assert default.dataset_sink_mode is True and default.amp_level == {"Ascend": "O2", "GPU": "O0"}[device_target]
    own = load_config(recipe(device_target=device_target, dataset_sink_mode=False, amp_level="O3"))
    assert own.dataset_sink_mode is False and own.amp_level == "O3"


def test_a_device_target_override_beats_the_recipe_s(recipe):
    config = load_config(recipe(device_target="Ascend", amp_level="O3"), {"device_target": "CPU"})
    assert (config.device_target, config.amp_level) == ("CPU", "O0")


# --- the Config ---


def test_a_config_is_frozen(recipe):
    config = load_config(recipe())
    for section, key in ((config, "lr"), (config.augment, "flip_prob")):
        with pytest.raises(pydantic.ValidationError, match="frozen"):
            setattr(section, key, 0.5)


def test_values_have_their_types(recipe):
    config = load_config(recipe(lr=1, extra_layers=[{"out_channels": 8, "expand_ratio": 1}]), {"data_dir": 2017})
    assert type(config.lr) is float and config.image_size == (64, 96) and config.steps == (16, 32)
    assert config.extra_layers[0].stride == 2 and config.data_dir == "2017"


def test_an_empty_value_is_refused(recipe, tmp_path):
    path = tmp_path / "empty.yaml"
    path.write_text(recipe(momentum=None).read_text() + "momentum:\n")
    with pytest.raises(UserError, match="momentum: got None"):
        load_config(path)


# --- classes ---


@pytest.fixture
def data_of_two(tmp_path):
    """A folder whose dataset.json tells of background, cat and dog."""
    split = SplitInfo(1, 1, 1, {"cat": 1, "dog": 0}, 0, 0, "a.json", "0" * 64, {})
    info = DatasetInfo(["background", "cat", "dog"], [1, 2], "annotations/a.json", split, split)
    (tmp_path / "data").mkdir()
    info.write(tmp_path / "data" / "dataset.json")
    assert dataclasses.asdict(info).items() <= json.loads((tmp_path / "data" / "dataset.json").read_text()).items()
    return str(tmp_path / "data")


def test_classes_follow_the_data(recipe, data_of_two):
    config = load_config(recipe(), {"data_dir": data_of_two})
    assert config.num_classes == 3 and config.classes == ("background", "cat", "dog")
    explicit = load_config(recipe(num_classes=3, classes=["background", "cat", "dog"]), {"data_dir": data_of_two})
    assert explicit == config


def test_classes_that_differ_from_the_data_are_refused(recipe, data_of_two):
    info = f"{data_of_two}/dataset.json"
    refused(recipe(num_classes=81), {"data_dir": data_of_two}, "num_classes: got 81, expected 3", info)
    # The order is part of it: class indices follow it.
    other = recipe(classes=["background", "dog", "cat"])
    refused(other, {"data_dir": data_of_two}, "['background', 'dog', 'cat']", "['background', 'cat', 'dog']", info)


def test_classes_without_data(recipe):
    assert load_config(recipe(classes=["background", "cat"])).num_classes == 2
    without_names = load_config(recipe(num_classes=5))
    assert without_names.num_classes == 5 and without_names.classes is None
    refused(recipe(classes=["background", "cat"], num_classes=3), {}, "num_classes: got 3, expected 2")


def test_a_damaged_dataset_json_is_refused(recipe, tmp_path):
    (tmp_path / "dataset.json").write_text("{}")
    refused(recipe(), {"data_dir": str(tmp_path)}, tmp_path / "dataset.json", "damaged")


# --- refused ---


@pytest.mark.parametrize(
    "key, neighbour",
    [
        ("bacth_size", "batch_size"),
        ("epochs", "epoch_size"),
        ("extra_layer", "extra_layers"),
        ("augment.flip_probb", "augment.flip_prob"),
    ],
)
def test_an_unknown_key_names_its_neighbour(key, neighbour, recipe):
    refused(recipe(), {key: 1}, f"'{key}'", f"did you mean '{neighbour}'?")


def test_an_unknown_key_of_a_base_is_refused(recipe, tmp_path):
    (tmp_path / "base.yaml").write_text("momentun: 0.5")
    refused(recipe(__BASE__="base.yaml"), {}, "'momentun'", "'momentum'")


@pytest.mark.parametrize(
    "key, value",
    [
        ("lr", -0.1),
        ("lr", "fast"),
        ("lr", float("nan")),
        ("lr", float("inf")),
        ("batch_size", 0),
        ("batch_size", 2.5),
        ("batch_size", [2]),
        ("match_threshold", 1.0),
        ("min_score", -0.1),
        ("nms_threshold", 0),
        ("num_classes", 1),
        ("image_size", 300),
        ("image_size", [300]),
        ("image_size", [300, 0]),
        ("steps", []),
        ("steps", [16, 0]),
        ("steps", [16]),
        ("aspect_ratios", [[2]]),
        ("aspect_ratios", [[2], [0]]),
        ("aspect_ratios", [[2], [-2]]),
        ("backbone_out_indices", []),
        ("prior_scaling", [0, 0.2]),
        ("prior_scaling", [0.1]),
        ("neck", "bifpn"),
        ("anchors", "none"),
        ("amp_level", "O4"),
        ("mode", 2),
        ("device_target", "TPU"),
        ("device_target", "cpu"),
        ("device_target", 5),
        ("seed", -1),
        ("seed", 2**31),
        ("warmup_epochs", 500),
        ("lr_reference_batch", 0),
        ("freeze", "head"),
        ("schedule", "linear"),
        ("schedule", "steps"),  # without milestones
        ("milestones", [5, 3]),
        ("milestones", [0]),
        ("lr_factor", 1),
        ("loss", "softmax"),
        ("negatives_per_positive", 0),
        ("box_loss", "iou"),
        ("prior_bias", 0),
        ("head", "deep"),
        ("backbone_max_stride", 0),
        ("box_sizes", [20, 40]),  # one too few for two levels
        ("clip_grad_norm", 0),
        ("accumulate_steps", 0),
        ("ema_decay", 1),
        ("early_stop_patience", 3),  # without eval_while_train
        ("shuffle", "perhaps"),
        ("classes", 5),
        ("num_classes", "many"),
        ("data_dir", ["a", "b"]),
        ("augment", 5),
        ("augment.flip_prob", 1.5),
        ("augment.flip_prob", "often"),
        ("augment.brightness", 1),
        ("augment.crop_min_iou", []),
        ("augment.crop_min_iou", [0.5, 1.5]),
    ],
)
def test_wrong_values_are_refused_by_name(key, value, recipe):
    refused(recipe(), {key: value}, key)


def test_sunk_data_and_saves_within_epochs_do_not_go_together(recipe):
    values = {"checkpoint_every_steps": 100, "device_target": "Ascend"}
    refused(recipe(), values, "checkpoint_every_steps: got 100 with dataset_sink_mode")
    assert load_config(recipe(), {**values, "dataset_sink_mode": False}).checkpoint_every_steps == 100
    assert load_config(recipe(), {**values, "device_target": "CPU"}).checkpoint_every_steps == 100


def test_wrong_values_within_lists_are_refused_by_name(recipe):
    layer = {"out_channels": 8, "expand_ratio": 1}
    refused(recipe(extra_layers=[layer, {**layer, "stride": 3}]), {}, "extra_layers.1.stride", "3")
    refused(recipe(extra_layers=[layer, {**layer, "strides": 2}]), {}, "extra_layers.1.strides")
    refused(recipe(extra_layers=[{"out_channels": 8}]), {}, "extra_layers.0.expand_ratio")


def test_both_numbers_of_levels_are_told(recipe):
    refused(recipe(), {"steps": [16, 32, 64]}, "got 2 lists in aspect_ratios, expected 3")


def test_a_prior_goes_with_a_loss_that_has_one(recipe):
    refused(recipe(), {"prior_bias": 0.01, "loss": "multibox"}, "prior_bias: got 0.01 with loss multibox")
    assert load_config(recipe(), {"prior_bias": 0.01}).prior_bias == 0.01


def test_box_sizes_are_those_of_default_boxes(recipe):
    refused(recipe(), {"box_sizes": [9, 12, 16], "anchors": "grid"}, "box_sizes: got 3 sizes with anchors grid")
    assert load_config(recipe(), {"box_sizes": [9, 12, 16]}).box_sizes == (9, 12, 16)


def test_only_plain_convolutions_go_without_padding(recipe):
    path = recipe(extra_layers=[{"out_channels": 8, "expand_ratio": 1, "pad": False}])
    refused(path, {}, "extra_layers: got pad false with neck extras, expected neck convs")
    assert load_config(path, {"neck": "convs"}).extra_layers[0].pad is False


def test_steps_need_rising_milestones(recipe):
    refused(recipe(), {"schedule": "steps"}, "milestones: got [] with schedule steps")
    refused(recipe(), {"schedule": "steps", "milestones": [3, 3]}, "milestones: got [3, 3]")
    beyond = {"schedule": "steps", "milestones": [3, 12], "epoch_size": 12}
    refused(recipe(), beyond, "milestones: got [3, 12]", "none from epoch_size on, 12; set --milestones, as in [8, 10]")
    assert load_config(recipe(), {"schedule": "steps", "milestones": [3, 4]}).milestones == (3, 4)


def test_warm_up_fits_into_training(recipe):
    refused(recipe(), {"epoch_size": 3, "warmup_epochs": 3}, "warmup_epochs: got 3", "epoch_size, 3")
    assert load_config(recipe(), {"epoch_size": 3, "warmup_epochs": 2}).warmup_epochs == 2


@pytest.mark.parametrize("key", ["backbone", "backbone_out_indices", "image_size", "steps"])
def test_a_missing_key_is_refused_by_name(key, recipe):
    path = recipe(**{key: None})
    refused(path, {}, path, f"got no '{key}'")


def test_missing_files_are_named(recipe, tmp_path):
    refused(tmp_path / "absent.yaml", {}, tmp_path / "absent.yaml")
    refused(tmp_path, {}, tmp_path, "directory")
    refused(recipe(__BASE__=["absent.yaml"]), {}, tmp_path / "absent.yaml")


@pytest.mark.parametrize("content", [b"lr: [1", b"just text", b"- a\n- b", b"", b"\xff\xfe\xfa", b"lr: *x"])
def test_what_is_no_recipe_is_refused(content, tmp_path):
    path = tmp_path / "bad.yaml"
    path.write_bytes(content)
    refused(path, {}, path)


@pytest.mark.parametrize("base", ["recipe.yaml", 5, [5]])
def test_impossible_bases_are_refused(base, recipe):
    path = recipe(__BASE__=base)
    refused(path, {}, path, "__BASE__")

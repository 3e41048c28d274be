"""Loading of recipes: the shipped ones, the order in which layers override one another, and refused mistakes."""

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
    """recipe(**changes) writes MINIMAL with changes to a file and returns its path; None omits a key."""

    def write(**changes):
        values = {"data_dir": str(tmp_path / "no data"), **MINIMAL, **changes}
        path = tmp_path / "recipe.yaml"
        path.write_text(yaml.safe_dump({key: value for key, value in values.items() if value is not None}))
        return path

    return write


def assert_refused(path, overrides, parts):
    """Assert that load_config raises UserError with one line that contains each of `parts`."""
    with pytest.raises(UserError) as caught:
        load_config(path, overrides)
    message = str(caught.value)
    assert "\n" not in message
    for part in parts:
        assert str(part) in message


# --- shipped recipes ---


def test_the_published_configurations_are_shipped():
    assert {"ssd_mobilenetv2.yaml", "ssd_mobilenetv3.yaml", "ssd_resnet50_fpn.yaml"} <= set(SHIPPED)


def test_plus_is_the_published_network_trained_differently():
    """No key that it changes is part of the detector's graph, so steps and inference cost the same."""
    plus, published = (load_config(RECIPES / f"ssd_mobilenetv2{name}.yaml").model_dump() for name in ("_plus", ""))
    changed = {key for key in plus if plus[key] != published[key]}
    assert changed == {"prior_bias", "augment", "ckpt_save_dir", "output_dir"}


@pytest.mark.parametrize("device_target", ["Ascend", "CPU"])
@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_recipes_load_without_data(name, device_target, tmp_path):
    config = load_config(RECIPES / name, {"data_dir": str(tmp_path), "device_target": device_target})
    assert config.num_classes == len(config.classes) == 81
    assert config.classes[0] == "background" and config.classes[1] == "person" and config.classes[80] == "toothbrush"
    assert config.device_target == device_target
    assert len(create_anchors(config).feature_sizes) == len(config.steps)


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_recipes_have_the_keys_that_users_edit(name):
    values = yaml.safe_load((RECIPES / name).read_text())
    assert {"data_dir", "backbone_ckpt_path", "ckpt_path"} <= values.keys()


@pytest.mark.parametrize(
    "name, anchors", [("ssd_mobilenetv2", 1917), ("ssd_mobilenetv3", 1917), ("ssd_resnet50_fpn", 51150)]
)
def test_shipped_recipes_have_the_published_anchors(name, anchors, tmp_path):
    assert len(create_anchors(load_config(RECIPES / f"{name}.yaml", {"data_dir": str(tmp_path)}))) == anchors


def test_device_target_is_detected_if_not_given(recipe):
    assert load_config(recipe(device_target=None)).device_target == find_device()


# --- order of layers ---


def test_later_bases_override_earlier_ones_and_the_file_overrides_its_bases(recipe, tmp_path):
    (tmp_path / "first.yaml").write_text(
        "{lr: 1, momentum: 0.1, alpha: 0.1, augment: {flip_prob: 0.1, color_prob: 0.1}}"
    )
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "second.yaml").write_text(
        "{__BASE__: ../below.yaml, momentum: 0.2, augment: {flip_prob: 0.2}}"
    )
    (tmp_path / "below.yaml").write_text("{momentum: 0.9, alpha: 0.2, gamma: 0.2}")
    config = load_config(recipe(__BASE__=["first.yaml", "deep/second.yaml"], gamma=3.0))
    assert config.lr == 1  # only in the first base
    assert config.momentum == 0.2  # the second base overrides the first, and its own base
    assert config.alpha == 0.2  # the base of the second base overrides the first, too
    assert config.gamma == 3  # the file overrides all bases
    assert config.augment.flip_prob == 0.2 and config.augment.color_prob == 0.1  # merged key by key
    assert config.augment.contrast == 0.4  # other keys have their defaults


def test_overrides_override_all_files(recipe, tmp_path):
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


def test_the_cpu_fragment_overrides_the_recipe_and_overrides_win(recipe):
    path = recipe(amp_level="O2", dataset_sink_mode=True)
    on_cpu = load_config(path)
    assert on_cpu.amp_level == "O0" and on_cpu.dataset_sink_mode is False
    assert load_config(path, {"amp_level": "O3"}).amp_level == "O3"


def test_the_recipe_overrides_the_ascend_fragment(recipe):
    default = load_config(recipe(device_target="Ascend"))
    assert (default.dataset_sink_mode, default.amp_level) == (True, "O2")
    own = load_config(recipe(device_target="Ascend", dataset_sink_mode=False, amp_level="O3"))
    assert (own.dataset_sink_mode, own.amp_level) == (False, "O3")


def test_a_device_target_override_chooses_the_fragment(recipe):
    config = load_config(recipe(device_target="Ascend", amp_level="O3"), {"device_target": "CPU"})
    assert (config.device_target, config.amp_level) == ("CPU", "O0")


# --- Config ---


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
    assert_refused(path, {}, parts=["momentum", "None"])


# --- classes ---


@pytest.fixture
def cat_dog_data(tmp_path):
    """A folder whose dataset.json has the classes background, cat and dog."""
    split = SplitInfo(
        images=1,
        boxes=1,
        max_boxes=1,
        boxes_per_class={"cat": 1, "dog": 0},
        dropped_boxes=0,
        crowd_boxes=0,
        source="a.json",
        source_sha256="0" * 64,
        shards={},
    )
    info = DatasetInfo(
        classes=["background", "cat", "dog"],
        category_ids=[1, 2],
        annotations="annotations/a.json",
        train=split,
        val=split,
    )
    (tmp_path / "data").mkdir()
    info.write(tmp_path / "data" / "dataset.json")
    assert dataclasses.asdict(info).items() <= json.loads((tmp_path / "data" / "dataset.json").read_text()).items()
    return str(tmp_path / "data")


def test_classes_are_read_from_the_data(recipe, cat_dog_data):
    config = load_config(recipe(), {"data_dir": cat_dog_data})
    assert config.num_classes == 3 and config.classes == ("background", "cat", "dog")
    explicit = load_config(recipe(num_classes=3, classes=["background", "cat", "dog"]), {"data_dir": cat_dog_data})
    assert explicit == config


def test_classes_that_differ_from_the_data_are_refused(recipe, cat_dog_data):
    info = f"{cat_dog_data}/dataset.json"
    overrides = {"data_dir": cat_dog_data}
    assert_refused(recipe(num_classes=81), overrides, parts=["num_classes", 81, 3, info])
    # The order of classes matters, because labels are indices into it.
    ours, theirs = ["background", "dog", "cat"], ["background", "cat", "dog"]
    assert_refused(recipe(classes=ours), overrides, parts=["classes", ours, theirs, info])


def test_classes_without_data(recipe):
    assert load_config(recipe(classes=["background", "cat"])).num_classes == 2
    without_names = load_config(recipe(num_classes=5))
    assert without_names.num_classes == 5 and without_names.classes is None
    assert_refused(recipe(classes=["background", "cat"], num_classes=3), {}, parts=["num_classes", 3, "classes", 2])


def test_a_damaged_dataset_json_is_refused(recipe, tmp_path):
    (tmp_path / "dataset.json").write_text("{}")
    assert_refused(recipe(), {"data_dir": str(tmp_path)}, parts=[tmp_path / "dataset.json"])


# --- refused recipes ---


@pytest.mark.parametrize(
    "key, neighbor",
    [
        ("bacth_size", "batch_size"),
        ("epochs", "epoch_size"),
        ("extra_layer", "extra_layers"),
        ("augment.flip_probb", "augment.flip_prob"),
    ],
)
def test_the_error_for_an_unknown_key_names_the_most_similar_key(key, neighbor, recipe):
    assert_refused(recipe(), {key: 1}, parts=[f"'{key}'", f"'{neighbor}'"])


def test_an_unknown_key_of_a_base_is_refused(recipe, tmp_path):
    (tmp_path / "base.yaml").write_text("momentun: 0.5")
    assert_refused(recipe(__BASE__="base.yaml"), {}, parts=["'momentun'", "'momentum'"])


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
        ("device_target", "GPU"),
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
def test_wrong_values_are_refused_with_their_key(key, value, recipe):
    assert_refused(recipe(), {key: value}, parts=[key])


def test_data_sinking_and_checkpoints_within_epochs_exclude_each_other(recipe):
    values = {"checkpoint_every_steps": 100, "device_target": "Ascend"}
    assert_refused(recipe(), values, parts=["checkpoint_every_steps", 100, "dataset_sink_mode"])
    assert load_config(recipe(), {**values, "dataset_sink_mode": False}).checkpoint_every_steps == 100
    assert load_config(recipe(), {**values, "device_target": "CPU"}).checkpoint_every_steps == 100


def test_wrong_values_within_lists_are_refused_with_their_place(recipe):
    layer = {"out_channels": 8, "expand_ratio": 1}
    assert_refused(recipe(extra_layers=[layer, {**layer, "stride": 3}]), {}, parts=["extra_layers.1.stride", 3])
    assert_refused(recipe(extra_layers=[layer, {**layer, "strides": 2}]), {}, parts=["extra_layers.1.strides"])
    assert_refused(recipe(extra_layers=[{"out_channels": 8}]), {}, parts=["extra_layers.0.expand_ratio"])


def test_the_error_states_both_numbers_of_levels(recipe):
    assert_refused(recipe(), {"steps": [16, 32, 64]}, parts=["aspect_ratios", 2, "steps", 3])


def test_prior_bias_needs_the_focal_loss(recipe):
    assert_refused(recipe(), {"prior_bias": 0.01, "loss": "multibox"}, parts=["prior_bias", "multibox"])
    assert load_config(recipe(), {"prior_bias": 0.01}).prior_bias == 0.01


def test_box_sizes_need_default_boxes(recipe):
    assert_refused(recipe(), {"box_sizes": [9, 12, 16], "anchors": "grid"}, parts=["box_sizes", "grid"])
    assert load_config(recipe(), {"box_sizes": [9, 12, 16]}).box_sizes == (9, 12, 16)


def test_only_the_neck_convs_supports_layers_without_padding(recipe):
    path = recipe(extra_layers=[{"out_channels": 8, "expand_ratio": 1, "pad": False}])
    assert_refused(path, {}, parts=["extra_layers", "pad", "extras", "convs"])
    assert load_config(path, {"neck": "convs"}).extra_layers[0].pad is False


def test_the_schedule_steps_needs_increasing_milestones(recipe):
    assert_refused(recipe(), {"schedule": "steps"}, parts=["milestones", "[]"])
    assert_refused(recipe(), {"schedule": "steps", "milestones": [3, 3]}, parts=["milestones", "[3, 3]"])
    beyond = {"schedule": "steps", "milestones": [3, 12], "epoch_size": 12}
    assert_refused(recipe(), beyond, parts=["milestones", "[3, 12]", "epoch_size", "[8, 10]"])
    assert load_config(recipe(), {"schedule": "steps", "milestones": [3, 4]}).milestones == (3, 4)


def test_warm_up_must_be_shorter_than_training(recipe):
    assert_refused(recipe(), {"epoch_size": 3, "warmup_epochs": 3}, parts=["warmup_epochs", 3, "epoch_size"])
    assert load_config(recipe(), {"epoch_size": 3, "warmup_epochs": 2}).warmup_epochs == 2


@pytest.mark.parametrize("key", ["backbone", "backbone_out_indices", "image_size", "steps"])
def test_a_missing_key_is_named(key, recipe):
    path = recipe(**{key: None})
    assert_refused(path, {}, parts=[path, f"'{key}'"])


def test_missing_files_are_named(recipe, tmp_path):
    assert_refused(tmp_path / "absent.yaml", {}, parts=[tmp_path / "absent.yaml"])
    assert_refused(tmp_path, {}, parts=[tmp_path])
    assert_refused(recipe(__BASE__=["absent.yaml"]), {}, parts=[tmp_path / "absent.yaml"])


@pytest.mark.parametrize("content", [b"lr: [1", b"just text", b"- a\n- b", b"", b"\xff\xfe\xfa", b"lr: *x"])
def test_a_file_that_is_not_a_recipe_is_refused(content, tmp_path):
    path = tmp_path / "bad.yaml"
    path.write_bytes(content)
    assert_refused(path, {}, parts=[path])


@pytest.mark.parametrize("base", ["recipe.yaml", 5, [5]])
def test_impossible_bases_are_refused(base, recipe):
    path = recipe(__BASE__=base)
    assert_refused(path, {}, parts=[path, "__BASE__"])

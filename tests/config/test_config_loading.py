"""Loading of recipes: the order in which layers override one another, types, and classes."""

import dataclasses
import json

import pydantic
import pytest

from refused_recipe import assert_refused
from ssd.config.loading import find_device, load_config
from ssd.data.dataset_info import DatasetInfo, SplitInfo

# --- order of layers ---


def test_device_target_is_detected_if_not_given(recipe):
    assert load_config(recipe(device_target=None)).device_target == find_device()


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

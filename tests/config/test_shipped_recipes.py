"""The recipes of this repository: complete, loadable without data, and with the published anchors."""

import numpy as np
import pytest
import yaml

from ssd.boxes.anchors import create_anchors
from ssd.config.loading import CONFIGS, load_config

RECIPES = CONFIGS.parent / "examples" / "det" / "ssd"
SHIPPED = sorted(path.name for path in RECIPES.glob("*.yaml"))


def test_the_published_configurations_are_shipped():
    assert {"ssd_mobilenetv2.yaml", "ssd_mobilenetv3.yaml", "ssd_resnet50_fpn.yaml"} <= set(SHIPPED)


def test_plus_is_the_published_network_trained_differently():
    """No key that it changes is part of the detector's graph, so steps and inference cost the same."""
    plus, published = (load_config(RECIPES / f"ssd_mobilenetv2{name}.yaml").model_dump() for name in ("_plus", ""))
    changed = {key for key in plus if plus[key] != published[key]}
    assert changed == {"prior_bias", "augment", "ckpt_save_dir", "output_dir"}


def test_finetune_has_the_anchors_of_the_published_network():
    """So reports about anchors, and anchors fitted with one of the recipes, are valid for both."""
    finetune, published = (
        create_anchors(load_config(RECIPES / f"ssd_mobilenetv2{name}.yaml")) for name in ("_finetune", "")
    )
    assert len(finetune) == 1917
    np.testing.assert_array_equal(finetune.boxes_yxyx, published.boxes_yxyx)


@pytest.mark.parametrize("device_target", ["Ascend", "CPU"])
@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_recipes_load_without_data(name, device_target, tmp_path):
    config = load_config(RECIPES / name, {"data_dir": str(tmp_path), "device_target": device_target})
    assert config.num_classes == len(config.classes) == 81
    assert config.classes[0] == "background" and config.classes[1] == "person" and config.classes[80] == "toothbrush"
    assert config.device_target == device_target
    assert len(create_anchors(config).feature_sizes) == len(config.steps)


@pytest.mark.parametrize("name", SHIPPED)
def test_recipes_compile_for_npus_at_the_level_of_their_published_results(name):
    """The configuration of the seeds compiles with O2. MindSpore chooses the level of the others."""
    published = name.startswith(("ssd_mobilenetv2", "ssd_mobilenetv3", "ssd_resnet50_fpn"))
    assert load_config(RECIPES / name, {"device_target": "Ascend"}).jit_level == ("O2" if published else "")
    assert load_config(RECIPES / name, {"device_target": "CPU"}).jit_level == "O2"


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_recipes_have_the_keys_that_users_edit(name):
    values = yaml.safe_load((RECIPES / name).read_text())
    assert {"data_dir", "backbone_ckpt_path", "ckpt_path"} <= values.keys()


@pytest.mark.parametrize(
    "name, anchors",
    [
        ("ssd_mobilenetv2", 1917),
        ("ssd_mobilenetv3", 1917),
        ("ssd_resnet50_fpn", 51150),
        ("ssdlite_mobilenetv2", 3000),
    ],
)
def test_shipped_recipes_have_the_published_anchors(name, anchors, tmp_path):
    assert len(create_anchors(load_config(RECIPES / f"{name}.yaml", {"data_dir": str(tmp_path)}))) == anchors

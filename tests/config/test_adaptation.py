"""Recipes adapt to --epoch_size and --image_size. Values on the command line are never adapted."""

import pytest
import yaml

from refused_recipe import assert_refused
from ssd.boxes.feature_sizes import smallest_fitting_step
from ssd.config.loading import CONFIGS, load_config

RECIPES = CONFIGS.parent / "examples" / "det" / "ssd"
SHIPPED = sorted(path.stem for path in RECIPES.glob("*.yaml"))
SSD300 = RECIPES / "ssd_resnet50.yaml"


# --- epoch_size ---


@pytest.mark.parametrize("name", SHIPPED)
def test_one_epoch_works_with_every_recipe(name, load_recipe):
    config, warmup = load_recipe(name, epoch_size=1), load_recipe(name).warmup_epochs
    if warmup < 1:
        assert config.warmup_epochs == warmup and config.adaptations == ()
        return
    assert config.warmup_epochs == pytest.approx(1 / 3) and all(milestone < 1 for milestone in config.milestones)
    assert len(config.adaptations) == (2 if config.schedule == "steps" else 1)
    assert "warmup_epochs" in config.adaptations[0] and "0.333" in config.adaptations[0]


@pytest.mark.parametrize("name", SHIPPED)
def test_the_command_line_changes_nothing_that_fits(name, load_recipe):
    recipe = load_recipe(name)
    assert recipe.adaptations == ()
    for overrides in ({"epoch_size": recipe.epoch_size}, {"image_size": list(recipe.image_size)}, {"epoch_size": 900}):
        config = load_recipe(name, **overrides)
        assert config.adaptations == () and config.steps == recipe.steps and config.milestones == recipe.milestones
        assert config.warmup_epochs == recipe.warmup_epochs and config.box_sizes == recipe.box_sizes


def test_milestones_move_in_proportion_to_the_run(load_recipe):
    config = load_recipe("ssd_resnet50", epoch_size=13)
    assert config.milestones == pytest.approx([8.6, 10.8]) and config.warmup_epochs == 1
    (line,) = config.adaptations
    assert "milestones" in line and "[8.6, 10.8]" in line and "65" in line
    assert load_recipe("ssd_resnet50", epoch_size=55).milestones == (43, 54)


def test_values_on_the_command_line_are_not_adapted(recipe, load_recipe):
    assert_refused(SSD300, {"epoch_size": 1, "warmup_epochs": 1}, parts=["warmup_epochs", 1, "epoch_size"])
    assert_refused(SSD300, {"warmup_epochs": 70}, parts=["warmup_epochs", 70, 65])
    assert_refused(SSD300, {"epoch_size": 1, "milestones": [1]}, parts=["milestones", "[1]", "[0.66, 0.83]"])
    config = load_recipe("ssd_resnet50", epoch_size=1, warmup_epochs=0.25, milestones=[0.5])
    assert config.warmup_epochs == 0.25 and config.milestones == (0.5,) and config.adaptations == ()


def test_a_recipe_whose_milestones_exceed_its_own_epochs_is_refused(recipe):
    path = recipe(schedule="steps", milestones=[5, 20], epoch_size=20)
    assert_refused(path, {"epoch_size": 10}, parts=["milestones", "[5, 20]", 10])


def test_the_epochs_of_a_base_shorten_the_warm_up(recipe):
    assert load_config(recipe(epoch_size=2)).warmup_epochs == pytest.approx(2 / 3)  # the default is 2


# --- image_size ---


@pytest.mark.parametrize(
    "name, image_size, steps",
    [
        # Strides 16, 32 and 64; then image side / map side, rounded up: 320/3, 320/2, 320/1
        ("ssd_mobilenetv2", [320, 320], [16, 32, 64, 107, 160, 320]),
        ("ssd_mobilenetv2", [512, 512], [16, 32, 64, 128, 256, 512]),
        ("ssd_mobilenetv3", [256, 256], [16, 32, 64, 128, 256, 256]),
        # Maps of 3x4, 2x2 and 1x1: one step for both sides
        ("ssd_mobilenetv2", [300, 500], [16, 32, 64, 125, 250, 500]),
        ("ssd_mobilenetv2", [500, 300], [16, 32, 64, 125, 250, 500]),
        # Two layers without padding reduce 8 locations to 6 and 4: 512/6, 512/4
        ("ssd_resnet50", [512, 512], [8, 16, 32, 64, 86, 128]),
        ("ssd_mobilenetv2", [296, 290], [16, 32, 64, 100, 150, 300]),  # the recipe's steps fit
        ("ssd_resnet50_fpn", [300, 500], [8, 16, 32, 64, 128]),
    ],
)
def test_steps_fit_the_image_size_of_the_command_line(name, image_size, steps, load_recipe):
    config = load_recipe(name, image_size=image_size)
    assert list(config.steps) == steps
    changed = config.steps != load_recipe(name).steps
    assert any(str(steps) in line for line in config.adaptations) == changed


def test_box_sizes_in_pixels_scale_with_the_images(load_recipe):
    config = load_recipe("ssd_resnet50", image_size=[512, 512])
    assert config.box_sizes == (35.84, 76.8, 168.96, 261.12, 353.28, 445.44, 537.6)
    assert "box_sizes" in config.adaptations[1]
    kept = load_recipe("ssd_resnet50", image_size=[512, 512], box_sizes=[20, 51, 133, 215, 296, 378, 460])
    assert kept.box_sizes == (20, 51, 133, 215, 296, 378, 460) and len(kept.adaptations) == 1


def test_image_sizes_that_no_steps_fit_are_refused():
    assert_refused(SSD300, {"image_size": [300, 500]}, parts=["image_size", "500x300", "6x3", '"[500,500]"'])
    assert_refused(SSD300, {"image_size": [256, 256]}, parts=["image_size", "256x256", "[300, 300]"])
    assert_refused(SSD300, {"image_size": [0, 256]}, parts=["image_size"])


def test_steps_on_the_command_line_are_not_adapted(load_recipe):
    for steps in ([16, 32, 64, 110, 170, 320], [16, 32, 64, 100, 150, 300]):
        config = load_recipe("ssd_mobilenetv2", image_size=[320, 320], steps=steps)
        assert list(config.steps) == steps and config.adaptations == ()


def test_unusual_steps_of_a_recipe_are_left_to_the_user(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text(f"__BASE__: {RECIPES / 'ssd_mobilenetv2.yaml'}\nsteps: [16, 32, 64, 120, 150, 300]\n")
    assert load_config(path, {"image_size": [512, 512]}).steps == (16, 32, 64, 120, 150, 300)


def test_sizes_of_feature_maps_in_a_recipe_of_mindcv_refer_to_its_own_images(tmp_path):
    path = tmp_path / "recipe.yaml"
    sizes = {"feature_size": [19, 10, 5, 3, 2, 1], "num_ssd_boxes": 1917}
    path.write_text(yaml.safe_dump({"__BASE__": str(RECIPES / "ssd_mobilenetv2.yaml"), **sizes}))
    assert load_config(path).steps == (16, 32, 64, 100, 150, 300)
    assert load_config(path, {"image_size": [320, 320]}).steps == (16, 32, 64, 107, 160, 320)
    assert_refused(path, {"image_size": [320, 320], "num_ssd_boxes": 1917}, parts=["num_ssd_boxes", 1917])


@pytest.mark.parametrize(
    "image_size, feature_size, step",
    [((300, 300), (3, 3), 100), ((320, 320), (3, 3), 107), ((300, 500), (3, 4), 125), ((300, 500), (3, 6), None)],
)
def test_smallest_fitting_steps_by_hand(image_size, feature_size, step):
    assert smallest_fitting_step(image_size, feature_size) == step
    assert smallest_fitting_step(image_size, (0, 1)) is None


# --- backbone_ckpt_path ---


def test_a_recipe_without_its_imagenet_weights_says_what_that_costs(load_recipe):
    config = load_recipe("ssd_mobilenetv2", backbone_ckpt_path="")
    (line,) = config.adaptations
    assert line.startswith("backbone_ckpt_path: ") and config.backbone_ckpt_path == ""
    assert load_recipe("ssd_mobilenetv2", backbone_ckpt_path="other.ckpt").adaptations == ()
    assert load_recipe("ssd_mobilenetv2", backbone_ckpt_path="", pretrained_detector="a.ckpt").adaptations == ()
    assert load_recipe("ssd_shapes", backbone_ckpt_path="").adaptations == ()  # as the recipe says

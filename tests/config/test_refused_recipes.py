"""Recipes with mistakes: the error names the file or the key, and the value."""

import pytest

from refused_recipe import assert_refused
from ssd.config.loading import load_config


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
        ("backbone_taps", "input"),
        ("backbone_taps", "expansion"),  # with the neck extras, which expands itself
        ("anchors", "none"),
        ("amp_level", "O1"),  # MindSpore would rewrite the code of the network, and fail
        ("mode", 2),
        ("jit_level", "O3"),
        ("comm_fusion_mb", 0),
        ("precision_mode", "float16"),
        ("execute_timeout_s", -1),
        ("device_target", "GPU"),
        ("device_target", "TPU"),
        ("device_target", "cpu"),
        ("device_target", 5),
        ("device_target", "x" * 300),
        ("device_target", "../runtime/cpu"),
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
        ("sink_size", 0),
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


@pytest.mark.parametrize(
    "keys, overrides, place",
    [
        ({}, {"lr": -1}, "command line: lr:"),
        ({"lr": -1}, {"batch_size": 4}, "recipe.yaml: lr:"),
        ({}, {"steps": [8, "x"]}, "command line: steps.1:"),
        ({"augment": {"flip_prob": 2}}, {"augment.crop_prob": 1}, "recipe.yaml: augment.flip_prob:"),
        ({"augment": {"flip_prob": 1}}, {"augment.flip_prob": 2}, "command line: augment.flip_prob:"),
    ],
)
def test_a_wrong_value_is_reported_where_it_stands(keys, overrides, place, recipe):
    assert_refused(recipe(**keys), overrides, parts=[place])


def test_data_sinking_is_refused_on_cpu(recipe):
    assert_refused(recipe(), {"dataset_sink_mode": True, "device_target": "CPU"}, parts=["dataset_sink_mode", "CPU"])
    assert load_config(recipe(dataset_sink_mode=True), {"device_target": "CPU"}).dataset_sink_mode is False
    values = {"device_target": "Ascend", "checkpoint_every_steps": 100, "sink_size": 1}
    assert load_config(recipe(), values).dataset_sink_mode is True


def test_wrong_values_within_lists_are_refused_with_their_place(recipe):
    layer = {"out_channels": 8, "expand_ratio": 1}
    assert_refused(recipe(extra_layers=[layer, {**layer, "stride": 3}]), {}, parts=["extra_layers.1.stride", 3])
    assert_refused(recipe(extra_layers=[layer, {**layer, "strides": 2}]), {}, parts=["extra_layers.1.strides"])
    assert_refused(recipe(extra_layers=[{"out_channels": 8}]), {}, parts=["extra_layers.0.expand_ratio"])


def test_the_error_states_both_numbers_of_levels(recipe):
    assert_refused(recipe(), {"steps": [16, 32, 64]}, parts=["aspect_ratios", 2, "steps", 3])


def test_prior_bias_is_not_for_the_multibox_loss(recipe):
    assert_refused(recipe(), {"prior_bias": 0.01, "loss": "multibox"}, parts=["prior_bias", "multibox"])
    assert load_config(recipe(), {"prior_bias": 0.01}).prior_bias == 0.01
    assert load_config(recipe(), {"prior_bias": 0.01, "loss": "task_aligned"}).prior_bias == 0.01


def test_the_task_aligned_loss_needs_prior_bias(recipe):
    assert_refused(recipe(), {"loss": "task_aligned"}, parts=["prior_bias", "task_aligned", 0.01])


def test_the_multibox_loss_does_not_count_positives_of_all_devices(recipe):
    assert_refused(recipe(), {"sync_num_positives": True, "loss": "multibox"}, parts=["sync_num_positives", "multibox"])
    assert load_config(recipe(), {"sync_num_positives": True}).sync_num_positives is True
    task_aligned = {"loss": "task_aligned", "prior_bias": 0.01}
    assert load_config(recipe(), {"sync_num_positives": True, **task_aligned}).sync_num_positives is True


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
    assert_refused(recipe(__BASE__=["x" * 300]), {}, parts=[tmp_path / ("x" * 300)])


@pytest.mark.parametrize(
    "content",
    [
        *(b"lr: [1", b"just text", b"- a\n- b", b"", b"\xff\xfe\xfa", b"lr: *x"),
        *(b"lr: 2026-99-99", b"lr: !!int x", b"lr: !!bool x", b"lr: " + b"[" * 10_000, b'classes: ["\\ud800"]'),
    ],
)
def test_a_file_that_is_not_a_recipe_is_refused(content, tmp_path):
    path = tmp_path / "bad.yaml"
    path.write_bytes(content)
    assert_refused(path, {}, parts=[path])


@pytest.mark.parametrize("base", ["recipe.yaml", 5, [5], "a\0b"])
def test_impossible_bases_are_refused(base, recipe):
    path = recipe(__BASE__=base)
    assert_refused(path, {}, parts=[path, "__BASE__"])

"""The command line `--config F [--key value ...]`: overrides, options of a script, help, and refused mistakes."""

import subprocess
import sys

import pytest
import yaml

from ssd.config.command_line import parse_command_line, parse_overrides, parse_recipe_and_options
from ssd.config.loading import CONFIGS, coco_classes
from ssd.errors import UserError

RECIPES = CONFIGS.parent / "examples" / "det" / "ssd"


@pytest.mark.parametrize(
    "line, expected",
    [
        ([], {}),
        (["--lr", "0.1"], {"lr": 0.1}),
        (["--lr=0.1"], {"lr": 0.1}),
        (["--lr", "1e-4"], {"lr": "1e-4"}),  # text in YAML 1.1, which needs a dot; Config converts it
        (["--augment.flip_prob", "0"], {"augment.flip_prob": 0}),
        (["--augment.flip_prob=0"], {"augment.flip_prob": 0}),
        (["--batch-size", "2"], {"batch_size": 2}),
        (["--seed", "-1"], {"seed": -1}),
        (["--seed=-1", "--lr", "-0.5"], {"seed": -1, "lr": -0.5}),
        (["--ckpt_path", ""], {"ckpt_path": ""}),
        (["--ckpt_path="], {"ckpt_path": ""}),
        (["--data_dir", "/a b/c=d"], {"data_dir": "/a b/c=d"}),
        (["--data_dir=/a b/c=d"], {"data_dir": "/a b/c=d"}),
        (["--steps", "[8"], {"steps": "[8"}),  # not valid YAML; Config reports it
        (["--steps", "[8, 16]", "--shuffle", "false"], {"steps": [8, 16], "shuffle": False}),
        (["--augment", "{flip_prob: 0}"], {"augment": {"flip_prob": 0}}),
        (["--lr", "1", "--lr", "2"], {"lr": 2}),
        (["--output_dir", "--"], {"output_dir": "--"}),
    ],
)
def test_overrides_of_every_form(line, expected):
    before = list(line)
    assert parse_overrides(line) == expected
    assert line == before


@pytest.mark.parametrize(
    "line, wrong",
    [
        (["lr", "0.1"], "'lr'"),
        (["--lr", "0.1", "0.2"], "'0.2'"),
        (["-lr", "0.1"], "'-lr'"),
        (["--", "0.1"], "'--'"),
        (["--lr"], "--lr "),
        (["--lr", "--batch_size", "2"], "--lr "),
    ],
)
def test_arguments_that_are_not_overrides_are_refused(line, wrong):
    with pytest.raises(UserError, match=f"^command line: {wrong}"):
        parse_overrides(line)


def test_a_command_line_becomes_a_config(tmp_path):
    recipe = str(RECIPES / "ssd_mobilenetv2.yaml")
    line = ["--lr", "1e-4", "--config", recipe, "--data_dir", str(tmp_path), "--augment.flip_prob=0", "--ckpt_path", ""]
    config = parse_command_line("test", line)
    assert config.lr == 0.0001 and config.augment.flip_prob == 0 and config.data_dir == str(tmp_path)
    assert not config.ckpt_path and config.backbone == "mobilenet_v2_100"
    assert parse_command_line("test", ["-c", recipe, "--data_dir", str(tmp_path)]).lr == 0.05


def test_an_empty_value_overrides_the_recipe(tmp_path):
    line = ["--config", str(RECIPES / "ssd_mobilenetv2.yaml"), "--data_dir", str(tmp_path)]
    assert parse_command_line("test", line).backbone_ckpt_path
    assert not parse_command_line("test", [*line, "--backbone_ckpt_path", ""]).backbone_ckpt_path
    assert parse_command_line("test", [*line, "--jit_level", ""]).jit_level == ""
    assert parse_command_line("test", [*line, "--comm_fusion_mb", ""]).comm_fusion_mb is None


@pytest.mark.parametrize("value", ["2024-05-01", "007", "1.50", "on"])
def test_paths_are_taken_literally(value, tmp_path):
    """YAML would turn these values into a date, an octal number, a float and a truth value."""
    line = ["--config", str(RECIPES / "ssd_mobilenetv2.yaml"), "--data_dir", str(tmp_path), "--ckpt_save_dir", value]
    assert parse_command_line("test", line).ckpt_save_dir == value


def test_config_is_required(capsys):
    with pytest.raises(SystemExit) as caught:
        parse_command_line("test", ["--lr", "0.1"])
    assert caught.value.code == 2 and "--config" in capsys.readouterr().err


def test_options_cannot_be_abbreviated(tmp_path):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(yaml.safe_dump({"data_dir": str(tmp_path)}))
    with pytest.raises(UserError, match="'conf'"):
        parse_command_line("test", ["--config", str(recipe), "--conf", "b.yaml"])


# --- options of a script ---

OPTIONS = {"input": {"required": True, "nargs": "+"}, "output": {}}


@pytest.mark.parametrize(
    "line",
    [
        ["--input", "a.jpg", "b c.jpg", "--output", "out", "--lr", "0.2"],
        ["--lr", "0.2", "--output=out", "--input", "a.jpg", "b c.jpg"],
        ["--lr=0.2", "--input", "a.jpg", "b c.jpg", "--output", "out"],
    ],
)
def test_options_and_keys_can_be_mixed_in_any_order(line, tmp_path):
    start = ["--config", str(RECIPES / "ssd_mobilenetv2.yaml"), "--data_dir", str(tmp_path)]
    for arguments in (start + line, line + start):
        config, options = parse_recipe_and_options("test", OPTIONS, arguments)
        assert config.lr == 0.2 and config.data_dir == str(tmp_path)
        assert options.input == ["a.jpg", "b c.jpg"] and options.output == "out"


def test_an_absent_option_is_none(tmp_path):
    line = ["--config", str(RECIPES / "ssd_mobilenetv2.yaml"), "--data_dir", str(tmp_path), "--input", "a"]
    assert parse_recipe_and_options("test", OPTIONS, line)[1].output is None


@pytest.mark.parametrize(
    "key, neighbor",
    [
        ("--ouput", "'--output'"),
        ("--outputs", "'--output'"),
        ("--output_dri", "'output_dir'"),  # a recipe key is more similar
        ("--bacth_size", "'batch_size'"),
        ("--augment.flip_prop", "'augment.flip_prob'"),
    ],
)
def test_the_error_for_a_misspelt_option_names_the_most_similar_one(key, neighbor, tmp_path):
    line = ["--config", str(RECIPES / "ssd_mobilenetv2.yaml"), "--data_dir", str(tmp_path), "--input", "a", key, "1"]
    with pytest.raises(UserError) as error:
        parse_recipe_and_options("test", OPTIONS, line)
    assert key.removeprefix("--") in str(error.value) and neighbor in str(error.value)


def test_keys_of_mindcv_s_example_are_not_misspelt_options(tmp_path):
    line = ["--config", str(RECIPES / "ssd_mobilenetv2.yaml"), "--data_dir", str(tmp_path), "--input", "a"]
    config, _ = parse_recipe_and_options("test", OPTIONS, [*line, "--num_ssd_boxes", "1917"])
    assert config.image_size == (300, 300)


def test_a_required_option_is_named_if_absent(capsys):
    with pytest.raises(SystemExit) as caught:
        parse_recipe_and_options("test", OPTIONS, ["--config", str(RECIPES / "ssd_mobilenetv2.yaml")])
    assert caught.value.code == 2 and "--input" in capsys.readouterr().err


@pytest.mark.parametrize("line", [["--vid-stride", "2", "--no-labels"], ["--no_labels", "--vid-stride=2"]])
def test_options_may_have_dashes(line, tmp_path):
    options = {"vid_stride": {"type": int}, "no_labels": {"action": "store_true"}}
    start = ["--config", str(RECIPES / "ssd_mobilenetv2.yaml"), "--data-dir", str(tmp_path)]
    config, parsed = parse_recipe_and_options("test", options, [*start, *line])
    assert (parsed.vid_stride, parsed.no_labels, config.data_dir) == (2, True, str(tmp_path))


# --- an option with the name of a recipe key ---

CLASSES = {"classes": {"nargs": "+", "action": "extend"}}


@pytest.mark.parametrize(
    "line, key, option",
    [
        ([], None, []),
        (["--classes", "[background, cat]"], ("background", "cat"), []),
        (["--classes=[background, cat]"], ("background", "cat"), []),
        (["--classes", "cat", "traffic light", "17"], None, ["cat", "traffic light", "17"]),
        (["--classes", "cat", "--classes", "[background, cat]", "dog"], ("background", "cat"), ["cat", "dog"]),
        (["--classes", "[x", "a: b"], None, ["[x", "a: b"]),
        (["--classes", "null"], None, []),
    ],
)
def test_a_list_is_the_recipe_key_and_other_values_are_the_option(line, key, option, tmp_path):
    start = ["--config", str(RECIPES / "ssd_mobilenetv2.yaml"), "--data_dir", str(tmp_path)]
    config, parsed = parse_recipe_and_options("test", CLASSES, [*start, *line])
    assert parsed.classes == option
    assert config.classes == (key or coco_classes())


# --- help ---


@pytest.mark.parametrize("name", ["train.py", "eval.py", "predict.py"])
def test_help_lists_options_and_keys(name, run_script):
    result = run_script(name, "--help")
    assert result.returncode == 0 and result.stderr == ""
    for part in ("--config", "--data_dir", "--augment.flip_prob", "[0.5]"):
        assert part in result.stdout
    assert "--augment " not in result.stdout  # its keys are listed one by one


@pytest.mark.parametrize("name", ["train", "eval", "create_data", "predict"])
def test_help_needs_no_mindspore(name):
    """Help appears without the seconds that importing MindSpore takes, and on machines without MindSpore."""
    code = f"""
import runpy, sys
sys.modules["mindspore"] = sys.modules["mindcv"] = None  # importing them now fails
sys.path.insert(0, {str(RECIPES)!r})
sys.argv = ["{name}.py", "--help"]
runpy.run_path({str(RECIPES / name) + ".py"!r}, run_name="__main__")
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stderr
    assert "usage" in result.stdout

"""--config F [--key value …]: what is a key, what is a value, and what is neither."""

import subprocess
import sys

import pytest
import yaml

from ssd.config.command_line import parse_command_line, parse_overrides, parse_recipe_and_options
from ssd.config.loading import CONFIGS
from ssd.errors import UserError

RECIPES = CONFIGS.parent / "examples" / "det" / "ssd"


@pytest.mark.parametrize(
    "line, expected",
    [
        ([], {}),
        (["--lr", "0.1"], {"lr": 0.1}),
        (["--lr=0.1"], {"lr": 0.1}),
        (["--lr", "1e-4"], {"lr": "1e-4"}),  # YAML 1.1 has no number without a dot; Config makes it one
        (["--augment.flip_prob", "0"], {"augment.flip_prob": 0}),
        (["--augment.flip_prob=0"], {"augment.flip_prob": 0}),
        (["--batch-size", "2"], {"batch_size": 2}),
        (["--seed", "-1"], {"seed": -1}),
        (["--seed=-1", "--lr", "-0.5"], {"seed": -1, "lr": -0.5}),
        (["--ckpt_path", ""], {"ckpt_path": ""}),
        (["--ckpt_path="], {"ckpt_path": ""}),
        (["--data_dir", "/a b/c=d"], {"data_dir": "/a b/c=d"}),
        (["--data_dir=/a b/c=d"], {"data_dir": "/a b/c=d"}),
        (["--steps", "[8"], {"steps": "[8"}),  # no YAML; Config tells what is wrong with it
        (["--steps", "[8, 16]", "--shuffle", "false"], {"steps": [8, 16], "shuffle": False}),
        (["--augment", "{flip_prob: 0}"], {"augment": {"flip_prob": 0}}),
        (["--lr", "1", "--lr", "2"], {"lr": 2}),
        (["--output_dir", "--"], {"output_dir": "--"}),
    ],
)
def test_overrides_by_hand(line, expected):
    before = list(line)
    assert parse_overrides(line) == expected
    assert line == before


@pytest.mark.parametrize(
    "line, message",
    [
        (["lr", "0.1"], "got 'lr', expected --key value"),
        (["--lr", "0.1", "0.2"], "got '0.2', expected --key value"),
        (["-lr", "0.1"], "got '-lr', expected --key value"),
        (["--", "0.1"], "got '--', expected --key value"),
        (["--lr"], "got --lr without a value, expected --lr value"),
        (["--lr", "--batch_size", "2"], "got --lr without a value, expected --lr value"),
    ],
)
def test_what_is_no_override_is_refused(line, message):
    with pytest.raises(UserError, match=f"^command line: {message}$"):
        parse_overrides(line)


def test_a_command_line_is_a_config(tmp_path):
    recipe = str(RECIPES / "ssd_mobilenetv2.yaml")
    line = ["--lr", "1e-4", "--config", recipe, "--data_dir", str(tmp_path), "--augment.flip_prob=0", "--ckpt_path", ""]
    config = parse_command_line("test", line)
    assert config.lr == 0.0001 and config.augment.flip_prob == 0 and config.data_dir == str(tmp_path)
    assert not config.ckpt_path and config.backbone == "mobilenet_v2_100"
    assert parse_command_line("test", ["-c", recipe, "--data_dir", str(tmp_path)]).lr == 0.05


def test_an_empty_value_beats_the_recipe_s(tmp_path):
    line = ["--config", str(RECIPES / "ssd_mobilenetv2.yaml"), "--data_dir", str(tmp_path)]
    assert parse_command_line("test", line).backbone_ckpt_path
    assert not parse_command_line("test", [*line, "--backbone_ckpt_path", ""]).backbone_ckpt_path


@pytest.mark.parametrize("value", ["2024-05-01", "007", "1.50", "on"])
def test_a_path_is_taken_letter_by_letter(value, tmp_path):
    """Whatever YAML would make of it: a date, an octal number, a truth value."""
    line = ["--config", str(RECIPES / "ssd_mobilenetv2.yaml"), "--data_dir", str(tmp_path), "--ckpt_save_dir", value]
    assert parse_command_line("test", line).ckpt_save_dir == value


def test_no_recipe_is_refused(capsys):
    with pytest.raises(SystemExit) as caught:
        parse_command_line("test", ["--lr", "0.1"])
    assert caught.value.code == 2 and "--config" in capsys.readouterr().err


def test_keys_are_not_abbreviated(tmp_path):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(yaml.safe_dump({"data_dir": str(tmp_path)}))
    with pytest.raises(UserError, match="'conf'"):
        parse_command_line("test", ["--config", str(recipe), "--conf", "b.yaml"])


# --- a script's own options ---

OPTIONS = {"input": {"required": True, "nargs": "+"}, "output": {}}


@pytest.mark.parametrize(
    "line",
    [
        ["--input", "a.jpg", "b c.jpg", "--output", "out", "--lr", "0.2"],
        ["--lr", "0.2", "--output=out", "--input", "a.jpg", "b c.jpg"],
        ["--lr=0.2", "--input", "a.jpg", "b c.jpg", "--output", "out"],
    ],
)
def test_a_script_s_options_stand_anywhere_among_the_keys(line, tmp_path):
    start = ["--config", str(RECIPES / "ssd_mobilenetv2.yaml"), "--data_dir", str(tmp_path)]
    for words in (start + line, line + start):
        config, options = parse_recipe_and_options("test", OPTIONS, words)
        assert config.lr == 0.2 and config.data_dir == str(tmp_path)
        assert options.input == ["a.jpg", "b c.jpg"] and options.output == "out"


def test_an_option_that_is_not_given_is_none(tmp_path):
    line = ["--config", str(RECIPES / "ssd_mobilenetv2.yaml"), "--data_dir", str(tmp_path), "--input", "a"]
    assert parse_recipe_and_options("test", OPTIONS, line)[1].output is None


@pytest.mark.parametrize(
    "key, told",
    [
        ("--ouput", "got unknown key '--ouput', expected an option or a recipe key; did you mean '--output'?"),
        ("--outputs", "did you mean '--output'?"),
        ("--output_dri", "'output_dir'"),  # nearer to a recipe key
        ("--bacth_size", "'batch_size'"),
        ("--augment.flip_prop", "'augment.flip_prob'"),
    ],
)
def test_a_misspelt_option_names_its_neighbour(key, told, tmp_path):
    line = ["--config", str(RECIPES / "ssd_mobilenetv2.yaml"), "--data_dir", str(tmp_path), "--input", "a", key, "1"]
    with pytest.raises(UserError) as error:
        parse_recipe_and_options("test", OPTIONS, line)
    assert told in str(error.value)


def test_published_keys_are_none_of_a_script_s_options(tmp_path):
    """Keys of MindCV's example are no fields of Config, and still no misspelt options."""
    line = ["--config", str(RECIPES / "ssd_mobilenetv2.yaml"), "--data_dir", str(tmp_path), "--input", "a"]
    config, _ = parse_recipe_and_options("test", OPTIONS, [*line, "--num_ssd_boxes", "1917"])
    assert config.image_size == (300, 300)


def test_a_script_s_option_that_must_be_given_is_asked_for(capsys):
    with pytest.raises(SystemExit) as caught:
        parse_recipe_and_options("test", OPTIONS, ["--config", str(RECIPES / "ssd_mobilenetv2.yaml")])
    assert caught.value.code == 2 and "--input" in capsys.readouterr().err


# --- help ---


@pytest.mark.parametrize("name", ["train.py", "eval.py", "predict.py"])
def test_help_names_every_kind_of_key(name, run_script):
    result = run_script(name, "--help")
    assert result.returncode == 0 and result.stderr == ""
    for part in ("--config", "--data_dir", "--augment.flip_prob", "share of images flipped left to right [0.5]"):
        assert part in result.stdout
    assert "--augment " not in result.stdout  # its keys are there, a line for all of them would tell nothing


@pytest.mark.parametrize("name", ["train", "eval", "create_data", "predict"])
def test_help_needs_no_mindspore(name):
    """In seconds where MindSpore takes many, and on machines without it."""
    code = f"""
import runpy, sys
sys.modules["mindspore"] = sys.modules["mindcv"] = None  # importing them fails from here on
sys.path.insert(0, {str(RECIPES)!r})
sys.argv = ["{name}.py", "--help"]
runpy.run_path({str(RECIPES / name) + ".py"!r}, run_name="__main__")
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stderr
    assert "usage" in result.stdout

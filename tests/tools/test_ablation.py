"""Tests of tools/ablation.py: studies, continued studies, and the arithmetic of the table."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from ablation import Study, make_table
from ssd.config.loading import CONFIGS, load_config
from ssd.errors import UserError

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
SHAPES = str(ROOT / "examples/det/ssd/ssd_shapes.yaml")
SHORT = "--epoch_size 1 --warmup_epochs 0 --steps_per_epoch 2 --batch_size 2 --ema_decay 0.9".split()


def metrics(ap, ap50=0.5, small=-1.0):
    return {"mAP": ap, "AP50": ap50, "AP_small": small, "AP_medium": 0.25, "AP_large": 0.75}


def write_yaml(path, **content):
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


def ablation(*arguments):
    command = [sys.executable, "tools/ablation.py", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)


def test_table():
    results = {
        "published": {
            "last": {0: metrics(0.40, 0.6), 1: metrics(0.42, 0.7)},
            "averaged": {0: metrics(0.41), 1: metrics(0.43)},
        },
        "GIoU": {"last": {0: metrics(0.43, small=0.125), 1: metrics(0.41, small=0.25)}},
        "half done": {"last": {1: metrics(0.44)}},
        "not begun": {},
    }
    assert make_table(results).splitlines()[2:] == [
        "| published | 2 | 41.0 ± 1.4 |  | 65.0 | none, 25.0, 75.0 |",
        "| published, averaged weights | 2 | 42.0 ± 1.4 | +1.0 ± 0.0 | 50.0 | none, 25.0, 75.0 |",
        "| GIoU | 2 | 42.0 ± 1.4 | +1.0 ± 2.8 | 50.0 | 18.8, 25.0, 75.0 |",
        "| half done | 1 | 44.0 | +2.0 | 50.0 | none, 25.0, 75.0 |",
    ]


def test_there_is_no_difference_without_common_seeds():
    table = make_table({"a": {"last": {0: metrics(0.4)}}, "b": {"last": {1: metrics(0.5)}}})
    assert table.splitlines()[-1] == "| b | 1 | 50.0 |  | 50.0 | none, 25.0, 75.0 |"
    assert make_table({"a": {}}).count("\n") == 2


@pytest.mark.parametrize("path", sorted((CONFIGS / "studies").glob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_studies(path, tmp_path):
    study = Study(path, tmp_path, ["--device_target", "CPU", "--data_dir", "/nowhere"])
    recipes = [variant.cfg for variant in study.variants.values()]
    base = load_config(path.parent / yaml.safe_load(path.read_text())["recipe"], {"data_dir": "/nowhere"})
    assert base in recipes and len({recipe.model_dump_json() for recipe in recipes}) == len(recipes)


def test_the_first_variant_of_the_finetune_study_is_the_published_recipe(tmp_path):
    overrides = ["--device_target", "CPU", "--data_dir", "/nowhere"]
    first, *_ = Study(CONFIGS / "studies" / "finetune.yaml", tmp_path, overrides).variants.values()
    values = {"device_target": "CPU", "data_dir": "/nowhere", "batch_size": 8, "epoch_size": 20, "lr": 0.02}
    published = load_config(ROOT / "examples/det/ssd/ssd_mobilenetv2.yaml", values)
    folders = {"ckpt_save_dir": "", "output_dir": ""}
    assert first.cfg.model_copy(update=folders) == published.model_copy(update=folders)


def test_the_last_variant_of_the_accuracy_study_is_the_plus_recipe(tmp_path):
    overrides = ["--device_target", "CPU", "--data_dir", "/nowhere"]
    *_, last = Study(CONFIGS / "studies" / "accuracy.yaml", tmp_path, overrides).variants.values()
    plus = load_config(
        ROOT / "examples/det/ssd/ssd_mobilenetv2_plus.yaml", {"device_target": "CPU", "data_dir": "/nowhere"}
    )
    folders = {"ckpt_save_dir": "", "output_dir": ""}
    assert last.cfg.model_copy(update=folders) == plus.model_copy(update=folders)


@pytest.mark.parametrize(
    "content, parts",
    [
        ({"recipe": "a.yaml"}, ["study.yaml: ", "'variants'"]),
        ({"recipe": "a.yaml", "variants": {}, "seed": 1}, ["study.yaml: ", "'seed'"]),
        ({"recipe": "a.yaml", "variants": {}}, ["study.yaml: ", "variants"]),
        ({"recipe": "absent.yaml", "variants": {"a": {}}}, ["absent.yaml"]),
        ({"recipe": SHAPES, "variants": {"a": {"lrr": 1}}}, ["lrr", "'lr'"]),
    ],
)
def test_invalid_studies_are_rejected_before_training(content, parts, tmp_path):
    with pytest.raises(UserError) as error:
        Study(write_yaml(tmp_path / "study.yaml", **content), tmp_path / "out", [])
    assert all(part in str(error.value) for part in parts)


def test_data_without_validation_boxes_are_rejected_before_training(shapes_records, tmp_path):
    info = json.loads((shapes_records / "dataset.json").read_text())
    info["val"]["boxes"] = 0
    (tmp_path / "dataset.json").write_text(json.dumps(info))
    study = write_yaml(tmp_path / "study.yaml", recipe=SHAPES, variants={"a": {"data_dir": str(tmp_path)}})
    with pytest.raises(UserError, match=f"^data_dir: .*{tmp_path}"):
        Study(study, tmp_path / "out", [])


@pytest.mark.parametrize(
    "variants, overrides, match",
    [
        ({"a": {"lr": 0.1}}, [], "a/recipe.yaml: "),
        ({"a": {"lr": 0.2}}, ["--epoch_size", "7"], "a/recipe.yaml: "),
        ({"a b": {}, "a_b": {}}, [], "other.yaml: .*a b, a_b"),
        ({"b": {"early_stop_patience": 2, "eval_while_train": True}}, [], "early_stop_patience: 2"),
    ],
)
def test_studies_that_would_mix_trainings_are_rejected(variants, overrides, match, tmp_path):
    first = write_yaml(tmp_path / "first.yaml", recipe=SHAPES, variants={"a": {"lr": 0.2}})
    for _ in range(2):
        Study(first, tmp_path / "out", [])
    with pytest.raises(UserError, match=match):
        Study(write_yaml(tmp_path / "other.yaml", recipe=SHAPES, variants=variants), tmp_path / "out", overrides)
    assert "lr: 0.2" in (tmp_path / "out" / "a" / "recipe.yaml").read_text()


def test_a_rejected_study_can_be_corrected(tmp_path):
    """Regression: recipes of a rejected study were kept, and the corrected study was rejected because of them."""
    study = write_yaml(tmp_path / "study.yaml", recipe=SHAPES, variants={"a": {"lr": 0.1}, "b": {"lrr": 0.2}})
    with pytest.raises(UserError, match="lrr"):
        Study(study, tmp_path / "out", [])
    write_yaml(study, recipe=SHAPES, variants={"a": {"lr": 0.1}, "b": {"lr": 0.2}})
    variants = Study(study, tmp_path / "out", ["--epoch_size", "7"]).variants
    assert [(variant.cfg.lr, variant.cfg.epoch_size) for variant in variants.values()] == [(0.1, 7), (0.2, 7)]


def test_finished_trainings_are_not_repeated(shapes_records, tmp_path):
    variants = {"GIoU loss": {"box_loss": "giou"}}
    (tmp_path / "recipe.yaml").write_text(f"__BASE__: {ROOT / 'tests' / 'tiny.yaml'}")
    study, out = write_yaml(tmp_path / "study.yaml", recipe="recipe.yaml", variants=variants), tmp_path / "out"
    arguments = [study, out, "--seeds", 3, "--data_dir", shapes_records, *SHORT]
    first = ablation(*arguments)
    assert first.returncode == 0, first.stdout + first.stderr
    for weights in ("last", "averaged"):
        assert (out / "GIoU_loss" / "3" / weights / "metrics.json").is_file()
    table = (out / "table.md").read_text()
    assert [row.split("|")[1].strip() for row in table.splitlines()[2:]] == ["GIoU loss", "GIoU loss, averaged weights"]
    assert first.stdout.endswith(table)
    again = ablation(*arguments)
    assert (again.returncode, again.stdout) == (0, table)
    (out / "GIoU_loss" / "3" / "last" / "metrics.json").unlink()
    rows = ablation(*arguments, "--table_only").stdout.splitlines()[2:]
    assert [row.split("|")[1].strip() for row in rows] == ["GIoU loss, averaged weights"]


def test_a_failed_command_ends_the_study(tmp_path):
    study = write_yaml(tmp_path / "study.yaml", recipe=SHAPES, variants={"a": {}})
    arguments = [study, tmp_path / "out", "--data_dir", tmp_path / "nowhere"]
    result = ablation(*arguments)
    error = result.stderr.splitlines()[-1]
    assert result.returncode == 2 and error.startswith("error: train.py: ") and "exit code 2" in error
    assert "Traceback" not in result.stderr

"""Studies: what is trained, what is not trained again, and the arithmetic of the table."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from ablation import Study, make_table
from ssd.config.loading import CONFIGS, load_config
from ssd.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
SHORT = "--epoch_size 1 --warmup_epochs 0 --steps_per_epoch 2 --batch_size 2 --ema_decay 0.9".split()


def metrics(ap, ap50=0.5, small=-1.0):
    return {"mAP": ap, "AP50": ap50, "AP_small": small, "AP_medium": 0.25, "AP_large": 0.75}


def write(path, **content):
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


def ablation(*words):
    command = [sys.executable, "tools/ablation.py", *map(str, words)]
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


def test_without_the_seeds_of_the_first_there_is_no_difference():
    table = make_table({"a": {"last": {0: metrics(0.4)}}, "b": {"last": {1: metrics(0.5)}}})
    assert table.splitlines()[-1] == "| b | 1 | 50.0 |  | 50.0 | none, 25.0, 75.0 |"
    assert make_table({"a": {}}).count("\n") == 2


@pytest.mark.parametrize("path", sorted((CONFIGS / "studies").glob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_studies(path, tmp_path):
    study = Study(path, tmp_path, ["--device_target", "CPU", "--data_dir", "/nowhere"])
    recipes = [cfg for _, cfg in study.variants.values()]
    base = load_config(path.parent / yaml.safe_load(path.read_text())["recipe"], {"data_dir": "/nowhere"})
    assert recipes[0] == base and len({recipe.model_dump_json() for recipe in recipes}) == len(recipes)


def test_the_study_of_accuracy_ends_in_the_plus_recipe(tmp_path):
    words = ["--device_target", "CPU", "--data_dir", "/nowhere"]
    *_, (_, last) = Study(CONFIGS / "studies" / "accuracy.yaml", tmp_path, words).variants.values()
    plus = load_config(
        ROOT / "examples/det/ssd/ssd_mobilenetv2_plus.yaml", {"device_target": "CPU", "data_dir": "/nowhere"}
    )
    folders = {"ckpt_save_dir": "", "output_dir": ""}
    assert last.model_copy(update=folders) == plus.model_copy(update=folders)


@pytest.mark.parametrize(
    "content, told",
    [
        ({"recipe": "a.yaml"}, "got keys ['recipe'], expected `recipe` and `variants`"),
        ({"recipe": "a.yaml", "variants": {}, "seed": 1}, "got keys ['recipe', 'seed', 'variants']"),
        ({"recipe": "absent.yaml", "variants": {"a": {}}}, "absent.yaml"),
        (
            {"recipe": str(ROOT / "examples/det/ssd/ssd_shapes.yaml"), "variants": {"a": {"lrr": 1}}},
            "did you mean 'lr'?",
        ),
    ],
)
def test_what_is_no_study_is_refused_before_anything_is_trained(content, told, tmp_path):
    with pytest.raises(UserError) as error:
        Study(write(tmp_path / "study.yaml", **content), tmp_path / "out", [])
    assert told in str(error.value)


@pytest.mark.parametrize(
    "variants, words, told",
    [
        ({"a": {"lr": 0.1}}, [], "got a study with other keys"),
        ({"a": {"lr": 0.2}}, ["--epoch_size", "7"], "got a study with other keys"),
        ({"a b": {}, "a_b": {}}, [], "names of variants with one folder"),
        ({"b": {"early_stop_patience": 2, "eval_while_train": True}}, [], "early_stop_patience"),
    ],
)
def test_what_would_mix_trainings_is_refused(variants, words, told, tmp_path):
    recipe = str(ROOT / "examples/det/ssd/ssd_shapes.yaml")
    first = write(tmp_path / "first.yaml", recipe=recipe, variants={"a": {"lr": 0.2}})
    for _ in range(2):
        Study(first, tmp_path / "out", [])
    with pytest.raises(UserError, match=told):
        Study(write(tmp_path / "other.yaml", recipe=recipe, variants=variants), tmp_path / "out", words)
    assert "lr: 0.2" in (tmp_path / "out" / "a" / "recipe.yaml").read_text()


def test_a_study_is_made_and_not_made_again(shapes_records, tmp_path):
    variants = {"GIoU loss": {"box_loss": "giou"}}
    (tmp_path / "recipe.yaml").write_text(f"__BASE__: {ROOT / 'tests' / 'tiny.yaml'}")
    study, out = write(tmp_path / "study.yaml", recipe="recipe.yaml", variants=variants), tmp_path / "out"
    words = [study, out, "--seeds", 3, "--data_dir", shapes_records, *SHORT]
    first = ablation(*words)
    assert first.returncode == 0, first.stdout + first.stderr
    for weights in ("last", "averaged"):
        assert (out / "GIoU_loss" / "3" / weights / "metrics.json").is_file()
    table = (out / "table.md").read_text()
    assert table.count("\n") == 4 and first.stdout.endswith(table)
    again = ablation(*words)
    assert (again.returncode, again.stdout) == (0, table)
    (out / "GIoU_loss" / "3" / "last" / "metrics.json").unlink()
    assert ablation(*words, "--table_only").stdout.count("\n") == 3


def test_a_command_that_fails_ends_it(tmp_path):
    study = write(tmp_path / "study.yaml", recipe=str(ROOT / "examples/det/ssd/ssd_shapes.yaml"), variants={"a": {}})
    result = ablation(study, tmp_path / "out", "--data_dir", tmp_path / "nowhere")
    assert result.returncode == 2 and "train.py: got exit code 2, expected 0" in result.stderr.splitlines()[-1]
    assert "Traceback" not in result.stderr

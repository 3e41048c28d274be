"""The commands as users run them: the README's lines from data to mAP, and how mistakes end."""

import json
import os
import re
import shlex
import subprocess
import sys
import time
from pathlib import Path

import mindcv
import mindspore
import pytest

from ssd.models.detector import create_detector

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[1]
SSD = "examples/det/ssd"
SHORT = [
    "--epoch_size",
    "1",
    "--warmup_epochs",
    "0",
    "--steps_per_epoch",
    "2",
    "--batch_size",
    "2",
    "--lr",
    "0.01",  # one for all, so that graphs are compiled once
    "--backbone_ckpt_path",
    "",
]

SHAPES = ["circle", "square", "triangle", "star", "ring", "cross"]


@pytest.fixture(scope="module")
def clone(tmp_path_factory, shapes_coco):
    """A folder that looks like the root of the repository, with images where the README puts COCO."""
    folder = tmp_path_factory.mktemp("clone")
    for name in ("examples", "configs", "tools", "tests", "ascend8p.sh"):
        (folder / name).symlink_to(ROOT / name)
    (folder / "cocodataset").symlink_to(shapes_coco)
    return folder


def run(words, cwd, **environment):
    """Run a command with this Python first on the path, as in an activated environment."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        words, cwd=cwd, env={**os.environ, "PATH": path, **environment}, capture_output=True, text=True, timeout=600
    )


def expect_clean(result):
    assert result.returncode == 0, result.stdout + result.stderr
    said = result.stdout + result.stderr
    assert not re.search(r"warning|traceback|exception ignored", said, re.IGNORECASE), said
    return result


def readme_commands():
    """The README's lines that start with a script of ours, in order, without the quick start's photograph."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines()]
    return [
        line for line in lines if re.match(rf"(python {SSD}|msrun|bash ascend8p)", line) and "photo.jpg" not in line
    ]


def test_readme_has_the_known_commands_word_for_word():
    """Users of MindCV's example and of other suites know these lines. Scripts and notes contain them."""
    recipe = "--config examples/det/ssd/ssd_mobilenetv2.yaml"
    assert readme_commands() == [
        "python examples/det/ssd/create_data.py coco --data_path cocodataset --out_path data/coco",
        f"python examples/det/ssd/train.py {recipe}",
        f"msrun --bind_core=True --worker_num 8 python examples/det/ssd/train.py {recipe}",
        "bash ascend8p.sh examples/det/ssd/ssd_mobilenetv2.yaml",
        f"python examples/det/ssd/eval.py {recipe}",
        f"python examples/det/ssd/predict.py {recipe} --input cocodataset/val2017",
        f"python examples/det/ssd/export.py {recipe} --format onnx",
    ]


def expect_table_then_map(lines):
    """The lines of eval.py: the checkpoint, COCO's 12 metrics, a row for each class, and mAP."""
    assert lines[0] == "checkpoint: ckpt/ssd_mobilenetv2/ssd-1.ckpt, epoch 1"
    assert lines[1].startswith(" Average Precision  (AP) @[ IoU=0.50:0.95") and lines[13] == ""
    assert [line.split()[0] for line in lines[14:21]] == ["class", *SHAPES]
    assert re.fullmatch(r"mAP: \d\.\d{4}", lines[-1])


def test_readme_commands_train_and_evaluate_coco(clone):
    for line in readme_commands():
        words = shlex.split(line)
        if words[0] != "python":
            continue
        extra = SHORT if "train.py" in line else [] if "create_data.py" in line else ["--batch_size", "2"]
        result = expect_clean(run(words + extra, clone))
        if "train.py" in line:
            losses = r"loss \d+\.\d+ \(box \d+\.\d+, class \d+\.\d+\)"
            assert re.search(rf"epoch 1/1 step 2/2 {losses} lr \d\.\d+ \d+\.\d images/s \d+ MiB", result.stdout)
        if "eval.py" in line:
            expect_table_then_map(result.stdout.splitlines())
    assert json.loads((clone / "data/coco/dataset.json").read_text())["classes"][1:] == SHAPES
    assert (clone / "ckpt/ssd_mobilenetv2/ssd-1.ckpt").is_file()
    metrics = json.loads((clone / "output/ssd_mobilenetv2/metrics.json").read_text())
    assert 0 <= metrics["mAP"] <= 1 and metrics["images"] == 4
    output = clone / "output/ssd_mobilenetv2"
    assert "data:image/jpeg;base64," in (output / "report.html").read_text()
    assert len(list(output.glob("predictions/*.jpg"))) == 4 and (output / "predictions/detections.json").is_file()
    assert (clone / "ckpt/ssd_mobilenetv2/metrics.csv").is_file()
    assert (clone / "output/ssd_mobilenetv2_onnx/model.onnx").is_file()
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    (line,) = re.findall(rf"^python {SSD}/predict.py --model .*photo.jpg$", text, re.MULTILINE)
    (clone / "photo.jpg").write_bytes(next((clone / "cocodataset/val2017").iterdir()).read_bytes())
    expect_clean(run(shlex.split(line), clone))
    assert (clone / "output/predictions/photo.jpg").is_file()


def test_readme_msrun_starts_eight_ranks(clone, tmp_path):
    """msrun starts the README's line eight times and a scheduler. The ranks are a program that notes its environment.

    `tests/runtime/test_msrun_training.py` runs real trainings in two ranks.
    """
    python = tmp_path / "bin" / "python"
    python.parent.mkdir()
    python.write_text('#!/bin/sh\necho "$MS_WORKER_NUM $@" > "$NOTES/$MS_ROLE.$MS_NODE_ID"\n')
    python.chmod(0o755)
    line = next(line for line in readme_commands() if line.startswith("msrun"))
    msrun = str(Path(sys.executable).with_name("msrun"))
    path = f"{python.parent}{os.pathsep}{os.environ['PATH']}"
    words = [sys.executable, msrun, *shlex.split(line)[1:]]
    environment = {**os.environ, "PATH": path, "NOTES": str(tmp_path)}
    result = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stdout + result.stderr
    deadline = time.monotonic() + 60
    while len(notes := list(tmp_path.glob("MS_*"))) < 9 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert sorted(path.name.split(".")[0] for path in notes) == ["MS_SCHED"] + ["MS_WORKER"] * 8
    assert {path.read_text() for path in notes} == {f"8 {line.split(' python ')[1]}\n"}


def test_readme_photograph_is_predicted_with_a_checkpoint_of_mindcv(load_recipe, tmp_path, shapes_coco):
    """The published file is a network of 81 classes. Its weights do not matter here, its names and shapes do."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    (download,) = re.findall(r"^curl -fLO (\S+)$", text, re.MULTILINE)
    (line,) = re.findall(rf"^python {SSD}/predict.py --config .*photo.jpg$", text, re.MULTILINE)
    name = download.rsplit("/", 1)[1]
    mindspore.save_checkpoint(create_detector(load_recipe("ssd_mobilenetv2")), str(tmp_path / name))
    for folder in ("examples", "configs"):
        (tmp_path / folder).symlink_to(ROOT / folder)
    (tmp_path / "photo.jpg").write_bytes(next((shapes_coco / "val2017").iterdir()).read_bytes())
    # Random weights give low scores. A low minimum lets them be drawn and written.
    expect_clean(run([*shlex.split(line), "--display_score", "0.01"], tmp_path))
    output = tmp_path / "output/ssd_mobilenetv2/predictions"
    detections = json.loads((output / "detections.json").read_text())
    assert (output / "photo.jpg").is_file() and len(detections) > 0
    assert {d["category_name"] for d in detections} <= set(coco_classes())


def coco_classes():
    import yaml

    return yaml.safe_load((ROOT / "configs/dataset/coco.yaml").read_text())["classes"]


def test_readme_python_runs(clone, shapes_coco):
    """Runs after the training above, on what it left."""
    if not (clone / "ckpt").exists():
        pytest.skip("needs the training test")
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    (clone / "photo.jpg").write_bytes(next((shapes_coco / "val2017").iterdir()).read_bytes())
    # The README's COCO has 80 classes, this data 6: a user's data_dir is where the recipe says.
    code += "print(detections.boxes_yxyx.shape, predictor.classes[1])"
    result = expect_clean(run(["python", "-c", code], clone, PYTHONPATH=SSD))
    assert re.fullmatch(r"\(\d+, 4\) \w+\n", result.stdout)


def expect_one_line(result, *parts):
    """A mistake ends with code 2 and one line that holds `parts`."""
    assert result.returncode == 2, result.stdout + result.stderr
    assert len(result.stderr.strip().splitlines()) == 1 and result.stderr.startswith("error: "), result.stderr
    for part in parts:
        assert part in result.stderr


def test_create_data_refuses_a_broken_image_and_leaves_nothing(shapes_coco, clone, tmp_path):
    broken = tmp_path / "coco"
    for path in shapes_coco.rglob("*"):
        target = broken / path.relative_to(shapes_coco)
        target.mkdir(parents=True) if path.is_dir() else target.write_bytes(path.read_bytes())
    victim = sorted((broken / "val2017").iterdir())[2]
    victim.write_bytes(victim.read_bytes()[:200])
    words = ["python", f"{SSD}/create_data.py", "coco", "--data_path", str(broken), "--out_path", str(tmp_path / "out")]
    expect_one_line(run(words, clone), str(victim))
    assert not (tmp_path / "out").exists()


MISTAKES = {
    "unknown key": (["--bacth_size", "2"], ["'bacth_size'", "'batch_size'"]),
    "no data": (["--data_dir", "absent"], ["absent/train/coco0", "create_data.py"]),
    "classes that differ": (["--num_classes", "81"], ["num_classes: got 81", "7"]),
    "no backbone weights": (["--backbone_ckpt_path", "absent.ckpt"], ["absent.ckpt"]),
    "no recipe": (["--config", "absent.yaml"], ["absent.yaml"]),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_train_refuses_in_one_line(mistake, call_script, shapes_records, tmp_path):
    words, parts = MISTAKES[mistake]
    start = ["--config", f"{SSD}/ssd_mobilenetv2.yaml", "--data_dir", shapes_records, *SHORT]
    expect_one_line(call_script("train.py", *start, "--ckpt_save_dir", tmp_path / "ckpt", *words), *parts)
    assert not (tmp_path / "ckpt").exists()


def test_train_takes_and_refuses_backbone_weights(clone, call_script, shapes_records, tmp_path):
    for name in ("mobilenet_v2_035_96", "mobilenet_v2_050_96"):
        mindspore.save_checkpoint(mindcv.create_model(name), str(tmp_path / f"{name}.ckpt"))
    start = ["--config", "tests/tiny.yaml", "--data_dir", str(shapes_records), *SHORT]
    start += ["--ckpt_save_dir", str(tmp_path / "ckpt"), "--backbone_ckpt_path"]
    result = expect_clean(run(["python", f"{SSD}/train.py", *start, str(tmp_path / "mobilenet_v2_035_96.ckpt")], clone))
    assert "weights of" in result.stdout
    other = tmp_path / "mobilenet_v2_050_96.ckpt"
    expect_one_line(call_script("train.py", *start, other), other.name)


def test_eval_without_checkpoint_is_refused(call_script, shapes_records, tmp_path):
    arguments = ["--config", f"{SSD}/ssd_shapes.yaml", "--data_dir", shapes_records, "--ckpt_save_dir", tmp_path]
    expect_one_line(call_script("eval.py", *arguments), "ckpt_path", str(tmp_path))

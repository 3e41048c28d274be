"""train.py as a user runs it: its logs, the command it prints at the end, interruption and resuming."""

import csv
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import mindspore as ms
import numpy as np
import pytest

from ssd.config.command_line import parse_recipe_and_options
from ssd.errors import UserError
from ssd.evaluation.coco_metrics import METRICS
from ssd.training.tensorboard import TAGS
from ssd.training.trainer import train
from train import OPTIONS

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
# 4 epochs of 5 steps, evaluated after each. All trainings have these keys, so that graphs are compiled once.
SHORT = "--epoch_size 4 --warmup_epochs 0 --batch_size 2 --log_interval 1 --eval_while_train true".split()
KEYS = "--ema_decay 0.9 --accumulate_steps 3 --loss_scale_type dynamic --clip_grad_norm 10".split()


def arguments_of(shapes_records, folder):
    where = ["--data_dir", str(shapes_records), "--ckpt_save_dir", str(folder)]
    return ["--config", "tests/tiny.yaml", *where, *SHORT, *KEYS, "--checkpoint_every_steps", "2"]


def rows_of(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def trained(run_script, shapes_records, tmp_path_factory):
    """(CompletedProcess, ckpt_save_dir) of an uninterrupted training."""
    folder = tmp_path_factory.mktemp("a folder") / "ckpt"
    more = ["--display_score", "0", "--ckpt_path", "other.ckpt"]
    result = run_script("train.py", *arguments_of(shapes_records, folder), *more)
    assert result.returncode == 0, result.stderr
    assert not re.search("warning|traceback|exception", result.stdout + result.stderr, re.IGNORECASE), result.stderr
    return result, folder


def test_lines(trained):
    memory, *lines = trained[0].stdout.splitlines()
    assert re.match(r"memory: about \d\.\d GB of \d+\.\d GB for a batch of 2 \(", memory)
    figures = r"loss \d+\.\d{4} \(box \d+\.\d{4}, class \d+\.\d{4}\) lr \d\.\d{6} \d+\.\d images/s \d+ MiB"
    first_step = re.fullmatch(r"first step after (\d+\.\d) s, of which (\d+\.\d) s to compile and run .*", lines.pop(1))
    assert float(first_step[1]) >= float(first_step[2]) > 0.1
    for epoch in (1, 2, 3, 4):
        *steps, validation = lines[6 * epoch - 5 : 6 * epoch + 1]
        for step, line in enumerate(steps, 1):
            assert re.fullmatch(rf"epoch {epoch}/4 step {step}/5 {figures}(, \d:\d\d:\d\d left)?", line)
        assert re.match(rf"epoch {epoch}/4 mAP \d\.\d{{4}} AP50 \d\.\d{{4}}", validation)
    assert len(lines) == 30 and re.match(r"trained 4 epochs in \d:\d\d:\d\d", lines[25])


def test_metrics_and_events_say_the_same(trained, read_events):
    _, folder = trained
    rows, events = rows_of(folder / "metrics.csv"), read_events(folder / "tensorboard")[1:]
    steps = [
        *range(1, 6),
        5,
        *range(6, 11),
        10,
        *range(11, 16),
        15,
        *range(16, 21),
        20,
    ]  # the validations' rows are last
    assert [(row["epoch"], row["step"]) for row in rows] == [(str((step + 4) // 5), str(step)) for step in steps]
    assert [event.step for event in events] == steps
    for row, event in zip(rows, events):
        values = {value.tag: value.simple_value for value in event.summary.value}
        columns = {f"validation/{name}": name for name in ("mAP", *METRICS)} if row["AP"] else dict(TAGS)
        if not row["gradient_norm"]:  # in a step that only accumulates gradients
            columns.pop("train/gradient_norm", None)
        assert set(columns) <= set(values)
        for tag, column in columns.items():
            assert float(row[column]) == pytest.approx(values[tag], rel=1e-6)
    for row in (row for row in rows if row["loss"]):
        assert float(row["box_loss"]) + float(row["class_loss"]) == pytest.approx(float(row["loss"]), rel=1e-5)
        assert float(row["gradient_norm"]) > 0 if int(row["step"]) % 3 == 0 else row["gradient_norm"] == ""
        assert float(row["loss_scale"]) == 1024 and row["skipped_steps"] == "0"
        assert 0 <= float(row["data_wait"]) < 1 and float(row["images_per_second"]) > 0
        assert 100 < float(row["memory_mib"]) < 20000


def test_the_same_images_are_drawn_after_each_evaluation(trained, read_events):
    drawn = []
    for event in read_events(trained[1] / "tensorboard"):
        values = {value.tag: value.image for value in event.summary.value if value.tag.startswith("examples/")}
        if values:
            drawn.append(values)
    assert [sorted(values) for values in drawn] == [[f"examples/{number}" for number in (11, 12, 13, 14)]] * 4
    pictures = [
        cv2.imdecode(np.frombuffer(values["examples/11"].encoded_image_string, np.uint8), cv2.IMREAD_COLOR)
        for values in (drawn[0], drawn[3])
    ]
    assert pictures[0].shape == pictures[1].shape == (96, 96, 3)
    assert not np.array_equal(*pictures)  # another detector found something else


def test_the_command_at_the_end_evaluates_the_best_detector(trained, tmp_path):
    result, folder = trained
    line = result.stdout.splitlines()[-1]
    command = f"{line.partition(': ')[2]} --output_dir {shlex.quote(str(tmp_path))}"
    found = subprocess.run(command, shell=True, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert found.returncode == 0, found.stderr
    best = max(float(row["mAP"]) for row in rows_of(folder / "metrics.csv") if row["AP"])
    assert found.stdout.splitlines()[-1] == f"mAP: {best:.4f}"
    assert f"mAP {best:.4f}" in result.stdout and f"{folder}/best.ckpt\n" in result.stdout


def parameters_of(path):
    """Return the content of a checkpoint as bytes."""
    content = ms.load_checkpoint(str(path))
    return {name: value if isinstance(value, str) else value.asnumpy().tobytes() for name, value in content.items()}


def stop(words, folder, number, after):
    """Start train.py, and send it a signal once it has written step `after` or a later step to metrics.csv.

    Returns (exit code, stderr). Rows of a previous run do not count, because that run may have been killed late.
    """
    metrics = folder / "metrics.csv"
    previous_rows = rows_of(metrics) if metrics.is_file() else []
    command = [sys.executable, "examples/det/ssd/train.py", *words]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        deadline = time.monotonic() + 200
        while time.monotonic() < deadline:
            new_rows = [row for row in rows_of(metrics) if row not in previous_rows] if metrics.is_file() else []
            if any((row["step"] or "").isdigit() and int(row["step"]) >= after for row in new_rows):
                break
            assert process.poll() is None, process.communicate()
            time.sleep(0.05)
        os.kill(process.pid, number)
        _, err = process.communicate(timeout=100)
        return process.returncode, err
    finally:
        process.kill()


def test_stopped_and_resumed_ends_like_one_never_stopped(
    trained, run_script, without_progress, shapes_records, tmp_path, read_events
):
    """By SIGKILL within an epoch, by Ctrl-C, and at its end for more epochs."""
    whole, folder = trained[1], tmp_path / "stopped"
    words = [*arguments_of(shapes_records, folder), "--display_score", "1"]
    assert stop(words, folder, signal.SIGKILL, after=8)[0] == -signal.SIGKILL  # of 5 steps in an epoch
    code, err = stop([*words, "--resume"], folder, signal.SIGINT, after=12)
    assert code == 130 and re.fullmatch(r".*Ctrl-C.*\ninterrupted\n", without_progress(err)), err
    result = run_script("train.py", *words, "--resume", folder / "last.ckpt")
    assert result.returncode == 0, result.stderr
    assert re.search(rf"{folder}/last.ckpt after step 1[2-9]", result.stdout)
    for name in ("ssd-4.ckpt", "last.ckpt"):
        one, other = parameters_of(whole / name), parameters_of(folder / name)
        assert one == other and "moments.backbone.features.net.features_0.weight" in one
    assert parameters_of(whole / "best.ckpt") == parameters_of(folder / "best.ckpt")
    one, other = rows_of(whole / "metrics.csv"), rows_of(folder / "metrics.csv")
    assert [row["step"] for row in one] == [row["step"] for row in other]
    for name in ("loss", "learning_rate", "skipped_steps", "mAP", "mAP_raw", "AR100"):
        assert [row[name] for row in one] == [row[name] for row in other]
    assert not list(folder.glob("earlier-*")) and len(list((folder / "tensorboard").iterdir())) == 3
    evaluation = result.stdout.splitlines()[-1]
    assert "eval.py" in evaluation and "--resume" not in evaluation


def test_resuming_from_an_older_checkpoint_loses_none(run_script, shapes_records, trained, tmp_path):
    folder = tmp_path / "ckpt"
    shutil.copytree(trained[1], folder)
    before = {path.name: path.read_bytes() for path in folder.glob("*.ckpt")}
    result = run_script("train.py", *arguments_of(shapes_records, folder), "--resume", folder / "ssd-3.ckpt")
    assert result.returncode == 0, result.stderr
    line = result.stdout.splitlines()[1]  # the first line states the memory
    assert "step 15" in line and line.endswith(f"{folder}/earlier-1")
    later = {path.name: path.read_bytes() for path in (folder / "earlier-1").iterdir()}
    assert {"last.ckpt", "ssd-4.ckpt"} <= set(later) <= {"best.ckpt", "last.ckpt", "ssd-4.ckpt"}
    assert {**before, **later} == before and before["ssd-3.ckpt"] == (folder / "ssd-3.ckpt").read_bytes()
    assert parameters_of(folder / "ssd-4.ckpt") == parameters_of(folder / "earlier-1" / "ssd-4.ckpt")


def test_resume_refuses_a_training_that_would_differ(run_script, shapes_records, trained, tmp_path, monkeypatch):
    """One refusal by the command, and the others in this process."""
    _, folder = trained
    words = [*arguments_of(shapes_records, folder), "--epoch_size", "5", "--resume"]
    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}

    result = run_script("train.py", *words, "--seed", "7")
    assert result.returncode == 2 and result.stderr.count("\n") == 1, result.stderr
    assert "seed: got 7, expected 0" in result.stderr
    monkeypatch.chdir(ROOT)

    def refused(*more):
        cfg, options = parse_recipe_and_options("", OPTIONS, [str(word) for word in (*words, *more)])
        with pytest.raises(UserError) as error:
            train(cfg, options.resume)
        assert "\n" not in str(error.value)
        return str(error.value)

    assert "got 3, expected 2" in refused("--batch_size", "3")
    assert "4 of 4 epochs" in refused("--epoch_size", "4")
    assert f"{folder}/best.ckpt" in refused(folder / "best.ckpt")
    cut = tmp_path / "ckpt"
    cut.mkdir()
    for number, name in enumerate(("ssd-3.ckpt", "ssd-4.ckpt", "last.ckpt")):
        content = before[name] if name != "last.ckpt" else before[name][:-100]
        (cut / name).write_bytes(content)
        os.utime(cut / name, (1e9 + number, 1e9 + number))
    message = refused("--ckpt_save_dir", cut)
    assert f"{cut}/last.ckpt: " in message and f"--resume {cut}/ssd-4.ckpt" in message
    assert f"{tmp_path}/nowhere" in refused("--ckpt_save_dir", tmp_path / "nowhere")
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()} == before

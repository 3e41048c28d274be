"""Kill a training on one device at random times, and compare it with an uninterrupted one."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from make_shapes import make_shapes
from ssd.runtime.heartbeat import note_output

from .compare import compare_checkpoints, last_logged_step, saved_step

ROOT = Path(__file__).resolve().parents[2]
SSD = ROOT / "examples" / "det" / "ssd"
CHECKPOINT_STEPS = 3  # number of steps between two checkpoints
OVERRIDES = (
    "--image_size [96,96] --steps [8,16,32,48,96] --batch_size 4 --epoch_size 12 --warmup_epochs 1 --log_interval 1 "
    f"--checkpoint_every_steps {CHECKPOINT_STEPS} --eval_while_train true --eval_interval 4 --ema_decay 0.99 "
    "--accumulate_steps 2 --loss_scale_type dynamic --clip_grad_norm 10"
).split()
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
UNINTERRUPTED, KILLED = "uninterrupted", "killed"  # names of the checkpoint folders of the two training runs


def soak_one_device(folder: Path, max_kills: int, rng: random.Random) -> int:
    """Train once uninterrupted and once with kills and resumes, compare the results, and return the exit code.

    folder: working folder for dataset, checkpoints and logs
    max_kills: maximum number of kills
    rng: random number generator for the signals and times of kills
    """
    make_shapes(folder / "coco", train=96, val=8, size=96, seed=0)
    convert = [SSD / "create_data.py", "coco", "--data_path", folder / "coco", "--out_path", folder / "records"]
    subprocess.run([sys.executable, *map(str, convert)], check=True, stdout=subprocess.DEVNULL)
    start = time.monotonic()
    start_training(folder, UNINTERRUPTED).wait()
    seconds = time.monotonic() - start
    print(f"uninterrupted run: {last_logged_step(folder / UNINTERRUPTED)} steps in {seconds:.0f} s", flush=True)

    print("kill  signal after (s)  last step  resumes at  steps lost")
    excessive_losses = 0
    for kill in range(1, max_kills + 1):
        process = start_training(folder, KILLED)
        kill_signal = rng.choice(SIGNALS)
        waited = wait_for_random_moment(process, folder / KILLED, rng, max_wait=seconds / max_kills)
        if process.poll() is not None:
            break  # the training has finished
        process.send_signal(kill_signal)
        process.wait()
        last_step, checkpoint_step = last_logged_step(folder / KILLED), saved_step(folder / KILLED)
        lost = max(last_step - checkpoint_step, 0)
        excessive_losses += lost > CHECKPOINT_STEPS
        print(
            f"{kill:>4}  {kill_signal.name:<8}{waited:>8.1f}{last_step:>11}{checkpoint_step:>12}{lost:>12}", flush=True
        )
        note_output()
    start_training(folder, KILLED).wait()
    differences = compare_trainings(folder)
    print(f"number of kills that lost more than {CHECKPOINT_STEPS} steps: {excessive_losses}")
    print(f"comparison of the final checkpoints: {'; '.join(differences) or 'identical'}")
    return int(bool(excessive_losses or differences))


def start_training(folder: Path, name: str) -> subprocess.Popen:
    """Start a training run in a new process, or resume the run if its folder contains a checkpoint.

    folder: working folder
    name: name of the checkpoint folder, UNINTERRUPTED or KILLED
    """
    checkpoints = folder / name
    command = [sys.executable, SSD / "train.py", "--config", SSD / "ssd_shapes.yaml"]
    command += ["--data_dir", folder / "records", "--ckpt_save_dir", checkpoints, *OVERRIDES]
    command += ["--resume"] if (checkpoints / "last.ckpt").exists() else []
    with open(folder / f"{name}.log", "a") as log:
        return subprocess.Popen([str(part) for part in command], stdout=log, stderr=log, cwd=folder)


def wait_for_random_moment(process: subprocess.Popen, training: Path, rng: random.Random, max_wait: float) -> float:
    """Wait for a random time, and return the number of seconds waited.

    process: process of the training run
    training: folder of the checkpoints and metrics.csv
    rng: random number generator
    max_wait: maximum number of seconds to wait after a new step
    In 1 of 4 calls, wait up to 8 s, to kill the process while MindSpore loads or compiles. Otherwise wait until a new
    step is logged, and then up to `max_wait`.
    """
    start, first_step = time.monotonic(), last_logged_step(training)
    if rng.random() < 0.25:
        time.sleep(rng.uniform(0, 8))
    else:
        while process.poll() is None and last_logged_step(training) <= first_step:
            time.sleep(0.05)
        time.sleep(rng.uniform(0, max_wait))
    return time.monotonic() - start


def compare_trainings(folder: Path) -> list[str]:
    """Compare the final checkpoints of the two training runs, and return a text for each difference.

    folder: working folder with the checkpoint folders UNINTERRUPTED and KILLED
    """
    return [
        difference
        for name in ("last.ckpt", "best.ckpt")
        for difference in compare_checkpoints(folder / UNINTERRUPTED / name, folder / KILLED / name)
    ]

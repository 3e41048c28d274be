"""Compare the final checkpoints of two small training runs, one uninterrupted and one with kills and resumes:

    python tools/soak.py [--kills 20] [--seed 0] [--folder DIR]

The times and signals of the kills are random. The command prints a line for each kill. The exit code is 1 if a kill
lost more steps than the checkpoint interval, or if the contents of the final checkpoints differ. The command takes
about 15 minutes on 2 CPU cores.
"""

if __name__ == "__main__":
    from ssd.startup import prepare_process

    prepare_process()  # before slow imports, so that Ctrl-C ends these cleanly

import argparse
import csv
import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from make_shapes import make_shapes
from ssd.errors import exit_cleanly
from ssd.runtime.heartbeat import note_output, report_silence

ROOT = Path(__file__).resolve().parents[1]
SSD = ROOT / "examples" / "det" / "ssd"
CHECKPOINT_STEPS = 3  # number of steps between two checkpoints
OVERRIDES = (
    "--image_size [96,96] --steps [8,16,32,48,96] --batch_size 4 --epoch_size 12 --warmup_epochs 1 --log_interval 1 "
    f"--checkpoint_every_steps {CHECKPOINT_STEPS} --eval_while_train true --eval_interval 4 --ema_decay 0.99 "
    "--accumulate_steps 2 --loss_scale_type dynamic --clip_grad_norm 10"
).split()
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
UNINTERRUPTED, KILLED = "uninterrupted", "killed"  # names of the checkpoint folders of the two training runs


@exit_cleanly
@report_silence
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20, help="maximum number of kills [20]")
    parser.add_argument("--seed", type=int, default=0, help="random seed for the signals and times of kills [0]")
    parser.add_argument("--folder", type=Path, help="working folder [a temporary folder]")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.folder or Path(temporary)
        sys.exit(soak(folder, args.kills, random.Random(args.seed)))


def soak(folder: Path, max_kills: int, rng: random.Random) -> int:
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


def last_logged_step(training: Path) -> int:
    """Return the last step in the metrics.csv of a training run, or 0 if no step is logged.

    training: folder of the checkpoints and metrics.csv
    """
    if not (training / "metrics.csv").exists():
        return 0
    with open(training / "metrics.csv", newline="") as file:
        return max((int(row["step"]) for row in csv.DictReader(file) if (row["step"] or "").isdigit()), default=0)


def read_checkpoint(path: Path) -> dict[str, bytes | str]:
    """Read a checkpoint as a dict that maps parameter names to bytes, and names of metadata to text."""
    import ssd  # noqa: F401  first, because ssd sets environment variables that MindSpore reads at import

    # isort: split
    import mindspore as ms

    content = ms.load_checkpoint(str(path))
    return {name: value if isinstance(value, str) else value.asnumpy().tobytes() for name, value in content.items()}


def saved_step(training: Path) -> int:
    """Return the step from which a training run resumes, or 0 if there is no checkpoint.

    training: folder of the checkpoints and metrics.csv
    """
    checkpoint = training / "last.ckpt"
    return json.loads(read_checkpoint(checkpoint)["training_state"])["step"] if checkpoint.exists() else 0


def compare_trainings(folder: Path) -> list[str]:
    """Compare the final checkpoints of the two training runs, and return a text for each difference.

    folder: working folder with the checkpoint folders UNINTERRUPTED and KILLED
    """
    differences = []
    for name in ("last.ckpt", "best.ckpt"):
        expected, found = (read_checkpoint(folder / training / name) for training in (UNINTERRUPTED, KILLED))
        if expected.keys() != found.keys():
            differences.append(f"{name} has different parameter names")
        differing = [key for key in expected if expected[key] != found.get(key)]
        if differing:
            differences.append(
                f"{name} differs in {len(differing)} of {len(expected)} entries; the first is {differing[0]!r}"
            )
    return differences


if __name__ == "__main__":
    main()

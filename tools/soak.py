"""Kill a small training at random moments, resume it each time, and compare its end with that of one never killed:

    python tools/soak.py [--kills 20] [--seed 0] [--folder DIR]

Prints a line for each kill, and exits with 1 if more steps were lost than were made since the last checkpoint, or if
any byte of the parameters, the optimiser or the averaged weights differs in the end. Takes a quarter of an hour on 2
cores.
"""

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

ROOT = Path(__file__).resolve().parents[1]
SSD = ROOT / "examples" / "det" / "ssd"
EVERY_STEPS = 3
RECIPE = (
    "--image_size [96,96] --steps [8,16,32,48,96] --batch_size 4 --epoch_size 12 --warmup_epochs 1 --log_interval 1 "
    f"--checkpoint_every_steps {EVERY_STEPS} --eval_while_train true --eval_interval 4 --ema_decay 0.99 "
    "--accumulate_steps 2 --loss_scale_type dynamic --clip_grad_norm 10"
).split()
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20, help="how many")
    parser.add_argument("--seed", type=int, default=0, help="of signals and moments")
    parser.add_argument("--folder", type=Path, help="where to work; a temporary one if not given")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.folder or Path(temporary)
        sys.exit(soak(folder, args.kills, random.Random(args.seed)))


def soak(folder: Path, kills: int, rng: random.Random) -> int:
    """-> exit code"""
    make_shapes(folder / "coco", train=96, val=8, size=96, seed=0)
    convert = [SSD / "create_data.py", "coco", "--data_path", folder / "coco", "--out_path", folder / "records"]
    subprocess.run([sys.executable, *map(str, convert)], check=True, stdout=subprocess.DEVNULL)
    started = time.monotonic()
    start(folder, "whole").wait()
    seconds = time.monotonic() - started
    print(f"never killed: {steps_made(folder / 'whole')} steps in {seconds:.0f} s", flush=True)

    print("kill  signal   after s  steps made  resumes after  lost")
    too_many = 0
    for kill in range(1, kills + 1):
        process = start(folder, "killed")
        number = rng.choice(SIGNALS)
        moment = wait(process, folder / "killed", rng, seconds)
        if process.poll() is not None:
            break  # it came to its end: no more to kill
        process.send_signal(number)
        process.wait()
        made, kept = steps_made(folder / "killed"), steps_kept(folder / "killed")
        lost = max(made - kept, 0)
        too_many += lost > EVERY_STEPS
        print(f"{kill:>4}  {number.name:<8}{moment:>8.1f}{made:>12}{kept:>15}{lost:>6}", flush=True)
    start(folder, "killed").wait()
    differing = compare(folder)
    print(f"losses of more than {EVERY_STEPS} steps: {too_many}; at the end {differing or 'every value is equal'}")
    return int(bool(too_many or differing))


def start(folder: Path, name: str) -> subprocess.Popen:
    """Train in folder/name, from where it stands."""
    target = folder / name
    words = ["--config", SSD / "ssd_shapes.yaml", "--data_dir", folder / "records", "--ckpt_save_dir", target, *RECIPE]
    words += ["--resume"] if (target / "last.ckpt").exists() else []
    with open(folder / f"{name}.log", "a") as log:
        return subprocess.Popen([sys.executable, SSD / "train.py", *words], stdout=log, stderr=log, cwd=folder)


def wait(process: subprocess.Popen, folder: Path, rng: random.Random, seconds: float) -> float:
    """Until a random moment, a quarter of them in loading and compiling, the rest within as many steps after that as a
    fifteenth of a whole training has. -> seconds that took"""
    started, made = time.monotonic(), steps_made(folder)
    if rng.random() < 0.25:
        time.sleep(rng.uniform(0, 8))
    else:
        while process.poll() is None and steps_made(folder) <= made:
            time.sleep(0.05)
        time.sleep(rng.uniform(0, seconds / 15))
    return time.monotonic() - started


def steps_made(folder: Path) -> int:
    """The last step that is recorded in metrics.csv."""
    if not (folder / "metrics.csv").exists():
        return 0
    with open(folder / "metrics.csv", newline="") as file:
        return max((int(row["step"]) for row in csv.DictReader(file) if (row["step"] or "").isdigit()), default=0)


def read(path: Path) -> dict:
    """{name: bytes, or words}"""
    sys.path[:0] = [str(SSD)] if str(SSD) not in sys.path else []
    import ssd  # noqa: F401  first, because it sets environment variables that MindSpore reads when it loads

    # isort: split
    import mindspore as ms

    content = ms.load_checkpoint(str(path))
    return {name: value if isinstance(value, str) else value.asnumpy().tobytes() for name, value in content.items()}


def steps_kept(folder: Path) -> int:
    """At which step a training in a folder goes on."""
    last = folder / "last.ckpt"
    return json.loads(read(last)["training_state"])["step"] if last.exists() else 0


def compare(folder: Path) -> str:
    """What differs between the trainings, in words; empty if nothing does."""
    words = []
    for name in ("last.ckpt", "best.ckpt"):
        whole, killed = (read(folder / run / name) for run in ("whole", "killed"))
        if whole.keys() != killed.keys():
            words.append(f"{name} has other parameters")
        differing = [key for key in whole if whole[key] != killed.get(key)]
        if differing:
            words.append(f"{name} differs in {len(differing)} of {len(whole)}, {differing[0]!r} first")
    return "; ".join(words)


if __name__ == "__main__":
    main()

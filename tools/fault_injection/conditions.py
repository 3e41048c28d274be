"""Faults of a machine under which commands run as a user starts them: each ends with its cause, or goes on."""

from __future__ import annotations

import dataclasses
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from ssd.runtime.heartbeat import note_output

from .client import SSD, Outcome
from .inputs import TINY
from .judge import last_line, log_problems

QUICK_TRAIN = str(Path(__file__).with_name("quick_train.py"))


@dataclasses.dataclass(frozen=True)
class Condition:
    """A command on a machine with a fault.

    name: what is wrong with the machine
    script: script of examples/det/ssd, or QUICK_TRAIN for a training with another network
    arguments: arguments of the script
    prefix: start of the shell command, such as "ulimit -v 1000;"; the script follows as "$@"
    environment: additional environment variables
    meddle: function that is called with the folder of the run when the first step of the training is logged
    """

    name: str
    script: str
    arguments: Sequence[str]
    prefix: str = ""
    environment: Mapping[str, str] = dataclasses.field(default_factory=dict)
    meddle: Callable[[Path], None] | None = None


def conditions(inputs: Path, library: Path) -> list[Condition]:
    """Return all conditions. inputs: folder of create_inputs; library: compiled shim"""
    convert = ["coco", "--data_path", str(inputs / "coco"), "--out_path", "small/out"]
    keys = {"config": TINY, "data_dir": "records", "ckpt_save_dir": "small/ckpt", "device_target": "CPU"}
    train = [str(word) for key, value in keys.items() for word in (f"--{key}", value)]
    long = [*train, "--epoch_size", "60"]  # runs on for a while after the fault
    predict = ["--model", str(inputs / "model"), "--input", str(inputs / "coco" / "val2017"), "--output", "small/out"]
    export = ["--config", str(TINY), "--format", "onnx", "--ckpt_path", str(inputs / "model.ckpt")]
    export += ["--output", "small/out", "--data_dir", "records", "--device_target", "CPU"]
    full_disk = "mkdir -p small; mount -t tmpfs -o size={} tmpfs small;"
    small_shm = "mount -t tmpfs -o size=64k tmpfs /dev/shm;"
    quick = {"STAND_INS": "train_without_network"}
    failing = {"STAND_INS": "let_data_thread_fail train_without_network"}
    back, forward = (
        {**quick, "LD_PRELOAD": str(library), "FAULTS_JUMP_AFTER_S": "10", "FAULTS_JUMP_S": jump}
        for jump in ("-3600", "86400")
    )
    limited = [
        Condition(f"address space of {size} GB", script, arguments, prefix=f"ulimit -v {size * 10**6};")
        for size in (1, 2)
        for script, arguments in (("create_data.py", convert), ("train.py", train), ("predict.py", predict))
    ]
    return [
        Condition("full disk of 400 KB", "create_data.py", convert, prefix=full_disk.format("400k")),
        Condition("full disk of 100 KB", QUICK_TRAIN, long, prefix=full_disk.format("100k"), environment=quick),
        Condition("full disk of 8 KB", "predict.py", predict, prefix=full_disk.format("8k")),
        Condition("full disk of 20 KB", "export.py", export, prefix=full_disk.format("20k")),
        Condition("/dev/shm of 64 KB", "create_data.py", convert, prefix=small_shm),
        Condition("/dev/shm of 64 KB", QUICK_TRAIN, train, prefix=small_shm, environment=quick),
        Condition("one core", QUICK_TRAIN, train, prefix="taskset -c 0", environment=quick),
        Condition("clock jumps back an hour", QUICK_TRAIN, long, environment=back),
        Condition("clock jumps forward a day", QUICK_TRAIN, long, environment=forward),
        *limited,
        Condition("data disappear", QUICK_TRAIN, long, environment=quick, meddle=remove),
        Condition("a shard is cut", QUICK_TRAIN, long, environment=quick, meddle=cut),
        Condition("a data thread fails", QUICK_TRAIN, train, environment=failing),
    ]


def remove(folder: Path) -> None:
    """Let the shards in a working folder disappear while they are open."""
    shutil.rmtree(folder / "records")


def cut(folder: Path) -> None:
    """Truncate a shard in a working folder while it is open."""
    path = folder / "records" / "train" / "coco0"
    os.truncate(path, path.stat().st_size // 4)


def run_conditions(inputs: Path, folder: Path, *, library: Path, timeout_s: int) -> int:
    """Run all conditions, and print how each command ended. Returns the number of violations.

    folder: working folder
    timeout_s: seconds after which a command hangs, counted from the fault
    """
    violations = 0
    for condition in conditions(inputs, library):
        if "mount" in condition.prefix and os.geteuid():
            print(f"{condition.name}: left out, because only root can mount a small disk")
            continue
        outcome = run_condition(condition, inputs, folder, timeout_s=timeout_s)
        problems = log_problems(outcome, causes=None)
        violations += bool(problems)
        result = "; ".join(problems) or ("went on" if outcome.code == 0 else last_line(outcome))
        print(f"{condition.name}, {Path(condition.script).name}: {outcome.seconds:.0f} s: {result}", flush=True)
        note_output()
    return violations


def run_condition(condition: Condition, inputs: Path, folder: Path, *, timeout_s: int) -> Outcome:
    """Run a command under a condition in a new folder with a copy of the shards. `run_conditions` explains the rest."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(inputs / "records", folder / "records", copy_function=copy_sparse)
    log_path = folder / "log.txt"
    command = ["unshare", "-m"] if "mount" in condition.prefix else []
    command += ["bash", "-c", f'{condition.prefix} "$@"', "bash", sys.executable, str(SSD / condition.script)]
    started = time.monotonic()
    with open(log_path, "w") as log:
        process = subprocess.Popen(
            [*command, *condition.arguments],
            cwd=folder,
            stdout=log,
            stderr=log,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **condition.environment},
            start_new_session=True,
        )
    if condition.meddle:
        while process.poll() is None and "first step after" not in log_path.read_text():
            time.sleep(0.1)
        condition.meddle(folder)
        started = time.monotonic()
    try:
        code: int | None = process.wait(timeout_s)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        code = None
    text = log_path.read_text(errors="replace")
    return Outcome(code, log=text, seconds=time.monotonic() - started, trace=[], where="")


def copy_sparse(source: str, target: str) -> None:
    """Copy a file without filling its holes. Shards have 50 MB, of which 20 kB are written."""
    subprocess.run(["cp", "--sparse=always", source, target], check=True)

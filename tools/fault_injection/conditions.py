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


@dataclasses.dataclass(frozen=True)
class Condition:
    """A command on a machine with a fault.

    name: what is wrong with the machine
    script: script of examples/det/ssd, or a Python file
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
    long = [*train, "--epoch_size", "40"]  # runs on for a while after the fault
    predict = ["--model", str(inputs / "model"), "--input", str(inputs / "coco" / "val2017"), "--output", "small/out"]
    export = [
        "--config",
        str(TINY),
        "--format",
        "onnx",
        "--ckpt_path",
        str(inputs / "model.ckpt"),
        "--output",
        "small/out",
    ]
    export += ["--data_dir", "records", "--device_target", "CPU"]
    full_disk = "mkdir -p small; mount -t tmpfs -o size={} tmpfs small;"
    small_shm = "mount -t tmpfs -o size=64k tmpfs /dev/shm;"
    shifted = {"LD_PRELOAD": str(library), "FAULTS_JUMP_AFTER_S": "10"}
    return [
        Condition("full disk of 400 KB", "create_data.py", convert, full_disk.format("400k")),
        Condition("full disk of 1 MB", "train.py", long, full_disk.format("1m")),
        Condition("full disk of 8 KB", "predict.py", predict, full_disk.format("8k")),
        Condition("full disk of 100 KB", "export.py", export, full_disk.format("100k")),
        Condition("/dev/shm of 64 KB", "create_data.py", convert, small_shm),
        Condition("/dev/shm of 64 KB", "train.py", train, small_shm),
        Condition("one core", "train.py", train, "taskset -c 0"),
        Condition("clock jumps back an hour", "train.py", train, environment={**shifted, "FAULTS_JUMP_S": "-3600"}),
        Condition("clock jumps forward a day", "train.py", train, environment={**shifted, "FAULTS_JUMP_S": "86400"}),
        *(
            Condition(f"address space of {size} GB", script, arguments, f"ulimit -v {size * 10**6};")
            for size in (1, 4)
            for script, arguments in (("create_data.py", convert), ("train.py", train), ("predict.py", predict))
        ),
        Condition("data folder disappears", "train.py", long, meddle=lambda folder: remove(folder / "records")),
        Condition(
            "one shard is cut", "train.py", long, meddle=lambda folder: cut(folder / "records" / "train" / "coco0")
        ),
        Condition("a data thread gets no memory", str(Path(__file__).with_name("dying_thread.py")), train),
    ]


def remove(folder: Path) -> None:
    """Let a folder disappear while files in it are open."""
    shutil.rmtree(folder)


def cut(path: Path) -> None:
    """Truncate a file to a quarter while it is open."""
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
        outcome = run_condition(condition, inputs, folder, timeout_s)
        problems = log_problems(outcome, causes=None)
        violations += bool(problems)
        result = "; ".join(problems) or ("went on" if outcome.code == 0 else last_line(outcome))
        print(f"{condition.name}, {Path(condition.script).name}: {outcome.seconds:.0f} s: {result}", flush=True)
        note_output()
    return violations


def run_condition(condition: Condition, inputs: Path, folder: Path, timeout_s: int) -> Outcome:
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
            env={**os.environ, **condition.environment},
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

"""Kill a training of two ranks every few minutes, and compare it with an uninterrupted one."""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from make_shapes import make_shapes
from ssd.runtime.heartbeat import activity, note_output

from .compare import compare_checkpoints, compare_metrics, last_logged_step, saved_step
from .hosts import Host
from .launch import Launch
from .leftovers import Leftovers, find_sockets, find_unfinished
from .samples import Samples

SSD = Path(__file__).resolve().parents[2] / "examples" / "det" / "ssd"
RECIPE = Path(__file__).with_name("two_ranks.yaml")
NUM_IMAGES = 88  # 11 steps of 2 x 4 images per epoch: every second epoch ends between two updates of two batches
MAX_EPOCHS_PER_MINUTE = 60  # the number of epochs is in the schedule, so it must be more than any machine reaches
CHECKPOINT_STEPS = 5  # checkpoint_every_steps of the recipe
MAX_TIMES_LONGER = 2  # a run without kills takes less time than a run with kills, but other programs may run
STARTUP_SECONDS, STARTUP_KILLS = 30, 0.25  # this fraction of kills comes in the first seconds of a launch
WARM_UP_SECONDS = {"killed": 30, "uninterrupted": 120}  # from the first whole epoch until memory is flat
UNNOTICED = "supervisor of scheduler"  # the job goes on without it
UNNOTICED_SECONDS = 20  # until a job is stopped that does not notice a kill
# With accumulate_steps, MindSpore 2.10 on CPU leaks memory in each step: if two branches of a graph are taken in turn,
# each tensor that a branch takes from outside leaves 0.6 KiB. A step has four such tensors.
LEAK_KIB = 2.5
POLL_SECONDS = 0.2


class Soak:
    """Training of two ranks, with kills or without.

    folder: working folder for dataset, checkpoints and logs
    hosts: two hosts with one rank each, or an empty list for two ranks on this machine
    minutes: time of the run with kills
    """

    def __init__(self, folder: Path, *, hosts: Sequence[Host], minutes: float):
        self.folder, self.hosts, self.minutes = folder, hosts, minutes
        self.launches = itertools.count(1)
        self.digests: dict[int, dict[str, str]] = {}  # {epoch: {digest of the training state: where it was printed}}
        self.epochs: dict[int, set[int]] = {0: set(), 1: set()}  # {rank: epochs after which it printed a digest}
        self.faults: list[str] = []
        self.running: Launch | None = None

    def launch(self, name: str) -> Launch:
        """Start or resume a run. name: name of its checkpoint folder"""
        checkpoints, number = self.folder / name, next(self.launches)
        arguments = ["--config", str(RECIPE), "--data_dir", str(self.folder / "records")]
        arguments += ["--ckpt_save_dir", str(checkpoints)]
        arguments += ["--epoch_size", str(max(2, round(self.minutes * MAX_EPOCHS_PER_MINUTE)))]
        arguments += ["--resume"] if (checkpoints / "last.ckpt").exists() else []
        self.running = Launch(self.folder, number=number, hosts=self.hosts, arguments=arguments)
        return self.running

    def end(self, launch: Launch, name: str) -> None:
        """Wait until a launch has ended, and check what it left behind and which digests it printed."""
        place = f"{name}, {launch.logs}"
        self.faults += [f"{place}: process {number}, {role}, is an orphan" for number, role in launch.wait().items()]
        for prefix in [host.prefix for host in self.hosts] or [[]]:
            self.faults += [f"{place}: {fault}" for fault in find_sockets(launch.port, prefix)]
        for rank, epoch, digest in launch.digests():
            self.digests.setdefault(epoch, {}).setdefault(digest, f"{place}, rank {rank}")
            self.epochs[rank].add(epoch)

    def run_with_kills(self, seconds_between: float, rng: random.Random, samples: Samples) -> None:
        """Train for some minutes, with a kill and a resume every `seconds_between` seconds on average."""
        name = "killed"
        deadline = time.monotonic() + 60 * self.minutes
        print("kill  minute  signal   to                      step  resumes at  seconds until all have ended")
        victims = choose_victims(len(self.hosts) or 1, rng)
        for kill in itertools.count(1):
            launch, moment = self.launch(name), rng.uniform(0, 2 * seconds_between)
            if rng.random() < STARTUP_KILLS:
                moment = rng.uniform(0, STARTUP_SECONDS)
            with samples.watch(launch.mark, launch.has_trained):
                until = min(time.monotonic() + moment, deadline)
                while time.monotonic() < until and not launch.has_ended():
                    time.sleep(POLL_SECONDS)
                if time.monotonic() >= deadline or launch.has_ended():
                    break
                victim, number = next(victims)
                # Before all ranks are connected, a host waits for the other one, which may not have started yet.
                may_wait = bool(self.hosts) and not launch.has_trained()
                target = kill_process(launch, victim, number)
                if target == UNNOTICED or may_wait:
                    time.sleep(UNNOTICED_SECONDS)
                    launch.stop()
                start = time.monotonic()
                self.end(launch, name)
            step, resumed = (read(self.folder / name) for read in (last_logged_step, saved_step))
            minute = self.minutes - (deadline - start) / 60
            print(
                f"{kill:>4}{minute:>8.1f}  {number.name:<8} {target:<22}{step:>6}{resumed:>12}"
                f"{time.monotonic() - start:>10.1f}",
                flush=True,
            )
            note_output()
            if step - resumed > CHECKPOINT_STEPS:
                self.faults.append(f"kill {kill}: {step - resumed} steps are lost")
        if launch.has_ended():
            self.faults.append(f"{launch.logs}: the launch ended without a kill\n{launch.log_ends()}")
        launch.stop()
        self.end(launch, name)

    def run_until(self, epoch: int, samples: Samples) -> None:
        """Train without kills until the checkpoint of an epoch is written, and keep a link to the checkpoint."""
        name = "uninterrupted"
        launch, checkpoint = self.launch(name), self.folder / name / f"ssd-{epoch}.ckpt"
        deadline = time.monotonic() + 60 * MAX_TIMES_LONGER * self.minutes
        with samples.watch(launch.mark, launch.has_trained), activity(f"training {epoch} epochs without kills"):
            while not (checkpoint.exists() or launch.has_ended()) and time.monotonic() < deadline:
                time.sleep(POLL_SECONDS)
        if checkpoint.exists():
            os.link(checkpoint, self.folder / "expected.ckpt")
        elif launch.has_ended():
            self.faults.append(f"{launch.logs}: the launch ended without a kill\n{launch.log_ends()}")
        else:
            self.faults.append(f"{launch.logs}: epoch {epoch} takes {MAX_TIMES_LONGER} times as long without kills")
        launch.stop()
        self.end(launch, name)

    def unequal_digests(self, epoch: int) -> list[str]:
        """Return a text for each epoch after which ranks or launches have different training states.

        epoch: last epoch of the runs, after which a rank may have been stopped before it printed a digest
        """
        faults = [
            f"epoch {number}: {len(found)} training states, first in {'; '.join(found.values())}"
            for number, found in sorted(self.digests.items())
            if len(found) > 1
        ]
        for rank, epochs in self.epochs.items():
            if missing := set(range(1, epoch)) - epochs:
                faults.append(f"rank {rank} printed no digest of epoch {min(missing)}")
        print(f"training states after {len(self.digests)} epochs, on both ranks and in all runs: {len(faults)} faults")
        return faults


def soak_two_ranks(folder: Path, *, hosts: Sequence[Host], minutes: float, kill_minutes: float, seed: int) -> list[str]:
    """Train with kills, then without kills as many epochs, and return a text for each fault.

    folder: working folder
    hosts: two hosts with one rank each, or an empty list for two ranks on this machine
    minutes: time of the run with kills
    kill_minutes: average time between two kills
    seed: random seed for the times and signals of kills
    """
    make_shapes(folder / "coco", train=NUM_IMAGES, val=8, size=96, seed=0)
    convert = [SSD / "create_data.py", "coco", "--data_path", folder / "coco", "--out_path", folder / "records"]
    subprocess.run([sys.executable, *map(str, convert)], check=True, stdout=subprocess.DEVNULL)
    leftovers, soak = Leftovers(), Soak(folder, hosts=hosts, minutes=minutes)
    samples = {name: Samples() for name in WARM_UP_SECONDS}
    try:
        soak.run_with_kills(60 * kill_minutes, random.Random(seed), samples["killed"])
        epochs = [int(path.stem.rpartition("-")[2]) for path in (folder / "killed").glob("ssd-*.ckpt")]
        if not epochs:
            return [*soak.faults, "killed: no epoch was completed. Set --minutes to a longer time."]
        epoch = max(epochs)
        hours = {"killed": minutes / 60}
        start = time.monotonic()
        soak.run_until(epoch, samples["uninterrupted"])
        hours["uninterrupted"] = (time.monotonic() - start) / 3600
    finally:
        if soak.running:
            soak.running.kill()
    faults = soak.faults + soak.unequal_digests(epoch)
    if (folder / "expected.ckpt").exists():
        faults += compare_checkpoints(folder / "expected.ckpt", folder / "killed" / f"ssd-{epoch}.ckpt")
        # The runs may have been stopped before they logged the last step and evaluation of the epoch:
        faults += compare_metrics(folder / "uninterrupted", folder / "killed", last_epoch=epoch - 1)
    for name, seconds in WARM_UP_SECONDS.items():
        leak = LEAK_KIB / 1024 * last_logged_step(folder / name) / hours[name]
        print(f"{name}: MindSpore's leak with accumulate_steps is about {leak:.0f} MiB/h in each rank")
        faults += samples[name].report(name, seconds, known_growth={"rank 0": leak, "rank 1": leak})
    return [*faults, *leftovers.find(), *find_unfinished(folder)]


def choose_victims(num_hosts: int, rng: random.Random) -> Iterator[tuple[tuple[str, int], signal.Signals]]:
    """Yield ((role, which of the processes with it), signal): ranks, scheduler and msrun in turn, without end."""
    ranks = [(f"{prefix}rank {rank}", 0) for rank in (0, 1) for prefix in ("", "supervisor of ")]
    schedulers = [("scheduler", 0), (UNNOTICED, 0)]
    launchers = [("msrun", host) for host in range(num_hosts)]
    signals = (signal.SIGKILL, signal.SIGTERM)
    queues = []
    for roles in (ranks, schedulers, launchers):
        pairs = list(itertools.product(roles, signals))
        rng.shuffle(pairs)
        queues.append(itertools.cycle(pairs))
    while True:
        for queue in queues:
            yield next(queue)


def kill_process(launch: Launch, victim: tuple[str, int], number: signal.Signals) -> str:
    """Send a signal to a process of a launch, and return its role; to an msrun if that process does not run yet."""
    role, index = victim
    while not launch.has_ended():
        roles = launch.roles()
        for wanted, place in ((role, index), ("msrun", 0)):
            found = sorted(process for process, name in roles.items() if name == wanted)
            if len(found) > place:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(found[place], number)
                    return wanted if wanted != "msrun" else f"msrun of host {place}"
        time.sleep(POLL_SECONDS)
    return "none"

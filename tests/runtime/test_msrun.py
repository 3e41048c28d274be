"""Jobs of several ranks under msrun end together: after failures, signals and mistakes of a launch."""

import contextlib
import os
import re
import signal
import socket
import subprocess
import time

import pytest

from msrun_job import QUICK_MSRUN, REAL_MSRUN, ROOT, failure_line
from soaks.launch import free_port

pytestmark = pytest.mark.slow

SSD = ROOT / "examples" / "det" / "ssd"
JOBS = ROOT / "tests" / "jobs"
VALIDATION = ["--eval_while_train", "true", "--eval_start_epoch", "6", "--min_score", "0"]


@pytest.mark.parametrize("join", [True, False])
@pytest.mark.parametrize("failure, rank", [("kill", 0), ("kill", 1), ("user error", 1)])
def test_failed_rank_is_named_and_ends_the_job(failure, rank, join, start):
    job = start([JOBS / "waiting.py"], join=join, FAILING_RANK=str(rank) if failure == "user error" else "")
    job.wait_for("working", ranks=[0, 1])
    if failure == "kill":
        os.kill(job.rank_processes(rank)[1], signal.SIGKILL)
    job.wait(20)
    assert job.process.returncode == (1 if join else 0), job.all_output()  # without --join msrun ends before its ranks
    line = failure_line(job, rank, "SIGKILL" if failure == "kill" else "code 2")
    failed = re.search(f"^{line}", job.log("scheduler"), re.MULTILINE)
    assert failed, job.all_output()
    if join:
        assert failed[0] in job.console(), job.all_output()
    if failure == "user error":
        assert "error: data_dir: " in job.log("worker_1")
    # With --join, msrun ends the other rank's supervisor, and waiting.py, which is in no collective, can still save.
    working, *rest = job.log(f"worker_{1 - rank}").splitlines()
    assert working == "working"
    assert rest == ["saved", "interrupted"] or (len(rest) == 1 and failed[0] in rest[0])


def signal_all(job, number):
    """Send a signal to all processes. Some may end in the meantime because others have ended."""
    for process in sorted(job.processes()):
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, number)


def hang_up(job):
    """Send SIGHUP to all processes twice, as the kernel and the shell do when a terminal is closed."""
    signal_all(job, signal.SIGHUP)
    signal_all(job, signal.SIGHUP)


SIGNALS = {
    "SIGHUP to all processes": hang_up,
    "SIGTERM to msrun": lambda job: job.process.terminate(),
    "Ctrl-C": lambda job: os.killpg(job.process.pid, signal.SIGINT),
    "SIGTERM to ranks": lambda job: [os.kill(job.rank_processes(rank)[0], signal.SIGTERM) for rank in (0, 1)],
    "msrun killed": lambda job: job.process.kill(),
    "SIGTERM to all processes": lambda job: signal_all(job, signal.SIGTERM),
}


@pytest.mark.parametrize("name", SIGNALS)
def test_signals_reach_all_ranks_and_no_process_is_left(name, start):
    job = start([JOBS / "waiting.py"], msrun=REAL_MSRUN if name == "Ctrl-C" else QUICK_MSRUN)
    job.wait_for("working", ranks=[0, 1])
    SIGNALS[name](job)
    job.wait(20)
    # msrun exits with code 0 after Ctrl-C.
    assert job.process.returncode == {
        "SIGTERM to msrun": -15,
        "SIGTERM to all processes": -15,
        "Ctrl-C": 0,
        "SIGHUP to all processes": -1,
        "msrun killed": -9,
    }.get(name, 1)
    for rank in (0, 1):
        assert job.log(f"worker_{rank}") == "working\nsaved\ninterrupted\n"
    assert "Error: rank" not in job.log("scheduler")


def test_a_taken_port_ends_the_job_within_seconds(start):
    """The ranks would wait for minutes, and MindSpore writes its reason to scheduler.log only."""
    port = free_port()
    with socket.create_server(("127.0.0.1", port)):
        job = start([JOBS / "waiting.py"], port=port)
        job.wait(20)
    assert job.process.returncode == 1
    line = rf"^Error: scheduler .*--master_port: .*\b{port} .*already in use"
    assert re.search(line, job.console(), re.MULTILINE), job.all_output()
    for name in ("scheduler", "worker_0", "worker_1"):
        assert job.log(name).count("--master_port: ") == 1, job.all_output()


def test_more_local_ranks_than_ranks_leave_no_scheduler(start):
    # QUICK_MSRUN would have failed before the scheduler can read its options.
    job = start([JOBS / "waiting.py"], local_workers=8, msrun=REAL_MSRUN)
    job.wait(20)
    assert job.process.returncode == 1
    assert re.search("^error: --local_worker_num: 8 .* 2 ", job.console(), re.MULTILINE), job.all_output()


def test_a_second_job_in_a_log_dir_is_refused_and_the_first_one_goes_on(start):
    """Then the first job's scheduler gets a signal, which ends the ranks."""
    first = start([JOBS / "waiting.py"], join=False)
    first.wait_for("working", ranks=[0, 1])
    second = start([JOBS / "waiting.py"])
    second.process.wait(20)
    assert second.process.returncode == 1
    # msrun kills the other processes when one has ended, so only one of them surely writes its line
    owners = re.findall(r"^error: log_dir: \S+\.log .*? process (\d+) ", first.all_output(), re.MULTILINE)
    assert owners and {int(owner) for owner in owners} <= set(first.processes()), first.all_output()
    time.sleep(2.5)  # with msrun's own second, longer than a rank waits before it ends because of a failure
    ranks = first.processes()
    assert sorted(ranks.values()) == ["MS_SCHED 0"] * 2 + ["MS_WORKER 0"] * 2 + ["MS_WORKER 1"] * 2, first.all_output()
    supervisor = min(process for process, name in ranks.items() if name == "MS_SCHED 0")
    os.kill(supervisor, signal.SIGTERM)
    first.wait(20)
    for rank in (0, 1):
        assert re.search("scheduler .*SIGTERM.*\nsaved\ninterrupted\n$", first.log(f"worker_{rank}")), (
            first.all_output()
        )


def test_a_log_viewer_of_a_user_outlives_a_killed_msrun(start, tmp_path):
    """msrun's own `tail -f` has the same command, and is ended."""
    log = tmp_path / "logs" / "worker_0.log"
    log.parent.mkdir()
    log.touch()
    viewer = subprocess.Popen(["tail", "-f", log], stdout=subprocess.DEVNULL)
    try:
        job = start([JOBS / "waiting.py"])
        job.wait_for("working", ranks=[0, 1])
        assert "tail" in job.processes().values()
        job.process.kill()
        job.wait(20)
        assert viewer.poll() is None
    finally:
        viewer.kill()
        viewer.wait()


def test_second_signal_kills_at_once(start):
    """Rank 0 is suspended, like a process that waits for a disk, so it cannot react to the first signal."""
    job = start([JOBS / "waiting.py"], join=False)
    job.wait_for("working", ranks=[0, 1])
    supervisor, child = job.rank_processes(0)
    os.kill(child, signal.SIGSTOP)
    os.kill(supervisor, signal.SIGTERM)
    time.sleep(1)
    assert child in job.processes()
    os.kill(supervisor, signal.SIGTERM)
    os.kill(job.rank_processes(1)[0], signal.SIGTERM)
    job.wait(10)
    assert "saved" not in job.log("worker_0")


def test_scheduler_of_a_single_worker_exits(start):
    """msrun starts the command as its scheduler too, which must not run the command a second time."""
    job = start([JOBS / "waiting.py"], workers=1)
    job.wait_for("working")
    deadline = time.monotonic() + 10
    while "MS_SCHED 0" in job.processes().values():
        assert time.monotonic() < deadline
    assert sorted(job.processes().values()) == ["MS_WORKER 0"] * 2 + ["msrun", "tail"]
    job.process.terminate()
    job.wait(20)
    assert job.log("worker_0") == "working\nsaved\ninterrupted\n" and "working" not in job.log("scheduler")

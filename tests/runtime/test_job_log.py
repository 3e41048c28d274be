"""Lines in scheduler.log: read by the processes of one job only. Logs that another job writes to are refused."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from process_group import kill_group
from soaks.launch import free_port
from ssd.runtime.job_log import JobLog, is_this_host, listen_error

ROOT = Path(__file__).resolve().parents[2]
WRITER = """
import sys, time
from ssd.errors import UserError
from ssd.runtime.job_log import JobLog
try:
    JobLog(is_scheduler=False).refuse_other_job()
except UserError as error:
    sys.exit(f"refused: {error}")
print("started", file=sys.stderr, flush=True)
time.sleep(60)
"""


@pytest.fixture
def job_log(tmp_path, monkeypatch):
    """job_log(source, port, started) is the JobLog of a process of this host, with its log in tmp_path."""
    for name, value in {"MS_SCHED_HOST": "127.0.0.1", "MS_SCHED_PORT": "8118", "MS_NODE_ID": "0"}.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "scheduler.log").touch()

    def create(source="rank 0", port=b"8118", started=10_000):
        log = JobLog(is_scheduler=source == "scheduler")
        log.process_log = tmp_path / f"{source}.log"
        log.scheduler_log = tmp_path / "scheduler.log"
        log.source, log.port, log.started = source, port, started
        return log

    return create


def test_the_first_end_is_reported_to_the_same_job_only(job_log):
    first, second = job_log(), job_log("rank 1", started=10_010)
    assert second.read_exit() is None
    first.write_exit(JobLog.FAILED, "exited with code 2.")
    second.write_exit(JobLog.FAILED, "exited with code 3.")
    assert second.scheduler_log.read_text() == "Error: rank 0 (job 8118-10000) exited with code 2.\n"
    assert second.read_exit() == "Error: rank 0 (job 8118-10000) exited with code 2."
    assert job_log(port=b"8119").read_exit() is None
    hour = 3600 * os.sysconf("SC_CLK_TCK")
    assert job_log(started=10_000 + hour).read_exit() is None  # the same port and folder, an hour later


def test_lines_of_other_jobs_do_not_hide_those_of_this_job(job_log):
    job_log(port=b"8119").write_exit(JobLog.FAILED, "exited with code 2.")
    job_log("scheduler").write_exit(JobLog.STOPPED, "was killed by SIGTERM.")
    line = job_log("rank 1").read_exit()
    assert line.is_of_scheduler and not line.is_failure and "8118" in line
    line = job_log(port=b"8119").read_exit()
    assert line.is_failure and not line.is_of_scheduler


def test_other_text_in_scheduler_log_is_no_end(job_log):
    log = job_log()
    log.scheduler_log.write_bytes(b"Error: rank 0 of something else\n\xff\0\n[ERROR] rank 1 (job 8118-10000)\n")
    assert log.read_exit() is None
    log.scheduler_log.unlink()
    assert log.read_exit() is None


@pytest.fixture
def start(tmp_path):
    """start(log, port) starts a process of an msrun job that writes to a log in tmp_path."""
    processes = []

    def start_writer(log, port, node="0", shell=False):
        variables = {"MS_ROLE": "MS_WORKER", "MS_SCHED_PORT": port, "MS_SCHED_HOST": "127.0.0.1", "MS_NODE_ID": node}
        environment = {**os.environ, **variables, "PYTHONPATH": str(ROOT / "examples" / "det" / "ssd")}
        command = [sys.executable, "-c", WRITER]
        if shell:
            command = ["bash", "-c", '"$0" -c "$1"; true', sys.executable, WRITER]
        with open(tmp_path / log, "a") as output:
            process = subprocess.Popen(
                command, env=environment, stdout=output, stderr=subprocess.PIPE, text=True, start_new_session=True
            )
        processes.append(process)
        return process.stderr.readline(), process

    yield start_writer
    for process in processes:
        kill_group(process)
        process.stderr.close()


def test_a_log_of_a_running_job_is_refused(start, tmp_path):
    line, first = start("worker_0.log", "8118")
    assert line == "started\n"
    line, second = start("worker_0.log", "8119")
    assert line.startswith(f"refused: log_dir: {tmp_path}/worker_0.log ") and f"process {first.pid} " in line
    assert second.wait(10) == 1
    assert start("worker_1.log", "8119")[0] == "started\n"
    first.kill()
    first.wait()
    assert start("worker_0.log", "8119")[0] == "started\n"


def test_a_command_that_is_started_twice_is_refused(start):
    assert start("worker_0.log", "8118")[0] == "started\n"
    assert start("worker_0.log", "8118")[0].startswith("refused: log_dir: ")


def test_a_launch_without_msrun_may_write_all_output_to_one_file(start):
    assert start("all.log", "8118", node="0", shell=True)[0] == "started\n"
    assert start("all.log", "8118", node="1")[0] == "started\n"


def test_a_log_that_another_msrun_truncates_gets_no_gap(tmp_path):
    code = "import os, sys; from ssd.runtime.job_log import JobLog; JobLog(False)\n" + (
        "print('a' * 100, flush=True); os.truncate(1, 0); print('b', flush=True); print('c', file=sys.stderr)"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "examples" / "det" / "ssd")}
    with open(tmp_path / "worker_0.log", "w") as output:
        subprocess.run(
            [sys.executable, "-c", code], env=environment, stdout=output, stderr=subprocess.STDOUT, check=True
        )
    assert (tmp_path / "worker_0.log").read_text() == "b\nc\n"


def test_ports_and_hosts():
    port = free_port()
    assert is_this_host("127.0.0.1") and is_this_host("localhost") and listen_error("127.0.0.1", port) is None
    with socket.create_server(("127.0.0.1", port)):
        assert listen_error("127.0.0.1", port) == "address already in use"
    for host in ("", "no.such.host.invalid", "192.0.2.1", "a" * 300):
        assert not is_this_host(host)
    assert listen_error("127.0.0.1", 70000) is not None

"""Supervisor of a rank: ends its child with the job, and reports why. Children are forks that sleep."""

import ctypes
import os
import signal
import socket
import time
from pathlib import Path

import pytest

from soaks.launch import free_port
from ssd.runtime import connection, supervisor
from ssd.runtime.job_log import Exit, JobLog
from ssd.runtime.supervisor import Supervisor, exit_reason, refuse_scheduler
from ssd.startup import SIGNALS

RANK_FAILED = Exit("Error: rank 1 (job 8118-1) exited with code 2. See the rank's log: worker_1.log")
SCHEDULER_FAILED = Exit("Error: scheduler (job 8118-1) cannot start. --master_port: ...")


class FakeLog:
    """A JobLog with a given line of another process, which keeps the lines that it gets."""

    def __init__(self, line=None, folder=Path("logs"), source="rank 0"):
        self.line, self.source, self.process_log, self.written = line, source, folder / "worker_0.log", []

    def read_exit(self):
        return self.line

    def write_exit(self, kind, reason):
        self.written.append((kind, reason))


@pytest.fixture
def supervise(monkeypatch):
    """supervise(child, log) forks a child that calls a function, and returns the supervisor's code.

    handler: handler of SIGTERM in the child
    """
    handlers = {number: signal.getsignal(number) for number in SIGNALS}
    for name in ("FAILURE_GRACE_SECONDS", "BLOCKED_SECONDS"):
        monkeypatch.setattr(supervisor, name, 0.2)
    monkeypatch.setattr(supervisor, "POLL_SECONDS", 0.02)

    def run(child_function, log, is_scheduler=False, handler=signal.SIG_DFL):
        signal.signal(signal.SIGTERM, handler)
        reader, writer = os.pipe()
        child = os.fork()
        if not child:
            os.write(writer, b"x")
            child_function()
            os._exit(0)
        os.read(reader, 1)  # Python forgets signals that arrive during a fork
        os.close(reader)
        os.close(writer)
        return Supervisor(child, log, is_scheduler).run()

    yield run
    for number, handler in handlers.items():
        signal.signal(number, handler)


def test_the_exit_code_is_that_of_the_child(supervise):
    log = FakeLog()
    assert supervise(lambda: os._exit(2), log) == 2
    assert supervise(lambda: os.kill(os.getpid(), signal.SIGKILL), log) == 137
    assert supervise(lambda: os._exit(130), log) == 130
    assert supervise(lambda: None, log) == 0
    kinds, reasons = zip(*log.written)
    assert kinds == (JobLog.FAILED, JobLog.FAILED, JobLog.STOPPED)
    assert "code 2" in reasons[0] and "SIGKILL" in reasons[1] and "code 130" in reasons[2]


def test_a_child_whose_threads_are_blocked_is_killed_after_another_rank_failed(supervise, capfd):
    """MindSpore holds Python's lock while it connects the ranks. PyDLL holds the lock too, CDLL would release it."""
    start = time.monotonic()
    assert supervise(lambda: ctypes.PyDLL(None).sleep(60), FakeLog(RANK_FAILED)) == 137
    assert 0.4 <= time.monotonic() - start < 50
    assert capfd.readouterr().err.count(RANK_FAILED) == 1


def test_ranks_get_a_signal_if_the_scheduler_has_ended(supervise, capfd):
    """The child may save a checkpoint, so nobody kills it here."""

    def save_for_a_second(*_):
        time.sleep(1)
        os._exit(130)

    assert supervise(lambda: time.sleep(60), FakeLog(SCHEDULER_FAILED), handler=save_for_a_second) == 130
    assert capfd.readouterr().err.count(SCHEDULER_FAILED) == 1
    assert supervise(lambda: time.sleep(60), FakeLog(SCHEDULER_FAILED)) == 143


def test_a_signal_after_the_end_of_the_scheduler_lets_the_child_finish(supervise, capfd):
    """Batch systems send SIGTERM to one process after the other, so a supervisor may see their ends first."""
    supervisor_process = os.getpid()

    def save_a_checkpoint():
        deadline = time.monotonic() + 10
        while not received and time.monotonic() < deadline:
            time.sleep(0.01)
        os.kill(supervisor_process, signal.SIGTERM)
        time.sleep(0.5)
        os._exit(130)

    received = []
    assert supervise(save_a_checkpoint, FakeLog(SCHEDULER_FAILED), handler=lambda *_: received.append(1)) == 130


def test_a_scheduler_that_ends_reports_it_unless_a_rank_explains_it(supervise):
    log = FakeLog(source="scheduler")
    assert supervise(lambda: os._exit(1), log, is_scheduler=True) == 1
    assert log.written[0][0] == JobLog.FAILED and "See the scheduler's log" in log.written[0][1]


def test_exit_reason_with_invalid_variables(monkeypatch, tmp_path):
    for value, is_elsewhere in (("2", True), ("junk", False), ("", False)):
        monkeypatch.setenv("MS_WORKER_NUM", value)
        for code in (1, -signal.SIGTERM):
            assert ("another host" in exit_reason(code, FakeLog(folder=tmp_path))) == is_elsewhere
        log = FakeLog(folder=tmp_path)
        assert "another host" not in exit_reason(2, log) + exit_reason(-signal.SIGTERM, log, was_asked=True)


def test_a_scheduler_needs_its_port(monkeypatch):
    log, port = FakeLog(source="scheduler"), free_port()
    for name, value in {"MS_SCHED_HOST": "127.0.0.1", "MS_SCHED_PORT": str(port), "MS_WORKER_NUM": "2"}.items():
        monkeypatch.setenv(name, value)
    assert refuse_scheduler(log) is None
    with socket.create_server(("127.0.0.1", port)):
        reason = refuse_scheduler(log)
        assert reason.startswith("--master_port: ") and f" {port} " in reason
        assert [kind for kind, _ in log.written] == [JobLog.FAILED] and reason in log.written[0][1]
        monkeypatch.setenv("MS_WORKER_NUM", "1")  # one rank connects to nobody
        assert refuse_scheduler(log) is None


def test_a_long_wait_for_other_ranks_is_reported_once(monkeypatch, capfd):
    for name, value in {"MS_SCHED_HOST": "10.0.0.1", "MS_SCHED_PORT": "8118", "MS_WORKER_NUM": "16"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(connection, "WAITING_SECONDS", 0.05)
    report = connection.WaitingReport()
    report.update()
    with connection.connecting():
        report.update()
        assert capfd.readouterr().err == ""
        time.sleep(0.1)
        report.update()
        report.update()
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith("launch: ") and "10.0.0.1:8118" in line and "16 ranks" in line
    later = connection.WaitingReport()
    time.sleep(0.1)
    later.update()
    assert capfd.readouterr().err == ""

"""Interrupt: the first signal sets the flag, a second Ctrl-C ends the process, and handlers are restored."""

import io
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ssd.runtime.interrupt import Interrupt
from ssd.startup import SIGNALS

SSD = Path(__file__).resolve().parents[2] / "examples" / "det" / "ssd"


@pytest.mark.parametrize("number", SIGNALS)
def test_first_signal_sets_the_flag_and_is_announced_once(number, capfd):
    with Interrupt() as interrupt:
        assert not interrupt
        os.kill(os.getpid(), number)
        assert interrupt
    assert interrupt  # the flag outlives the context
    assert capfd.readouterr().err.count("Ctrl-C") == 1


def test_announcement_can_be_turned_off(capfd):
    with Interrupt(announce=False) as interrupt:
        os.kill(os.getpid(), signal.SIGINT)
        assert interrupt
    assert capfd.readouterr().err == ""


def test_a_signal_within_a_print_is_announced(capfd, monkeypatch):
    """A buffered stream raises RuntimeError if its write is called within its own write."""

    class SignalledWriter(io.FileIO):
        is_signalled = False

        def write(self, data):
            if not self.is_signalled:
                self.is_signalled = True
                os.kill(os.getpid(), signal.SIGTERM)
            return super().write(data)

    with Interrupt() as interrupt:
        with io.TextIOWrapper(io.BufferedWriter(SignalledWriter(os.dup(2), "w"))) as stream:
            monkeypatch.setattr("sys.stderr", stream)
            print("loss 1.0", file=stream, flush=True)
            assert interrupt
            monkeypatch.undo()
    err = capfd.readouterr().err
    assert "loss 1.0\n" in err and err.count("Ctrl-C") == 1


def test_second_signal_raises_keyboard_interrupt():
    with pytest.raises(KeyboardInterrupt):
        with Interrupt() as interrupt:
            os.kill(os.getpid(), signal.SIGINT)
            assert interrupt
            os.kill(os.getpid(), signal.SIGINT)
            pytest.fail("the second signal did not raise KeyboardInterrupt")


def test_a_second_sigterm_is_ignored_under_msrun(monkeypatch):
    monkeypatch.setenv("MS_ROLE", "MS_WORKER")
    with Interrupt() as interrupt:
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)
        assert interrupt
    assert signal.getsignal(signal.SIGTERM) is not signal.SIG_IGN


def test_two_signals_at_once_under_msrun_print_no_traceback():
    """A supervisor forwards SIGHUP as SIGTERM, while the terminal sends SIGHUP to the rank too.

    In a process of its own, because another thread of this process could handle a signal after the `with` block.
    """
    script = """
import os, signal
from ssd.runtime.interrupt import Interrupt
both = {signal.SIGHUP, signal.SIGTERM}
with Interrupt(announce=False) as interrupt:
    signal.pthread_sigmask(signal.SIG_BLOCK, both)
    for number in both:
        os.kill(os.getpid(), number)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, both)
    assert interrupt
"""
    environment = {**os.environ, "PYTHONPATH": str(SSD), "MS_ROLE": "MS_WORKER"}
    result = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, timeout=60)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


def test_the_second_sighup_of_a_closed_terminal_is_ignored():
    with Interrupt() as interrupt:
        os.kill(os.getpid(), signal.SIGHUP)
        os.kill(os.getpid(), signal.SIGHUP)
        assert interrupt
    assert signal.getsignal(signal.SIGHUP) == signal.SIG_DFL


def test_sighup_stays_ignored_under_nohup():
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Interrupt() as interrupt:
            os.kill(os.getpid(), signal.SIGHUP)
            assert not interrupt
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)


def test_previous_handlers_are_restored():
    before = [signal.getsignal(number) for number in SIGNALS]
    with Interrupt():
        assert [signal.getsignal(number) for number in SIGNALS] != before
    assert [signal.getsignal(number) for number in SIGNALS] == before


def test_flag_is_false_without_a_signal():
    with Interrupt() as interrupt:
        pass
    assert not interrupt

"""Ctrl-C between two steps of work: heard once, final the second time, and as before afterwards."""

import os
import signal

import pytest

from ssd.runtime.interrupt import SIGNALS, Interrupt


@pytest.mark.parametrize("number", SIGNALS)
def test_the_first_signal_is_heard_and_ends_nothing(number, capsys):
    with Interrupt() as interrupt:
        assert not interrupt
        os.kill(os.getpid(), number)
        assert interrupt
    assert interrupt  # and remembered
    assert capsys.readouterr().err == "ending; Ctrl-C again ends at once\n"


def test_the_second_signal_interrupts():
    with pytest.raises(KeyboardInterrupt):
        with Interrupt() as interrupt:
            os.kill(os.getpid(), signal.SIGINT)
            assert interrupt
            os.kill(os.getpid(), signal.SIGINT)
            pytest.fail("the second signal was not heard")


def test_afterwards_signals_are_as_before():
    before = [signal.getsignal(number) for number in SIGNALS]
    with Interrupt():
        assert [signal.getsignal(number) for number in SIGNALS] != before
    assert [signal.getsignal(number) for number in SIGNALS] == before


def test_without_a_signal_it_is_false():
    with Interrupt() as interrupt:
        pass
    assert not interrupt

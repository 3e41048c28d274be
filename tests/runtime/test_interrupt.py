"""Interrupt: the first signal sets the flag, the second one ends the process, and handlers are restored."""

import os
import signal

import pytest

from ssd.runtime.interrupt import SIGNALS, Interrupt


@pytest.mark.parametrize("number", SIGNALS)
def test_first_signal_sets_the_flag_and_is_announced(number, capsys):
    with Interrupt() as interrupt:
        assert not interrupt
        os.kill(os.getpid(), number)
        assert interrupt
    assert interrupt  # the flag outlives the context
    assert "Ctrl-C" in capsys.readouterr().err


def test_announcement_can_be_turned_off(capsys):
    with Interrupt(announce=False) as interrupt:
        os.kill(os.getpid(), signal.SIGINT)
        assert interrupt
    assert capsys.readouterr().err == ""


def test_second_signal_raises_keyboard_interrupt():
    with pytest.raises(KeyboardInterrupt):
        with Interrupt() as interrupt:
            os.kill(os.getpid(), signal.SIGINT)
            assert interrupt
            os.kill(os.getpid(), signal.SIGINT)
            pytest.fail("the second signal did not raise KeyboardInterrupt")


def test_previous_handlers_are_restored():
    before = [signal.getsignal(number) for number in SIGNALS]
    with Interrupt():
        assert [signal.getsignal(number) for number in SIGNALS] != before
    assert [signal.getsignal(number) for number in SIGNALS] == before


def test_flag_is_false_without_a_signal():
    with Interrupt() as interrupt:
        pass
    assert not interrupt

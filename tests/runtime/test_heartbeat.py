"""Lines of a command that is silent for 30 seconds, with a clock that only the test advances."""

import io
import re
import sys
import threading
import time
from pathlib import Path

import pytest

from ssd.runtime import heartbeat
from ssd.runtime.heartbeat import Heartbeat, report_silence
from ssd.runtime.progress import Progress

HOUR = 3600  # seconds between two checks of the thread, which then never checks


@pytest.fixture
def clock():
    """Time in seconds that only the test advances: clock[0] += 1."""
    return [100.0]


@pytest.fixture
def beat(clock):
    """A Heartbeat with the clock of the test. The test calls check() instead of the thread."""
    return Heartbeat(clock=lambda: clock[0], tick_seconds=HOUR)


class Terminal(io.StringIO):
    def isatty(self):
        return True


def advance(beat, clock, *seconds):
    for step in seconds:
        clock[0] += step
        beat.check()


def test_a_quick_activity_prints_nothing(beat, clock, capsys):
    with beat.activity("compiling"):
        advance(beat, clock, 10, 10, 9.9)
    advance(beat, clock, 100)  # no activity
    assert capsys.readouterr() == ("", "")


def test_a_line_after_each_30_seconds_of_silence(beat, clock, capsys):
    with beat.activity("compiling the network"):
        advance(beat, clock, *[1] * 95)
    out, err = capsys.readouterr()
    assert out == "" and re.findall(r"compiling the network, (\d+) s", err) == ["30", "60", "90"]


def test_output_of_the_command_postpones_the_line(beat, clock, capsys):
    with beat.activity("training"):
        advance(beat, clock, 29)
        beat.note_output()
        advance(beat, clock, 29)
        assert capsys.readouterr().err == ""
        advance(beat, clock, 1)
    assert "training, 59 s" in capsys.readouterr().err


def test_the_innermost_activity_is_named_with_its_own_time(beat, clock, capsys):
    with beat.activity("still running"):
        advance(beat, clock, 20)
        with beat.activity(lambda: f"evaluating {clock[0]:.0f}"):
            advance(beat, clock, 10)
        advance(beat, clock, 30)
    assert capsys.readouterr().err == "evaluating 130, 10 s so far\nstill running, 60 s so far\n"


def test_time_between_commands_is_no_silence(beat, clock, capsys):
    with beat.activity("one"):
        pass
    clock[0] += 500
    with beat.activity("two"):
        advance(beat, clock, 29)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    "variables, lines", [({"RANK_ID": "0"}, 1), ({"RANK_ID": "3"}, 0), ({"MS_ROLE": "MS_SCHED"}, 0)]
)
def test_only_rank_0_of_a_launch_prints(variables, lines, beat, clock, capsys, monkeypatch):
    for name, value in {"MS_ROLE": "MS_WORKER", **variables}.items():
        monkeypatch.setenv(name, value)
    with beat.activity("compiling"):
        advance(beat, clock, 30)
    assert capsys.readouterr().err.count("\n") == lines


def test_a_terminal_with_a_bar_is_refreshed_instead(beat, clock, monkeypatch):
    terminal, refreshed = Terminal(), []
    monkeypatch.setattr(sys, "stderr", terminal)
    with beat.activity("training", refresh=lambda: refreshed.append("bar")):
        with beat.activity("compiling"):
            advance(beat, clock, 1, 40)
        assert refreshed == ["bar", "bar"] and terminal.getvalue() == ""
    with beat.activity("compiling"):
        advance(beat, clock, 30)
    assert refreshed == ["bar", "bar"] and "compiling" in terminal.getvalue()


def test_the_thread_prints_while_the_command_waits_and_ends_with_it(capsys, monkeypatch):
    monkeypatch.setattr(heartbeat, "SILENCE_SECONDS", 0.05)
    beat = Heartbeat(tick_seconds=0.01)
    with beat.activity("waiting for rank 1"):
        time.sleep(0.3)
    assert "waiting for rank 1, 0 s" in capsys.readouterr().err
    time.sleep(0.1)
    assert capsys.readouterr().err == ""
    assert not any(thread.name == heartbeat.THREAD_NAME for thread in threading.enumerate())


def test_a_closed_stream_ends_the_thread_quietly(capsys, monkeypatch):
    monkeypatch.setattr(heartbeat, "SILENCE_SECONDS", 0)
    closed = io.StringIO()
    closed.close()
    errors = []
    monkeypatch.setattr(threading, "excepthook", errors.append)
    for stream in (closed, None):
        with monkeypatch.context() as patch:
            patch.setattr(sys, "stderr", stream)
            with Heartbeat(tick_seconds=0.01).activity("waiting"):
                time.sleep(0.05)
    assert capsys.readouterr() == ("", "") and not errors


def test_an_error_ends_the_activity(beat, clock, capsys):
    with pytest.raises(KeyError), beat.activity("reading"):
        raise KeyError
    advance(beat, clock, 100)
    assert capsys.readouterr().err == ""


def test_all_commands_that_take_longer_than_seconds_report_silence():
    """The commands of ablation.py print for themselves. The other tools are quick."""
    root = Path(__file__).resolve().parents[2]
    paths = [path for folder in ("examples/det/ssd", "tools") for path in (root / folder).glob("*.py")]
    sources = {path.name: path.read_text(encoding="utf-8") for path in paths}
    commands = {name: source for name, source in sources.items() if "@exit_cleanly\n" in source}
    silent = {name for name, source in commands.items() if "@exit_cleanly\n@report_silence\n" not in source}
    assert silent == {"ablation.py", "license_table.py", "make_docs.py", "rank_table.py"} and len(commands) > 10


def test_commands_and_progress_have_activities(beat, clock, capsys, monkeypatch):
    monkeypatch.setattr(heartbeat, "activity", beat.activity)
    monkeypatch.setattr("ssd.runtime.progress.activity", beat.activity)

    @report_silence
    def main(number):
        advance(beat, clock, 30)
        with Progress(4, "evaluating", "images") as progress:
            advance(beat, clock, 30)
            progress.update(2)
            advance(beat, clock, 30)
        with Progress(None, "predicting", "frames"):
            advance(beat, clock, 30)
        with Progress(4, "evaluating", "images", enabled=False):
            advance(beat, clock, 30)
        return number

    assert main(7) == 7
    described = [line.partition(",")[0] for line in capsys.readouterr().err.splitlines()]
    assert described == [
        "still running",
        "evaluating: 0/4 images",
        "evaluating: 2/4 images",
        "predicting: 0 frames",
    ] + ["still running"]

"""The progress of a training run: lines in a pipe, and a bar on a terminal."""

import dataclasses
import io
import re
import sys

import pytest

from ssd.runtime.heartbeat import Heartbeat
from ssd.training import progress_bar
from ssd.training.progress_bar import TrainingProgressBar, format_duration
from ssd.training.records import EvalRecord, StepRecord

STEP = StepRecord(
    epoch=1,
    step=2,
    loss=1.23456,
    box_loss=0.4,
    class_loss=0.83456,
    learning_rate=0.0123456,
    gradient_norm=3.5,
    loss_scale=512.0,
    skipped_steps=0,
    images_per_second=12.34,
    data_wait=0.25,
    memory_mib=999.6,
)
VALUES = "loss 1.2346 (box 0.4000, class 0.8346) lr 0.012346 12.3 images/s"


@pytest.fixture(autouse=True)
def close_displays(monkeypatch):
    """Close the displays of a test. Their heartbeat would print lines in later tests."""
    created, create = [], TrainingProgressBar.__init__

    def create_and_remember(self, **arguments):
        create(self, **arguments)
        created.append(self)

    monkeypatch.setattr(TrainingProgressBar, "__init__", create_and_remember)
    yield
    for display in created:
        display.close()


@pytest.fixture
def clock():
    """Time in seconds that only the test advances: clock[0] += 1."""
    return [0.0]


class Terminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self):
        return True


def use_terminal(monkeypatch):
    """Make stdout and stderr one terminal. No fixture, because pytest sets its own streams just before the test."""
    screen = Terminal()
    monkeypatch.setattr(sys, "stdout", screen)
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setenv("COLUMNS", "200")
    return screen


@pytest.mark.parametrize(
    "changes, text",
    [
        ({}, f"{VALUES} 1000 MiB"),
        ({"memory_mib": None}, VALUES),
        ({"skipped_steps": 1}, f"{VALUES} 1000 MiB, 1 step skipped for overflow at loss scale 512"),
        ({"skipped_steps": 50}, f"{VALUES} 1000 MiB, 50 steps skipped for overflow at loss scale 512"),
    ],
)
def test_a_line_for_each_record(changes, text, capsys):
    display = TrainingProgressBar(epochs=1, total_steps=4)
    display.on_step(dataclasses.replace(STEP, **changes))
    display.close()
    captured = capsys.readouterr()
    assert captured.out == f"epoch 1/1 step 2/4 {text}\n" and captured.err == ""


@pytest.mark.parametrize("steps, text", [(1, "first step after 14.2 s"), (10, "first 10 steps after 14.2 s")])
def test_the_first_step_is_announced_in_a_pipe_and_on_a_terminal(steps, text, capsys, monkeypatch):
    for use in (lambda: sys.stdout, lambda: use_terminal(monkeypatch)):
        screen = use()
        display = TrainingProgressBar(epochs=1, total_steps=40)
        display.on_first_step(steps=steps, seconds=14.21, call_seconds=11.94)
        display.close()
        out = screen.getvalue()
        assert f"{text}, of which 11.9 s " in out


def test_steps_are_counted_within_their_epoch(capsys):
    display = TrainingProgressBar(epochs=3, total_steps=15)
    for step in (1, 5, 6, 15):
        display.on_step(dataclasses.replace(STEP, epoch=(step + 4) // 5, step=step))
    places = [line.partition(" loss")[0] for line in capsys.readouterr().out.splitlines()]
    assert places == ["epoch 1/3 step 1/5", "epoch 1/3 step 5/5", "epoch 2/3 step 1/5", "epoch 3/3 step 5/5"]


def test_evaluations_are_printed(capsys):
    display = TrainingProgressBar(epochs=2, total_steps=20)
    for metrics, is_best in (({"mAP": 0.25}, True), ({"mAP": 0.125}, False), ({"mAP": 0.375, "mAP_raw": 0.0625}, True)):
        display.on_evaluation(
            EvalRecord(epoch=2, step=20, metrics={"AP50": 0.5, **metrics}, is_best=is_best, images={})
        )
    best, worse, averaged = capsys.readouterr().out.splitlines()
    for line, ap in ((best, "0.2500"), (worse, "0.1250"), (averaged, "0.3750")):
        assert "epoch 2/2" in line and f"mAP {ap}" in line and "AP50 0.5000" in line
    assert ["best" in line for line in (best, worse, averaged)] == [True, False, True]
    assert "mAP 0.0625" in averaged


def test_the_time_left_is_estimated_without_the_first_step(clock, capsys):
    display = TrainingProgressBar(epochs=2, total_steps=12, clock=lambda: clock[0])
    for step, now in ((1, 1000), (2, 1010), (3, 1020), (4, 1060), (12, 1100)):
        clock[0] = now
        display.on_step(dataclasses.replace(STEP, step=step))
        display.advance(1, step)
    left = [re.search(r"MiB(?:, (.*) left)?$", line)[1] for line in capsys.readouterr().out.splitlines()]
    assert left == [None, "0:01:40", "0:01:30", "0:02:40", None]  # after step 4: 20 seconds a step, 8 steps


def test_a_bar_on_a_terminal(clock, monkeypatch):
    terminal = use_terminal(monkeypatch)
    display = TrainingProgressBar(epochs=2, total_steps=4, clock=lambda: clock[0])
    for step in (1, 2, 3):
        clock[0] += 10
        display.on_step(dataclasses.replace(STEP, epoch=1 + step // 3, step=step))
        display.advance(1 + step // 3, step)
        display.bar.refresh()
    display.close()
    shown = [words.strip() for words in re.split(r"[\r\n]|\x1b\[A", terminal.getvalue()) if words.strip()]
    lines = [words for words in shown if words.startswith("epoch")]
    assert lines == [f"epoch 1/2 step 2/2 {VALUES} 1000 MiB, 0:00:20 left"]  # the end of an epoch alone stays
    assert shown[-1] == f"75%|███████▌  | epoch 2/2 step 1/2, 0:00:10 left {VALUES} 1000 MiB"
    assert f"25%|██▌       | epoch 1/2 step 1/2 {VALUES} 1000 MiB" in shown


def test_silence_in_a_pipe_is_broken_with_the_position(clock, capsys, monkeypatch):
    beat = Heartbeat(clock=lambda: clock[0], tick_seconds=3600)  # the test calls check() instead of the thread
    monkeypatch.setattr(progress_bar, "activity", beat.activity)
    display = TrainingProgressBar(epochs=2, total_steps=4, clock=lambda: clock[0])
    for step in (1, 2):
        clock[0] += 30
        beat.check()
        display.advance(1, step)
    clock[0] += 30
    beat.check()
    display.close()
    clock[0] += 30
    beat.check()
    compiling, first, second = capsys.readouterr().err.splitlines()
    assert compiling.startswith("epoch 1/2, compiling, 30 s") and first.startswith("epoch 1/2 step 1/2, 60 s")
    assert second.startswith("epoch 1/2 step 2/2, 0:01:00 left, 90 s")


def test_a_bar_counts_the_seconds_of_the_compilation(clock, monkeypatch):
    terminal = use_terminal(monkeypatch)
    display = TrainingProgressBar(epochs=2, total_steps=4, clock=lambda: clock[0])
    clock[0] += 12
    display.refresh()
    display.advance(1, 1)
    display.refresh()
    display.close()
    assert "0%|          | epoch 1/2, compiling, 12 s" in terminal.getvalue()
    assert terminal.getvalue().rindex("step 1/2") > terminal.getvalue().rindex("compiling")


def test_a_resumed_bar_starts_in_its_epoch(monkeypatch):
    terminal = use_terminal(monkeypatch)
    TrainingProgressBar(epochs=4, total_steps=20, steps_done=12).close()
    assert "60%|██████    | epoch 3/4, compiling" in terminal.getvalue()


def test_all_lines_go_to_a_file_beside_a_bar(monkeypatch):
    terminal, out = use_terminal(monkeypatch), io.StringIO()
    monkeypatch.setattr(sys, "stdout", out)
    display = TrainingProgressBar(epochs=1, total_steps=4)
    for step in (1, 2):
        display.on_step(dataclasses.replace(STEP, step=step))
        display.advance(1, step)
    display.close()
    places = [line.partition(" loss")[0] for line in out.getvalue().splitlines()]
    assert places == ["epoch 1/1 step 1/4", "epoch 1/1 step 2/4"]
    assert "25%|██▌       | epoch 1/1 step 1/4" in terminal.getvalue()


@pytest.mark.parametrize("seconds, text", [(0, "0:00:00"), (59.6, "0:01:00"), (3725, "1:02:05"), (360000, "100:00:00")])
def test_durations(seconds, text):
    assert format_duration(seconds) == text

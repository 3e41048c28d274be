"""Records go to metrics.csv and TensorBoard events, and a resumed run continues both."""

import contextlib
import csv
import dataclasses
import errno
import math
import os

import cv2
import numpy as np
import pytest
from tensorboardX.proto.event_pb2 import SessionLog

from ssd.errors import UserError
from ssd.evaluation.coco_metrics import METRICS
from ssd.training.logger import MetricsFile, TrainingLogger, open_log_files
from ssd.training.records import EvalRecord, StepRecord
from ssd.training.tensorboard import TAGS, TensorBoardEvents

STEP = StepRecord(
    epoch=2,
    step=150,
    loss=1.25,
    box_loss=0.5,
    class_loss=0.75,
    learning_rate=0.0125,
    gradient_norm=3.5,
    loss_scale=1024.0,
    skipped_steps=1,
    images_per_second=12.5,
    data_wait=0.25,
    memory_mib=1000.0,
)
OVERFLOWN = dataclasses.replace(STEP, step=160, gradient_norm=math.inf, data_wait=None, memory_mib=None)
METRIC_VALUES = {name: index / 16 for index, name in enumerate(("mAP", *METRICS))}
IMAGE = np.zeros((40, 60, 3), np.uint8)
IMAGE[:, :30], IMAGE[:, 30:] = (255, 0, 0), (0, 0, 255)  # red on the left, blue on the right
EVALUATION = EvalRecord(
    epoch=2, step=200, metrics=METRIC_VALUES, is_best=True, images={"11": IMAGE, "12": IMAGE[:20, :30]}
)


# --- the log ---


class Sink:
    def __init__(self, name, calls, error=None):
        self.name, self.calls, self.error = name, calls, error

    def on_step(self, record):
        self.calls.append((self.name, record))

    def close(self):
        self.calls.append((self.name, "closed"))
        if self.error:
            raise self.error


@pytest.mark.parametrize("error", [None, KeyboardInterrupt, ValueError])
def test_sinks_get_records_and_are_closed_after_any_error(error):
    calls = []
    try:
        with TrainingLogger(Sink("a", calls), Sink("b", calls)) as logger:
            logger.advance(1, 1)  # a method that these sinks lack
            logger.on_step(STEP)
            if error:
                raise error
    except (KeyboardInterrupt, ValueError) as caught:
        assert type(caught) is error
    assert calls[:2] == [("a", STEP), ("b", STEP)]
    assert sorted(calls[2:]) == [("a", "closed"), ("b", "closed")]


class FullDisk:
    """os.write of a disk that is full after `space` bytes."""

    def __init__(self, space):
        self.space = space

    def __call__(self, descriptor, data):
        if not self.space:
            raise OSError(errno.ENOSPC, "No space left on device")
        data = data[: self.space]
        self.space -= len(data)
        return WRITE(descriptor, data)


WRITE = os.write


def test_a_full_disk_ends_no_training_and_loses_no_rows(tmp_path, monkeypatch, capsys, read_events):
    """The rows and events follow when the disk has space again. Each log file is reported once."""
    whole, logs = tmp_path / "whole", tmp_path / "logs"
    for folder, space in ((whole, 10**6), (logs, 10)):
        with TrainingLogger(*open_log_files(folder)) as logger:
            disk = FullDisk(space)
            with monkeypatch.context() as patch:
                patch.setattr(os, "write", disk)
                logger.on_step(STEP)
                logger.on_evaluation(EVALUATION)
            if folder == logs:
                assert len((logs / "metrics.csv").read_text().splitlines()[1]) == 10  # cut off within a row
            logger.on_step(OVERFLOWN)
    err = capsys.readouterr().err
    assert err.count("no space left") == 2 and str(logs / "metrics.csv") in err and str(logs / "tensorboard") in err
    assert (logs / "metrics.csv").read_text() == (whole / "metrics.csv").read_text()
    assert [event.step for event in read_events(logs / "tensorboard")] == [0, 150, 200, 160]


def test_a_removed_file_is_reported(tmp_path, capsys):
    with TrainingLogger(MetricsFile(tmp_path / "metrics.csv")) as logger:
        logger.on_step(STEP)
        (tmp_path / "metrics.csv").unlink()
        for _ in range(2):
            logger.on_step(OVERFLOWN)
    assert capsys.readouterr().err.count("metrics.csv: ") == 1


def test_events_for_a_full_disk_do_not_fill_the_memory(tmp_path, monkeypatch):
    writer = TensorBoardEvents(tmp_path)
    monkeypatch.setattr("ssd.training.tensorboard.MAX_PENDING", 1000)
    monkeypatch.setattr(os, "write", FullDisk(0))
    for _ in range(9):
        with pytest.raises(OSError):
            writer.on_step(STEP)
    assert 1000 < len(writer.file.pending) < 2000


def test_a_sink_that_cannot_close_does_not_keep_the_others_open(capsys):
    calls = []
    with TrainingLogger(Sink("a", calls, OSError()), Sink("b", calls, OSError())):
        pass
    assert sorted(calls) == [("a", "closed"), ("b", "closed")]
    assert [line[:3] for line in sorted(capsys.readouterr().err.splitlines())] == ["a: ", "b: "]


# --- metrics.csv ---


def test_metrics_file(tmp_path):
    file = MetricsFile(tmp_path / "metrics.csv")
    file.on_step(STEP)
    file.on_evaluation(EVALUATION)
    file.on_step(OVERFLOWN)
    lines = (tmp_path / "metrics.csv").read_text().splitlines()  # before it is closed: a run may be killed
    assert lines == [
        "epoch,step,loss,box_loss,class_loss,learning_rate,gradient_norm,loss_scale,skipped_steps,images_per_second,"
        "data_wait,memory_mib,mAP,mAP_raw,AP,AP50,AP75,AP_small,AP_medium,AP_large,AR1,AR10,AR100,"
        "AR_small,AR_medium,AR_large",
        "2,150,1.25,0.5,0.75,0.0125,3.5,1024,1,12.5,0.25,1000,,,,,,,,,,,,,,",
        "2,200,,,,,,,,,,,0,,0.0625,0.125,0.1875,0.25,0.3125,0.375,0.4375,0.5,0.5625,0.625,0.6875,0.75",
        "2,160,1.25,0.5,0.75,0.0125,inf,1024,1,12.5,,,,,,,,,,,,,,,,",
    ]
    file.close()
    assert len(list(csv.DictReader(open(tmp_path / "metrics.csv")))) == 3


def test_a_resumed_training_keeps_its_rows(tmp_path):
    path = tmp_path / "metrics.csv"
    with contextlib.closing(MetricsFile(path)) as file:
        file.on_step(STEP)
        file.on_step(OVERFLOWN)  # step 160
        file.on_evaluation(EVALUATION)  # step 200
    whole = path.read_text().splitlines()
    for done, kept in ((159, 2), (160, 3), (200, 4)):
        # After a row of null bytes, which a crash of the machine leaves, a row that a kill cut off:
        path.write_text("\n".join([*whole, "\0" * 9, whole[1][:7]]))
        with contextlib.closing(MetricsFile(path, done)):
            assert path.read_text().splitlines() == whole[:kept]
    MetricsFile(path).close()
    assert path.read_text().splitlines() == whole[:1]


# --- TensorBoard ---


def values_by_tag(event):
    return {value.tag: value for value in event.summary.value}


def test_a_kill_while_a_resumed_training_opens_its_rows_loses_none(tmp_path, monkeypatch):
    path = tmp_path / "metrics.csv"
    with contextlib.closing(MetricsFile(path)) as file:
        file.on_step(STEP)
    content = path.read_text()

    def killed(*_):
        raise SystemExit

    with monkeypatch.context() as patch, pytest.raises(SystemExit):
        patch.setattr(csv.DictWriter, "writerows", killed)
        MetricsFile(path, STEP.step)
    assert path.read_text() == content


def test_events(tmp_path, read_events):
    writer = TensorBoardEvents(tmp_path)
    writer.on_step(STEP)
    writer.on_evaluation(EVALUATION)
    first, step, evaluation = read_events(tmp_path)  # before it is closed, too
    assert first.file_version == "brain.Event:2" and (step.step, evaluation.step) == (150, 200)
    assert step.wall_time > 1.7e9  # some day after 2023
    assert {tag: value.simple_value for tag, value in values_by_tag(step).items()} == {
        "loss/total": 1.25,
        "loss/box": 0.5,
        "loss/class": 0.75,
        "train/learning_rate": pytest.approx(0.0125),
        "train/gradient_norm": 3.5,
        "train/loss_scale": 1024,
        "train/skipped_steps": 1,
        "speed/images_per_second": 12.5,
        "speed/data_wait": 0.25,
        "speed/memory_mib": 1000,
    }
    values = values_by_tag(evaluation)
    assert {tag: value.simple_value for tag, value in values.items() if tag.startswith("validation/")} == {
        f"validation/{name}": figure for name, figure in METRIC_VALUES.items()
    }
    assert set(values) == {f"validation/{name}" for name in METRIC_VALUES} | {"examples/11", "examples/12"}
    writer.close()
    assert len(read_events(tmp_path)) == 3


def test_images_in_events(tmp_path, read_events):
    writer = TensorBoardEvents(tmp_path)
    writer.on_evaluation(EVALUATION)
    image = values_by_tag(read_events(tmp_path)[1])["examples/11"].image
    assert (image.height, image.width, image.colorspace) == (40, 60, 3)
    pixels = cv2.imdecode(np.frombuffer(image.encoded_image_string, np.uint8), cv2.IMREAD_COLOR_RGB)
    assert np.abs(pixels[:, [5, 50]].astype(int) - IMAGE[:, [5, 50]]).max() < 5  # JPEG is not exact
    writer.close()


def test_unknown_values_have_no_chart(tmp_path, read_events):
    writer = TensorBoardEvents(tmp_path)
    writer.on_step(OVERFLOWN)
    values = values_by_tag(read_events(tmp_path)[1])
    assert set(TAGS) - set(values) == {"speed/data_wait", "speed/memory_mib"}
    assert values["train/gradient_norm"].simple_value == math.inf
    writer.close()


# --- the folder ---


def test_files_are_opened_in_a_new_folder(tmp_path, read_events):
    for sink in open_log_files(tmp_path / "new" / "ckpt"):
        sink.close()
    assert (tmp_path / "new" / "ckpt" / "metrics.csv").read_text().startswith("epoch,step,loss,")
    assert len(read_events(tmp_path / "new" / "ckpt" / "tensorboard")) == 1


def test_an_unwritable_folder_is_reported(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="^ckpt_save_dir: .*file/ckpt"):
        open_log_files(tmp_path / "file" / "ckpt")


def test_events_of_a_resumed_training(tmp_path, read_events):
    TensorBoardEvents(tmp_path, 150).close()
    first, start = read_events(tmp_path)
    assert first.file_version and start.step == 151 and start.session_log.status == SessionLog.START

"""Options of predict.py that refuse wrong values before any other work."""

import argparse
import sys
from pathlib import Path

import pytest

from fake_predictor import FakeCapture
from ssd.errors import UserError
from ssd.inference.drawing import DrawingStyle
from ssd.inference.result_options import ResultOptions
from ssd.inference.sources import InputImage, Inputs, InputVideo
from ssd.inference.video_source import Video

IMAGE = InputImage(Path("a.jpg"), name="a.jpg", output_name="a.jpg")
VIDEO = InputVideo(Path("a.mp4"), name="a.mp4", output_stem="a")
DEFAULTS = {
    "classes": None,
    "agnostic_nms": False,
    "track": False,
    "vid_stride": 1,
    "save_txt": False,
    "save_crops": False,
    "no_labels": False,
    "line_width": None,
}


def parse(**changes):
    return ResultOptions.from_arguments(argparse.Namespace(**{**DEFAULTS, **changes}))


def test_arguments_become_options():
    assert parse() == ResultOptions()
    assert parse(classes=["cat"], no_labels=True, line_width=3, vid_stride=2) == ResultOptions(
        classes=("cat",), vid_stride=2, style=DrawingStyle(line_width=3, has_captions=False)
    )


@pytest.mark.parametrize("name", ["vid_stride", "line_width"])
@pytest.mark.parametrize("value", [0, -1])
def test_numbers_below_1_are_refused(name, value):
    with pytest.raises(UserError, match=f"^--{name}: .*{value}.*1"):
        parse(**{name: value})


def test_tracking_needs_a_video_or_a_camera():
    pytest.importorskip("supervision")
    with pytest.raises(UserError, match="^--track: "):
        parse(track=True).check(Inputs(images=[IMAGE] * 2))
    parse().check(Inputs(images=[IMAGE]))
    parse(track=True).check(Inputs(images=[IMAGE], videos=[VIDEO]))
    parse(track=True).check(Inputs(camera=Video(FakeCapture(), "camera0")))


def test_tracking_needs_its_library(monkeypatch):
    monkeypatch.setitem(sys.modules, "supervision", None)
    with pytest.raises(UserError, match=r"pip install -e '.\[track\]'"):
        parse(track=True).check(Inputs(videos=[VIDEO]))
    parse().check(Inputs(videos=[VIDEO]))

"""Options of predict.py beyond the recipe: the classes to detect, tracking, and the files to write."""

from __future__ import annotations

import argparse
import dataclasses

from ..errors import UserError
from .drawing import DrawingStyle
from .sources import Inputs
from .tracking import require_byte_track


@dataclasses.dataclass(frozen=True)
class ResultOptions:
    """Options of predict.py, which are the same for every kind of detector.

    classes: names or category ids of the classes to keep; empty for all classes
    agnostic_nms: True to apply NMS across classes
    track: True to follow the objects in videos
    vid_stride: every vid_stride-th frame of a video is processed
    save_txt: True to write a YOLO label file for each image or frame
    save_crops: True to write an image of each detected object
    style: appearance of the drawn detections
    """

    classes: tuple[str, ...] = ()
    agnostic_nms: bool = False
    track: bool = False
    vid_stride: int = 1
    save_txt: bool = False
    save_crops: bool = False
    style: DrawingStyle = DrawingStyle()

    @classmethod
    def from_arguments(cls, arguments: argparse.Namespace) -> ResultOptions:
        """Read the options from a parsed command line. Raises UserError if a number is too small."""
        for name in ("vid_stride", "line_width"):
            value = getattr(arguments, name)
            if value is not None and value < 1:
                raise UserError(f"--{name}: got {value}, but the smallest value is 1. Choose a larger value.")
        return cls(
            classes=tuple(arguments.classes or ()),
            agnostic_nms=arguments.agnostic_nms,
            track=arguments.track,
            vid_stride=arguments.vid_stride,
            save_txt=arguments.save_txt,
            save_crops=arguments.save_crops,
            style=DrawingStyle(line_width=arguments.line_width, has_captions=not arguments.no_labels),
        )

    def check(self, inputs: Inputs) -> None:
        """Check that the inputs and the installed packages allow the options. Raises UserError otherwise."""
        if not self.track:
            return
        if not inputs.videos and not inputs.camera:
            raise UserError(
                "--track: the inputs are single images. Remove --track, or set --input to a video or a stream."
            )
        require_byte_track()

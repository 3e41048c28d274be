"""Nested sections of a recipe, and the markers of recipe keys. `schema.py` explains the markers."""

from __future__ import annotations

import enum
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr


class Marker(enum.Enum):
    """Marker that states what depends on a recipe key. The docstring of `schema.py` explains each marker."""

    HOST = "host"
    EVALUATION = "evaluation"
    CLASSES = "classes"
    ANCHORS = "anchors"
    NETWORK = "network"
    INPUT = "input"


HOST, EVALUATION = Marker.HOST, Marker.EVALUATION
CLASSES, ANCHORS = Marker.CLASSES, Marker.ANCHORS
NETWORK, INPUT = Marker.NETWORK, Marker.INPUT

PrecisionMode = Literal[  # values that MindSpore 2.10 accepts
    "force_fp16",
    "allow_fp32_to_fp16",
    "allow_mix_precision",
    "must_keep_origin_dtype",
    "force_fp32",
    "allow_fp32_to_bf16",
    "allow_mix_precision_fp16",
    "allow_mix_precision_bf16",
]


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", coerce_numbers_to_str=True, allow_inf_nan=False)


Adapted = TypeVar("Adapted", bound="AdaptableSection")


class AdaptableSection(Section):
    """Section whose values may be adapted to other values, with a line of text for each change."""

    _adaptations: tuple[str, ...] = PrivateAttr(())

    @property
    def adaptations(self) -> tuple[str, ...]:
        """Lines for the user that state which values were adapted, and why."""
        return self._adaptations

    def adapted(self: Adapted, values: dict[str, Any], *lines: str) -> Adapted:
        """Return a copy with other values, and with these lines added to `adaptations`."""
        copy = self.model_copy(update=values)
        copy._adaptations = (*self._adaptations, *lines)
        return copy


class Augment(Section):
    """Settings of the augmentation of training images."""

    scale_jitter: float = Field(
        0.0,
        ge=0,
        le=0.9,
        description="x: images are scaled by a factor from 1 - x to 1 + x, at a random position; the rest is cut off",
    )
    crop_prob: float = Field(5 / 6, ge=0, le=1, description="probability of a random crop with a minimum IoU")
    crop_min_iou: tuple[Annotated[float, Field(ge=0, le=1)], ...] = Field(
        (0.1, 0.3, 0.5, 0.7, 0.9),
        min_length=1,
        description="minimum IoUs of crop window and box, of which each crop uses one at random",
    )
    zoom_out_prob: float = Field(0.0, ge=0, le=1, description="probability of a zoom-out before the crop")
    zoom_out_max: float = Field(4.0, ge=1, le=16, description="zoom-out: maximum of canvas side / image side")
    flip_prob: float = Field(0.5, ge=0, le=1, description="probability of a horizontal flip")
    color_prob: float = Field(1.0, ge=0, le=1, description="probability of photometric distortion")
    brightness: float = Field(0.4, ge=0, lt=1, description="x: the brightness factor is drawn from 1 - x to 1 + x")
    contrast: float = Field(0.4, ge=0, lt=1, description="x: the contrast factor is drawn from 1 - x to 1 + x")
    saturation: float = Field(0.4, ge=0, lt=1, description="x: the saturation factor is drawn from 1 - x to 1 + x")
    hue: float = Field(
        0.05, ge=0, le=0.5, description="x: the hue shift is drawn from -x to x turns (0.05 is 18 degrees)"
    )


class ExtraLayer(Section):
    """A block after the backbone: inverted residual (neck `extras` or `residuals`), or convolutions (neck `convs`)."""

    out_channels: int = Field(gt=0, description="number of output channels")
    expand_ratio: float = Field(gt=0, description="ratio of hidden channels to input channels")
    stride: Literal[1, 2] = Field(2, description="stride of the 3x3 convolution")
    pad: bool = Field(
        True, description="with neck convs: pad the 3x3 convolution; without padding, feature maps shrink by 2 pixels"
    )

"""The detector: backbone, neck and head, which turn normalized images into box offsets and class logits."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import mindspore as ms
import mindspore.nn as nn
from mindspore import Tensor
from mindspore.common.initializer import Initializer

from ..boxes.anchors import Anchors, create_anchors
from ..boxes.feature_sizes import fitting_steps
from ..errors import UserError
from .backbone import Backbone
from .head import create_head
from .layers import protect_running_statistics
from .neck import create_neck

if TYPE_CHECKING:
    from ..config.schema import Config


class SSD(nn.Cell):
    """Single-shot detector that predicts box offsets and class logits for every anchor.

    The loss and the post-processing apply the sigmoid or softmax to the logits.

    anchors: anchors in the order of the predictions
    """

    def __init__(self, backbone: nn.Cell, neck: nn.Cell, head: nn.Cell, *, anchors: Anchors):
        super().__init__()
        self.anchors = anchors
        self.backbone = backbone
        self.neck = neck
        self.head = head

    def construct(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Predict box offsets and class logits for every anchor.

        image: (B, 3, H, W) float RGB, normalized
        Returns box_offsets (B, A, 4) and cls_logits (B, A, K), both float32 at every AMP level. The offsets are scaled:
        center y, center x, log of the height ratio, log of the width ratio. Class 0 is background.
        """
        box_offsets, cls_logits = self.head(self.neck(self.backbone(image)))
        return box_offsets.astype("float32"), cls_logits.astype("float32")


@contextlib.contextmanager
def zero_weights() -> Iterator[None]:
    """Create parameters with zeros instead of random numbers inside the block.

    Use this for a detector whose weights are loaded from a checkpoint. Random numbers take 0.1 to 1 s. MindSpore 2.10
    has `no_init_parameters`, but it is deprecated, and MindCV initializes its models again with `set_data`.
    """
    initialize = Initializer.__call__
    Initializer.__call__ = lambda initializer, array: array.fill(0)
    try:
        yield
    finally:
        Initializer.__call__ = initialize


def create_detector(cfg: Config) -> SSD:
    """Create the detector of a recipe with random weights.

    Raises UserError if `steps` or the channels in the recipe differ from the strides or channels of the network.
    """
    anchors = create_anchors(cfg)
    backbone = Backbone(
        name=cfg.backbone,
        out_indices=cfg.backbone_out_indices,
        max_stride=cfg.backbone_max_stride,
        padding=cfg.backbone_padding,
        taps=cfg.backbone_taps,
    )
    neck = create_neck(cfg, backbone)
    feature_sizes = neck.feature_sizes(cfg.image_size)
    if feature_sizes != anchors.feature_sizes:
        height, width = cfg.image_size
        advice = _advise_on_steps(cfg, feature_sizes)
        raise UserError(
            f"steps: {list(cfg.steps)} implies feature maps of sizes {anchors.feature_sizes}, but {cfg.backbone} and "
            f"its neck compute sizes {feature_sizes} from {width}x{height} images. {advice}"
        )
    backbone_channels = tuple(neck.out_channels[: len(backbone.channels)])
    if cfg.backbone_channels not in (None, backbone_channels):
        raise UserError(
            f"extras_out_channels: got {list(cfg.backbone_channels or ())} for the levels of the backbone, "
            f"expected {list(backbone_channels)}. Replace the first entries with the expected values."
        )
    in_channels = tuple(neck.out_channels[:-1])  # each later level reads the level before it
    if cfg.extras_in_channels is not None and cfg.extras_in_channels[1:] != in_channels:
        raise UserError(
            f"extras_in_channels: got {list(cfg.extras_in_channels)}, "
            f"expected {[cfg.extras_in_channels[0], *in_channels]}. Remove extras_in_channels, because the values are "
            "derived from the network."
        )
    head = create_head(cfg, in_channels=neck.out_channels, num_anchors=anchors.num_per_location)
    detector = SSD(backbone, neck, head, anchors=anchors)
    protect_running_statistics(detector)
    return detector


def _advise_on_steps(cfg: Config, feature_sizes: Sequence[tuple[int, int]]) -> str:
    """Return a sentence that states the steps to set for a network.

    feature_sizes: (height, width) of the feature map of each level of the network in locations
    """
    if len(feature_sizes) != len(cfg.steps):
        return "Change steps or extra_layers, so that both have the same number of levels."
    steps = fitting_steps(cfg.image_size, feature_sizes, preferred=cfg.steps)
    if None in steps:
        return f"No step fits level {steps.index(None) + 1}. Change extra_layers, or use square images."
    return f'Set --steps "{str(steps).replace(" ", "")}", or change extra_layers.'


def to_mixed_precision(detector: SSD, amp_level: str) -> nn.Cell:
    """Convert a detector to a mixed precision level of MindSpore.

    The outputs stay float32.

    detector: detector with float32 weights
    amp_level: "O0" for float32, "O2" for float16 except BatchNorm, "O3" for float16
    Returns a cell that has the same attribute `anchors` as the detector.
    """
    if amp_level == "O0":
        return detector
    mixed = ms.amp.auto_mixed_precision(detector, amp_level)
    mixed.anchors = detector.anchors  # MindSpore may have wrapped the detector in another cell without this attribute
    return mixed

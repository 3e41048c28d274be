"""The detector: backbone, neck and head, from normalized images to raw predictions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import mindspore as ms
import mindspore.nn as nn
from mindspore import Tensor

from ..boxes.anchors import Anchors, create_anchors
from ..errors import UserError
from .backbone import Backbone
from .head import create_head
from .neck import create_neck

if TYPE_CHECKING:
    from ..config.schema import Config


class SSD(nn.Cell):
    """A single-shot detector. It returns logits: the loss and post-processing apply the activation.

    anchors: of the predictions, in the same order
    """

    def __init__(self, backbone: nn.Cell, neck: nn.Cell, head: nn.Cell, *, anchors: Anchors):
        super().__init__()
        self.anchors = anchors
        self.backbone = backbone
        self.neck = neck
        self.head = head

    def construct(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Predict a box and class logits for every anchor.

        image: (B, 3, H, W) float, normalized
        Returns box_offsets (B, A, 4) and cls_logits (B, A, K), float32 at any AMP level.
        """
        box_offsets, cls_logits = self.head(self.neck(self.backbone(image)))
        return box_offsets.astype("float32"), cls_logits.astype("float32")


def create_detector(cfg: Config) -> SSD:
    """Create the detector of a recipe, randomly initialized.

    Raises UserError if `steps` or the channels stated in the recipe differ from those of the network.
    """
    anchors = create_anchors(cfg)
    backbone = Backbone(
        name=cfg.backbone,
        out_indices=cfg.backbone_out_indices,
        max_stride=cfg.backbone_max_stride,
        padding=cfg.backbone_padding,
    )
    neck = create_neck(cfg, backbone)
    feature_sizes = neck.feature_sizes(cfg.image_size)
    if feature_sizes != anchors.feature_sizes:
        height, width = cfg.image_size
        raise UserError(
            f"steps: {list(cfg.steps)} give feature maps of {anchors.feature_sizes} locations, but {cfg.backbone} and "
            f"its neck make {feature_sizes} of {width}x{height} images. Change `steps` or the extra layers."
        )
    backbone_channels = tuple(neck.out_channels[: len(backbone.channels)])
    if cfg.backbone_channels not in (None, backbone_channels):
        raise UserError(
            f"extras_out_channels: got {list(cfg.backbone_channels or ())} for the backbone's levels, "
            f"expected {list(backbone_channels)}. Remove the key; it is derived."
        )
    in_channels = tuple(neck.out_channels[:-1])  # of the second and later levels, which read the level before
    if cfg.extras_in_channels is not None and cfg.extras_in_channels[1:] != in_channels:
        raise UserError(
            f"extras_in_channels: got {list(cfg.extras_in_channels)}, "
            f"expected {[cfg.extras_in_channels[0], *in_channels]}. Remove the key; it is derived."
        )
    head = create_head(cfg, in_channels=neck.out_channels, num_anchors=anchors.num_per_location)
    return SSD(backbone, neck, head, anchors=anchors)


def to_mixed_precision(detector: SSD, amp_level: str) -> nn.Cell:
    """Convert a detector to MindSpore's mixed precision: O0 float32, O2 float16 except BatchNorm, O3 float16.

    Outputs stay float32. The returned cell has the detector's `anchors`.
    """
    if amp_level == "O0":
        return detector
    mixed = ms.amp.auto_mixed_precision(detector, amp_level)
    mixed.anchors = detector.anchors  # MindSpore may have wrapped the detector in another cell
    return mixed

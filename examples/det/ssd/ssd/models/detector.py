"""The detector: backbone, neck and head, from normalised images to raw predictions, in training and evaluation."""

from __future__ import annotations

import mindspore as ms
import mindspore.nn as nn
from mindspore import Tensor

from ..boxes.anchors import DefaultBoxes, GridAnchors, create_anchors
from ..errors import UserError
from .backbone import Backbone
from .head import create_head
from .neck import create_neck


class SSD(nn.Cell):
    """A single shot detector. It applies no activation: losses and post-processing do."""

    def __init__(self, backbone: nn.Cell, neck: nn.Cell, head: nn.Cell, anchors: DefaultBoxes | GridAnchors):
        super().__init__()
        self.anchors = anchors
        self.backbone = backbone
        self.neck = neck
        self.head = head

    def construct(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """image: (B, 3, H, W) float, normalised
        -> box_offsets (B, A, 4), cls_logits (B, A, K), float32 at any AMP level"""
        box_offsets, cls_logits = self.head(self.neck(self.backbone(image)))
        return box_offsets.astype("float32"), cls_logits.astype("float32")


def create_detector(cfg) -> SSD:
    """The detector of a recipe with fresh weights. cfg: Config.

    Raises UserError if the levels that the network makes are not those that the recipe's anchors stand on.
    """
    anchors = create_anchors(cfg)
    backbone = Backbone(cfg.backbone, cfg.backbone_out_indices, cfg.backbone_max_stride, cfg.backbone_padding)
    neck = create_neck(cfg, backbone)
    sizes = neck.feature_sizes(cfg.image_size)
    if sizes != anchors.feature_sizes:
        raise UserError(
            f"steps: got {list(cfg.steps)} for feature maps of {anchors.feature_sizes} locations, expected "
            f"the {sizes} that {cfg.backbone} and its neck make of {cfg.image_size[1]}x{cfg.image_size[0]} images; "
            "change steps or layers"
        )
    of_backbone = tuple(neck.out_channels[: len(backbone.channels)])
    if cfg.backbone_channels not in (None, of_backbone):
        raise UserError(
            f"extras_out_channels: got {list(cfg.backbone_channels)} for the levels of the backbone, "
            f"expected {list(of_backbone)}; remove the key to have them derived"
        )
    read = tuple(neck.out_channels[:-1])  # by the second level and those after it
    if cfg.extras_in_channels is not None and cfg.extras_in_channels[1:] != read:
        raise UserError(
            f"extras_in_channels: got {list(cfg.extras_in_channels)}, expected {[cfg.extras_in_channels[0], *read]}; "
            "remove the key to have it derived"
        )
    return SSD(backbone, neck, create_head(cfg, neck.out_channels, anchors.num_per_location), anchors=anchors)


def to_mixed_precision(detector: SSD, amp_level: str) -> nn.Cell:
    """Set the precision a detector computes in: O0 float32, O2 float16 except for BatchNorm, O3 float16.

    Its outputs stay float32. The result has `.anchors` as the detector has.
    """
    if amp_level == "O0":
        return detector
    mixed = ms.amp.auto_mixed_precision(detector, amp_level)
    mixed.anchors = detector.anchors  # MindSpore may have put the detector inside another cell
    return mixed

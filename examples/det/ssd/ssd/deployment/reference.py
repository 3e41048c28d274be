"""Compute outputs for a comparison: those of MindSpore for all anchors, and those of a model batch by batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import mindspore.nn as nn
import numpy as np
from mindspore import Tensor, ops

from ..config.schema import Config
from ..models.detector import SSD
from ..models.layers import NormalizeImage
from ..models.postprocess import DecodeBoxes
from .comparison import ComparisonImages, Outputs
from .detector import to_model_input
from .model_metadata import InputInfo


class _AllAnchors(nn.Cell):
    """Boxes and scores of all anchors, as the reference of a comparison."""

    def __init__(self, cfg: Config, detector: SSD):
        super().__init__(auto_prefix=False)
        self.normalize = NormalizeImage()
        self.detector = detector
        self.decode = DecodeBoxes(detector.anchors.boxes_cyxhw, cfg.prior_scaling)
        self.softmax = cfg.loss == "multibox"

    def construct(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Compute boxes (B, A, 4) as fractions of the image size, and scores (B, A, K - 1) of the object classes."""
        box_offsets, cls_logits = self.detector(self.normalize(image))
        scores = ops.softmax(cls_logits, axis=-1) if self.softmax else ops.sigmoid(cls_logits)
        return self.decode(box_offsets), scores[..., 1:]


def run_reference(cfg: Config, detector: SSD, images: ComparisonImages) -> Outputs:
    """Compute the boxes and scores of all anchors with MindSpore."""
    net = _AllAnchors(cfg, detector)
    net.set_train(False)
    boxes, scores = net(Tensor(images.pixels))
    return Outputs(boxes.asnumpy(), scores.asnumpy())


def run_in_chunks(
    run: Callable[[np.ndarray], Sequence[np.ndarray]], pixels: np.ndarray, info: InputInfo
) -> list[np.ndarray]:
    """Run a model on images in batches of its batch size. The number of images is padded to a multiple of it."""
    size = info.batch_size or len(pixels)
    padding = np.repeat(pixels[-1:], -len(pixels) % size, axis=0)
    padded = np.concatenate([pixels, padding])
    chunks = [run(to_model_input(padded[start : start + size], info)) for start in range(0, len(padded), size)]
    return [np.concatenate(outputs)[: len(pixels)] for outputs in zip(*chunks)]

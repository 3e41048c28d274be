"""Inference: from uint8 images to candidates in one graph, to detections on the host."""

from __future__ import annotations

from typing import Iterator

import mindspore.nn as nn
import numpy as np
from mindspore import Tensor

from ..models.layers import NormalizeImage
from ..models.postprocess import Detections, DetectionSelector, create_candidates


class DetectorWithCandidates(nn.Cell):
    """Normalisation, detector, decoding and top-k."""

    def __init__(self, detector: nn.Cell, candidates: nn.Cell):
        super().__init__(auto_prefix=False)
        self.normalize = NormalizeImage()
        self.detector = detector
        self.candidates = candidates

    def construct(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """image: (B, H, W, 3) uint8 -> boxes_yxyx (B, T, 4) 0..1, scores (B, T), labels (B, T)"""
        box_offsets, cls_logits = self.detector(self.normalize(image))
        return self.candidates(box_offsets, cls_logits)


def create_inference_net(cfg, detector: nn.Cell, anchors) -> DetectorWithCandidates:
    """cfg: Config; anchors: boxes.anchors object"""
    return DetectorWithCandidates(detector, create_candidates(cfg, anchors))


def create_selector(cfg) -> DetectionSelector:
    """cfg: Config"""
    return DetectionSelector(cfg.min_score, cfg.nms_threshold, cfg.max_detections)


def detect(net: nn.Cell, selector: DetectionSelector, dataset) -> Iterator[tuple[int, Detections]]:
    """Every image of a `val` dataset with its detections. net: DetectorWithCandidates -> (image id, detections)

    The network is in evaluation mode while this runs, and back in its former mode afterwards.
    """
    was_training = net.detector.training  # not the mode of `net`, which may be new around a detector in training
    net.set_train(False)
    batch_size = dataset.get_batch_size()
    try:
        for batch in dataset.create_dict_iterator(num_epochs=1, output_numpy=True):
            image = batch["image"]
            count = len(image)
            # The last batch is filled up, because another shape would be another graph to compile.
            filled = np.concatenate([image, np.zeros((batch_size - count, *image.shape[1:]), image.dtype)])
            outputs = [output.asnumpy()[:count] for output in net(Tensor(filled))]
            for index, (image_id, (height, width)) in enumerate(zip(batch["image_id"], batch["original_size"])):
                boxes, scores, labels = (output[index] for output in outputs)
                yield int(image_id), selector(boxes, scores, labels, int(height), int(width))
    finally:
        net.set_train(was_training)

"""Inference: from uint8 images to candidates in one graph, to detections on the host."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator

import mindspore.nn as nn
import numpy as np
from mindspore import Tensor

from ..models.layers import NormalizeImage
from ..models.postprocess import Detections, DetectionSelector, create_postprocess


class InferenceNet(nn.Cell):
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


def create_inference_net(cfg, detector: nn.Cell) -> InferenceNet:
    """cfg: Config; anchors: boxes.anchors object"""
    return InferenceNet(detector, create_postprocess(cfg, detector.anchors))


def create_selector(cfg) -> DetectionSelector:
    """cfg: Config"""
    return DetectionSelector(cfg.min_score, cfg.nms_threshold, cfg.max_detections, cfg.nms, cfg.soft_nms_sigma)


@dataclasses.dataclass
class Stopwatch:
    """Seconds that an evaluation waited for data, for the network, and for post-processing on the host.

    The first batch compiles the graph, so the network's time with it is kept apart.
    """

    images: int = 0
    first_images: int = 0
    data: float = 0.0
    first_network: float = 0.0
    network: float = 0.0
    postprocessing: float = 0.0

    def rates(self) -> dict[str, float]:
        """{part: images/s}; that of the network without the first batch where there is another"""
        images, seconds = self.images - self.first_images, self.network
        if not images:
            images, seconds = self.images, self.first_network
        return {
            "data": self.images / max(self.data, 1e-9),
            "network": images / max(seconds, 1e-9),
            "postprocessing": self.images / max(self.postprocessing, 1e-9),
        }


def detect(
    net: nn.Cell, selector: DetectionSelector, dataset, stopwatch: Stopwatch
) -> Iterator[tuple[int, Detections]]:
    """Every image of a `val` dataset with its detections. net: InferenceNet -> (image id, detections)

    The network is in evaluation mode while this runs, and back in its former mode afterwards.
    """
    was_training = net.detector.training  # not the mode of `net`, which may be new around a detector in training
    net.set_train(False)
    batch_size = dataset.get_batch_size()
    batches = dataset.create_dict_iterator(num_epochs=1, output_numpy=True)
    try:
        while True:
            start = time.perf_counter()
            batch = next(batches, None)
            stopwatch.data += time.perf_counter() - start
            if batch is None:
                return
            start = time.perf_counter()
            outputs = run_batch(net, batch["image"], batch_size)
            seconds = time.perf_counter() - start
            if stopwatch.images:
                stopwatch.network += seconds
            else:
                stopwatch.first_images, stopwatch.first_network = len(batch["image"]), seconds
            stopwatch.images += len(batch["image"])
            start = time.perf_counter()
            found = selector(*outputs, batch["original_size"])
            stopwatch.postprocessing += time.perf_counter() - start
            yield from zip(batch["image_id"].tolist(), found)
    finally:
        net.set_train(was_training)


def run_batch(net: nn.Cell, image: np.ndarray, batch_size: int) -> list[np.ndarray]:
    """image: (b, H, W, 3) uint8, b up to batch_size -> boxes_yxyx (b, T, 4) 0..1, scores (b, T), labels (b, T)"""
    # A smaller batch is filled up, because another shape would be another graph to compile.
    filled = np.concatenate([image, np.zeros((batch_size - len(image), *image.shape[1:]), image.dtype)])
    return [output.asnumpy()[: len(image)] for output in net(Tensor(filled))]

"""Inference: a network from uint8 images to top-k candidates, then non-maximum suppression on the host."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterator, Sequence

import mindspore.dataset as ds
import mindspore.nn as nn
import numpy as np
from mindspore import Tensor

from ..boxes.multiclass_nms import Detections, MulticlassNMS
from ..config.schema import Config
from ..data.dataset import iterate_batches
from ..errors import UserError
from ..models.layers import NormalizeImage
from ..models.postprocess import create_postprocess
from ..runtime.heartbeat import activity


class InferenceNet(nn.Cell):
    """Normalize images, run the detector, decode boxes and select the top-k candidates, in one graph.

    detector: SSD
    postprocess: TopKCandidates, which converts raw predictions to candidates
    """

    def __init__(self, detector: nn.Cell, postprocess: nn.Cell):
        super().__init__(auto_prefix=False)
        self.normalize = NormalizeImage()
        self.detector = detector
        self.postprocess = postprocess

    def construct(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Compute the T candidates of each image of a batch.

        image: (B, H, W, 3) uint8 RGB
        Returns (boxes_yxyx, scores, labels):
        boxes_yxyx: (B, T, 4) corners, y first, as fractions of the image size, 0..1
        scores: (B, T), 0..1
        labels: (B, T) int32, 1..K-1
        """
        box_offsets, cls_logits = self.detector(self.normalize(image))
        return self.postprocess(box_offsets, cls_logits)


def create_inference_net(cfg: Config, detector: nn.Cell) -> InferenceNet:
    """Create the inference network of a recipe.

    detector: SSD in any precision, with loaded weights
    """
    return InferenceNet(detector, create_postprocess(cfg, detector.anchors))


def create_nms(cfg: Config) -> MulticlassNMS:
    """Create the non-maximum suppression of a recipe, including its score threshold."""
    return MulticlassNMS(
        min_score=cfg.min_score,
        nms_threshold=cfg.nms_threshold,
        max_detections=cfg.max_detections,
        nms=cfg.nms,
        soft_nms_sigma=cfg.soft_nms_sigma,
    )


@dataclasses.dataclass
class InferenceTimes:
    """Wall-clock time of each inference stage: data pipeline, network and postprocessing.

    The network time of the first batch is stored separately, because the first batch compiles the graph.

    num_images: number of images processed so far
    first_batch_images: number of images in the first batch
    data_seconds: time spent waiting for the data pipeline
    first_batch_seconds: network time of the first batch, including compilation
    network_seconds: network time of all other batches
    postprocessing_seconds: time of non-maximum suppression on the host
    """

    num_images: int = 0
    first_batch_images: int = 0
    data_seconds: float = 0.0
    first_batch_seconds: float = 0.0
    network_seconds: float = 0.0
    postprocessing_seconds: float = 0.0

    def images_per_second(self) -> dict[str, float]:
        """Compute the throughput of each stage.

        The throughput of the network excludes the first batch, unless there is only one batch.

        Returns {stage: images per second}.
        """
        network_images, network_seconds = self.num_images - self.first_batch_images, self.network_seconds
        if not network_images:
            network_images, network_seconds = self.num_images, self.first_batch_seconds
        return {
            "data": self.num_images / max(self.data_seconds, 1e-9),
            "network": network_images / max(network_seconds, 1e-9),
            "postprocessing": self.num_images / max(self.postprocessing_seconds, 1e-9),
        }


def detect_dataset(
    net: InferenceNet, nms: MulticlassNMS, dataset: ds.Dataset, times: InferenceTimes
) -> Iterator[tuple[int, Detections]]:
    """Detect objects in all images of a validation dataset, and measure the time of each stage.

    The network runs in evaluation mode, and the previous mode of the network is restored at the end.

    dataset: batches created by create_dataset for the split `val`
    times: object to which the time of each stage is added
    Yields (image id, detections of the image), with boxes in pixels of the original image.
    """
    was_training = net.detector.training  # `net` may be a new wrapper, so read the detector's mode
    net.set_train(False)
    batch_size = dataset.get_batch_size()
    try:
        yield from detect_batches(
            lambda images: run_batch(net, images, batch_size), nms=nms, dataset=dataset, times=times
        )
    finally:
        net.set_train(was_training)


def detect_batches(
    run: Callable[[np.ndarray], Sequence[np.ndarray]], *, nms: MulticlassNMS, dataset: ds.Dataset, times: InferenceTimes
) -> Iterator[tuple[int, Detections]]:
    """Detect objects in all images of a validation dataset with a function that computes candidates.

    run: function from (b, H, W, 3) uint8 RGB to boxes_yxyx, scores and labels, see `run_batch`
    dataset: batches created by create_dataset for the split `val`
    times: object to which the time of each stage is added
    Yields (image id, detections of the image), with boxes in pixels of the original image.
    """
    batches = iterate_batches(dataset)
    while True:
        start = time.perf_counter()
        batch = next(batches, None)
        times.data_seconds += time.perf_counter() - start
        if batch is None:
            return
        start = time.perf_counter()
        with contextlib.nullcontext() if times.num_images else activity("compiling the network"):
            boxes_yxyx, scores, labels = run(batch["image"])
        seconds = time.perf_counter() - start
        if times.num_images:
            times.network_seconds += seconds
        else:
            times.first_batch_images, times.first_batch_seconds = len(batch["image"]), seconds
        times.num_images += len(batch["image"])
        start = time.perf_counter()
        detections = nms(boxes_yxyx, scores, labels=labels, sizes=batch["original_size"])
        times.postprocessing_seconds += time.perf_counter() - start
        yield from zip(batch["image_id"].tolist(), detections)


def run_batch(net: nn.Cell, images: np.ndarray, batch_size: int) -> list[np.ndarray]:
    """Run the network on one batch, which is padded to batch_size with black images.

    images: (b, H, W, 3) uint8 RGB, 1 <= b <= batch_size
    Returns [boxes_yxyx, scores, labels] of the T candidates of each image:
    boxes_yxyx: (b, T, 4) corners, y first, as fractions of the image size, 0..1
    scores: (b, T), 0..1
    labels: (b, T) int32, 1..K-1
    Raises UserError if an output is not finite.
    """
    # Pad the batch, because MindSpore would compile another graph for another shape.
    padding = np.zeros((batch_size - len(images), *images.shape[1:]), images.dtype)
    outputs = [output.asnumpy()[: len(images)] for output in net(Tensor(np.concatenate([images, padding])))]
    if not all(np.isfinite(output).all() for output in outputs):  # NMS would drop such detections silently
        raise UserError(
            "network: the outputs contain NaN or infinity. Use another checkpoint, or float32 with --amp_level O0."
        )
    return outputs

"""Replace slow parts of commands, which do not change their calls on files, so that more faults can be tried."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from mindspore import Parameter, Tensor, nn, ops

from ssd.boxes.multiclass_nms import Detections
from ssd.training.train_step import OUTPUTS


class _Detector(nn.Cell):
    """Network with one weight."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = Parameter(Tensor(np.ones((64, 64), np.float32)), name="weight")

    def construct(self, image: Tensor) -> Tensor:
        return self.weight.mean() + image.astype("float32").mean()


class _Step(nn.Cell):
    """Training step whose weight becomes the mean of the images, so that it depends on every batch."""

    def __init__(self, detector: nn.Cell) -> None:
        super().__init__()
        self.network = detector
        self.skipped = Parameter(Tensor(np.int32(0)), "skipped_updates", requires_grad=False)
        self.zeros = Tensor(np.zeros(len(OUTPUTS) - 3, np.float32))

    def construct(self, image: Tensor, gt_boxes_yxyx: Tensor, gt_labels: Tensor) -> Tensor:
        loss = self.network(image) / 256
        ops.assign(self.network.weight, self.network.weight * 0.5 + loss)
        return ops.concat((ops.stack((loss, loss, loss)), self.zeros))


def write_two_shards() -> None:
    """Let `convert` in this process write two shards for each split."""
    from ssd.data import mindrecord

    mindrecord.SHARDS = 2


def train_without_network() -> None:
    """Let `trainer.train` in this process train and evaluate the network of this module, which compiles at once."""
    from ssd.evaluation import evaluator
    from ssd.training import trainer

    def detect(net: Any, nms: Any, dataset: Any, times: Any) -> Iterator[tuple[int, Detections]]:
        for batch in dataset.create_dict_iterator(num_epochs=1, output_numpy=True):
            for image_id in batch["image_id"]:
                boxes = np.array([[8, 8, 40, 40]], np.float32)
                yield int(image_id), Detections(boxes, np.array([0.75], np.float32), np.array([1], np.int32))

    replaced: dict[tuple[Any, str], Any] = {
        (trainer, "create_initialized_detector"): lambda cfg, is_resumed: (_Detector(), "without a network"),
        (trainer, "fit_to_memory"): lambda cfg, detector, runtime: cfg,
        (trainer, "create_train_step"): lambda cfg, detector, schedule, world_size: _Step(detector),
        (evaluator, "create_inference_net"): lambda cfg, detector: None,
        (evaluator, "detect_dataset"): detect,
    }
    for (module, name), value in replaced.items():
        setattr(module, name, value)


def export_without_comparison() -> None:
    """Let `Exporter` in this process compare no outputs with those of MindSpore, which compiles graphs for seconds."""
    from ssd.deployment import export

    class Session:
        def __init__(self, path: Path) -> None:
            path.read_bytes()
            self.run = None

    outputs = [np.zeros((1, 1, 4), np.float32), np.zeros((1, 1), np.float32), np.zeros((1, 1), np.int32)]
    replaced: dict[tuple[Any, str], Any] = {
        (export.Exporter, "_compare_onnx"): lambda self, path, model, **options: {"boxes": 0.0},
        (export, "MindirSession"): Session,
        (export, "run_in_chunks"): lambda run, pixels, info: outputs,
        (export, "compare_candidates"): lambda found, expected, place: {"boxes": 0.0},
    }
    for (owner, name), value in replaced.items():
        setattr(owner, name, value)


def let_data_thread_fail() -> None:
    """Let a data thread in this process get no memory for its third batch."""
    from ssd.data.batches import TrainBatchTransform

    draw, calls = TrainBatchTransform.draw, []

    def fail(self: TrainBatchTransform, image_id: int, epoch: int) -> np.ndarray:
        calls.append(image_id)
        if len(calls) == 10:  # of batches of 4
            raise MemoryError("Unable to allocate 1.00 GiB for an array")
        return draw(self, image_id, epoch)

    TrainBatchTransform.draw = fail  # type: ignore[method-assign]

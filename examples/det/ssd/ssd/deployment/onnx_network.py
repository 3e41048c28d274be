"""Convert the network of a detector to ONNX: from uint8 pixels or normalized values to raw predictions."""

from __future__ import annotations

import tempfile
from pathlib import Path

import mindspore as ms
import mindspore.nn as nn
import numpy as np
import onnx
from mindspore import Tensor

from ..models.layers import NormalizeImage

INPUT_NAME = "image"
OFFSETS_NAME, LOGITS_NAME = "box_offsets", "cls_logits"
OPSET = 13  # Ascend's converter reads up to 17
IR_VERSION = 8  # format of the file; older versions of onnxruntime read it too


class _RawPredictions(nn.Cell):
    """Network with the raw outputs of a detector.

    detector: SSD, see `make_exportable`
    normalize: NormalizeImage for uint8 pixels; None for normalized values
    """

    def __init__(self, detector: nn.Cell, normalize: nn.Cell | None):
        super().__init__(auto_prefix=False)
        self.detector = detector
        self.normalize = normalize

    def construct(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the box offsets (B, A, 4) and class logits (B, A, K) of a batch."""
        if self.normalize is not None:
            image = self.normalize(image)
        return self.detector(image)


def convert_network(
    detector: nn.Cell, image_size: tuple[int, int], *, batch_size: int | None, raw_input: bool
) -> onnx.ModelProto:
    """Convert a detector to ONNX.

    detector: SSD with loaded weights, prepared by `make_exportable`; it must not have run before, because MindSpore
        2.10 cannot export a network after its first run
    image_size: (height, width) of the input in pixels
    batch_size: number of images of a batch; None for any number
    raw_input: False for an input (B, H, W, 3) uint8; True for (B, 3, H, W) float32, normalized
    Returns a model with the outputs box_offsets (B, A, 4) and cls_logits (B, A, K), both float32.
    """
    height, width = image_size
    traced = batch_size or 1
    if raw_input:
        image = np.zeros((traced, 3, height, width), np.float32)
    else:
        image = np.zeros((traced, height, width, 3), np.uint8)
    net = _RawPredictions(detector, normalize=None if raw_input else NormalizeImage())
    net.set_train(False)
    with tempfile.TemporaryDirectory() as folder:  # MindSpore refuses paths with spaces
        path = Path(folder) / "network.onnx"
        ms.onnx.export(
            net,
            Tensor(image),
            file_name=str(path),
            input_names=[INPUT_NAME],
            output_names=[OFFSETS_NAME, LOGITS_NAME],
        )
        model = onnx.load(str(path))
    # MindSpore writes opset 11. Its operators mean the same in opset 13, the first with scales for each channel.
    model.opset_import[0].version, model.ir_version = OPSET, IR_VERSION
    if batch_size is None:
        _allow_any_batch_size(model.graph)
    return model


def _allow_any_batch_size(graph: onnx.GraphProto) -> None:
    """Change a graph for one image to a graph for any number of images, in place.

    Only the Reshape operators contain the number of images. In their shapes, 0 copies the size of the input.
    """
    initializers = {tensor.name: tensor for tensor in graph.initializer}
    constants = {node.output[0]: node.attribute[0].t for node in graph.node if node.op_type == "Constant"}
    for node in graph.node:
        if node.op_type != "Reshape":
            continue
        tensor = initializers.get(node.input[1]) or constants[node.input[1]]
        shape = onnx.numpy_helper.to_array(tensor).copy()
        if len(shape) > 1 and shape[0] == 1:  # others have the shapes of constants, such as (C, 1, 1)
            shape[0] = 0
            tensor.CopyFrom(onnx.numpy_helper.from_array(shape, tensor.name))
    del graph.value_info[:]
    for value in (*graph.input, *graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"

"""Smaller ONNX models with onnxruntime's quantizer: int8 weights and activations, or float16."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process
from onnxruntime.transformers.float16 import convert_float_to_float16

from .detector import to_model_input
from .model_metadata import InputInfo
from .onnx_postprocess import POSTPROCESS_PREFIX

CALIBRATION_IMAGES = 64


class _CalibrationImages(CalibrationDataReader):
    """Feed images to the calibration one batch at a time."""

    def __init__(self, pixels: np.ndarray, info: InputInfo):
        size = info.batch_size or 1
        rows = np.arange(-(-len(pixels) // size) * size) % len(pixels)  # images are repeated to fill the last batch
        self.batches: Iterator[np.ndarray] = iter(np.split(pixels[rows], len(rows) // size))
        self.info = info

    def get_next(self) -> dict[str, np.ndarray] | None:  # type: ignore[override]
        batch = next(self.batches, None)
        return None if batch is None else {self.info.name: to_model_input(batch, self.info)}


def quantize_int8(source: Path, target: Path, pixels: np.ndarray, info: InputInfo) -> None:
    """Write a model whose convolutions run in int8, with a scale for each channel of the weights.

    The post-processing stays in float32, because box coordinates need more than 256 values.

    pixels: (N, H, W, 3) uint8 RGB, training images from which the ranges of activations are calibrated
    """
    prepared = target.with_name("prepared.onnx")
    quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)  # merges BatchNorm into convolutions
    quantize_static(
        str(prepared),
        str(target),
        _CalibrationImages(pixels, info),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        nodes_to_exclude=_postprocess_nodes(onnx.load(str(prepared))),
    )
    prepared.unlink()


def quantize_float16(source: Path, target: Path) -> None:
    """Write a model whose weights and network are float16. The post-processing stays in float32."""
    model: Any = onnx.load(str(source))
    converted = convert_float_to_float16(model, keep_io_types=True, node_block_list=_postprocess_nodes(model))
    onnx.save(converted, str(target))


def _postprocess_nodes(model: onnx.ModelProto) -> list[str]:
    return [node.name for node in model.graph.node if node.name.startswith(POSTPROCESS_PREFIX)]

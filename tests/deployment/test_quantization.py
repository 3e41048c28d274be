"""Quantized models are smaller, and give nearly the outputs of float32."""

import numpy as np
import onnx
import pytest

from ssd.deployment.detector import Detector
from ssd.deployment.export import Exporter


@pytest.mark.parametrize("kind, tolerance", [("int8", 0.2), ("float16", 0.02)])
def test_a_quantized_model_is_close(kind, tolerance, exported, tmp_path):
    folder = tmp_path / f"tiny_{kind}"
    Exporter(exported.cfg, name="tiny").quantize(exported.folder, folder, kind)
    assert sorted(path.name for path in folder.iterdir()) == ["labels.txt", "metadata.yaml", "model.onnx"]
    detectors = [Detector(exported.folder), Detector(folder)]
    assert [detector.metadata.quantization for detector in detectors] == [None, kind]
    images = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), dtype=np.uint8)
    (_, scores, _), (_, quantized, _) = (detector.run(images) for detector in detectors)
    assert 0 < np.abs(np.sort(scores) - np.sort(quantized)).mean() < tolerance
    # Convolutions have weights of the smaller type; the post-processing keeps float32.
    weights = {
        tensor.data_type for tensor in onnx.load(folder / "model.onnx").graph.initializer if len(tensor.dims) == 4
    }
    assert weights == {{"int8": onnx.TensorProto.INT8, "float16": onnx.TensorProto.FLOAT16}[kind]}

"""docs/deployment.md: its Python code runs, and its numbers are those of the package."""

import re

import cv2
import numpy as np
import pytest

from markdown_pages import DOCS, parse_page
from ssd.deployment.comparison import TOLERANCE
from ssd.deployment.model_metadata import LABELS_NAME, METADATA_NAME, MODEL_NAMES
from ssd.deployment.onnx_network import OPSET
from ssd.normalization import IMAGENET_MEAN, IMAGENET_STD
from tiny_onnx import write_model

PAGE = parse_page((DOCS / "deployment.md").read_text(encoding="utf-8"))
BLOCKS = [content for language, content in PAGE.code if language == "python"]


def block_with(word):
    (block,) = [block for block in BLOCKS if word in block]
    return block


@pytest.fixture
def folder_of_the_page(tmp_path, monkeypatch):
    """A working folder with the model and the photo of the page: 40 pixels high, 100 wide, R 204, G 102, B 0."""
    monkeypatch.chdir(tmp_path)
    write_model(tmp_path / "output" / "ssd_mobilenetv2_onnx")
    pixels = np.full((40, 100, 3), (0, 102, 204), np.uint8)  # OpenCV's order B, G, R
    cv2.imwrite("photo.jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, 100])


def test_the_code_with_the_detector_runs(folder_of_the_page, capsys):
    exec(block_with("import Detector"), {})
    assert capsys.readouterr().out == "red 0.80 [0.0, 0.0, 20.0, 50.0]\ngreen 0.40 [10.0, 50.0, 30.0, 100.0]\n"


def test_the_code_with_onnxruntime_alone_runs(folder_of_the_page, capsys):
    block = block_with("import onnxruntime")
    assert len(block.splitlines()) <= 15 and "ssd." not in block
    exec(block, {})
    assert capsys.readouterr().out == "red 0.80 0.0 0.0 50.0 20.0\ngreen 0.40 50.0 10.0 100.0 30.0\n"


def test_aipp_normalizes_as_the_network_does():
    fields = dict(re.findall(r"(\w+): ([\d.]+)", PAGE.text))
    for channel in range(3):
        assert float(fields[f"mean_chn_{channel}"]) == 0
        assert float(fields[f"min_chn_{channel}"]) == IMAGENET_MEAN[channel]
        assert float(fields[f"var_reci_chn_{channel}"]) == pytest.approx(1 / IMAGENET_STD[channel], rel=1e-8)


def test_numbers_and_files_of_the_page():
    assert f"opset {OPSET};" in PAGE.text and f"Above {TOLERANCE:.4f} the command fails" in PAGE.text
    for name in (MODEL_NAMES["onnx"], METADATA_NAME, LABELS_NAME):
        assert f"── {name} " in PAGE.text

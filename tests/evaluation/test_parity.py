"""Published checkpoints give the published outputs: files of MindCV's example with inputs and outputs it had.

SSD_REFERENCE names a folder of folders, each called <recipe> or <recipe>_<anything>, with the checkpoint
mindcv_example.ckpt and io.npz: image (B, 3, H, W), normalised; boxes_yxyx, labels; what the example makes of them,
target_offsets, target_labels, num_positives, box_offsets, cls_logits, decoded_yxyx, scores; and its loss.
"""

import os
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from mindspore import Tensor

from ssd.boxes.anchors import create_anchors
from ssd.checkpoints.loading import load_weights
from ssd.models.detector import create_detector
from ssd.models.losses import create_loss
from ssd.models.postprocess import DecodeBoxes
from ssd.models.target_assigner import create_assigner

RECIPES = ("ssd_resnet50_fpn", "ssd_mobilenetv3", "ssd_mobilenetv2")


def published_folders():
    """[(recipe, folder), …]"""
    root = Path(os.environ.get("SSD_REFERENCE") or os.devnull)
    folders = sorted(
        path.parent for path in root.glob("ssd_*/io.npz") if (path.parent / "mindcv_example.ckpt").is_file()
    )
    return [(recipe, folder) for folder in folders for recipe in RECIPES if f"{folder.name}_".startswith(f"{recipe}_")]


FOLDERS = published_folders()


@pytest.fixture(scope="module", params=FOLDERS or [None], ids=[folder.name for _, folder in FOLDERS] or ["none"])
def published(request, reference, load_recipe):
    """.cfg, .anchors, .expected {key of io.npz: array}, and .box_offsets and .cls_logits that our detector puts out"""
    if request.param is None:
        pytest.skip("SSD_REFERENCE holds no checkpoint with inputs and outputs")
    recipe, folder = request.param
    expected = dict(np.load(folder / "io.npz"))
    cfg = load_recipe(recipe, num_classes=expected["cls_logits"].shape[-1])
    detector = create_detector(cfg).set_train(False)
    load_weights(detector, folder / "mindcv_example.ckpt")
    outputs = [output.asnumpy() for output in detector(Tensor(expected["image"]))]
    return SimpleNamespace(
        cfg=cfg, anchors=create_anchors(cfg), expected=expected, box_offsets=outputs[0], cls_logits=outputs[1]
    )


@pytest.mark.parametrize("name", ["box_offsets", "cls_logits"])
def test_outputs(published, name):
    found, expected = getattr(published, name), published.expected[name]
    # 1e-4 of what is usual in a trained network, whose logits stay under 10
    assert np.abs(found - expected).max() < 1e-4 * max(1, np.abs(expected).max() / 10)


def test_scores(published):
    scores = 1 / (1 + np.exp(-published.cls_logits))
    np.testing.assert_allclose(scores, published.expected["scores"], atol=1e-4)


def test_targets(published):
    assigner = create_assigner(published.cfg, published.anchors)
    inputs = [Tensor(published.expected[name]) for name in ("boxes_yxyx", "labels")]
    offsets, labels = (target.asnumpy() for target in assigner(*inputs))
    np.testing.assert_array_equal(labels, published.expected["target_labels"])
    np.testing.assert_allclose(offsets, published.expected["target_offsets"], rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal((labels > 0).sum(axis=1), published.expected["num_positives"])


def test_decoded_boxes(published):
    decode = DecodeBoxes(published.anchors.boxes_cyxhw, published.cfg.prior_scaling)
    boxes = decode(Tensor(published.box_offsets)).asnumpy()
    np.testing.assert_allclose(boxes, published.expected["decoded_yxyx"], atol=1e-4)


def test_loss(published):
    targets = [Tensor(published.expected[name]) for name in ("target_offsets", "target_labels")]
    loss, _, _ = create_loss(published.cfg, published.anchors)(
        Tensor(published.box_offsets), Tensor(published.cls_logits), *targets
    )
    assert float(loss.asnumpy()) == pytest.approx(float(published.expected["loss"]), rel=1e-5)

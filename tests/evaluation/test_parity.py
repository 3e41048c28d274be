"""Parity with published checkpoints of MindCV's example, on inputs and outputs that were recorded from the example.

SSD_REFERENCE names a folder with one folder per checkpoint, called <recipe> or <recipe>_<anything>. Each holds the
checkpoint mindcv_example.ckpt and io.npz with these arrays:
    image: (B, 3, H, W) float32, normalised
    boxes_yxyx, labels: ground truth
    target_offsets, target_labels, num_positives: outputs of the example's target assignment
    box_offsets, cls_logits, scores, decoded_yxyx: outputs of its detector
    loss: its loss
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
    """Return [(recipe, folder)]."""
    root = Path(os.environ.get("SSD_REFERENCE") or os.devnull)
    folders = sorted(
        path.parent for path in root.glob("ssd_*/io.npz") if (path.parent / "mindcv_example.ckpt").is_file()
    )
    return [(recipe, folder) for folder in folders for recipe in RECIPES if f"{folder.name}_".startswith(f"{recipe}_")]


FOLDERS = published_folders()


@pytest.fixture(scope="module", params=FOLDERS or [None], ids=[folder.name for _, folder in FOLDERS] or ["none"])
def published(request, reference, load_recipe):
    """Namespace with cfg, anchors, expected {key of io.npz: array}, and our detector's box_offsets and cls_logits."""
    if request.param is None:
        pytest.skip("SSD_REFERENCE holds no checkpoint with inputs and outputs")
    recipe, folder = request.param
    expected = dict(np.load(folder / "io.npz"))
    cfg = load_recipe(recipe, num_classes=expected["cls_logits"].shape[-1])
    detector = create_detector(cfg).set_train(False)
    load_weights(detector, folder / "mindcv_example.ckpt")
    box_offsets, cls_logits = (output.asnumpy() for output in detector(Tensor(expected["image"])))
    return SimpleNamespace(
        cfg=cfg, anchors=create_anchors(cfg), expected=expected, box_offsets=box_offsets, cls_logits=cls_logits
    )


@pytest.mark.parametrize("name", ["box_offsets", "cls_logits"])
def test_outputs(published, name):
    actual, expected = getattr(published, name), published.expected[name]
    # Logits of a trained network stay below 10. Where they are larger, the tolerance grows with them.
    assert np.abs(actual - expected).max() < 1e-4 * max(1, np.abs(expected).max() / 10)


def test_scores(published):
    scores = 1 / (1 + np.exp(-published.cls_logits))
    np.testing.assert_allclose(scores, published.expected["scores"], atol=1e-4)


def test_targets(published):
    assigner = create_assigner(published.cfg, published.anchors)
    gt_boxes_yxyx, gt_labels = (Tensor(published.expected[name]) for name in ("boxes_yxyx", "labels"))
    offsets, labels = (target.asnumpy() for target in assigner(gt_boxes_yxyx, gt_labels))
    np.testing.assert_array_equal(labels, published.expected["target_labels"])
    np.testing.assert_allclose(offsets, published.expected["target_offsets"], rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal((labels > 0).sum(axis=1), published.expected["num_positives"])


def test_decoded_boxes(published):
    decode = DecodeBoxes(published.anchors.boxes_cyxhw, published.cfg.prior_scaling)
    boxes = decode(Tensor(published.box_offsets)).asnumpy()
    np.testing.assert_allclose(boxes, published.expected["decoded_yxyx"], atol=1e-4)


def test_loss(published):
    loss, _, _ = create_loss(published.cfg, published.anchors)(
        box_offsets=Tensor(published.box_offsets),
        cls_logits=Tensor(published.cls_logits),
        target_offsets=Tensor(published.expected["target_offsets"]),
        target_labels=Tensor(published.expected["target_labels"]),
    )
    assert float(loss.asnumpy()) == pytest.approx(float(published.expected["loss"]), rel=1e-5)

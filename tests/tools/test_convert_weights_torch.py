"""PyTorch networks compute the same after conversion."""

import itertools
import math
from typing import NamedTuple

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import mindspore as ms  # noqa: E402
import torch_detectors  # noqa: E402
import torch_networks  # noqa: E402
import torch_timm_networks  # noqa: E402
from mindspore import Tensor  # noqa: E402

from ssd.boxes.anchors import create_anchors  # noqa: E402
from ssd.checkpoints.loading import load_backbone, load_weights  # noqa: E402
from ssd.checkpoints.records import METADATA_KEY  # noqa: E402
from ssd.models.detector import create_detector  # noqa: E402
from ssd.models.postprocess import DecodeBoxes  # noqa: E402

TOLERANCE = 1e-4
BACKBONES = {  # name: (recipe, network, parts of the output)
    "torchvision resnet50": ("ssd_resnet50_fpn", torch_networks.ResNet50, ["torchvision's or timm's resnet50"]),
    "torchvision mobilenet_v2": ("ssd_mobilenetv2", torch_networks.MobileNetV2, ["torchvision's mobilenet_v2"]),
    "timm mobilenetv2_100": ("ssd_mobilenetv2", torch_timm_networks.TimmMobileNetV2, ["timm's mobilenetv2"]),
    "torchvision mobilenet_v3_large": (
        "ssd_mobilenetv3",
        torch_networks.MobileNetV3Large,
        ["torchvision's mobilenet_v3_large", "note: 0.00099 ", " 46 BatchNorm layers"],
    ),
    "timm mobilenetv3_large_100": (
        "ssd_mobilenetv3",
        torch_timm_networks.TimmMobileNetV3Large,
        ["timm's mobilenetv3_large", "note: timm's tf_mobilenetv3"],
    ),
}


@pytest.fixture(scope="module")
def detectors(load_recipe):
    """detectors("ssd_mobilenetv2") returns the recipe's detector with PyTorch's padding, created once."""
    created = {}

    def get(recipe):
        if recipe not in created:
            created[recipe] = create_detector(load_recipe(recipe, backbone_padding="torch")).set_train(False)
        return created[recipe]

    yield get
    created.clear()


@pytest.fixture(scope="module")
def images():
    """(2, 3, 132, 100) float32; the sides are even at some strides and odd at others."""
    return np.random.default_rng(0).normal(size=(2, 3, 132, 100)).astype(np.float32)


@pytest.mark.parametrize("backbone", BACKBONES)
def test_a_converted_backbone_computes_the_same(backbone, run_convert_weights, detectors, images, tmp_path):
    recipe, create_network, parts = BACKBONES[backbone]
    network = torch_networks.initialize(create_network())
    torch.save(network.state_dict(), tmp_path / "in.pth")
    paths = ["--input", tmp_path / "in.pth", "--output", tmp_path / "out.ckpt"]
    code, out, err = run_convert_weights(recipe, *paths, "--backbone_padding", "torch")
    assert (code, err) == (0, "")
    for part in [*parts, "num_batches_tracked", "the classifier", "--backbone_ckpt_path"]:
        assert part in out
    net = detectors(recipe)
    load_backbone(net, tmp_path / "out.ckpt")
    with torch.no_grad():
        expected_features = network(torch.from_numpy(images))
    features = net.backbone(Tensor(images))
    assert len(features) == len(expected_features)
    for feature, expected in zip(features, expected_features):
        expected = expected.numpy()
        assert feature.shape == expected.shape and np.abs(expected).max() > 0.5  # all-zero features would agree, too
        np.testing.assert_allclose(feature.asnumpy(), expected, rtol=0, atol=TOLERANCE)


def test_a_tapped_expansion_computes_the_same(run_convert_weights, images, load_recipe, tmp_path):
    """torchvision's SSDLite taps the first layers of block 13 of MobileNetV3-Large, with 672 channels."""
    network = torch_networks.initialize(torch_networks.MobileNetV3Large())
    torch.save(network.state_dict(), tmp_path / "in.pth")
    paths = ["--input", tmp_path / "in.pth", "--output", tmp_path / "out.ckpt"]
    assert run_convert_weights("ssd_mobilenetv3", *paths, "--backbone_padding", "torch")[0] == 0
    cfg = load_recipe("ssd_mobilenetv3", backbone_padding="torch", backbone_taps="expansion", neck="residuals")
    detector = create_detector(cfg).set_train(False)
    load_backbone(detector, tmp_path / "out.ckpt")
    with torch.no_grad():
        before, last = network(torch.from_numpy(images))
        expected = [network.features[13].block[0](before), last]
    for feature, expected_feature in zip(detector.backbone(Tensor(images)), expected, strict=True):
        np.testing.assert_allclose(feature.asnumpy(), expected_feature.numpy(), rtol=0, atol=TOLERANCE)


def test_max_pooling_pads_like_pytorch_only_if_the_recipe_says_so(images, detectors, load_recipe):
    images = images.clip(0)  # as after a ReLU
    expected = torch_networks.ResNet50().maxpool(torch.from_numpy(images)).numpy()
    torch_padding, mindcv_padding = (
        net.backbone.features.net.max_pool(Tensor(images)).asnumpy()
        for net in (detectors("ssd_resnet50_fpn"), create_detector(load_recipe("ssd_resnet50_fpn")))
    )
    assert np.array_equal(torch_padding, expected)
    assert mindcv_padding.shape == expected.shape and np.abs(mindcv_padding - expected).max() > 1


class Levels(NamedTuple):
    """Levels of a detector of NVIDIA or uvipen on 300x300 images: sizes and steps in pixels."""

    sides: list[int]
    steps: list[int]
    sizes: list[int]
    ratios: list[list[int]]


SSD300 = Levels(
    sides=[38, 19, 10, 5, 3, 1],
    steps=[8, 16, 32, 64, 100, 300],
    sizes=[21, 45, 99, 153, 207, 261, 315],
    ratios=[[2], [2, 3], [2, 3], [2, 3], [2], [2]],
)
SSDLITE = Levels(
    sides=[19, 10, 5, 3, 2, 1],
    steps=[16, 32, 64, 100, 150, 300],
    sizes=[60, 105, 150, 195, 240, 285, 330],
    ratios=[[2, 3]] * 6,
)


def nvidia_anchors(levels):
    """Return anchors in NVIDIA's order: (A, 4) cx, cy, w, h in 0..1, all locations of an anchor in turn."""
    anchors = []
    for level, (num_cells, stride) in enumerate(zip(levels.sides, levels.steps)):
        small = levels.sizes[level] / 300
        shapes = [(small, small), (math.sqrt(small * levels.sizes[level + 1] / 300),) * 2]
        for ratio in levels.ratios[level]:
            long_side, short_side = small * math.sqrt(ratio), small / math.sqrt(ratio)
            shapes += [(long_side, short_side), (short_side, long_side)]
        for width, height in shapes:
            for row, column in itertools.product(range(num_cells), repeat=2):
                anchors.append(((column + 0.5) * stride / 300, (row + 0.5) * stride / 300, width, height))
    return np.clip(anchors, 0, 1)


def nvidia_decode(offsets, logits, levels):
    """Decode as NVIDIA does.

    offsets: (A, 4) of cx, cy, w, h; logits: (A, K)
    Returns boxes_yxyx (A, 4) in 0..1 and probabilities (A, K).
    """
    anchors = nvidia_anchors(levels)
    centers = offsets[:, :2] * 0.1 * anchors[:, 2:] + anchors[:, :2]
    sizes = np.exp(offsets[:, 2:] * 0.2) * anchors[:, 2:]
    corners = np.concatenate([centers - sizes / 2, centers + sizes / 2], axis=1)
    return np.clip(corners[:, [1, 0, 3, 2]], 0, 1), torch.softmax(torch.from_numpy(logits), 1).numpy()


def reorder_anchors(rows, levels):
    """Reorder (A, n) rows from NVIDIA's order, anchors before locations, to locations before anchors."""
    reordered, start = [], 0
    for num_cells, ratios in zip(levels.sides, levels.ratios):
        num_anchors = 2 + 2 * len(ratios)
        end = start + num_cells * num_cells * num_anchors
        level = rows[start:end].reshape(num_anchors, num_cells * num_cells, -1)
        order = [0, 2, 3, 1] if num_anchors == 4 else [0, 2, 3, 4, 5, 1]  # square, pairs, larger square
        reordered.append(level[order].transpose(1, 0, 2).reshape(-1, rows.shape[1]))
        start = end
    assert start == len(rows)
    return np.concatenate(reordered)


def assert_equal_outputs(net, network, cfg, levels):
    """The logits, offsets, boxes and scores of every anchor are equal within TOLERANCE.

    net: converted detector; network: PyTorch module
    """
    image = np.random.default_rng(1).normal(size=(1, 3, 300, 300)).astype(np.float32)
    box_offsets, cls_logits = net(Tensor(image))
    with torch.no_grad():
        offsets, logits = (output[0].numpy().T for output in network(torch.from_numpy(image)))
    assert np.abs(offsets).max() > 0.5 and np.abs(logits).max() > 0.5
    # NVIDIA's offsets are cx, cy, w, h; here they are cy, cx, h, w.
    expected_offsets = reorder_anchors(offsets, levels)[:, [1, 0, 3, 2]]
    np.testing.assert_allclose(box_offsets.asnumpy()[0], expected_offsets, rtol=0, atol=TOLERANCE)
    np.testing.assert_allclose(cls_logits.asnumpy()[0], reorder_anchors(logits, levels), rtol=0, atol=TOLERANCE)

    expected_boxes, expected_scores = nvidia_decode(offsets, logits, levels)
    boxes = DecodeBoxes(create_anchors(cfg).boxes_cyxhw, cfg.prior_scaling)(box_offsets).asnumpy()[0]
    scores = ms.ops.softmax(cls_logits[0]).asnumpy()
    np.testing.assert_allclose(boxes, reorder_anchors(expected_boxes, levels), rtol=0, atol=TOLERANCE)
    np.testing.assert_allclose(scores, reorder_anchors(expected_scores, levels), rtol=0, atol=TOLERANCE)


@pytest.fixture(scope="module")
def ssd300():
    return torch_networks.initialize(torch_detectors.SSD300(81), seed=1, image_side=300)


def nvidia_checkpoint(network, classes):
    """Return the checkpoint that NVIDIA's training saves with several GPUs."""
    optimizer = torch.optim.SGD(network.parameters(), 0.1, momentum=0.9)
    return {
        "epoch": 65,
        "iteration": 240000,
        "optimizer": optimizer.state_dict(),
        "scheduler": torch.optim.lr_scheduler.MultiStepLR(optimizer, [43, 54]).state_dict(),
        "label_map": dict(enumerate(classes)),
        "model": {f"module.{name}": value for name, value in network.state_dict().items()},
    }


def test_converted_ssd300_computes_the_same(run_convert_weights, detectors, ssd300, load_recipe, tmp_path):
    cfg = load_recipe("ssd_resnet50")
    torch.save(nvidia_checkpoint(ssd300, cfg.classes), tmp_path / "epoch_64.pt")
    paths = ["--input", tmp_path / "epoch_64.pt", "--output", tmp_path / "ssd.ckpt"]
    code, out, err = run_convert_weights("ssd_resnet50", *paths)
    assert (code, err) == (0, "")
    assert "epoch, iteration, optimizer, scheduler, label_map" in out and "22,930,870 values" in out
    net = detectors("ssd_resnet50")
    load_weights(net, tmp_path / "ssd.ckpt")
    assert_equal_outputs(net, ssd300, cfg, SSD300)

    # uvipen's SSD.pth has the same weights under another key.
    torch.save({"epoch": 53, "model_state_dict": ssd300.state_dict()}, tmp_path / "SSD.pth")
    paths = ["--input", tmp_path / "SSD.pth", "--output", tmp_path / "uvipen.ckpt"]
    assert run_convert_weights("ssd_resnet50", *paths)[0] == 0
    nvidia, uvipen = (ms.load_checkpoint(str(tmp_path / name)) for name in ("ssd.ckpt", "uvipen.ckpt"))
    assert nvidia.keys() == uvipen.keys() and nvidia.pop(METADATA_KEY) == uvipen.pop(METADATA_KEY)
    assert all(np.array_equal(nvidia[name].asnumpy(), uvipen[name].asnumpy()) for name in nvidia)


def test_converted_ssdlite_computes_the_same(run_convert_weights, detectors, load_recipe, tmp_path):
    network = torch_networks.initialize(torch_detectors.SSDLite(81), seed=2, image_side=300)
    content = {
        "epoch": 64,
        "model_state_dict": {f"module.{name}": value for name, value in network.state_dict().items()},
        "optimizer": torch.optim.SGD(network.parameters(), 0.1, momentum=0.9).state_dict(),
    }
    torch.save(content, tmp_path / "SSD.pth")
    paths = ["--input", tmp_path / "SSD.pth", "--output", tmp_path / "ssdlite.ckpt"]
    code, out, err = run_convert_weights("ssdlite_mobilenetv2", *paths)
    assert (code, err) == (0, "")
    assert "epoch, optimizer" in out and "4,502,132 values" in out and "channels were reordered in 24" in out
    assert "ignored 4 names" in out and "loc.6.weight, loc.6.bias, conf.6.weight, conf.6.bias" in out
    net = detectors("ssdlite_mobilenetv2")
    load_weights(net, tmp_path / "ssdlite.ckpt")
    assert_equal_outputs(net, network, load_recipe("ssdlite_mobilenetv2"), SSDLITE)


def test_classes_in_another_order_are_refused(run_convert_weights, ssd300, load_recipe, tmp_path):
    classes = list(load_recipe("ssd_resnet50").classes)
    classes[1:3] = classes[2:0:-1]
    torch.save({"model": ssd300.state_dict(), "label_map": dict(enumerate(classes))}, tmp_path / "in.pt")
    paths = ["--input", tmp_path / "in.pt", "--output", tmp_path / "out.ckpt"]
    code, _, err = run_convert_weights("ssd_resnet50", *paths)
    assert code == 2 and "in.pt: class 1 " in err and "'bicycle'" in err and "'person'" in err
    assert not (tmp_path / "out.ckpt").exists()

"""Networks of PyTorch compute the same after conversion, and .pth files are read as data alone."""

import argparse
import itertools
import math

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import mindspore as ms  # noqa: E402
import torch_networks  # noqa: E402
from mindspore import Tensor  # noqa: E402

from ssd.boxes.anchors import create_anchors  # noqa: E402
from ssd.checkpoints.loading import load_backbone, load_weights  # noqa: E402
from ssd.checkpoints.metadata import METADATA_KEY  # noqa: E402
from ssd.errors import UserError  # noqa: E402
from ssd.models.detector import create_detector  # noqa: E402
from ssd.models.postprocess import DecodeBoxes  # noqa: E402
from torch_files import read_state_dict  # noqa: E402

TOLERANCE = 1e-4
FORMS = {  # backbones: recipe, network, words that the command must say
    "torchvision resnet50": ("ssd_resnet50_fpn", torch_networks.ResNet50, ["torchvision's or timm's resnet50"]),
    "torchvision mobilenet_v2": ("ssd_mobilenetv2", torch_networks.MobileNetV2, ["torchvision's mobilenet_v2 "]),
    "timm mobilenetv2_100": ("ssd_mobilenetv2", torch_networks.TimmMobileNetV2, ["timm's mobilenetv2 "]),
    "torchvision mobilenet_v3_large": (
        "ssd_mobilenetv3",
        torch_networks.MobileNetV3Large,
        ["torchvision's mobilenet_v3_large", "note: 0.00099 is added to 46 variances", "46 to the rounding"],
    ),
    "timm mobilenetv3_large_100": (
        "ssd_mobilenetv3",
        torch_networks.TimmMobileNetV3Large,
        ["timm's mobilenetv3_large", "note: timm's tf_mobilenetv3"],
    ),
}


@pytest.fixture(scope="module")
def detectors(load_recipe):
    """detectors("ssd_mobilenetv2") is the recipe's network with PyTorch's padding, built once."""
    built = {}

    def get(recipe):
        if recipe not in built:
            built[recipe] = create_detector(load_recipe(recipe, backbone_padding="torch")).set_train(False)
        return built[recipe]

    yield get
    built.clear()


@pytest.fixture(scope="module")
def image():
    """Sides that are even at some strides and odd at others."""
    return np.random.default_rng(0).normal(size=(2, 3, 132, 100)).astype(np.float32)


@pytest.mark.parametrize("form", FORMS)
def test_a_backbone_computes_the_same(form, command, detectors, image, tmp_path):
    recipe, kind, said = FORMS[form]
    network = torch_networks.seed(kind())
    torch.save(network.state_dict(), tmp_path / "in.pth")
    words = ["--input", tmp_path / "in.pth", "--output", tmp_path / "out.ckpt", "--backbone_padding", "torch"]
    code, out, err = command(recipe, *words)
    assert (code, err) == (0, "")
    for part in [*said, "batch counters", "num_batches_tracked", "the classifier", "read back", "--backbone_ckpt_path"]:
        assert part in out
    net = detectors(recipe)
    load_backbone(net, tmp_path / "out.ckpt")
    with torch.no_grad():
        expected = network(torch.from_numpy(image))
    maps = net.backbone(Tensor(image))
    assert len(maps) == len(expected)
    for got, wanted in zip(maps, expected):
        wanted = wanted.numpy()
        assert got.shape == wanted.shape and np.abs(wanted).max() > 0.5  # a dead network would agree, too
        np.testing.assert_allclose(got.asnumpy(), wanted, rtol=0, atol=TOLERANCE)


def test_max_pooling_pads_as_there_only_where_the_recipe_asks_for_it(image, detectors, load_recipe):
    expected = torch_networks.ResNet50().maxpool(torch.from_numpy(image)).numpy()
    pools = [
        net.backbone.features.net.max_pool
        for net in (detectors("ssd_resnet50_fpn"), create_detector(load_recipe("ssd_resnet50_fpn")))
    ]
    ours, mindcv = (pool(Tensor(image)).asnumpy() for pool in pools)
    assert np.array_equal(ours, expected)
    assert mindcv.shape == expected.shape and np.abs(mindcv - expected).max() > 1


def nvidia_boxes():
    """SSD300's default boxes in NVIDIA's order, all locations of a box in turn: (8732, 4) cx, cy, w, h in 0..1."""
    sizes, boxes = [21, 45, 99, 153, 207, 261, 315], []
    for level, (cells, step) in enumerate(zip([38, 19, 10, 5, 3, 1], [8, 16, 32, 64, 100, 300])):
        small = sizes[level] / 300
        shapes = [(small, small), (math.sqrt(small * sizes[level + 1] / 300),) * 2]
        for ratio in [2, 3] if level in (1, 2, 3) else [2]:
            wide, high = small * math.sqrt(ratio), small / math.sqrt(ratio)
            shapes += [(wide, high), (high, wide)]
        for wide, high in shapes:
            for row, column in itertools.product(range(cells), repeat=2):
                boxes.append(((column + 0.5) * step / 300, (row + 0.5) * step / 300, wide, high))
    return np.clip(boxes, 0, 1)


def nvidia_detections(offsets, logits):
    """NVIDIA's decoder. offsets: (8732, 4) of cx, cy, w, h; logits: (8732, K)
    -> boxes_yxyx (8732, 4) in 0..1, probabilities (8732, K)"""
    boxes = nvidia_boxes()
    centers = offsets[:, :2] * 0.1 * boxes[:, 2:] + boxes[:, :2]
    sizes = np.exp(offsets[:, 2:] * 0.2) * boxes[:, 2:]
    corners = np.concatenate([centers - sizes / 2, centers + sizes / 2], axis=1)
    return np.clip(corners[:, [1, 0, 3, 2]], 0, 1), torch.softmax(torch.from_numpy(logits), 1).numpy()


def in_our_order(rows):
    """(8732, n) of NVIDIA's order, boxes before locations, in ours, locations before boxes."""
    levels, start = [], 0
    for cells, boxes in zip([38, 19, 10, 5, 3, 1], [4, 6, 6, 6, 4, 4]):
        level = rows[start : start + cells * cells * boxes].reshape(boxes, cells * cells, -1)
        order = [0, 2, 3, 1] if boxes == 4 else [0, 2, 3, 4, 5, 1]  # square, pairs, larger square
        levels.append(level[order].transpose(1, 0, 2).reshape(-1, rows.shape[1]))
        start += cells * cells * boxes
    return np.concatenate(levels)


@pytest.fixture(scope="module")
def ssd300():
    return torch_networks.seed(torch_networks.SSD300(81), number=1, side=300)


def nvidia_checkpoint(network, classes):
    """What its training saves, from several GPUs."""
    optimizer = torch.optim.SGD(network.parameters(), 0.1, momentum=0.9)
    return {
        "epoch": 65,
        "iteration": 240000,
        "optimizer": optimizer.state_dict(),
        "scheduler": torch.optim.lr_scheduler.MultiStepLR(optimizer, [43, 54]).state_dict(),
        "label_map": dict(enumerate(classes)),
        "model": {f"module.{name}": value for name, value in network.state_dict().items()},
    }


def test_ssd300_computes_the_same_boxes_and_scores(command, detectors, ssd300, load_recipe, tmp_path):
    cfg = load_recipe("ssd_resnet50")
    torch.save(nvidia_checkpoint(ssd300, cfg.classes), tmp_path / "epoch_64.pt")
    code, out, err = command("ssd_resnet50", "--input", tmp_path / "epoch_64.pt", "--output", tmp_path / "ssd.ckpt")
    assert (code, err) == (0, "")
    assert "state of training beside the weights (5)" in out and "22,930,870 values, 24 of them reordered" in out
    net = detectors("ssd_resnet50")
    load_weights(net, tmp_path / "ssd.ckpt")
    image = np.random.default_rng(1).normal(size=(1, 3, 300, 300)).astype(np.float32)
    box_offsets, cls_logits = net(Tensor(image))
    with torch.no_grad():
        offsets, logits = (output[0].numpy().T for output in ssd300(torch.from_numpy(image)))
    assert np.abs(offsets).max() > 0.5 and np.abs(logits).max() > 0.5
    # Theirs are offsets of cx, cy, w, h, ours of cy, cx, h, w.
    np.testing.assert_allclose(box_offsets.asnumpy()[0], in_our_order(offsets)[:, [1, 0, 3, 2]], rtol=0, atol=TOLERANCE)
    np.testing.assert_allclose(cls_logits.asnumpy()[0], in_our_order(logits), rtol=0, atol=TOLERANCE)

    anchors = create_anchors(cfg).boxes_cyxhw
    boxes, scores = nvidia_detections(offsets, logits)
    got_boxes = DecodeBoxes(anchors, cfg.prior_scaling)(box_offsets).asnumpy()[0]
    got_scores = ms.ops.softmax(cls_logits[0]).asnumpy()
    np.testing.assert_allclose(got_boxes, in_our_order(boxes), rtol=0, atol=TOLERANCE)
    np.testing.assert_allclose(got_scores, in_our_order(scores), rtol=0, atol=TOLERANCE)

    # uvipen's SSD.pth has the same weights under another key.
    torch.save({"epoch": 53, "model_state_dict": ssd300.state_dict()}, tmp_path / "SSD.pth")
    assert command("ssd_resnet50", "--input", tmp_path / "SSD.pth", "--output", tmp_path / "uvipen.ckpt")[0] == 0
    first, second = (ms.load_checkpoint(str(tmp_path / name)) for name in ("ssd.ckpt", "uvipen.ckpt"))
    assert first.keys() == second.keys() and first.pop(METADATA_KEY) == second.pop(METADATA_KEY)
    assert all(np.array_equal(first[name].asnumpy(), second[name].asnumpy()) for name in first)


def test_classes_in_another_order_are_refused(command, ssd300, load_recipe, tmp_path):
    classes = list(load_recipe("ssd_resnet50").classes)
    classes[1:3] = classes[2:0:-1]
    torch.save({"model": ssd300.state_dict(), "label_map": dict(enumerate(classes))}, tmp_path / "in.pt")
    code, _, err = command("ssd_resnet50", "--input", tmp_path / "in.pt", "--output", tmp_path / "out.ckpt")
    assert code == 2 and "got other classes than the recipe, 'bicycle' for 'person' first" in err
    assert not (tmp_path / "out.ckpt").exists()


class Runs:
    def __reduce__(self):
        return print, ("this must never be printed",)


def test_pickles_that_would_run_code_are_refused(tmp_path, capsys):
    for value, code in ((Runs(), "print"), (argparse.Namespace(), "argparse.Namespace")):
        torch.save({"state_dict": {}, "args": value}, tmp_path / "unsafe.pth")
        with pytest.raises(UserError, match=f"got a pickle that would run {code}, expected a state dict of tensors"):
            read_state_dict(tmp_path / "unsafe.pth")
    assert capsys.readouterr().out == ""


def test_damaged_files_are_refused(tmp_path):
    torch.save({"a.weight": torch.ones(1000)}, tmp_path / "whole.pth")
    whole = (tmp_path / "whole.pth").read_bytes()
    for content in (b"", b"hello", whole[: len(whole) // 2]):
        (tmp_path / "damaged.pth").write_bytes(content)
        with pytest.raises(UserError, match="damaged.pth: got a file that is damaged or not from torch.save, expected"):
            read_state_dict(tmp_path / "damaged.pth")


@pytest.mark.parametrize(
    "content, told",
    [
        (torch.ones(2), "got a Tensor, expected a state dict"),
        ({"lr": 0.1}, "got 'lr' in it, no array"),
        ({"model": {}}, "got nothing in it"),
    ],
)
def test_files_without_weights_are_refused(content, told, tmp_path):
    torch.save(content, tmp_path / "other.pth")
    with pytest.raises(UserError, match=f"other.pth: {told}"):
        read_state_dict(tmp_path / "other.pth")


def test_16_bit_floats_are_widened_exactly(tmp_path):
    values = torch.tensor([0.1, -3.0, 1e-4])
    for dtype in (torch.bfloat16, torch.float16):
        torch.save({"a": values.to(dtype), "count": torch.tensor(7)}, tmp_path / "half.pth")
        arrays = read_state_dict(tmp_path / "half.pth").arrays
        assert arrays["a"].dtype == np.float32 and arrays["count"] == 7
        assert torch.equal(torch.from_numpy(arrays["a"]).to(dtype), values.to(dtype))

"""The losses that recipes can choose: a detector learns the boxes of one batch of noise, and detects them."""

import numpy as np
import pytest
from mindspore import Tensor

from ssd.boxes.anchors import create_anchors
from ssd.boxes.ops import pairwise_iou
from ssd.inference.network import create_inference_net
from ssd.models.detector import create_detector
from ssd.training.train_step import create_train_step

pytestmark = pytest.mark.slow

# SSD300 in small: ResNet-18 without conv5 and with conv4 at stride 1, on 64x64 images.
SMALL_SSD300 = {
    "backbone": "resnet18",
    "backbone_ckpt_path": "",
    "image_size": [64, 64],
    "steps": [8, 16, 32],
    "aspect_ratios": [[2], [2], [2]],
    "box_sizes": [8, 16, 32, 64],
    "extra_layers": [
        {"out_channels": 32, "expand_ratio": 0.125, "stride": 2},
        {"out_channels": 32, "expand_ratio": 1, "stride": 1, "pad": False},
    ],
    "num_classes": 4,
}
CHOICES = {
    "ssd300 with CIoU": ("ssd_resnet50", {**SMALL_SSD300, "box_loss": "ciou"}),
    "focal with GIoU and prior": ("tiny", {"box_loss": "giou", "prior_bias": 0.01}),
    "SSDLite with multibox": ("tiny", {"loss": "multibox"}),
}


@pytest.mark.parametrize("choice", CHOICES)
def test_boxes_of_one_batch_are_learned(choice, load_recipe, tiny_recipe):
    recipe, values = CHOICES[choice]
    cfg = tiny_recipe(**values) if recipe == "tiny" else load_recipe(recipe, **values)
    anchors, detector = create_anchors(cfg), create_detector(cfg)
    rng = np.random.default_rng(0)
    boxes = anchors.boxes_yxyx[rng.integers(len(anchors) // 2, size=(4, 2))].clip(0, 1)
    labels = rng.integers(1, 4, (4, 2)).astype(np.int32)
    image = rng.integers(0, 256, (4, 64, 64, 3)).astype(np.uint8)

    step = create_train_step(cfg, detector, np.full(100, 0.02, np.float32)).set_train()
    losses = [step(Tensor(image), Tensor(boxes), Tensor(labels)).asnumpy()[0] for _ in range(50)]
    assert np.isfinite(losses).all() and losses[-1] < 0.1 * losses[0]

    # In training mode, because running statistics have not converged after a few dozen batches of noise.
    net = create_inference_net(cfg, detector).set_train(True)
    found, scores, classes = (output.asnumpy() for output in net(Tensor(image)))
    for row in range(4):
        for box, label in zip(boxes[row], labels[row]):
            same = classes[row] == label
            best = scores[row][same][np.argmax(pairwise_iou(box[None], found[row][same])[0])]
            assert pairwise_iou(box[None], found[row][same]).max() > 0.6
            assert 0.3 < best <= 1

"""Every shipped recipe makes a training step and, unless other tests cover it, a prediction.

The README's recipe also runs end to end.
"""

import numpy as np
import pytest
from mindspore import Tensor

from ssd.inference.network import create_inference_net
from ssd.models.detector import create_detector
from ssd.training.train_step import OUTPUTS, create_train_step

pytestmark = pytest.mark.slow

# ssd_mobilenetv2 and its variant ssd_mobilenetv2_plus share a network; the README's commands train the first.
# ssd_mobilenetv2_finetune has the levels and the neck of ssdlite_mobilenetv2, and the loss and optimizer of ssd_shapes.
RECIPES = {
    "ssd_mobilenetv3": {},
    "ssd_resnet50": {},
    # The levels of the pyramid fit any multiple of 128 pixels; 640 would take minutes.
    "ssd_resnet50_fpn": {"image_size": [128, 128]},
    "ssd_shapes": {},
    # Half of the backbone has all kinds of layers, and compiles faster.
    "ssdlite_mobilenetv2": {
        "backbone_out_indices": [3, 6],
        "image_size": [72, 72],
        "steps": [4, 8, 16, 32, 64, 72],
    },
}

# `tests/models/test_detector.py` runs these networks without training. Decoding and top-k of recipes differ only in
# softmax (ssdlite_mobilenetv2) or sigmoid (ssd_shapes).
PREDICTED_ELSEWHERE = {"ssd_mobilenetv3", "ssd_resnet50", "ssd_resnet50_fpn"}


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_step_and_a_prediction(recipe, load_recipe):
    cfg = load_recipe(recipe, num_classes=4, batch_size=2, pre_nms_top_k=50, **RECIPES[recipe])
    detector, rng = create_detector(cfg), np.random.default_rng(0)
    step = create_train_step(cfg, detector, np.full(2, 1e-3, np.float32)).set_train()
    image = rng.integers(0, 256, (2, *cfg.image_size, 3)).astype(np.uint8)
    gt_boxes_yxyx = detector.anchors.boxes_yxyx[rng.integers(len(detector.anchors), size=(2, 3))].clip(0, 1)
    gt_labels = rng.integers(1, 4, (2, 3)).astype(np.int32)
    outputs = step(Tensor(image), Tensor(gt_boxes_yxyx), Tensor(gt_labels)).asnumpy()
    values = dict(zip(OUTPUTS, outputs.tolist()))
    assert np.isfinite(outputs).all() and values["box_loss"] > 0 and values["cls_loss"] > 0 and values["grad_norm"] > 0
    if recipe in PREDICTED_ELSEWHERE:
        return

    net = create_inference_net(cfg, detector).set_train(False)
    boxes_yxyx, scores, labels = (output.asnumpy() for output in net(Tensor(image)))
    assert boxes_yxyx.shape == (2, 50, 4) and 0 <= boxes_yxyx.min() and boxes_yxyx.max() <= 1
    assert ((0 <= scores) & (scores <= 1)).all() and set(np.unique(labels)) <= {1, 2, 3}

"""SSD on MindCV backbones, read left to right: config -> boxes -> data -> models -> engine.

Shape shorthand everywhere in this package:
    B   images in a batch          H, W  height and width in pixels
    A   anchors (default boxes)    K     classes including background, which is class 0
    M   objects, zero padded       T     candidates kept before NMS
    D   detections of one image    L     feature levels

Boxes say their form in their name. y comes before x throughout: it is baked into the published weights.
    boxes_yxyx   (…, 4) corners  (y0, x0, y1, x1)
    boxes_cyxhw  (…, 4) centres  (cy, cx, h, w)
Values are fractions of the image, 0..1, unless the name says `pixels`. Labels are class indices, 1..K-1 for objects
and 0 for background or padding. Only at the border to COCO files are boxes xywh in pixels.

Only `config`, `engine` and the scripts read a Config; `create_*(cfg)` functions are the translators, and the classes
they build take plain values.
"""

import os

# Read by MindSpore when it loads, so they have to be set before the first `import mindspore`; what the user set stays.
# oneDNN in MindSpore 2.10 runs every convolution larger than 1x1 through its reference kernels on AVX-512 machines,
# about a hundred times slower than with AVX2 kernels. It concerns the CPU backend alone.
os.environ.setdefault("ONEDNN_MAX_CPU_ISA", "AVX2")
os.environ.setdefault("GLOG_v", "3")  # errors only: MindSpore's warnings would drown the training log

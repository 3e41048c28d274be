"""SSD object detectors on MindCV backbones.

Floors of the package; an import only ever points downwards:
    training                  trainer, train step, schedule, resuming, validation, logs
    evaluation, deployment    COCO and VOC metrics, HTML report; export and serving
    inference                 checkpoint + images or video -> detections, drawn images
    config                    YAML recipes and command line -> typed, validated Config
    data, checkpoints         annotations -> MindRecord shards -> batches; parameter files
    models, runtime           networks, losses, postprocessing; device, msrun, compile cache, progress
    boxes                     anchors, IoU, matching, coding, NMS; NumPy only, the reference for the graphs
    errors                    UserError

Letters in shapes:
    B   images in a batch               H, W  height and width in pixels
    A   anchors (default boxes)         K     classes including background, which is class 0
    M   ground-truth boxes of an image, zero padded in a batch
    T   candidates kept before NMS      D     detections of one image
    L   feature levels

Box formats, named in each variable. y comes before x, because the published weights were trained so.
    boxes_yxyx   (..., 4) corners  (y0, x0, y1, x1)
    boxes_cyxhw  (..., 4) centres  (cy, cx, h, w)
Box values are fractions of the image, 0..1, unless the name says `pixels`. Only COCO files hold xywh in pixels.
Labels are class indices: 1..K-1 for objects, 0 for background and padding.

Only config, inference, evaluation, deployment, training and the scripts read a Config. Lower floors take plain values,
except for their `create_*(cfg)` functions, which translate a Config.
"""

import os

__version__ = "0.1.0"

# MindSpore reads both variables when it loads, so they must be set before the first `import mindspore`. Values that the
# user has set stay.
# On AVX-512 machines, oneDNN in MindSpore 2.10 computes every convolution larger than 1x1 with its reference kernels,
# about a hundred times slower than with AVX2 kernels. Only the CPU backend is affected.
os.environ.setdefault("ONEDNN_MAX_CPU_ISA", "AVX2")
os.environ.setdefault("GLOG_v", "3")  # errors only: MindSpore's warnings would drown the training log

"""SSD object detectors on MindCV backbones.

Layers of the package, from top to bottom. A module imports only from its own subpackage and from lower layers.
    training                  trainer, train step, schedule, resuming, validation, logs
    evaluation, deployment    evaluation: COCO and VOC metrics, HTML report
                              deployment: export and serving
    inference                 detection in images and videos, annotated copies
    config                    YAML recipes and command line -> typed, validated Config
    data, checkpoints         data: annotations -> MindRecord shards -> batches
                              checkpoints: loading and saving of weights and training state
    models, runtime           models: networks, losses, postprocessing
                              runtime: device, msrun, compile cache, progress
    boxes                     anchors, IoU, matching, box coding, NMS: the NumPy reference for the MindSpore graphs
    errors                    UserError and helpers for message texts
    startup                   Ctrl-C while a command starts, and output that cannot be written

Letters in shapes:
    B   images in a batch                   H, W  height and width in pixels
    A   anchors (default boxes)             K     classes, including the background, which is class 0
    M   ground-truth boxes of an image, padded with zeros in a batch
    T   candidate boxes kept before NMS     D     detections of one image
    L   feature levels

Box formats. The name of each variable ends with its format. y comes before x, as in the published weights.
    boxes_yxyx   (..., 4) corners           (y0, x0, y1, x1)
    boxes_cyxhw  (..., 4) center and size   (cy, cx, h, w)
Box coordinates are fractions of the image height and width, 0..1, unless the variable name contains `pixels`.
COCO annotation files contain boxes as (x, y, w, h) in pixels.
Labels are class indices: 1..K-1 for objects, 0 for background and padding.

Only config, inference, evaluation, deployment, training and the scripts read a Config. Functions of lower layers take
plain arguments. The exceptions are functions named `create_*(cfg)`, which read their arguments from a Config.
"""

import os

__version__ = "0.1.0"

# MindSpore reads both environment variables at import, so set both before the first `import mindspore`. `setdefault`
# keeps values that the user has set.
# On AVX-512 machines, MindSpore 2.10 computes every convolution larger than 1x1 with oneDNN's reference kernels. These
# kernels are about a hundred times slower than the AVX2 kernels. Only the CPU backend is affected.
os.environ.setdefault("ONEDNN_MAX_CPU_ISA", "AVX2")
os.environ.setdefault("GLOG_v", "3")  # log only errors, because MindSpore's warnings would hide the training log

# OpenCV reads these variables when it is imported and when it opens its first video. FFmpeg and OpenCV write to the
# file descriptor of stderr while they read damaged videos, which this project reports itself. Without the third
# variable, OpenCV ends a video after 4096 packets of other streams between two frames, as with many audio streams.
# Without the fourth, OpenCV 4.11 asks RTSP cameras for UDP, where a lost packet damages frames.
os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # AV_LOG_QUIET
os.environ.setdefault("OPENCV_FFMPEG_READ_ATTEMPTS", "2000000000")
os.environ.setdefault("OPENCV_FFMPEG_CAPTURE_OPTIONS", "rtsp_transport;tcp")

"""Compile the graph of a recipe as on an Ascend NPU, with MindSpore's front end on any machine:

    MS_DEV_SAVE_GRAPHS=1 MS_DEV_SAVE_GRAPHS_PATH=FOLDER python compile_graph.py CONFIG OVERRIDES SOC GRAPH MAX_GT

CONFIG is a recipe, OVERRIDES a JSON object {recipe key: value}, SOC "910A" or "910B", GRAPH "training" or "inference",
and MAX_GT the number M of ground-truth boxes of an image. MindSpore writes the graph to FOLDER, also if the CPU backend
cannot run it afterwards. The script prints a JSON object {"seconds": duration of the compilation, "weights": number of
parameters without the statistics of BatchNorm}.
"""

from __future__ import annotations

if __name__ == "__main__":
    from ssd.startup import prepare_process

    prepare_process()  # before slow imports, so that Ctrl-C ends these cleanly

import json
import sys
import time

from ssd.errors import exit_cleanly


@exit_cleanly
def main(config: str, overrides: str, soc: str, graph: str, max_gt: str) -> None:
    """Compile a graph. The module docstring describes the arguments."""
    import ssd  # noqa: F401  sets environment variables that MindSpore reads when it is imported

    # isort: split
    import mindspore as ms
    import numpy as np
    from mindspore import Tensor

    from ssd.config.loading import load_config
    from ssd.inference.network import create_inference_net
    from ssd.models.detector import create_detector, to_mixed_precision
    from ssd.training.optimizer import freeze
    from ssd.training.train_step import SaturatingTrainStep, TrainStep, create_train_step

    cfg = load_config(config, {**json.loads(overrides), "device_target": "Ascend"})
    ms.set_context(mode=ms.GRAPH_MODE)
    ms.set_device("CPU")
    detector = create_detector(cfg)
    freeze(detector, cfg.freeze)
    detector = to_mixed_precision(detector, cfg.amp_level)
    batch, boxes = cfg.batch_size, int(max_gt)
    inputs = [Tensor(np.zeros((batch, *cfg.image_size, 3), np.uint8))]
    if graph == "training":
        step_class = SaturatingTrainStep if soc == "910A" else TrainStep
        net = create_train_step(cfg, detector, np.full(100, 0.01, np.float32), step_class=step_class).set_train()
        # MindSpore's step reads these flags, which it sets on an NPU, when it compiles its overflow check.
        net.ascend_910a_target, net.ascend_910b_target = soc == "910A", soc == "910B"
        inputs += [Tensor(np.zeros((batch, boxes, 4), np.float32)), Tensor(np.zeros((batch, boxes), np.int32))]
    else:
        net = create_inference_net(cfg, detector).set_train(False)
    start = time.monotonic()
    try:
        net.compile(*inputs)
    except RuntimeError as error:
        # The front end has finished if the CPU backend reports primitives that only NPUs have.
        if "Kernel select failed" not in str(error) and "Unsupported op" not in str(error):
            raise
    statistics = ("moving_mean", "moving_variance")
    weights = [parameter for parameter in detector.get_parameters() if not parameter.name.endswith(statistics)]
    result = {"seconds": time.monotonic() - start, "weights": len(weights)}
    print(json.dumps(result))


if __name__ == "__main__":
    main(*sys.argv[1:])

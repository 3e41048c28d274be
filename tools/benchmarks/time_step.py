"""Time compilation and training steps in one process: `python time_step.py CONFIG OVERRIDES STEPS OUT`.

CONFIG is a recipe. OVERRIDES is a JSON object {recipe key: value}. STEPS is the number of steps to measure. OUT is the
JSON file to write. step.py runs this script. The script has absolute imports, because MindSpore's compile cache reads
the imports of the started script.
"""

if __name__ == "__main__":
    from ssd.startup import prepare_process

    prepare_process()  # before slow imports, so that Ctrl-C ends these cleanly

import json
import sys
from pathlib import Path

WARM_UP_STEPS = 2  # steps between compilation and the measured steps


def main(config: str, overrides: str, steps: str, out: str) -> None:
    """Time compilation and training steps, and write the results to a JSON file.

    config: path of the recipe
    overrides: JSON object {recipe key: value}
    steps: number of steps to measure
    out: path of the JSON file
    The file contains compile_s, step_ms (the median of the steps), batch_size and image_size (height, width).
    """
    from benchmarks.network import create_step, random_batch, time_calls
    from ssd.config.loading import load_config
    from ssd.config.schema import graph_settings
    from ssd.data.dataset_info import dataset_fingerprint
    from ssd.runtime.compile_cache import compile_cache
    from ssd.runtime.device import Runtime

    cfg = load_config(config, json.loads(overrides))
    step, batch = create_step(cfg), random_batch(cfg)

    def call() -> None:
        step(*batch).asnumpy()

    data = dataset_fingerprint(Path(cfg.data_dir))
    with compile_cache("benchmark of the step", settings=graph_settings(cfg), data=data, runtime=Runtime()):
        (first_step,) = time_calls(call, 1)
    time_calls(call, WARM_UP_STEPS)
    seconds = time_calls(call, int(steps))
    median = sorted(seconds)[len(seconds) // 2]
    result = {
        "compile_s": first_step - median,
        "step_ms": 1e3 * median,
        "batch_size": cfg.batch_size,
        "image_size": list(cfg.image_size),
    }
    Path(out).write_text(json.dumps(result))


if __name__ == "__main__":
    main(*sys.argv[1:])

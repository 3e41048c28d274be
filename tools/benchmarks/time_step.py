"""Time compilation and training steps in one process: `python time_step.py CONFIG OVERRIDES STEPS OUT`.

OVERRIDES is JSON. step.py runs this script. Its imports are absolute, because MindSpore's compile cache follows the
imports of the script that was started.
"""

import json
import sys
from pathlib import Path

WARM_UP_STEPS = 2  # after compilation, not counted


def main(config: str, overrides: str, steps: str, out: str) -> None:
    """Write a JSON file with compile_s, step_ms (median), batch_size and image_size. overrides: JSON; steps: number"""
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

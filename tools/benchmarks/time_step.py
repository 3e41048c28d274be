"""One process of step.py: compile, warm up, time. `python time_step.py CONFIG OVERRIDES STEPS OUT`, OVERRIDES as JSON.

Imports are absolute here, because MindSpore's compile cache reads those of the script that was started.
"""

import json
import sys
from pathlib import Path

WARM_UP = 2  # steps after compilation that are not counted


def main(config: str, overrides: str, steps: str, out: str) -> None:
    """Write OUT, JSON: compile_s, step_ms, and the batch that was used."""
    from benchmarks.network import create_step, made_up_batch, time_calls
    from ssd.config.loading import load_config
    from ssd.runtime.compile_cache import compile_cache
    from ssd.runtime.device import Runtime

    cfg = load_config(config, json.loads(overrides))
    step, batch = create_step(cfg), made_up_batch(cfg)

    def call():
        step(*batch).asnumpy()

    with compile_cache(cfg, "benchmark of the step", Runtime()):
        (compiling,) = time_calls(call, 1)
    time_calls(call, WARM_UP)
    seconds = time_calls(call, int(steps))
    median = sorted(seconds)[len(seconds) // 2]
    figures = {"compile_s": compiling - median, "step_ms": 1e3 * median}
    figures |= {"batch_size": cfg.batch_size, "image_size": list(cfg.image_size)}
    Path(out).write_text(json.dumps(figures))


if __name__ == "__main__":
    main(*sys.argv[1:])

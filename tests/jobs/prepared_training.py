"""train.py with environment variables that delay a rank or let a rank fail, for tests of stopped jobs.

FAILING_RANK: rank that fails 5 s after the start, before it creates its training step
SECONDS_PER_IMAGE: time that each image of an evaluation takes at least
"""

import os
import time

from ssd.config.command_line import parse_recipe_and_options
from ssd.errors import UserError, exit_cleanly
from ssd.runtime.msrun import supervise_under_msrun


@supervise_under_msrun
@exit_cleanly
def main() -> None:
    cfg, options = parse_recipe_and_options("", {"resume": {"nargs": "?", "const": ""}})

    from ssd.evaluation import evaluator
    from ssd.training import trainer

    create_train_step, detect_dataset = trainer.create_train_step, evaluator.detect_dataset

    def create_or_fail(*args, **kwargs):
        if os.environ.get("FAILING_RANK") == os.environ["RANK_ID"]:
            time.sleep(5)
            raise UserError("resume: only the other ranks can read the file. Mount its folder on this host.")
        return create_train_step(*args, **kwargs)

    def detect_slowly(*args, **kwargs):
        print("evaluating", flush=True)
        for detection in detect_dataset(*args, **kwargs):
            time.sleep(float(os.environ.get("SECONDS_PER_IMAGE", 0)))
            yield detection

    trainer.create_train_step, evaluator.detect_dataset = create_or_fail, detect_slowly
    trainer.train(cfg, options.resume)


if __name__ == "__main__":
    main()

"""A command for msrun that waits without MindSpore, for tests of how jobs end. FAILING_RANK: the rank that fails."""

import os
import time

from ssd.errors import UserError, exit_cleanly
from ssd.runtime.interrupt import Interrupt
from ssd.runtime.msrun import supervise_under_msrun


@supervise_under_msrun
@exit_cleanly
def main() -> None:
    if os.environ["MS_ROLE"] == "MS_SCHED":
        time.sleep(300)
    with Interrupt(announce=False) as interrupt:
        print("working", flush=True)  # tests send signals as soon as they read this line
        if os.environ.get("FAILING_RANK") == os.environ["RANK_ID"]:
            raise UserError("data_dir: only the other ranks can read the folder. Mount it on this host.")
        for _ in range(3000):
            time.sleep(0.1)
            if interrupt:
                print("saved", flush=True)
                raise KeyboardInterrupt


if __name__ == "__main__":
    main()

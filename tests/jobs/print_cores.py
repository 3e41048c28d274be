"""Print the CPU cores of each rank, after binding the rank to one core of the list CORES, as msrun's bind_core does."""

import os

from ssd.errors import exit_cleanly
from ssd.runtime.msrun import supervise_under_msrun


@supervise_under_msrun
@exit_cleanly
def main() -> None:
    os.sched_setaffinity(0, {int(os.environ["CORES"].split()[int(os.environ["RANK_ID"])])})

    from ssd.runtime.device import set_up_runtime

    runtime = set_up_runtime(device_target="CPU", mode=0, jit_level="O2", seed=0)
    print(f"rank {runtime.rank}: {runtime.num_cores:.3f} cores", flush=True)


if __name__ == "__main__":
    main()

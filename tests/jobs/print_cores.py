"""Print the CPU cores of each rank, after binding the rank to one core of the list CORES, as msrun's bind_core does.

Then do the same for the list LATER_CORES.
"""

import os

from ssd.errors import exit_cleanly
from ssd.runtime.msrun import supervise_under_msrun


def bind(variable: str) -> None:
    os.sched_setaffinity(0, {int(os.environ[variable].split()[int(os.environ["RANK_ID"])])})


@supervise_under_msrun
@exit_cleanly
def main() -> None:
    bind("CORES")

    from ssd.runtime import device

    runtime = device.set_up_runtime(device_target="CPU", mode=0, jit_level="O2", seed=0)
    print(f"rank {runtime.rank}: {runtime.num_cores:.3f} cores", flush=True)
    bind("LATER_CORES")
    num_cores = device.share_of_cores(runtime.rank, device._exchange_cpu_limits(runtime.world_size))
    print(f"rank {runtime.rank}, later: {num_cores:.3f} cores", flush=True)


if __name__ == "__main__":
    main()

"""Set up MindSpore's device and execution mode, and connect the ranks of a distributed run."""

from __future__ import annotations

import dataclasses
import logging
import os

import mindspore as ms
import numpy as np
from mindspore import communication

from ..errors import UserError

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Runtime:
    """Rank of this process and number of ranks in the run.

    rank: index of this process, 0..world_size - 1; 0 on a single device
    world_size: number of ranks, one per device
    """

    rank: int = 0
    world_size: int = 1

    @property
    def is_main(self) -> bool:
        """Return True for rank 0, which logs the progress and writes the output files."""
        return self.rank == 0


def set_up_runtime(*, device_target: str, mode: int, jit_level: str, seed: int) -> Runtime:
    """Select the device, seed MindSpore and NumPy, and connect to the other ranks of a distributed launch.

    device_target: "Ascend" or "CPU"
    mode: execution mode, 0 for graph mode, 1 for PyNative mode
    jit_level: MindSpore's compilation level, "O0", "O1" or "O2"
    seed: non-negative random seed, the same on every rank
    Returns the rank of this process and the number of ranks.
    Raises UserError if MindSpore cannot use the device.
    """
    ms.set_context(mode=mode)
    try:
        ms.set_device(device_target)
    except (RuntimeError, ValueError):
        raise UserError(
            f"device_target: MindSpore {ms.__version__} cannot use {device_target} on this machine. "
            "Install the device's driver and toolkit, or set --device_target CPU."
        ) from None
    ms.set_context(jit_config={"jit_level": jit_level})
    ms.set_seed(seed)
    np.random.seed(seed)
    log.debug(f"MindSpore {ms.__version__} on {device_target}, mode {mode}, jit level {jit_level}, seed {seed}")
    if not is_distributed_launch():
        return Runtime()
    communication.init()
    runtime = Runtime(rank=communication.get_rank(), world_size=communication.get_group_size())
    log.debug(f"rank {runtime.rank} of {runtime.world_size}")
    ms.set_auto_parallel_context(
        parallel_mode=ms.ParallelMode.DATA_PARALLEL, gradients_mean=True, device_num=runtime.world_size
    )
    return runtime


def is_distributed_launch() -> bool:
    """Return True if a launcher started several ranks.

    msrun sets the number of ranks in MS_WORKER_NUM. A launch with a rank table sets RANK_SIZE.
    """
    return int(os.environ.get("MS_WORKER_NUM") or os.environ.get("RANK_SIZE") or 1) > 1

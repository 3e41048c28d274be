"""The device, the mode of execution, and which of how many devices this process is."""

from __future__ import annotations

import dataclasses
import os

import mindspore as ms
import numpy as np
from mindspore import communication

from ..errors import UserError


@dataclasses.dataclass(frozen=True)
class Runtime:
    """rank: 0 … world_size - 1, 0 on one device; world_size: number of devices that train together"""

    rank: int = 0
    world_size: int = 1

    @property
    def is_main(self) -> bool:
        """Whether this process is the one that writes files and speaks to the user."""
        return self.rank == 0


def set_up_runtime(cfg) -> Runtime:
    """Choose the device, seed everything, and join the other devices if a launcher started this process. cfg: Config.

    Raises UserError if MindSpore cannot use the device.
    """
    ms.set_context(mode=cfg.mode)
    try:
        ms.set_device(cfg.device_target)
    except (RuntimeError, ValueError):
        raise UserError(
            f"device_target: got {cfg.device_target}, which MindSpore {ms.__version__} cannot use on this machine, "
            "expected a device it finds; install its driver and toolkit, or try --device_target CPU"
        ) from None
    ms.set_context(jit_config={"jit_level": cfg.jit_level})
    ms.set_seed(cfg.seed)
    np.random.seed(cfg.seed)
    if not is_distributed_launch():
        return Runtime()
    communication.init()
    runtime = Runtime(communication.get_rank(), communication.get_group_size())
    ms.set_auto_parallel_context(
        parallel_mode=ms.ParallelMode.DATA_PARALLEL, gradients_mean=True, device_num=runtime.world_size
    )
    return runtime


def is_distributed_launch() -> bool:
    """Whether the environment is that of a launcher: msrun sets MS_WORKER_NUM, a rank table launch RANK_SIZE."""
    return int(os.environ.get("MS_WORKER_NUM") or os.environ.get("RANK_SIZE") or 1) > 1

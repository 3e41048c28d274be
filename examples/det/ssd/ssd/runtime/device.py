"""Set up MindSpore's device and execution mode, and connect the ranks of a distributed run."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

import mindspore as ms
import numpy as np
from mindspore import communication

from ..errors import UserError, count_noun
from .collectives import AllGather
from .connection import connecting
from .cpu_cores import CpuLimits, available_cores, pack_limits, read_cpu_limits, share_of_cores, unpack_limits
from .heartbeat import activity
from .launch import environment_number, number_of_ranks

if TYPE_CHECKING:
    from ..config.schema import Config

log = logging.getLogger(__name__)

MAX_REASON = 300  # maximum number of characters of MindSpore's error that a UserError repeats


@dataclasses.dataclass(frozen=True)
class Runtime:
    """Rank of this process, number of ranks in the run, and CPU cores of this rank.

    rank: index of this process, 0..world_size - 1; 0 on a single device
    world_size: number of ranks, one per device
    num_cores: number of CPU cores that this rank may use without competing with other ranks; above 0, not rounded
    ranks_on_host: number of ranks on the host of this rank
    """

    rank: int = 0
    world_size: int = 1
    num_cores: float = dataclasses.field(default_factory=available_cores)
    ranks_on_host: int = 1

    @property
    def is_main(self) -> bool:
        """Return True for rank 0, which logs the progress and writes the output files."""
        return self.rank == 0


def create_runtime(cfg: Config) -> Runtime:
    """Set up MindSpore as the recipe requires, and connect to the other ranks of a distributed launch.

    Returns the rank of this process, the number of ranks, and the CPU cores of this rank.
    Raises UserError if MindSpore cannot use the device, or cannot connect the ranks.
    """
    return set_up_runtime(
        device_target=cfg.device_target,
        mode=cfg.mode,
        jit_level=cfg.jit_level,
        seed=cfg.seed,
        comm_fusion_mb=cfg.comm_fusion_mb,
        conv_allow_hf32=cfg.conv_allow_hf32,
        matmul_allow_hf32=cfg.matmul_allow_hf32,
        precision_mode=cfg.precision_mode,
        execute_timeout_s=cfg.execute_timeout_s,
    )


def set_up_runtime(
    *,
    device_target: str,
    mode: int,
    jit_level: str,
    seed: int,
    comm_fusion_mb: int | None = None,
    conv_allow_hf32: bool | None = None,
    matmul_allow_hf32: bool | None = None,
    precision_mode: str | None = None,
    execute_timeout_s: int | None = None,
) -> Runtime:
    """Select the device, seed MindSpore and NumPy, and connect to the other ranks of a distributed launch.

    For each argument with the default None, None keeps MindSpore's default.

    device_target: "Ascend" or "CPU"
    mode: execution mode, 0 for graph mode, 1 for PyNative mode
    jit_level: MindSpore's compilation level, "O0", "O1" or "O2"; "" keeps MindSpore's default
    seed: non-negative random seed, the same on every rank
    comm_fusion_mb: size in MB at which a group of gradients is sent to the other devices
    conv_allow_hf32, matmul_allow_hf32: on Ascend: True to compute float32 convolutions or matrix products in HF32
    precision_mode: on Ascend: rule by which operators may change the precision
    execute_timeout_s: on Ascend: maximum duration of an operator in seconds, 0 for no limit
    Returns the rank of this process, the number of ranks, and the CPU cores of this rank.
    Raises UserError if MindSpore cannot use the device, or cannot connect the ranks.
    """
    ms.set_context(mode=mode)
    if device_target == "Ascend":
        _remove_stale_rank_table()
    device_id = _ascend_device_id() if device_target == "Ascend" else None
    device_fix = "Install the device's driver and toolkit, or set --device_target CPU."
    with _user_errors(
        f"device_target: MindSpore {ms.__version__} cannot use {device_target} on this machine", fix=device_fix
    ):
        ms.set_device(device_target) if device_id is None else ms.set_device(device_target, device_id)
    if device_target == "Ascend" and os.environ.get("MS_ROLE") != "MS_SCHED":  # msrun's scheduler uses no device
        _set_ascend_options(
            conv_allow_hf32=conv_allow_hf32,
            matmul_allow_hf32=matmul_allow_hf32,
            precision_mode=precision_mode,
            execute_timeout_s=execute_timeout_s,
        )
    if jit_level:
        ms.set_context(jit_config={"jit_level": jit_level})
    ms.set_seed(seed)
    np.random.seed(seed)
    log.debug(f"MindSpore {ms.__version__} on {device_target}, mode {mode}, jit level {jit_level}, seed {seed}")
    num_ranks = number_of_ranks(device_target)
    if num_ranks == 1:
        return Runtime()
    with (
        activity("waiting for the other ranks"),
        connecting(),
        _user_errors(
            f"launch: MindSpore cannot connect {count_noun(num_ranks, 'rank')} on {device_target}",
            fix="Read the first error in the logs of all ranks.",
        ),
    ):
        communication.init()
    rank, world_size = communication.get_rank(), communication.get_group_size()
    ms.set_auto_parallel_context(
        parallel_mode=ms.ParallelMode.DATA_PARALLEL, gradients_mean=True, device_num=world_size
    )
    if comm_fusion_mb is not None:
        ms.set_auto_parallel_context(comm_fusion={"allreduce": {"mode": "size", "config": comm_fusion_mb}})
    limits = _exchange_cpu_limits(world_size)
    runtime = Runtime(
        rank,
        world_size=world_size,
        num_cores=share_of_cores(rank, limits),
        ranks_on_host=sum(other.host == limits[rank].host for other in limits),
    )
    log.debug(f"rank {rank} of {world_size}, {runtime.num_cores:.2f} CPU cores")
    return runtime


def _remove_stale_rank_table() -> None:
    """Remove RANK_TABLE_FILE from the environment if this process was not launched with a rank table.

    MindSpore 2.10 reads the variable in every process. It then compiles with jit level O2, switches off AllFinite, and
    ranks of msrun connect as the table says. MindSpore reads the variable after this call: when ranks connect and when
    graphs are compiled. Under msrun the variable is always removed, because its origin is unknown. If only some ranks
    removed the variable, the ranks would wait for each other.
    """
    is_msrun = "MS_ROLE" in os.environ
    path = os.environ.get("RANK_TABLE_FILE")
    if path is None or not (is_msrun or not {"RANK_ID", "RANK_SIZE"} <= set(os.environ)):
        return
    del os.environ["RANK_TABLE_FILE"]
    reason = "msrun connects the ranks" if is_msrun else "RANK_ID and RANK_SIZE are not set"
    log.warning(f"RANK_TABLE_FILE: ignored the rank table {path}, because {reason}. Run: unset RANK_TABLE_FILE")


def _ascend_device_id() -> int | None:
    """Return the NPU that the environment selects, or None to leave the choice to MindSpore.

    msrun's ranks agree on their devices. Without msrun, MindSpore would use device 0 in every process, so DEVICE_ID is
    read here. A launch with a rank table sets DEVICE_ID to the device of the rank.
    Raises UserError if DEVICE_ID is not a device number, or is missing in a launch with a rank table.
    """
    if "MS_ROLE" in os.environ:
        return None
    device_id = environment_number("DEVICE_ID", "the number of an NPU, from 0")
    if device_id is None:
        if "RANK_TABLE_FILE" in os.environ and number_of_ranks("Ascend") > 1:
            raise UserError(
                f"DEVICE_ID: not set for rank {os.environ['RANK_ID']} of {os.environ['RANK_TABLE_FILE']}. "
                "Start the ranks with ascend8p.sh, or set DEVICE_ID to the rank's device_id in the table."
            )
    return device_id


def _set_ascend_options(
    *,
    conv_allow_hf32: bool | None,
    matmul_allow_hf32: bool | None,
    precision_mode: str | None,
    execute_timeout_s: int | None,
) -> None:
    """Set MindSpore's options for Ascend, except for values that are None. `set_up_runtime` explains the arguments.

    Raises UserError if an option has another value in this process, because MindSpore allows no second value.
    """
    precision, debug = ms.device_context.ascend.op_precision, ms.device_context.ascend.op_debug
    options = {
        "conv_allow_hf32": (precision.conv_allow_hf32, conv_allow_hf32),
        "matmul_allow_hf32": (precision.matmul_allow_hf32, matmul_allow_hf32),
        "precision_mode": (precision.precision_mode, precision_mode),
        "execute_timeout_s": (debug.execute_timeout, execute_timeout_s),
    }
    for key, (set_option, value) in options.items():
        if value is not None:
            with _user_errors(f"{key}: MindSpore refuses the value {value}", fix=f"Change or remove {key}."):
                set_option(value)


def _exchange_cpu_limits(world_size: int) -> list[CpuLimits]:
    """Return the CPU limits of all ranks, in the order of the ranks.

    world_size: number of ranks, which must all call this function at the same time
    """
    message = pack_limits(read_cpu_limits())
    messages = AllGather()(ms.Tensor(message[None])).asnumpy().reshape(world_size, len(message))
    return [unpack_limits(message) for message in messages]


@contextlib.contextmanager
def _user_errors(problem: str, fix: str) -> Iterator[None]:
    """Convert errors of MindSpore in the block to UserError, with MindSpore's own reason.

    problem: start of the message, without a full stop
    fix: end of the message, a sentence
    """
    try:
        yield
    except (RuntimeError, ValueError) as error:
        log.debug(str(error))
        raise UserError(f"{problem} ({_last_lines(str(error))}). {fix}") from None


def _last_lines(text: str) -> str:
    """Return the last lines of a MindSpore error as one line of at most MAX_REASON characters.

    Headings, dashed lines and the C++ call stack are left out.
    """
    lines = [line.strip().rstrip(".") for line in text.partition("- C++ Call Stack")[0].splitlines()]
    lines = [line for line in lines if line.strip("-") and not line.startswith("- ")]
    reason = ""
    for line in reversed(lines):
        joined = f"{line}; {reason}" if reason else line
        if reason and len(joined) > MAX_REASON:
            break
        reason = joined
    return reason[:MAX_REASON].strip() or "without a reason"

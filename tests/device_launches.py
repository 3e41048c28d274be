"""Environments of launches, and the set-up of a fake device with its recorded calls."""

from ssd.config.loading import CONFIGS
from ssd.runtime.device import set_up_runtime

RECIPES = CONFIGS.parent / "examples" / "det" / "ssd"


SCHEDULER = {"MS_SCHED_HOST": "10.0.0.1", "MS_SCHED_PORT": "8118"}


MSRUN = {"MS_ROLE": "MS_WORKER", "MS_WORKER_NUM": "8", **SCHEDULER, "RANK_SIZE": "8", "RANK_ID": "3", "DEVICE_ID": "3"}


RANK_TABLE = {"RANK_TABLE_FILE": "/tables/hccl_8p.json", "RANK_SIZE": "8", "RANK_ID": "3", "DEVICE_ID": "5"}


ALONE = {}


def set_up(device_target="Ascend", jit_level="", **options):
    return set_up_runtime(device_target=device_target, mode=0, jit_level=jit_level, seed=1, **options)


def arguments_of(calls, name):
    return [args or kwargs for called, args, kwargs in calls if called == name]

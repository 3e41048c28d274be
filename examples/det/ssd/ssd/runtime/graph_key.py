"""Everything that a compiled graph can depend on, as one key: another value of any of it is another key."""

from __future__ import annotations

import hashlib
import json
import os
import platform
from pathlib import Path

import mindcv
import mindspore as ms
import numpy as np

from ..data.dataset_info import DATASET_INFO_NAME, read_dataset_info

PACKAGE = Path(__file__).resolve().parents[1]
# Recipe keys that no graph depends on. All others are in the key, those too that may not matter: what is compiled
# once more costs seconds, a graph of another recipe trains or scores something else and says nothing.
NOT_IN_GRAPHS = {
    "data_dir",  # what is in it counts, not where it lies
    "backbone_ckpt_path",  # graphs hold the names and shapes of parameters, not their values
    "pretrained_detector",
    "ckpt_path",
    "ckpt_save_dir",
    "output_dir",
    "augment",  # is the host's
    "log_interval",
    "keep_checkpoint_max",
    "num_parallel_workers",
    "display_score",
    "classes",  # num_classes counts
}
LAUNCH = ("MS_SCHED_HOST", "MS_SCHED_PORT", "MS_NODE_ID", "MS_TOPO_TIMEOUT")  # set by msrun, may differ at each launch


def graph_key(cfg, program: str, runtime) -> str:
    """64 hexadecimal digits for the graphs that a program compiles, in the order in which it does.

    cfg: Config; program: what runs, train or eval for example; runtime: of set_up_runtime
    """
    return hashlib.sha256(json.dumps(ingredients(cfg, program, runtime), sort_keys=True).encode()).hexdigest()


def ingredients(cfg, program: str, runtime) -> dict:
    """What goes into the key, as values that JSON has."""
    mindcv_folder = Path(mindcv.__file__).parent
    return {
        "program": program,
        "recipe": cfg.model_dump(mode="json", exclude=NOT_IN_GRAPHS),
        "data": _data(Path(cfg.data_dir)),  # images and objects become numbers of steps and shapes
        "device": [runtime.rank, runtime.world_size],
        "versions": {"mindspore": _mindspore(), "numpy": np.__version__, "python": platform.python_version()},
        # Their text and not their versions, which stay as they are while someone works on them.
        "sources": [_sources(PACKAGE), _sources(mindcv_folder)],
        "environment": {
            name: value
            for name, value in os.environ.items()
            if name.startswith(("MS_", "ONEDNN_")) and name not in LAUNCH
        },
        "machine": platform.machine() if cfg.device_target == "CPU" else _accelerator(),
    }


def _data(folder: Path):
    """Images and most objects of each split by dataset.json; without it, names, sizes and times of the shards."""
    if (folder / DATASET_INFO_NAME).is_file():
        info = read_dataset_info(folder / DATASET_INFO_NAME)
        return [[split.images, split.max_boxes] for split in (info.train, info.val)]
    files = [(path, path.stat()) for path in sorted(folder.glob("*/coco*")) if path.is_file()]
    return [[str(path.relative_to(folder)), stat.st_size, stat.st_mtime_ns] for path, stat in files]


def _mindspore() -> list[str]:
    """Version and commit, because nightly builds share a version."""
    commit = Path(ms.__file__).with_name(".commit_id")
    return [ms.__version__, commit.read_text() if commit.is_file() else ""]


def _sources(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(folder)} {len(content)}\n".encode() + content)
    return digest.hexdigest()


def _accelerator() -> list[str]:
    """This very machine, whose chips are of one kind, and the toolkit that the environment names."""
    toolkit = Path(os.environ.get("ASCEND_HOME_PATH") or os.devnull).resolve()
    versions = [path.read_text(errors="replace") for path in sorted(toolkit.glob("*/version.info"))]
    return [platform.machine(), platform.node(), str(toolkit), *versions]

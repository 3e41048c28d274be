"""Targets of recipes and of rank tables."""

from __future__ import annotations

import os
from pathlib import Path

from rank_table_check import check_table, read_table
from ssd.boxes.anchors import create_anchors
from ssd.config.loading import load_config
from ssd.errors import UserError
from ssd.runtime.launch import check_rank_table

from .target import Reader

MOST_LOCATIONS = 10**6  # larger feature maps take memory, as the recipe asks for


def recipe(folder: Path) -> Reader:
    """Return a reader of a recipe, which also reads the same text as overrides, and creates the anchors."""
    path = folder / "recipe.yaml"
    os.chdir(folder)  # data_dir and __BASE__ may be relative

    def read(data: bytes) -> None:
        path.write_bytes(data)
        cfg = load_config(path)
        if cfg.image_size[0] * cfg.image_size[1] / min(cfg.steps) ** 2 < MOST_LOCATIONS:
            create_anchors(cfg)

    return read


def rank_table(folder: Path) -> Reader:
    """Return a reader of a rank table, as tools/rank_table.py and the start of a training read it."""
    path = folder / "table.json"

    def read(data: bytes) -> None:
        path.write_bytes(data)
        os.environ["RANK_ID"] = "0"
        try:
            check_rank_table(str(path), num_ranks=1)
        except UserError:  # the stricter check follows
            pass
        finally:
            del os.environ["RANK_ID"]
        check_table(read_table(path), str(path))

    return read

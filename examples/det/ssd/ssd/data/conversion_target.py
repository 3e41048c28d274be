"""Check what a conversion would replace in its output folder."""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path

from ..errors import UserError
from ..runtime.read_json import read_json
from .dataset_info import DATASET_INFO_NAME, sha256


def check_target(out_path: Path, *, annotations: Path, digest: str, sources: Collection[Path], overwrite: bool) -> None:
    """Check that the conversion replaces only files of a previous conversion, and only with --overwrite.

    annotations: path of the validation annotations to write, relative to out_path
    digest: SHA-256 of these annotations
    sources: paths of the files or folders that are converted

    Raises UserError if files that create_data.py did not write would be replaced, or if out_path contains files of a
    previous conversion and overwrite is False.
    """
    _require_only_shards(out_path)
    existing = [out_path / name for name in (DATASET_INFO_NAME, "train", "val") if (out_path / name).exists()]
    replaces_annotations = (out_path / annotations).is_file() and sha256(out_path / annotations) != digest
    if replaces_annotations:
        existing.append(out_path / annotations)
    if existing and not overwrite:
        raise UserError(
            f"{existing[0]}: already exists. Choose another --out_path, or add --overwrite to replace the dataset."
        )

    # If dataset.json or annotations with different content exist, a previous conversion must have written them.
    try:
        old = read_json(out_path / DATASET_INFO_NAME)
        is_foreign = not isinstance(old, dict) or "format" not in old
    except (OSError, ValueError):  # dataset.json is missing or damaged
        old, is_foreign = {}, False
    advice = "the conversion would replace this file, which create_data.py did not write. Choose another --out_path."
    if is_foreign:
        raise UserError(f"{out_path / DATASET_INFO_NAME}: {advice}")
    if replaces_annotations:
        # If out_path is also the source folder, the file at this path may be the user's own annotation file.
        converts_own_folder = any(source.resolve().is_relative_to(out_path.resolve()) for source in sources)
        old_val = old.get("val")
        was_source = isinstance(old_val, dict) and old_val.get("source") == annotations.name
        if old.get("annotations") != annotations.as_posix() or (converts_own_folder and was_source):
            raise UserError(f"{out_path / annotations}: {advice}")


def _require_only_shards(out_path: Path) -> None:
    """Check that out_path/train and out_path/val contain only shards, because the conversion deletes both folders.

    Raises UserError if one of the two paths is a file, or one of the folders contains another file.
    """
    for folder in (out_path / "train", out_path / "val"):
        if folder.exists() and not folder.is_dir():
            raise UserError(
                f"{folder}: this path is a file, but the shards need a folder here. Choose another --out_path."
            )
        for path in folder.iterdir() if folder.is_dir() else ():
            if not re.fullmatch(r"coco\d*(\.db)?", path.name):
                raise UserError(
                    f"{path}: the conversion would delete this path, which is not a shard. Choose another --out_path."
                )

"""Implementation of export.py: export one checkpoint in the requested formats, and print where the models are."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..config.schema import Config
from ..data.dataset import find_shard
from ..errors import UserError
from .atc import OM_NAME, SCRIPT_NAME, convert_to_om
from .export import Exporter
from .export_request import ExportRequest
from .model_metadata import LABELS_NAME, METADATA_NAME, MODEL_NAMES, ModelMetadata

EXPORTED_NAMES = {*MODEL_NAMES.values(), OM_NAME, METADATA_NAME, LABELS_NAME, SCRIPT_NAME}


def export_models(cfg: Config, request: ExportRequest, output: Path, *, name: str) -> list[Path]:
    """Export the checkpoint of a recipe, and print the path and the largest differences of each model.

    output: folder that contains the folders of the models
    name: name of the recipe, with which the names of the folders start
    Returns the folders of the models.
    Raises UserError if the checkpoint is missing, if a model differs from MindSpore, or if a file cannot be written.
    """
    if request.quantize == "int8":
        find_shard(Path(cfg.data_dir), "train")  # its images calibrate the model
    quantized = [f"onnx_{request.quantize}"] if request.quantize else []
    for suffix in (*request.formats, *quantized):
        _refuse_other_files(output / f"{name}_{suffix}")
    exporter = Exporter(cfg, name=name)
    folders = []
    for model_format in request.formats:
        folder = output / f"{name}_{model_format}"
        metadata = exporter.export(model_format, folder, request)
        print(describe_model(folder, metadata))
        if model_format == "om":
            print(convert_to_om(folder, metadata, soc=str(request.soc)))
        folders.append(folder)
        if request.quantize and model_format == "onnx":
            folders.append(output / f"{name}_onnx_{request.quantize}")
            exporter.quantize(folder, folders[-1], request.quantize)
            print(f"{folders[-1]}: {size_in_mb(folders[-1])}, {request.quantize}.")
    return folders


def describe_model(folder: Path, metadata: ModelMetadata) -> str:
    """Return one line with the path, the size and the largest differences of a model."""
    if not metadata.largest_differences:
        return f"{folder}: {size_in_mb(folder)}, {metadata.compared_images}."
    differences = ", ".join(f"{name} {value:.1e}" for name, value in metadata.largest_differences.items())
    return (
        f"{folder}: {size_in_mb(folder)}, largest differences from MindSpore on {metadata.compared_images}: "
        f"{differences}."
    )


def size_in_mb(folder: Path) -> str:
    """Return the size of the model files of a folder."""
    models: Sequence[Path] = [path for path in folder.iterdir() if path.stem == "model"]
    return f"{sum(path.stat().st_size for path in models) / 1e6:.1f} MB"


def _refuse_other_files(folder: Path) -> None:
    """Raise UserError if a folder that an export would replace contains a file that no export has written."""
    names = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    others = sorted(names - EXPORTED_NAMES)
    if others:
        raise UserError(
            f"{folder / others[0]}: the file is no part of an exported model, and the export would remove it. Move it, "
            "or choose another --output."
        )

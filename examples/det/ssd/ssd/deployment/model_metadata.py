"""Description of an exported model, stored beside it as metadata.yaml, so that prediction needs no recipe."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ..errors import UserError, os_reason
from ..runtime.read_yaml import read_yaml

METADATA_NAME, LABELS_NAME = "metadata.yaml", "labels.txt"
MODEL_NAMES = {"onnx": "model.onnx", "mindir": "model.mindir", "air": "model.air"}
FORMAT_VERSION = 1


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class InputInfo(_Section):
    """Input of an exported model.

    layout: "NHWC" for uint8 RGB pixels, 0..255; "NCHW" for float32 RGB values, normalized with mean and std
    height, width: size of the images in pixels
    batch_size: number of images of a batch; None if a batch of any size works
    mean, std: mean and standard deviation of the R, G and B values of pixels, 0..255
    """

    name: str
    layout: Literal["NHWC", "NCHW"]
    height: int = Field(gt=0)
    width: int = Field(gt=0)
    batch_size: int | None = Field(gt=0)
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


class Thresholds(_Section):
    """Settings of the selection of detections, with the meaning of the recipe keys of the same names."""

    min_score: float = Field(ge=0, le=1)
    nms: Literal["hard", "soft"]
    nms_threshold: float = Field(gt=0, le=1)
    soft_nms_sigma: float = Field(gt=0)
    pre_nms_top_k: int = Field(gt=0)
    max_detections: int = Field(gt=0)


class ModelMetadata(_Section):
    """Content of metadata.yaml.

    format: version of this description
    name: name of the recipe
    file: name of the model file in the same folder
    sha256: SHA-256 of the model file
    input: input of the model
    outputs: "candidates" if NMS runs after the model; "detections" if the model contains NMS
    classes: class names by label, background first
    category_ids: COCO category ids by label, 0 for the background
    thresholds: settings of the selection of detections
    anchors: {"number": number of anchors, "sha256": SHA-256 of their float32 centers and sizes}
    checkpoint: {"file": name of the exported checkpoint, "sha256": its SHA-256, and its epoch if known}
    versions: {package: version} with which the model was exported; "opset" is the version of ONNX's operators
    largest_differences: {output: largest difference from MindSpore} that was measured on `compared_images` images
    compared_images: description of the images of the comparison
    quantization: "int8" or "float16"; None for float32
    """

    format: Literal[1] = 1
    name: str
    file: str
    sha256: str
    input: InputInfo
    outputs: Literal["candidates", "detections"]
    classes: tuple[str, ...] = Field(min_length=2)
    category_ids: tuple[int, ...]
    thresholds: Thresholds
    anchors: dict[str, int | str]
    checkpoint: dict[str, int | str]
    versions: dict[str, str]
    largest_differences: dict[str, float]
    compared_images: str
    quantization: Literal["int8", "float16"] | None = None

    def describe_checkpoint(self) -> str:
        """Return the checkpoint of the model as text, such as "exported from best.ckpt, epoch 20"."""
        epoch = f", epoch {self.checkpoint['epoch']}" if "epoch" in self.checkpoint else ""
        return f"exported from {self.checkpoint['file']}{epoch}"


def write_metadata(folder: Path, metadata: ModelMetadata) -> None:
    """Write metadata.yaml, and labels.txt with one class name on each line, without the background."""
    comment = "# Description of the exported model in this folder. `predict.py --model FOLDER` reads it.\n"
    values = yaml.safe_dump(metadata.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
    (folder / METADATA_NAME).write_text(comment + values, encoding="utf-8")
    (folder / LABELS_NAME).write_text("".join(f"{name}\n" for name in metadata.classes[1:]), encoding="utf-8")


def read_metadata(folder: Path) -> ModelMetadata:
    """Read metadata.yaml of an exported model, and check that the model file is the one that it describes.

    Raises UserError if the folder or a file is missing, if metadata.yaml is invalid, or if the model file differs.
    """
    path = folder / METADATA_NAME
    if not path.is_file():
        raise UserError(f"--model: {path} was not found. Name a folder that export.py wrote.")
    try:
        metadata = parse_metadata(read_yaml(path), path)
    except OSError as error:
        raise UserError(f"{path}: the file cannot be read ({os_reason(error)}). Check its permissions.") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = str(error).partition("\n")[0]
        raise UserError(f"{path}: the file is no valid YAML ({reason}). Export the model again.") from None
    model = folder / metadata.file
    if Path(metadata.file).name != metadata.file:
        raise UserError(f"{path}: file: {metadata.file!r} is not a file name. Export the model again.")
    if not os.path.isfile(model):  # Path.is_file raises OSError for names that no file can have
        raise UserError(f"{model}: not found. Export the model again.")
    if file_sha256(model) != metadata.sha256:
        raise UserError(
            f"{model}: the SHA-256 of the file differs from the one in {METADATA_NAME}. Copy the complete folder "
            "again, or export the model again."
        )
    return metadata


def parse_metadata(values: Any, path: Path) -> ModelMetadata:
    """Validate the content of metadata.yaml. path: path of the file, for messages

    Raises UserError if a key is missing, unknown or invalid.
    """
    if not isinstance(values, Mapping):
        raise UserError(f"{path}: the file contains no keys. Export the model again.")
    if values.get("format", FORMAT_VERSION) != FORMAT_VERSION:
        raise UserError(
            f"{path}: format: {values['format']} is not supported, only {FORMAT_VERSION}. Install the version of this "
            "package that exported the model, or export the model again."
        )
    try:
        metadata = ModelMetadata.model_validate(dict(values))
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        reason = first["msg"][:1].lower() + first["msg"][1:]
        raise UserError(f"{path}: {key}: {reason}. Export the model again.") from None
    if len(metadata.category_ids) != len(metadata.classes):
        raise UserError(
            f"{path}: category_ids: got {len(metadata.category_ids)} ids for {len(metadata.classes)} classes. "
            "Export the model again."
        )
    return metadata


def file_sha256(path: Path) -> str:
    """Compute the SHA-256 of a file. Raises UserError if the file cannot be read."""
    digest = hashlib.sha256()
    try:
        with open(path, "rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    except OSError as error:
        raise UserError(f"{path}: the file cannot be read ({os_reason(error)}). Check its permissions.") from None
    return digest.hexdigest()

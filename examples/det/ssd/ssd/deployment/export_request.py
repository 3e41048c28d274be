"""Command line of export.py: formats and properties of the exported models, checked before slow work starts."""

from __future__ import annotations

import argparse
import dataclasses
import re
from typing import Literal

from ..config.schema import Config
from ..errors import UserError
from .sessions import import_package

SOC_PATTERN = re.compile(r"(?:Ascend)?(\d{3}\w*)")  # for example Ascend310P3 or 310P3


@dataclasses.dataclass(frozen=True)
class ExportOptions:
    """Properties of an exported model.

    batch_size: number of images of a batch; None for any number in ONNX, and for 1 in MINDIR and AIR
    nms: True for NMS inside an ONNX model
    raw_input: True for normalized float32 values (B, 3, H, W) as input; False for uint8 pixels (B, H, W, 3)
    """

    batch_size: int | None = None
    nms: bool = False
    raw_input: bool = False


@dataclasses.dataclass(frozen=True)
class ExportRequest:
    """Formats to export.

    formats: "onnx", "mindir", "air" and "om", without duplicates
    options: properties of the models
    soc: Ascend chip for the format "om", for example "Ascend310P3"
    quantize: "int8" or "float16" for one more ONNX model; None for float32 only
    """

    formats: tuple[str, ...]
    options: ExportOptions
    soc: str | None = None
    quantize: Literal["int8", "float16"] | None = None

    @classmethod
    def from_arguments(cls, cfg: Config, arguments: argparse.Namespace) -> ExportRequest:
        """Read the request from a parsed command line of export.py.

        Raises UserError if options contradict each other or the recipe, or if a package is missing.
        """
        formats = tuple(dict.fromkeys(arguments.format))
        if arguments.batch_size is not None and arguments.batch_size < 1:
            raise UserError(f"--batch_size: got {arguments.batch_size}, but the smallest value is 1. Raise it.")
        if arguments.nms and not {"onnx", "om"} & set(formats):
            raise UserError("--nms: it applies to ONNX models only. Add --format onnx, or remove --nms.")
        if arguments.nms and cfg.nms != "hard":
            raise UserError("--nms: ONNX has no Soft-NMS. Export without --nms, or set --nms hard in the recipe.")
        if arguments.quantize and "onnx" not in formats:
            raise UserError("--quantize: it applies to ONNX models only. Add --format onnx, or remove --quantize.")
        if "air" in formats and cfg.device_target != "Ascend":
            raise UserError(
                "--format: MindSpore writes AIR files only on Ascend. Run this command on an Ascend server, or use "
                "--format onnx or mindir, from which the converters of CANN and MindSpore Lite make models for Ascend."
            )
        soc = None
        if "om" in formats:
            match = SOC_PATTERN.fullmatch(arguments.soc or "")
            if not match:
                reason = (
                    f"{arguments.soc!r} is no Ascend chip" if arguments.soc else "--format om needs the Ascend chip"
                )
                raise UserError(
                    f"--soc: {reason}. Set --soc to a name such as 310P3, 310B4 or 910B4, which `npu-smi info` prints."
                )
            soc = f"Ascend{match[1]}"
        elif arguments.soc:
            raise UserError("--soc: it applies to the format om only. Add --format om, or remove --soc.")
        if {"onnx", "om"} & set(formats):
            import_package("onnx")
            import_package("onnxruntime")
        options = ExportOptions(arguments.batch_size, nms=arguments.nms, raw_input=arguments.raw_input)
        return cls(formats=formats, options=options, soc=soc, quantize=arguments.quantize)

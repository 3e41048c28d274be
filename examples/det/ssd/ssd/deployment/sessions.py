"""Run the file of an exported model: ONNX with onnxruntime, or MINDIR with MindSpore."""

from __future__ import annotations

import importlib
import logging
import re
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from ..errors import UserError
from .model_metadata import METADATA_NAME, InputInfo, ModelMetadata

PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider", "cann": "CANNExecutionProvider"}
OUTPUT_NAMES = ("boxes", "scores", "labels")

log = logging.getLogger(__name__)


class Session(Protocol):
    """Loaded model file."""

    def run(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Compute the outputs `boxes` (B, T, 4), `scores` (B, T) and `labels` (B, T) of a batch.

        image: input of the model, as described in its metadata
        """


def create_session(folder: Path, metadata: ModelMetadata, *, provider: str, num_threads: int) -> Session:
    """Load the model file of a folder.

    provider: one of PROVIDERS; MINDIR models ignore it, and run on MindSpore's device
    num_threads: number of threads of an ONNX model on a CPU; 0 for all cores
    Raises UserError if the file cannot be loaded, or if a package is missing.
    """
    path = folder / metadata.file
    if path.suffix == ".onnx":
        return OnnxSession(path, info=metadata.input, provider=provider, num_threads=num_threads)
    if path.suffix == ".mindir":
        from .mindir_session import MindirSession  # imports MindSpore, which ONNX models do not need

        return MindirSession(path)
    raise UserError(f"{path}: only .onnx and .mindir models can be run. Export the model with --format onnx.")


class OnnxSession:
    """ONNX model in onnxruntime.

    model: path of the file, or its content
    info: input of the model as its metadata describe it
    provider: one of PROVIDERS. If onnxruntime lacks it, a warning is logged, and the CPU is used.
    num_threads: number of threads on a CPU; 0 for all cores
    Raises UserError if onnxruntime is missing or cannot load the model, or if input and outputs differ from `info`.
    """

    def __init__(self, model: Path | bytes, *, info: InputInfo, provider: str = "cpu", num_threads: int = 0):
        onnxruntime = import_package("onnxruntime")
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3  # errors only
        options.intra_op_num_threads = num_threads
        names = _choose_providers(provider, onnxruntime.get_available_providers())
        place = str(model) if isinstance(model, Path) else "the exported model"
        try:
            source: Any = str(model) if isinstance(model, Path) else model
            self.session = onnxruntime.InferenceSession(source, options, providers=names)
        except Exception as error:  # its exceptions have no public base class
            version, reason = onnxruntime.__version__, _short_reason(error)
            raise UserError(
                f"{place}: onnxruntime {version} cannot load the model ({reason}). Export the model again, or install "
                "a newer onnxruntime."
            ) from None
        if names[0] not in self.session.get_providers():  # its libraries are missing
            log.warning(f"--provider: {names[0]} could not be started, so the model runs on the CPU.")
        inputs = {value.name: (value.type, _fixed_sides(value.shape)) for value in self.session.get_inputs()}
        described = {info.name: _input_type(info)}
        outputs = [value.name for value in self.session.get_outputs()]
        if inputs != described or outputs[: len(OUTPUT_NAMES)] != list(OUTPUT_NAMES):
            raise UserError(
                f"{place}: the model has the input {inputs} and outputs {outputs}, but {METADATA_NAME} has {described} "
                f"and {list(OUTPUT_NAMES)}. Use a folder that export.py wrote, without changes."
            )
        self.input_name = info.name

    def run(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Compute the outputs of a batch. See Session."""
        boxes, scores, labels = self.run_all(image)[: len(OUTPUT_NAMES)]
        return boxes, scores, labels

    def run_all(self, image: np.ndarray) -> list[np.ndarray]:
        """Compute all outputs of a batch in the order of the model's outputs."""
        return self.session.run(None, {self.input_name: image})


def _input_type(info: InputInfo) -> tuple[str, list[int | None]]:
    """Return onnxruntime's name of the type of an input, and its shape with None for a side of any size."""
    if info.layout == "NCHW":
        return "tensor(float)", [info.batch_size, 3, info.height, info.width]
    return "tensor(uint8)", [info.batch_size, info.height, info.width, 3]


def _fixed_sides(shape: list[int | str | None]) -> list[int | None]:
    return [side if isinstance(side, int) else None for side in shape]


def _short_reason(error: Exception) -> str:
    """Return the reason of an error of onnxruntime without the C++ function that reports it."""
    reason = str(error).partition("\n")[0].rpartition(" : ")[2]
    sentences = re.sub(r"^.*\.(?:h|cc):\d+ .*?\) ", "", reason).split(". ")
    return ". ".join(sentences[:2]).strip().rstrip(".")


def import_package(name: str) -> Any:
    """Import a package of the extra `deploy`. Raises UserError if it is not installed."""
    try:
        return importlib.import_module(name)
    except ImportError:
        raise UserError(f"{name}: the package is not installed. Run `pip install -e '.[deploy]'`.") from None


def _choose_providers(provider: str, available: list[str]) -> list[str]:
    """Return the names of onnxruntime's providers to try in order, with the CPU as the last one.

    Raises UserError if the provider is unknown.
    """
    if provider not in PROVIDERS:
        raise UserError(f"--provider: {provider!r} is not known. Choose one of {', '.join(PROVIDERS)}.")
    name = PROVIDERS[provider]
    if name not in available:
        log.warning(
            f"--provider: onnxruntime has no {name} on this machine, so the model runs on the CPU. "
            f"Install {'onnxruntime-cann' if provider == 'cann' else 'onnxruntime-gpu'} for {provider}."
        )
        return [PROVIDERS["cpu"]]
    return list(dict.fromkeys([name, PROVIDERS["cpu"]]))

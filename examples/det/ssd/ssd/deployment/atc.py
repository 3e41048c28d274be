"""Convert an ONNX model to Ascend's format OM with CANN's converter atc, which needs CANN but no NPU."""

from __future__ import annotations

import shlex
import shutil
import subprocess
from pathlib import Path

from ..errors import UserError
from ..runtime.heartbeat import activity
from .model_metadata import ModelMetadata

SCRIPT_NAME = "convert_to_om.sh"
OM_NAME = "model.om"  # atc appends .om to its option --output
MAX_LINES = 5  # of atc's output in a message


def atc_command(metadata: ModelMetadata, soc: str) -> list[str]:
    """Return the command of atc for a model with a fixed batch size, to run in the folder of the model.

    soc: name of the chip, for example "Ascend310P3"
    """
    info = metadata.input
    shape = [info.batch_size or 1, info.height, info.width, 3]
    if info.layout == "NCHW":
        shape = [shape[0], 3, info.height, info.width]
    return [
        "atc",
        "--framework=5",  # ONNX
        f"--model={metadata.file}",
        "--output=model",
        f"--input_format={'NCHW' if info.layout == 'NCHW' else 'ND'}",
        f"--input_shape={info.name}:{','.join(str(side) for side in shape)}",
        f"--soc_version={soc}",
        "--precision_mode=force_fp16",
    ]


def write_script(folder: Path, metadata: ModelMetadata, *, soc: str) -> None:
    """Write a shell script that converts the model of a folder."""
    path = folder / SCRIPT_NAME
    path.write_text(
        "# Writes model.om beside model.onnx. It needs CANN, and no NPU: source CANN's set_env.sh first.\n"
        'set -e\ncd "$(dirname "$0")"\n' + shlex.join(atc_command(metadata, soc)) + "\n",
        encoding="utf-8",
    )
    path.chmod(0o755)


def convert_to_om(folder: Path, metadata: ModelMetadata, *, soc: str) -> str:
    """Run atc if it is installed. Returns one line that says where the OM model is, or how to create it.

    Raises UserError if atc fails.
    """
    if shutil.which("atc") is None:
        return f"{folder}: atc is not installed here. Run `bash {folder / SCRIPT_NAME}` where CANN is installed."
    with activity("converting the model with atc"):
        done = subprocess.run(
            ["bash", SCRIPT_NAME],
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
    shutil.rmtree(folder / "kernel_meta", ignore_errors=True)  # temporary files of atc
    if done.returncode or not (folder / OM_NAME).is_file():
        lines = " | ".join(done.stdout.strip().splitlines()[-MAX_LINES:])
        raise UserError(
            f"{folder / SCRIPT_NAME}: atc failed with code {done.returncode} ({lines}). The ONNX model for {soc} is "
            "complete. Check --soc and the version of CANN."
        )
    return f"{folder / 'model.om'}: converted for {soc}. The model was not compared, because that needs an NPU."

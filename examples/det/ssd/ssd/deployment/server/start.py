"""Implementation of serve.py: check the options, load the model, and serve it."""

from __future__ import annotations

import ctypes
import importlib.util
import logging
import math
from pathlib import Path

from ...data.image_limits import MAX_PIXELS
from ...errors import UserError, count_noun, require_range
from ...runtime.heartbeat import activity
from ...runtime.log import set_up_logging
from .settings import ServerSettings

PACKAGES = ("fastapi", "fastapi_offline", "uvicorn", "python_multipart", "prometheus_client")  # of the extra `serve`

M_MMAP_THRESHOLD = -3  # number of the option in glibc's malloc.h
LARGE_BLOCK_BYTES = 2**20

log = logging.getLogger(__name__)


def serve(folder: str, settings: ServerSettings, *, host: str, port: int, provider: str) -> None:
    """Serve an exported model until Ctrl-C or SIGTERM, then raise KeyboardInterrupt.

    folder: folder of the exported model
    port: 0 for any free port
    provider: device of onnxruntime: cpu, cuda or cann
    Raises UserError if an option is wrong, a package is missing, the address is in use, or the model cannot be loaded.
    """
    check_settings(settings)
    require_packages()
    from .running import is_open_to_others, open_socket, run_server, url_of  # they import the packages

    set_up_logging()
    return_large_blocks()
    with open_socket(host, port) as listener:  # before the model, to report a port in use at once
        if is_open_to_others(listener):
            log.warning(f"--host: other machines can connect to {host}, and there is no authentication.")
        with activity("loading the model"):
            from ..detector import Detector
            from ..model_metadata import read_metadata
            from .app import create_app

            file = read_metadata(Path(folder)).file
            if not file.endswith(".onnx"):  # MindSpore replaces the handlers of signals, and compiles each batch size
                raise UserError(f"--model: {Path(folder) / file} is not an ONNX model. Export it with --format onnx.")
            detector = Detector(folder, provider=provider)
        url, classes = url_of(listener), count_noun(len(detector.classes) - 1, "class", "classes")
        run_server(
            create_app(detector, settings),
            listener,
            timeout=settings.timeout,
            on_start=lambda: log.info(f"{url} serves {detector.name} ({classes}). Press Ctrl-C to stop."),
        )


def check_settings(settings: ServerSettings) -> None:
    """Raise UserError if a limit of the service makes no sense."""
    for key in ("batch_size", "queue_size", "max_bytes", "max_pixels"):
        require_range(key, getattr(settings, key))
    if settings.max_pixels > MAX_PIXELS:
        raise UserError(
            f"--max_pixels: {settings.max_pixels} is more than {MAX_PIXELS}, the limit of the decoder. "
            f"Set --max_pixels to at most {MAX_PIXELS}."
        )
    if not 0 < settings.timeout < math.inf:
        raise UserError(f"--timeout: {settings.timeout:g} is not a positive number. Set --timeout to some seconds.")


def require_packages() -> None:
    """Raise UserError if a package of the extra `serve` is not installed."""
    for name in PACKAGES:
        if importlib.util.find_spec(name) is None:
            raise UserError(
                f"serve.py: the package {name} is not installed. Install the extra serve: pip install -e '.[serve]'"
            )


def return_large_blocks() -> bool:
    """Let malloc return freed memory of images to the system at once. Returns False if this is not glibc's malloc.

    Without this, glibc 2.36 kept 1.9 GB after transparent PNGs of 64 million pixels were decoded, with it 0.3 GB.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return bool(mallopt and mallopt(M_MMAP_THRESHOLD, LARGE_BLOCK_BYTES))

"""Make MindSpore's compile cache safe: graphs are kept in the user's cache folder and only reused for the same inputs.

MindSpore 2.10 numbers the graphs of a process and takes number n from its cache folder whenever the entry script is the
same: after a change of recipe, source or batch size it runs the old graph, or crashes. It also writes without a lock.
So each process gets a private folder, filled from an archive whose name is a hash of every input that can change a
graph. What MindSpore compiles there replaces the archive.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import mindcv
import mindspore as ms
import numpy as np

from .atomic_write import replace_file
from .device import Runtime

ENABLE, PATH = "MS_COMPILER_CACHE_ENABLE", "MS_COMPILER_CACHE_PATH"  # MindSpore reads them whenever it compiles
PACKAGE = Path(__file__).resolve().parents[1]
SCRIPT_FOLDERS = (PACKAGE.parent, PACKAGE.parents[3] / "tools" / "benchmarks")  # each of their scripts runs one program
PER_LAUNCH = ("MS_SCHED_HOST", "MS_SCHED_PORT", "MS_NODE_ID", "MS_TOPO_TIMEOUT")  # msrun sets them anew at each launch
MAX_DAYS_UNUSED, MAX_BYTES = 30, 2**30  # a CPU graph takes 0.2 MB; graphs of NPUs hold kernels too

_was_used = False  # MindSpore neither restarts its numbering nor accepts a second folder in one process


@contextlib.contextmanager
def compile_cache(program: str, *, settings: dict, data: list, runtime: Runtime) -> Iterator[Callable[[], None]]:
    """Let MindSpore take graphs from the cache inside the block, and save new ones at its end unless it fails.

    program: for example train or eval, with whatever else shapes its graphs; settings: recipe keys that graphs depend
    on; data: fingerprint of the data set, whose counts become shapes
    Yields a function that saves the graphs compiled so far, for programs that may be killed. The cache is off in
    PyNative mode, outside this project's scripts, without a writable folder, and if the user set MindSpore's variables.
    """
    global _was_used
    script, folder = Path(sys.argv[0]).resolve(), cache_folder()
    is_own_script = script.is_file() and script.parent in SCRIPT_FOLDERS  # other programs would shift the numbering
    if folder is None or settings["mode"] != 0 or _was_used or not is_own_script or {ENABLE, PATH} & set(os.environ):
        yield lambda: None
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        private = tempfile.TemporaryDirectory(prefix="private-", dir=folder, ignore_cleanup_errors=True)
    except OSError:
        yield lambda: None
        return
    _was_used = True
    inputs = graph_inputs(program, settings=settings, data=data, runtime=runtime)
    archive = folder / f"{hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()}.zip"
    with private as path:
        graphs = Path(path) / "graphs"
        saved = _unpack(archive, graphs)

        def save() -> None:
            nonlocal saved
            found = _list_files(graphs)
            if found and found != saved:
                with contextlib.suppress(OSError):
                    with replace_file(archive, writer=f"{platform.node()}-{os.getpid()}-") as unfinished:
                        shutil.make_archive(str(unfinished.with_suffix("")), "zip", graphs)
                    saved = found
                    prune(folder)

        os.environ.update({ENABLE: "1", PATH: str(graphs)})
        try:
            yield save
            save()
        finally:
            del os.environ[ENABLE], os.environ[PATH]


def graph_inputs(program: str, *, settings: dict, data: list, runtime: Runtime) -> dict:
    """Return every input that can change a compiled graph, as JSON values."""
    commit = Path(ms.__file__).with_name(".commit_id")  # nightly builds of MindSpore share a version
    mindspore = (ms.__version__, commit.read_text() if commit.is_file() else "")
    machine = [platform.machine()]
    if settings["device_target"] != "CPU":  # graphs of NPUs hold kernels of this very machine and toolkit
        toolkit = Path(os.environ.get("ASCEND_HOME_PATH") or os.devnull).resolve()
        versions = [path.read_text(errors="replace") for path in sorted(toolkit.glob("*/version.info"))]
        machine += [platform.node(), str(toolkit), *versions]
    names = [name for name in os.environ if name.startswith(("MS_", "ONEDNN_")) and name not in PER_LAUNCH]
    return {
        "program": program,
        "settings": settings,
        "data": data,
        "device": [runtime.rank, runtime.world_size],
        "versions": {"mindspore": mindspore, "numpy": np.__version__, "python": platform.python_version()},
        # Hash the sources, because versions do not change during development.
        "sources": [_hash_sources(PACKAGE), _hash_sources(Path(mindcv.__file__).parent)],
        "environment": {name: os.environ[name] for name in names},
        "machine": machine,
    }


def cache_folder() -> Path | None:
    """Return $XDG_CACHE_HOME/ssd-mindcv/compile, by default below ~/.cache; None for a user without a home."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or "")
    with contextlib.suppress(RuntimeError):
        return (base if base.is_absolute() else Path.home() / ".cache") / "ssd-mindcv" / "compile"
    return None


def prune(folder: Path) -> None:
    """Remove archives, and folders of killed runs, unused for MAX_DAYS_UNUSED, and the oldest beyond MAX_BYTES."""
    found = []
    for path in folder.iterdir():
        with contextlib.suppress(FileNotFoundError):  # another process may be pruning too
            found.append((path.stat().st_mtime, path.stat().st_size, path))
    total = 0
    for last_use, size, path in sorted(found, reverse=True):
        total += size
        if total > MAX_BYTES or time.time() - last_use > MAX_DAYS_UNUSED * 86400:
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)


def _unpack(archive: Path, folder: Path) -> list[tuple[str, int, int]]:
    """Fill a folder from an archive and list it; leave it empty if the archive is missing or fails its checksums."""
    try:
        shutil.unpack_archive(archive, folder)
        os.utime(archive)  # the time of its last use
    except Exception:  # damage shows in many types of errors, and none of them may stop a run
        shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    return _list_files(folder)


def _list_files(folder: Path) -> list[tuple[str, int, int]]:
    """Return name, size and time of each file, which reveal whether MindSpore has written."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return [(str(path.relative_to(folder)), path.stat().st_size, path.stat().st_mtime_ns) for path in files]


def _hash_sources(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        digest.update(f"{path.relative_to(folder)} {path.stat().st_size}\n".encode() + path.read_bytes())
    return digest.hexdigest()

"""Cache compiled graphs between runs, and reuse a graph only if every input of its compilation is unchanged.

MindSpore 2.10 identifies a cached graph only by the script and the number of the graph in the process. After a change
of recipe, source code or batch size, MindSpore therefore runs an outdated graph or crashes. Also, MindSpore does not
lock the files of the cache. So each process gets a private cache folder, unpacked from an archive. The name of the
archive is a hash of every input that can change a graph. If MindSpore compiles new graphs, the archive is replaced.
The private folder of a killed process is removed by the next process.
"""

from __future__ import annotations

import contextlib
import fcntl
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

ENABLE, PATH = "MS_COMPILER_CACHE_ENABLE", "MS_COMPILER_CACHE_PATH"  # MindSpore reads both at each compilation
PACKAGE = Path(__file__).resolve().parents[1]
SCRIPT_FOLDERS = (PACKAGE.parent, PACKAGE.parents[3] / "tools" / "benchmarks")  # only their scripts are cached
# Variables that change no graph: msrun sets new values of four at each launch, and the last one prints kernels.
NO_INPUTS = ("MS_SCHED_HOST", "MS_SCHED_PORT", "MS_NODE_ID", "MS_TOPO_TIMEOUT", "ONEDNN_VERBOSE")
# Start of the names of private folders. It has the host, because locks of some shared disks hold on one host only.
PRIVATE = f"run-{platform.node()}-"
MAX_DAYS_UNUSED, MAX_BYTES = 30, 2**30  # a graph takes 0.2 MB

_was_used = False  # True after the first use: MindSpore cannot change the cache folder of a process


@contextlib.contextmanager
def compile_cache(program: str, *, settings: dict, data: list, runtime: Runtime) -> Iterator[Callable[[], None]]:
    """Let MindSpore reuse cached graphs inside the block, and save new graphs if the block succeeds.

    program: name of the command and every option that changes its graphs
    settings: recipe keys that change the graphs
    data: fingerprint of the dataset, because tensor shapes depend on its size
    runtime: rank and number of ranks
    Yields a function that saves the graphs compiled so far. The cache is off in PyNative mode, in scripts outside
    SCRIPT_FOLDERS, without a writable folder, after the first use in a process, and if the user has set ENABLE or PATH.
    The cache is also off on Ascend, where nobody has tried it: with GE, MindSpore keeps compiled kernels in a folder of
    its own, which may depend on the machine and the toolkit.
    """
    global _was_used
    script, folder = Path(sys.argv[0]).resolve(), cache_folder()
    is_own_script = script.is_file() and script.parent in SCRIPT_FOLDERS  # other scripts may number graphs differently
    is_cached = settings["device_target"] == "CPU" and settings["mode"] == 0 and is_own_script
    if folder is None or not is_cached or _was_used or {ENABLE, PATH} & set(os.environ):
        yield lambda: None
        return
    with private_folder(folder) as private:
        inputs = graph_inputs(program, settings=settings, data=data, runtime=runtime)
        archive = folder / f"{hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()}.zip"
        graphs = None
        with contextlib.suppress(OSError):  # the disk is full
            if private is not None:
                saved = _unpack(archive, private / "graphs")
                graphs = private / "graphs"
        if private is None or graphs is None:
            yield lambda: None
            return
        _was_used = True

        def save() -> None:
            nonlocal saved
            found = _list_files(graphs)
            if found and found != saved:
                with contextlib.suppress(OSError):
                    # Write it in the private folder, because several processes may write the same archive:
                    with replace_file(private / archive.name) as unfinished:
                        shutil.make_archive(str(unfinished.with_suffix("")), "zip", graphs)
                    os.replace(private / archive.name, archive)
                    saved = found
                    prune(folder)

        os.environ.update({ENABLE: "1", PATH: str(graphs)})
        try:
            yield save
            save()
        finally:
            del os.environ[ENABLE], os.environ[PATH]


@contextlib.contextmanager
def private_folder(parent: Path) -> Iterator[Path | None]:
    """Yield a new folder for this process, which is removed at the end, or None if `parent` cannot be written to.

    The process holds a lock on its folder. Folders of killed processes, which have lost their locks, are removed first.
    On file systems without such locks, `prune` removes them later.
    """
    for abandoned in parent.glob(f"{PRIVATE}*"):
        with contextlib.suppress(OSError):  # its process is running, or another process removes the folder too
            descriptor = _lock(abandoned)
            shutil.rmtree(abandoned, ignore_errors=True)
            os.close(descriptor)
    with contextlib.ExitStack() as stack:
        path = None
        with contextlib.suppress(OSError):
            parent.mkdir(parents=True, exist_ok=True)
            unlocked = Path(tempfile.mkdtemp(prefix=f".{PRIVATE}", dir=parent))
            stack.callback(shutil.rmtree, unlocked, ignore_errors=True)
            with contextlib.suppress(OSError):
                stack.callback(os.close, _lock(unlocked))
            # Rename it after it is locked, so that no other process takes it for abandoned:
            path = unlocked.rename(unlocked.with_name(unlocked.name[1:]))
            stack.callback(shutil.rmtree, path, ignore_errors=True)
        yield path


def _lock(folder: Path) -> int:
    """Lock a folder, and return its descriptor. Raises OSError if another process holds the lock."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def graph_inputs(program: str, *, settings: dict, data: list, runtime: Runtime) -> dict:
    """Return a dict of every input that can change a compiled graph, with values that JSON can store."""
    commit = Path(ms.__file__).with_name(".commit_id")  # nightly builds of MindSpore have equal versions
    mindspore = (ms.__version__, commit.read_text() if commit.is_file() else "")
    names = [name for name in os.environ if name.startswith(("MS_", "ONEDNN_")) and name not in NO_INPUTS]
    return {
        "program": program,
        "settings": settings,
        "data": data,
        "device": [runtime.rank, runtime.world_size],
        "versions": {"mindspore": mindspore, "numpy": np.__version__, "python": platform.python_version()},
        "sources": [_hash_sources(PACKAGE), _hash_sources(Path(mindcv.__file__).parent)],  # versions may be equal
        "environment": {name: os.environ[name] for name in names},
        "machine": platform.machine(),
    }


def cache_folder() -> Path | None:
    """Return $XDG_CACHE_HOME/ssd-mindcv/compile (default: ~/.cache), or None for a user without a home folder."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or "")
    with contextlib.suppress(RuntimeError):
        return (base if base.is_absolute() else Path.home() / ".cache") / "ssd-mindcv" / "compile"
    return None


def prune(folder: Path) -> None:
    """Remove entries unused for MAX_DAYS_UNUSED days, then the least recently used ones beyond MAX_BYTES in total."""
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
    """Unpack an archive to a folder and list the files. Leave the folder empty if the archive is missing or damaged."""
    try:
        shutil.unpack_archive(archive, folder)
        os.utime(archive)  # record the time of the last use
    except Exception:  # damaged archives raise many types of errors, and none of these may stop a run
        shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    return _list_files(folder)


def _list_files(folder: Path) -> list[tuple[str, int, int]]:
    """Return (path in the folder, bytes, time of last change in ns) of each file, to detect new graphs."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return [(str(path.relative_to(folder)), path.stat().st_size, path.stat().st_mtime_ns) for path in files]


def _hash_sources(folder: Path) -> str:
    files = [(path.relative_to(folder), path.read_bytes()) for path in sorted(folder.rglob("*.py"))]
    content = b"".join(f"{name} {len(source)}\n".encode() + source for name, source in files)
    return hashlib.sha256(content).hexdigest()

"""MindSpore's compile cache, made safe: compiled graphs are kept in the user's cache folder for the next start.

MindSpore 2.10 numbers the graphs of a process and takes number n from its cache folder whenever the entry script is the
same: after a change of recipe, source or batch size it runs the old graph, or crashes. It writes in place, without a
lock. So each process gets a private folder, filled from an archive whose name is the key of all that its graphs depend
on; what MindSpore leaves there becomes that archive once it has run. Archives are replaced whole and carry checksums.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from .graph_archive import GraphArchive
from .graph_key import PACKAGE, graph_key

ENABLE, PATH = "MS_COMPILER_CACHE_ENABLE", "MS_COMPILER_CACHE_PATH"  # MindSpore reads them whenever it compiles
PRIVATE = "ssd-mindcv-graphs-"  # how names of private folders start

COMMANDS = (PACKAGE.parent, PACKAGE.parents[3] / "tools" / "benchmarks")  # where scripts lie that each run one program

_used = False  # MindSpore neither starts its numbers anew nor takes a second folder in one process


@contextlib.contextmanager
def compile_cache(cfg, program: str, runtime) -> Iterator[Callable[[], None]]:
    """Within this, MindSpore takes graphs from the cache; at its end they are kept, unless by an exception.

    cfg: Config; program: what runs, train or eval for example, and what shapes its graphs that is neither in cfg nor in
    its data; runtime: of set_up_runtime
    -> a function that keeps the graphs compiled so far, for programs that may not live to their end
    Without effect if the user set MindSpore's own variables, in PyNative mode, and outside our commands. A folder that
    cannot be written costs the speed, not the run.
    """
    global _used
    folder = cache_folder()
    if folder is None or cfg.mode != 0 or _used or not _is_our_command() or {ENABLE, PATH} & set(os.environ):
        yield lambda: None
        return
    try:
        drop_leftovers(Path(tempfile.gettempdir()))
        private = tempfile.TemporaryDirectory(prefix=PRIVATE, ignore_cleanup_errors=True)
    except OSError:
        yield lambda: None
        return
    _used = True
    with private as path:
        archive = GraphArchive(folder / f"{graph_key(cfg, program, runtime)}.zip", Path(path) / "graphs")
        archive.unpack()
        os.environ.update({ENABLE: "1", PATH: str(archive.folder)})
        try:
            yield archive.pack
            archive.pack()
        finally:
            del os.environ[ENABLE], os.environ[PATH]


def cache_folder() -> Path | None:
    """$XDG_CACHE_HOME/ssd-mindcv/compile, by default below ~/.cache; None for a user without a home."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or "")
    try:
        return (base if base.is_absolute() else Path.home() / ".cache") / "ssd-mindcv" / "compile"
    except RuntimeError:
        return None


def _is_our_command() -> bool:
    """Whether this process is train.py or another script of COMMANDS.

    In a notebook or a test other graphs would shift MindSpore's numbers, and `python -c` it cannot start with a cache.
    """
    script = Path(sys.argv[0]).resolve()
    return script.is_file() and script.parent in COMMANDS


def drop_leftovers(folder: Path) -> None:
    """Remove private folders a day old: killed runs leave them, and others have compiled their graphs long ago."""
    for path in folder.glob(f"{PRIVATE}*"):
        with contextlib.suppress(OSError):  # another user's, or being removed by another process
            if time.time() - path.stat().st_mtime > 86400:
                shutil.rmtree(path)

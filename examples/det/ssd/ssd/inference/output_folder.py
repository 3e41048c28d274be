"""Output folder of predict.py: complete files only, and results of earlier runs are archived, never overwritten."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import threading
from collections.abc import Collection, Iterator
from pathlib import Path

from ..errors import UserError, os_reason
from ..runtime.archive import archive_files
from ..runtime.atomic_write import work_folder

IMAGES_LIST_NAME = "detections.json"  # detections in all images of a run
MANIFEST_NAME = ".results.json"  # hidden list of the files of the last run, which the next run archives

log = logging.getLogger(__name__)


class OutputFolder:
    """Folder to which results are published one by one, as soon as each file is complete.

    When the first file is published, the results of the previous run in the folder are moved to the subfolder
    earlier-N. A run that publishes nothing therefore changes nothing. Other files in the folder stay, unless a result
    has the same name.

    path: folder of the results
    work: temporary folder on the same disk, in which results are written
    names: paths, relative to the folder, of all files that this run may publish
    has_results: True after a file was published
    """

    def __init__(self, path: Path, work: Path, names: Collection[str]):
        self.path = path
        self.work = work
        self.names = names
        self.has_results = False
        self._lock = threading.Lock()

    def unfinished(self, name: str) -> Path:
        """Return the path in the temporary folder at which a result must be written before it is published.

        name: path relative to the output folder
        Raises OSError if a folder cannot be created.
        """
        path = self.work / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def publish(self, name: str) -> None:
        """Move a complete file from the temporary folder to the output folder. Several threads may call this method.

        name: path relative to the output folder
        Raises OSError if the file cannot be moved, or UserError if the previous results cannot be archived.
        """
        with self._lock:
            if not self.has_results:
                self._archive_previous_run()
                self.has_results = True
        target = self.path / name
        target.parent.mkdir(parents=True, exist_ok=True)
        os.replace(self.work / name, target)

    def _archive_previous_run(self) -> None:
        """Archive the files of the previous run, and list the files of this run for the next run."""
        manifest = self.unfinished(MANIFEST_NAME)
        manifest.write_text(json.dumps(sorted(self.names)), encoding="utf-8")
        previous = {*_read_manifest(self.path / MANIFEST_NAME), *self.names}
        paths = [self.path / name for name in sorted(previous) if os.path.isfile(self.path / name)]
        archive = archive_files(self.path, paths, key="--output")
        if archive:
            log.info(f"Moved the results of an earlier run to {archive}.")
        os.replace(manifest, self.path / MANIFEST_NAME)


def _read_manifest(path: Path) -> list[str]:
    """Return the names in the manifest of the previous run. Earlier versions wrote detections.json, but no manifest.

    Names outside of the folder are left out, because archiving must never move files of other folders.
    """
    try:
        names = json.loads(path.read_text(encoding="utf-8"))
        return [name for name in names if not Path(name).is_absolute() and ".." not in Path(name).parts]
    except FileNotFoundError:
        return [IMAGES_LIST_NAME]
    except (OSError, ValueError, TypeError):
        return []


@contextlib.contextmanager
def open_output_folder(path: Path, names: Collection[str]) -> Iterator[OutputFolder]:
    """Yield the OutputFolder of a run. If nothing was published, the folder is as it was before.

    path: folder of the results, which is created if missing
    names: paths, relative to the folder, of all files that the run may publish
    Raises UserError if the folder cannot be written.
    """
    with contextlib.ExitStack() as stack:
        try:
            work = stack.enter_context(work_folder(path, kind="predict-"))
        except OSError as error:
            raise UserError(
                f"--output: {path} cannot be written ({os_reason(error)}). Set --output to another folder."
            ) from None
        yield OutputFolder(path, work=work, names=names)

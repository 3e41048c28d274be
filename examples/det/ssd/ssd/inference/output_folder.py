"""Output folder of predict.py: complete files only, and results of earlier runs are archived, never overwritten."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import threading
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path

from ..errors import UserError, os_reason
from ..runtime.archive import archive_files
from ..runtime.atomic_write import work_folder
from ..runtime.read_json import read_json

IMAGES_LIST_NAME = "detections.json"  # detections in all images of a run
MANIFEST_NAME = ".results.json"  # hidden list of the files of the last run, which the next run archives

log = logging.getLogger(__name__)


class OutputFolder:
    """Folder to which results are published one by one, as soon as each file is complete.

    When the first file is published, the results of the previous run in the folder are moved to the subfolder
    earlier-N. A run that publishes nothing therefore changes nothing. Other files in the folder stay, unless a result
    has the same name.

    A run whose number of files is unknown publishes them in subfolders that contain nothing else. Such a subfolder is
    archived as a whole.

    path: folder of the results
    work: temporary folder on the same disk, in which results are written
    names: paths, relative to the folder, of all files that this run may publish outside of `subfolders`
    subfolders: {requested name: name} of the subfolders of this run; the name has a number if users have such a folder
    has_results: True after a file was published
    """

    def __init__(self, path: Path, work: Path, names: Collection[str], subfolders: Mapping[str, str]):
        self.path = path
        self.work = work
        self.names = names
        self.subfolders = subfolders
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

        name: path relative to the output folder; of a file, or of a folder inside a subfolder of this run
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
        folders = [f"{name}/" for name in self.subfolders.values()]
        manifest.write_text(json.dumps(sorted([*self.names, *folders])), encoding="utf-8")
        paths = _find_previous(self.path, self.names)
        archive = archive_files(self.path, paths, key="--output")
        if archive:
            log.info(f"Moved the results of an earlier run to {archive}.")
        for name in self.subfolders.values():  # also if they stay empty, so that the next run may archive them
            (self.path / name).mkdir(exist_ok=True)
        os.replace(manifest, self.path / MANIFEST_NAME)


def _find_previous(path: Path, names: Iterable[str]) -> list[Path]:
    """Return the files and folders that the first result of a run archives.

    path: output folder
    names: paths of the new files, relative to the output folder
    """
    previous = sorted({*_read_manifest(path / MANIFEST_NAME), *names})
    folders = [path / name for name in previous if name.endswith("/") and os.path.isdir(path / name)]
    files = [path / name for name in previous if os.path.isfile(path / name)]
    return folders + [file for file in files if not any(folder in file.parents for folder in folders)]


def _read_manifest(path: Path) -> list[str]:
    """Return the names in the manifest of the previous run. Earlier versions wrote detections.json, but no manifest.

    Names of folders end with "/". Names outside of the folder are left out, because archiving must never move files of
    other folders.
    """
    try:
        names = read_json(path)
        return [name for name in names if (parts := Path(name).parts) and parts[0] != "/" and ".." not in parts]
    except FileNotFoundError:
        return [IMAGES_LIST_NAME]
    except (OSError, ValueError, TypeError):
        return []


def _choose_subfolder(path: Path, name: str, names: Iterable[str]) -> str:
    """Return a name for a subfolder of a run: `name`, or else `name`-2, `name`-3, ...

    The subfolder does not exist, or is archived with the previous run, and no other result of the run is inside it.

    path: output folder
    names: paths of the other results of the run, relative to the output folder
    """
    roots = {Path(other).parts[0] for other in names}
    archived = _find_previous(path, names)
    number, chosen = 1, name
    while chosen in roots or (os.path.lexists(path / chosen) and path / chosen not in archived):
        number += 1
        chosen = f"{name}-{number}"
    return chosen


@contextlib.contextmanager
def open_output_folder(
    path: Path, names: Collection[str], *, subfolders: Iterable[str] = (), inputs: Iterable[Path] = ()
) -> Iterator[OutputFolder]:
    """Yield the OutputFolder of a run. If nothing was published, the folder is as it was before.

    path: folder of the results, which is created if missing
    names: paths, relative to the folder, of all files that the run may publish outside of `subfolders`
    subfolders: names of subfolders for an unknown number of files
    inputs: input files of the run, which must not be results that the run archives
    Raises UserError if the folder cannot be written, or if an input would be archived.
    """
    previous = {Path(os.path.realpath(result)): result for result in _find_previous(path, names)}
    for file in inputs:
        real = Path(os.path.realpath(file))
        if not previous.keys().isdisjoint([real, *real.parents]):
            raise UserError(
                f"--output: the input {file} is a result of an earlier run in {path}, which would be moved. "
                "Set --output to another folder."
            )
    with contextlib.ExitStack() as stack:
        try:
            work = stack.enter_context(work_folder(path, kind="predict-"))
        except OSError as error:
            raise UserError(
                f"--output: {path} cannot be written ({os_reason(error)}). Set --output to another folder."
            ) from None
        chosen = {name: _choose_subfolder(path, name, names) for name in subfolders}
        yield OutputFolder(path, work=work, names=names, subfolders=chosen)

"""Pickles are never loaded, whatever the suffix of the file is: loading one can run any program."""

import io
import os
import pickle
import zipfile

import pytest

from ssd.checkpoints.reading import read_checkpoint
from ssd.checkpoints.records import read_progress, read_records
from ssd.errors import UserError
from weight_conversion.state_dict import read_state_dict


class Program:
    """An object whose pickle creates a folder when it is loaded."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def pickled(path, zipped):
    """Return a pickle that creates path, alone or as torch.save writes it."""
    content = pickle.dumps(Program(path))
    if not zipped:
        return content
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/data.pkl", content)
        archive.writestr("archive/version", "3")
    return file.getvalue()


@pytest.mark.parametrize("suffix", [".ckpt", ".safetensors", ".npz", ".pth"])
@pytest.mark.parametrize("zipped", [False, True])
def test_no_pickle_is_loaded(suffix, zipped, tmp_path):
    path = tmp_path / f"a{suffix}"
    path.write_bytes(pickled(tmp_path / "created", zipped))
    for read in (read_checkpoint, read_state_dict):
        with pytest.raises(UserError, match=path.name):
            read(path)
    assert read_records(path) == {} and read_progress(path) is None
    assert not (tmp_path / "created").exists()
    pickle.loads(pickled(tmp_path / "created", zipped=False))
    assert (tmp_path / "created").exists()  # the pickle does what it should

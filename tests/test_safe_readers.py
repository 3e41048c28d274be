"""The package reads files of other people only with the functions that limit them."""

import re
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "examples" / "det" / "ssd"
# Function: modules that may call it. The reason is at the call.
ALLOWED = {
    "json.load": set(),
    "json.loads": {
        "read_json.py",
        "folder_lock.py",  # at most 64 KiB of a lock file
        "coco_metrics.py",  # a copy of what this process has written
    },
    "yaml.load": set(),
    "yaml.safe_load": set(),
    "pickle.load": set(),
    "pickle.loads": set(),
    "np.load": set(),
    "Image.open": {"image_headers.py"},
    "ElementTree.parse": set(),
    "ElementTree.fromstring": {"voc_xml.py"},  # that of defusedxml
    "torch.load": set(),
}


NAMES = re.compile(rf"(?<![\w.])({'|'.join(map(re.escape, ALLOWED))})\(")


@pytest.fixture(scope="module")
def calls_of_modules():
    return {path: set(NAMES.findall(path.read_text(encoding="utf-8"))) for path in sorted(PACKAGE.rglob("*.py"))}


@pytest.mark.parametrize("function", ALLOWED)
def test_readers_without_limits_are_called_in_one_place(function, calls_of_modules):
    assert {path.name for path, called in calls_of_modules.items() if function in called} == ALLOWED[function]

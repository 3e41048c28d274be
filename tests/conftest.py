"""What tests share: a tiny drawn data set, its shards, recipes, the commands, and published files if there are any."""

import functools
import gc
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import ssd  # noqa: F401  first, because it sets environment variables that MindSpore reads when it loads
from make_shapes import make_shapes
from ssd.config import load_config
from ssd.data.coco import read_coco

ROOT = Path(__file__).resolve().parents[1]


def pytest_collection_modifyitems(items):
    """The files that take minutes come first, so that none of them is alone at the end."""
    items.sort(key=lambda item: item.path.name not in ("test_commands.py", "test_msrun.py", "test_trainer.py"))


def pytest_unconfigure():
    """Let networks die while MindSpore can still count them: at the interpreter's exit each would print a complaint."""
    gc.collect()


@pytest.fixture(scope="session", autouse=True)
def cache_home(tmp_path_factory, worker_id):
    """Commands that tests run keep compiled graphs for one another, and none in the user's own cache folder."""
    base = tmp_path_factory.getbasetemp()
    with pytest.MonkeyPatch.context() as patch:
        # Above the folder of a worker of pytest-xdist is the one of all of them.
        patch.setenv("XDG_CACHE_HOME", str((base if worker_id == "master" else base.parent) / "cache"))
        yield


@pytest.fixture(scope="session")
def shapes_coco(tmp_path_factory):
    """A COCO-format folder of drawn shapes: 10 training and 4 validation images of 96x96. Tests leave it as it is."""
    folder = tmp_path_factory.mktemp("shapes") / "coco"
    make_shapes(folder, train=10, val=4, size=96, seed=0)
    return folder


@pytest.fixture(scope="session")
def shapes_records(shapes_coco):
    """The shards made from `shapes_coco`: what recipes call data_dir. Not to be changed by tests."""
    from ssd.data.mindrecord import convert

    folder = shapes_coco.parent / "records"
    splits = [
        read_coco(shapes_coco / "annotations" / f"instances_{name}.json", shapes_coco / name)
        for name in ("train2017", "val2017")
    ]
    convert(*splits, folder, overwrite=False, num_workers=2)
    return folder


@pytest.fixture(scope="session")
def load_recipe():
    """load_recipe("ssd_mobilenetv2", lr=0.1) is the Config of a shipped recipe, for CPU and with COCO's classes."""

    def load(name, **overrides):
        return load_config(
            ROOT / "examples" / "det" / "ssd" / f"{name}.yaml",
            {"device_target": "CPU", "data_dir": "/nowhere", **overrides},
        )

    return load


@pytest.fixture(scope="session", autouse=True)
def runtime(load_recipe):
    """Graph mode and a seed, as commands have them, before the first graph runs: afterwards MindSpore refuses."""
    from ssd.engine.runtime import set_up_runtime

    set_up_runtime(load_recipe("ssd_mobilenetv2"))


@pytest.fixture(scope="session")
def reference():
    """A folder of published recipes and checkpoints, named by the environment variable SSD_REFERENCE; else skipped."""
    folder = Path(os.environ.get("SSD_REFERENCE") or os.devnull)
    if not folder.is_dir():
        pytest.skip("SSD_REFERENCE names no folder of published recipes and checkpoints")
    return folder


@pytest.fixture(scope="session")
def without_progress():
    """without_progress(stderr) lacks the lines of progress, of which a slow machine prints one every 10 seconds."""
    return functools.partial(re.compile(r"^[^\n]+: \d+/\d+ \w+, [\d.]+/s, \d+ s left[^\n]*\n", re.MULTILINE).sub, "")


@pytest.fixture(scope="session")
def run_script(without_progress):
    """run_script("train.py", "--config", path, …) runs a command as a user does, from the repo root, and returns its
    CompletedProcess with text in .stdout and, but for progress, .stderr. It raises nothing on a failure but
    TimeoutExpired."""

    def run(name: str, *args, timeout: float = 300) -> subprocess.CompletedProcess:
        command = [sys.executable, f"examples/det/ssd/{name}", *map(str, args)]
        result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=timeout)
        result.stderr = without_progress(result.stderr)
        return result

    return run

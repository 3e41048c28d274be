"""What tests share: a tiny drawn data set, its shards, recipes, the commands, and published files if there are any."""

import functools
import gc
import importlib
import os
import re
import signal
import struct
import subprocess
import sys
from pathlib import Path

import ssd  # noqa: F401  first, because it sets environment variables that MindSpore reads when it loads

# isort: split
import mindspore as ms
import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from mindspore import Tensor

from make_shapes import make_shapes
from ssd.checkpoints.saving import save_checkpoint
from ssd.config.loading import load_config
from ssd.data.readers.coco import read_coco
from ssd.models.detector import create_detector
from ssd.startup import SIGNALS

ROOT = Path(__file__).resolve().parents[1]

# `make test` runs the same few examples of each property every time; `make fuzz` runs other ones, and many. Without a
# deadline, because machines differ, and because the first example imports and compiles.
SLOW_IS_FINE = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
settings.register_profile("test", max_examples=20, derandomize=True, **SLOW_IS_FINE)
settings.register_profile("fuzz", max_examples=1000, print_blob=True, **SLOW_IS_FINE)
settings.load_profile("test")


def pytest_configure():
    """Signals act as in a terminal, also if the tests were started with nohup or in the background."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def pytest_collection_modifyitems(items):
    """Files that take minutes come first, then other files with slow tests, so that none is alone at the end."""
    minutes = ("msrun_training", "commands", "recipes", "data_page", "trainer", "sunk_training", "loss_choices")
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: (item.path.stem.removeprefix("test_") not in minutes, item.path not in slow))


def pytest_collection_finish():
    """MindSpore collects garbage before each compilation. Keep it from walking through all imported modules."""
    gc.collect()
    gc.freeze()


def pytest_sessionfinish():
    """Save the coverage of `make coverage` now: pytest-xdist kills a process that needs over 10 s to exit."""
    coverage = sys.modules.get("coverage")
    measurement = coverage and coverage.Coverage.current()
    if measurement:
        measurement.save()


def pytest_unconfigure():
    """Let networks die while MindSpore can still count them: at the interpreter's exit each would print a complaint."""
    gc.collect()


@pytest.fixture(autouse=True)
def signal_handlers():
    """Fail a test that leaves another signal handler. A handler of a command would end pytest in a later test."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    yield
    after = {number: signal.getsignal(number) for number in SIGNALS}
    for number, handler in before.items():
        if handler is not None:  # None for a handler that C++ code has installed
            signal.signal(number, handler)
    assert after == before


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
def logging_of_commands():
    """Messages go to the console as in commands, so that tests can read them with capsys."""
    from ssd.runtime.log import set_up_logging

    set_up_logging()


@pytest.fixture(scope="session", autouse=True)
def runtime(load_recipe):
    """Graph mode and a seed, as commands have them, before the first graph runs: afterwards MindSpore refuses."""
    from ssd.runtime.device import create_runtime

    create_runtime(load_recipe("ssd_mobilenetv2"))


@pytest.fixture
def pynative():
    """PyNative mode during a test. A network runs once in a tenth of the time that its graph takes to compile."""
    ms.set_context(mode=ms.PYNATIVE_MODE)
    yield
    ms.set_context(mode=ms.GRAPH_MODE)


@pytest.fixture(scope="session")
def reference():
    """A folder of published recipes and checkpoints, named by the environment variable SSD_REFERENCE; else skipped."""
    folder = Path(os.environ.get("SSD_REFERENCE") or os.devnull)
    if not folder.is_dir():
        pytest.skip("SSD_REFERENCE names no folder of published recipes and checkpoints")
    return folder


@pytest.fixture(scope="session")
def without_progress():
    """without_progress(stderr) lacks the lines that only a slow machine prints: progress every 10 seconds, and what the
    command does after 30 seconds of silence."""
    lines = r"^[^\n]+(: \d+/\d+ \w+, [\d.]+/s, \d+ s left[^\n]*|, \d+ s so far)\n"
    return functools.partial(re.compile(lines, re.MULTILINE).sub, "")


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


@pytest.fixture
def call_script(without_progress, monkeypatch, capfd):
    """call_script("train.py", "--config", path, …) is `run_script` without a new process, which imports for 2 seconds.

    It is for mistakes that are found before a graph is compiled.
    """

    def call(name: str, *args) -> subprocess.CompletedProcess:
        command = [f"examples/det/ssd/{name}", *map(str, args)]
        monkeypatch.chdir(ROOT)
        monkeypatch.setattr("sys.argv", command)
        capfd.readouterr()
        try:
            importlib.import_module(Path(name).stem).main()
            code = 0
        except SystemExit as end:
            code = end.code
        finally:
            gc.enable()  # predict.py disables it until MindSpore is imported
        out, err = capfd.readouterr()
        return subprocess.CompletedProcess(command, code, out, without_progress(err))

    return call


@pytest.fixture(scope="session")
def save_random_detector():
    """save_random_detector(cfg, path) saves random weights that detect something in every image, with spread scores.

    scale: standard deviation of the weights of the predictors
    """

    def save(cfg, path: Path, scale: float = 1.0) -> Path:
        detector = create_detector(cfg)
        rng = np.random.default_rng(0)
        for name, parameter in detector.parameters_dict().items():
            if name.startswith("head.") and name.endswith(".3.weight"):
                parameter.set_data(Tensor(rng.normal(0, scale, parameter.shape).astype(np.float32)))
        save_checkpoint(detector, path)
        return path

    return save


TINY = {
    "backbone": "mobilenet_v2_035_96",
    "backbone_out_indices": [4, 7],
    "image_size": [64, 64],
    "steps": [8, 16, 32],
    "aspect_ratios": [[2], [2], [2]],
    "extra_layers": [{"out_channels": 16, "expand_ratio": 1, "stride": 2}],
    "num_classes": 4,
}


@pytest.fixture(scope="session")
def tiny_recipe(load_recipe):
    """tiny_recipe(lr=0.1) is the Config of an SSDLite with 336 anchors and three classes on 64x64 images."""
    return lambda **overrides: load_recipe("ssd_mobilenetv2", **{**TINY, **overrides})


@pytest.fixture
def tiny_detector(tiny_recipe):
    """A detector of `tiny_recipe` with fresh weights, the test's own."""
    return create_detector(tiny_recipe())


@pytest.fixture(scope="session")
def values_of():
    """values_of(cell) is {parameter name: a copy of its value}."""
    return lambda cell: {name: value.asnumpy().copy() for name, value in cell.parameters_dict().items()}


@pytest.fixture(scope="session")
def randomize():
    """randomize(cell, seed) draws every parameter anew, so that no two of one shape are alike."""

    def draw(cell, seed):
        rng = np.random.default_rng(seed)
        for parameter in cell.get_parameters():
            parameter.set_data(Tensor(rng.random(parameter.shape, dtype=np.float32)))
        return cell

    return draw


@pytest.fixture(scope="session")
def read_events():
    """read_events(folder) is the list of TensorBoard events in the only event file of a folder, which must be whole."""
    from tensorboardX.proto.event_pb2 import Event

    def read(folder):
        (path,) = folder.iterdir()
        content, events = path.read_bytes(), []
        while content:
            (length,) = struct.unpack_from("<Q", content)  # then 4 bytes of checksum, the event, 4 bytes of checksum
            assert len(content) >= length + 16
            events.append(Event.FromString(content[12 : 12 + length]))
            content = content[length + 16 :]
        return events

    return read

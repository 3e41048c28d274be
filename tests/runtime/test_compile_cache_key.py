"""The inputs of compiled graphs cover everything that a graph can depend on, and nothing else."""

import json
import os
from pathlib import Path

import pytest

from ssd.config.schema import HOST, Config, graph_settings, keys_marked
from ssd.data.dataset_info import DatasetInfo, SplitInfo, dataset_fingerprint
from ssd.runtime import compile_cache as module
from ssd.runtime.compile_cache import graph_inputs
from ssd.runtime.device import Runtime


@pytest.fixture
def key(tiny_recipe, tmp_path):
    """key(program="eval", …) are the graph inputs of the tiny recipe with something changed, as JSON text."""

    def make(program="train", runtime=None, **overrides):
        runtime = runtime or Runtime()
        cfg = tiny_recipe(data_dir=str(tmp_path)).model_copy(update=overrides)
        data = dataset_fingerprint(Path(cfg.data_dir))
        return json.dumps(graph_inputs(program, settings=graph_settings(cfg), data=data, runtime=runtime))

    return make


def another(value):
    """A value of the same kind that differs."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, (int, float)):
        return value + 1
    if isinstance(value, str):
        return f"{value}x"
    if isinstance(value, tuple):
        return value[:-1] if value else ((2.0,),)
    return 7 if value is None else value.model_copy(update={"flip_prob": 0.123})  # augment, the only section


def test_it_is_the_same_for_the_same(key):
    assert key() == key()


@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")  # model_copy takes values of the wrong type
@pytest.mark.parametrize("field", Config.model_fields)
def test_it_follows_the_recipe(field, key, tiny_recipe, tmp_path):
    value = getattr(tiny_recipe(data_dir=str(tmp_path)), field)
    assert (key() == key(**{field: another(value)})) == (field in keys_marked(HOST))


def test_keys_read_by_the_host_alone_discard_no_graphs(key):
    before = key()
    assert key(nms_threshold=0.7) == key(min_score=0.2) == key(metric="voc") == key(max_detections=7) == before
    assert key(pre_nms_top_k=7) != before


def test_it_follows_program_and_devices(key):
    keys = [key(), key(program="eval"), key(runtime=Runtime(0, 2)), key(runtime=Runtime(1, 2))]
    assert len(set(keys)) == len(keys)


@pytest.mark.parametrize("owner, name", [("ms", "__version__"), ("np", "__version__")])
def test_it_follows_versions(owner, name, key, monkeypatch):
    before = key()
    monkeypatch.setattr(getattr(module, owner), name, "99.0")
    assert key() != before


def test_it_follows_the_version_of_python(key, monkeypatch):
    before = key()
    monkeypatch.setattr(module.platform, "python_version", lambda: "3.99.0")
    assert key() != before


@pytest.mark.parametrize("which", ["ours", "mindcv"])
def test_it_follows_the_sources(which, key, tmp_path, monkeypatch):
    package = tmp_path / "package"
    (package / "models").mkdir(parents=True)
    (package / "__init__.py").write_text("")
    source = package / "models" / "loss.py"
    source.write_text("weight = 1")
    if which == "ours":
        monkeypatch.setattr(module, "PACKAGE", package)
    else:
        monkeypatch.setattr(module.mindcv, "__file__", str(package / "__init__.py"))
    keys = [key()]
    source.write_text("weight = 2")
    keys.append(key())
    source.rename(package / "models" / "losses.py")
    keys.append(key())
    assert len(set(keys)) == len(keys)
    (package / "models" / "notes.txt").write_text("not Python")
    assert key() == keys[-1]


def test_it_follows_the_environment_but_not_the_launch(key, monkeypatch):
    before = key()
    for name in ("MS_SCHED_PORT", "MS_NODE_ID", "GLOG_v", "HOSTNAME", "ONEDNN_VERBOSE"):
        monkeypatch.setenv(name, "1234")
    assert key() == before
    monkeypatch.setenv("MS_DEV_SOMETHING", "1")
    assert key() != before
    monkeypatch.delenv("MS_DEV_SOMETHING")
    assert os.environ["ONEDNN_MAX_CPU_ISA"] != "SSE41"
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "SSE41")
    assert key() != before


SPLITS = [((10, 3), (4, 2)), ((11, 3), (4, 2)), ((10, 4), (4, 2)), ((10, 3), (5, 2)), ((10, 3), (4, 3))]


def write(folder, train, val, classes=("background", "dog"), boxes=4, source="some.json"):
    """dataset.json for a training and a validation split of (images, most objects in one)."""
    splits = [SplitInfo(images, boxes, most, {}, 0, 0, source, "0", {}) for images, most in (train, val)]
    DatasetInfo(list(classes), [1], "val.json", *splits).write(folder / "dataset.json")
    return train, val


def test_it_follows_what_is_in_the_data_not_where(key, tmp_path):
    empty = key()
    folder = tmp_path / "data"
    (folder / "train").mkdir(parents=True)
    (folder / "train" / "coco0").write_bytes(b"12345")
    shards = key(data_dir=str(folder))
    (folder / "train" / "coco0").write_bytes(b"123456")
    longer = key(data_dir=str(folder))
    described = {write(folder, train, val): key(data_dir=str(folder)) for train, val in SPLITS}
    assert len({empty, shards, longer, *described.values()}) == 3 + len(SPLITS)
    folder.rename(tmp_path / "elsewhere")
    elsewhere = tmp_path / "elsewhere"
    assert key(data_dir=str(elsewhere)) == described[SPLITS[-1]]
    write(elsewhere, *SPLITS[-1], classes=["background", "cat"], boxes=5, source="other.json")
    assert key(data_dir=str(elsewhere)) == described[SPLITS[-1]]  # as many images, and as many objects at most

"""Compiled graphs are kept for the next start and never for another program; train.py shows that they serve."""

import os
import shutil
from pathlib import Path

import mindspore as ms
import pytest
import yaml

from ssd.config.schema import graph_settings
from ssd.runtime import compile_cache as module
from ssd.runtime.compile_cache import cache_folder, compile_cache
from ssd.runtime.device import Runtime

SCRIPT = module.PACKAGE.parent / "train.py"
VARIABLES = (module.ENABLE, module.PATH)


@pytest.fixture
def start(tiny_recipe, tmp_path, monkeypatch):
    """start("train", …) is compile_cache as in a new process of train.py, with a home of its own for the cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    monkeypatch.setattr("sys.argv", [str(SCRIPT)])
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)

    def begin(program="train", **overrides):
        monkeypatch.setattr(module, "_was_used", False)
        settings = graph_settings(tiny_recipe(data_dir=str(tmp_path), **overrides))
        return compile_cache(program, settings=settings, data=[], runtime=Runtime())

    return begin


def graphs():
    """{name: content} of what MindSpore would find now."""
    folder = Path(os.environ[module.PATH])
    return {path.name: path.read_text() for path in folder.rglob("*") if path.is_file()}


def compile_graph(content, name="graph_0"):
    """Leave a file as MindSpore does: in a folder of the rank, only readable."""
    path = Path(os.environ[module.PATH]) / "rank_0" / name
    path.parent.mkdir(exist_ok=True)
    path.unlink(missing_ok=True)
    path.write_text(content)
    path.chmod(0o400)


def archives():
    return sorted(path.name for path in cache_folder().iterdir()) if cache_folder().exists() else []


def test_graphs_come_back_to_the_same_program_and_recipe_alone(start):
    with start():
        assert os.environ[module.ENABLE] == "1" and graphs() == {}
        compile_graph("first")
    assert not set(VARIABLES) & set(os.environ)
    with start():
        assert graphs() == {"graph_0": "first"}
        compile_graph("second", "graph_1")
    with start():
        assert graphs() == {"graph_0": "first", "graph_1": "second"}
    with start("eval"):
        assert graphs() == {}
    with start(alpha=0.3):
        assert graphs() == {}
    assert len(archives()) == 1


def test_a_process_works_in_a_folder_of_its_own(start, tmp_path):
    with start():
        compile_graph("first")
    with start():
        private = Path(os.environ[module.PATH])
        compile_graph("half")
        shutil.unpack_archive(*cache_folder().glob("*.zip"), tmp_path / "other")
        assert (tmp_path / "other" / "rank_0" / "graph_0").read_text() == "first"
    assert not private.exists()


def test_nothing_is_kept_of_a_run_that_fails_but_what_was_kept_before(start):
    with pytest.raises(ValueError), start():
        compile_graph("broken")
        raise ValueError
    assert archives() == [] and not set(VARIABLES) & set(os.environ)
    with pytest.raises(ValueError), start() as keep:
        compile_graph("good")
        keep()
        compile_graph("broken")
        raise ValueError
    with start():
        assert graphs() == {"graph_0": "good"}


@pytest.mark.parametrize("name, value", [(module.ENABLE, "0"), (module.ENABLE, "1"), (module.PATH, "/elsewhere")])
def test_the_users_own_variables_rule(name, value, start, monkeypatch):
    monkeypatch.setenv(name, value)
    before = dict(os.environ)
    with start() as keep:
        assert dict(os.environ) == before
        keep()
    assert dict(os.environ) == before and archives() == []


@pytest.mark.parametrize("script", ["-c", "", str(SCRIPT.with_name("absent.py")), __file__])
def test_only_our_commands_have_it(script, start, monkeypatch):
    monkeypatch.setattr("sys.argv", [script])
    with start():
        assert not set(VARIABLES) & set(os.environ)


def test_no_cache_on_ascend_in_pynative_mode_and_for_a_second_program(start, tiny_recipe):
    for values in ({"device_target": "Ascend"}, {"mode": 1}):
        with start(**values):
            assert not set(VARIABLES) & set(os.environ)
    with start():
        assert module.ENABLE in os.environ
    with compile_cache("eval", settings=graph_settings(tiny_recipe()), data=[], runtime=Runtime()):
        assert not set(VARIABLES) & set(os.environ)


def test_a_folder_that_cannot_be_written_stops_nothing(start, tmp_path):
    (tmp_path / "home").write_text("a file where a folder should be")
    with start() as save:
        assert not set(VARIABLES) & set(os.environ)
        save()


def test_folder_follows_the_environment(monkeypatch):
    for given, expected in (("/big", Path("/big")), ("relative", Path.home() / ".cache"), ("", Path.home() / ".cache")):
        monkeypatch.setenv("XDG_CACHE_HOME", given)
        assert cache_folder() == expected / "ssd-mindcv" / "compile"


@pytest.mark.slow
def test_training_starts_from_the_cache_unless_the_recipe_changed(
    run_script, tiny_recipe, shapes_records, tmp_path, monkeypatch
):
    """The second training ends with the same parameters, although another number of threads loads its images.

    alpha is a constant of the graph, which MindSpore's own cache would reuse unseen.
    """
    short = {"epoch_size": 1, "warmup_epochs": 0, "steps_per_epoch": 1, "batch_size": 2, "backbone_ckpt_path": ""}
    cfg = tiny_recipe(data_dir=str(shapes_records), num_classes=7, **short)
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(cfg.model_dump(mode="json", exclude_none=True)))
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("GLOG_v", "2")  # at which MindSpore says that it takes a graph from the cache

    def train(name, *more):
        result = run_script("train.py", "--config", path, "--ckpt_save_dir", tmp_path / name, *more)
        assert result.returncode == 0, result.stderr
        parameters = ms.load_checkpoint(str(tmp_path / name / "ssd-1.ckpt"))
        return "Use the compilation cache" in result.stdout + result.stderr, {
            key: value.asnumpy().tobytes() for key, value in parameters.items() if not isinstance(value, str)
        }

    cold, first = train("first")
    warm, second = train("second", "--num_parallel_workers", "1")
    changed, third = train("third", "--alpha", "0.9")
    assert (cold, warm, changed) == (False, True, False)
    assert first == second and first != third and len(archives()) == 2


@pytest.mark.parametrize("name", ["compile", "graphs"])
def test_a_cache_that_cannot_be_written_is_off(name, start, monkeypatch):
    mkdir = Path.mkdir

    def fail(path, *arguments, **options):
        if path.name == name:
            raise OSError(28, "No space left on device")
        mkdir(path, *arguments, **options)

    monkeypatch.setattr(Path, "mkdir", fail)
    with start() as save:
        assert not set(VARIABLES) & set(os.environ)
        save()
    assert archives() == []

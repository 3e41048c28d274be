"""YAML of other people: aliases that stand for billions of values, deep nesting and large files are refused."""

import pytest
import yaml

from ssd.config.loading import load_config
from ssd.data.readers.yolo import YoloFolder
from ssd.deployment.model_metadata import read_metadata
from ssd.errors import UserError
from ssd.runtime import read_yaml as read_yaml_module
from ssd.runtime.read_yaml import parse_yaml, read_yaml


def alias_bomb(item, levels=12):
    """Lines a0 to a11, each with nine aliases of the one before. The last one stands for 9 ** 11 values."""
    lines = ["a0: &a0 [x]"] + [f"a{n}: &a{n} {item(','.join([f'*a{n - 1}'] * 9))}" for n in range(1, levels)]
    return "\n".join(lines) + "\n"


BOMBS = {
    "lists": alias_bomb(lambda names: f"[{names}]") + "names: *a11\nclasses: *a11\n__BASE__: *a11\n",
    "merged mappings": "a0: &a0 {x: 1}\n" + alias_bomb(lambda names: f"{{<<: [{names}]}}").split("\n", 1)[1],
    "a loop": "names: &a [*a]\nclasses: *a\n",
    "a loop of mappings": "names: &a {b: {c: *a}}\n",
    "deep lists": "names: " + "[" * 500 + "]" * 500,
    "deep blocks": "names:\n" + "- " * 500 + "a",
}


@pytest.mark.parametrize("name", BOMBS)
def test_bombs_are_refused_by_every_reader(name, tmp_path):
    with pytest.raises(yaml.YAMLError):
        parse_yaml(BOMBS[name])
    for file_name in ("data.yaml", "metadata.yaml", "recipe.yaml"):
        (tmp_path / file_name).write_text(BOMBS[name])
    for read, argument, place in (
        (YoloFolder, tmp_path, "data.yaml"),
        (read_metadata, tmp_path, "metadata.yaml"),
        (load_config, tmp_path / "recipe.yaml", "recipe.yaml"),
    ):
        with pytest.raises(UserError) as caught:
            read(argument)
        message = str(caught.value)
        assert place in message and "\n" not in message and len(message) < 500


@pytest.mark.parametrize(
    "text", ["", "a: 1", "- &x [1, 2]\n- *x\n- {k: *x}", "a: &b {c: 1}\nd: {<<: *b, e: 2}", "2020-01-01"]
)
def test_other_yaml_is_read_as_by_safe_load(text):
    assert parse_yaml(text) == yaml.safe_load(text)


def test_large_files_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(read_yaml_module, "MAX_BYTES", 9)
    (tmp_path / "a.yaml").write_text("a: 45678")
    assert read_yaml(tmp_path / "a.yaml") == {"a": 45678}
    (tmp_path / "a.yaml").write_text("a: 4567890")
    with pytest.raises(yaml.YAMLError, match="9 bytes"):
        read_yaml(tmp_path / "a.yaml")


def test_many_values_are_refused_before_all_are_read(monkeypatch):
    monkeypatch.setattr(read_yaml_module, "MAX_VALUES", 10)
    assert parse_yaml("[1, 2, 3, 4, 5, 6, 7, 8, 9]") == list(range(1, 10))
    with pytest.raises(yaml.YAMLError, match="10 values"):
        parse_yaml("[1, 2, 3, 4, 5, 6, 7, 8, 9, 0, this is not valid YAML: {")

"""The pages of recipe keys agree with the schema and its translation, and the drawing agrees with the imports."""

import xml.etree.ElementTree as ElementTree

import pytest
import yaml

import make_docs
from docs_pages.drawing import draw_package, read_floors
from docs_pages.recipe_keys import TRANSLATION, read_keys, read_sections, read_translation, write_pages
from ssd.config.loading import load_config
from ssd.config.schema import Config
from ssd.errors import UserError

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def pages():
    return write_pages()


@pytest.mark.parametrize(
    "row",
    [
        "| `lr` | float | > 0 | `0.05` | peak learning rate |",
        "| `device_target` | str | `Ascend`, `CPU` | detected | device that runs the detector; detected if not given |",
        "| `backbone`¹ | str |  | required | name of the backbone in MindCV |",
        "| `box_loss` | str | `smooth_l1`, `giou`, `ciou` | `smooth_l1` | box loss of positive anchors |",
        "| `augment.flip_prob` | float | ≥ 0, ≤ 1 | `0.5` | probability of a horizontal flip |",
        "| `extra_layers.out_channels` | int | > 0 | required | number of output channels |",
        "| `max_detections`² | int | > 0 | `100` | maximum number of detections of an image |",
        "| `conv_allow_hf32` | bool |  | `null` | on Ascend: compute float32 convolutions in HF32 |",
    ],
)
def test_rows_state_type_range_default_and_meaning(row, pages):
    assert row in pages["recipe-keys.md"].splitlines()


@pytest.mark.parametrize(
    "start",
    [
        "| `amp_level` | str | `O0`, `O2`, `O3` | Ascend `O2`, CPU `O0` |",
        '| `jit_level` | str | `""`, `O0`, `O1`, `O2` | Ascend `""`, CPU `O2` |',
        "| `anchors`¹ | str | `default`, `grid` | `default` |",
        "| `prior_scaling`¹ | [float, float] | > 0 | `[0.1, 0.2]` |",
        "| `aspect_ratios`¹ | list[list[float]] | > 0 | `[]` |",
        "| `augment.crop_min_iou` | list[float] | ≥ 0, ≤ 1 | `[0.1, 0.3, 0.5, 0.7, 0.9]` |",
    ],
)
@pytest.mark.parametrize("page", ["recipe-keys.md", "recipe-keys_CN.md"])
def test_rows_start_alike_in_both_languages(start, page, pages):
    assert sum(line.startswith(start) for line in pages[page].splitlines()) == 1


def test_every_key_has_a_row():
    names = {key.name for key in read_keys()}
    assert names >= set(Config.model_fields) - {"augment"} and "augment.hue" in names and "extra_layers.pad" in names


def test_required_keys_are_those_without_which_no_recipe_loads(tmp_path):
    required = {
        "backbone": "mobilenet_v2_100",
        "backbone_out_indices": [13],
        "image_size": [64, 64],
        "steps": [16],
    }
    always = {"aspect_ratios": [[2]], "data_dir": str(tmp_path)}
    assert {key.name for key in read_keys() if key.default is None} == {
        *required,
        *("num_classes", "device_target"),  # loading finds their values
        *("extra_layers.out_channels", "extra_layers.expand_ratio"),
    }
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump({**always, **required}))
    assert load_config(tmp_path / "recipe.yaml").num_classes == 81
    for name in required:
        values = {key: value for key, value in required.items() if key != name}
        (tmp_path / "recipe.yaml").write_text(yaml.safe_dump({**always, **values}))
        with pytest.raises(UserError) as caught:
            load_config(tmp_path / "recipe.yaml")
        assert name in str(caught.value)


def test_sections_are_the_comments_of_the_schema():
    source = "class Config(Section):\n    '''Doc.'''\n\n    # A\n    a: int = 1\n    b: int = Field(\n"
    source += "        2  # two\n    )\n\n    # B\n    c: int\n\n\ndef f():\n    # C\n    d: int = 1\n"
    assert list(read_sections(source)) == [("A", ["a", "b"]), ("B", ["c"])]


@pytest.mark.parametrize(
    "change",
    [
        lambda entries: entries["lr"].update(en="learning rate"),
        lambda entries: entries.pop("lr"),
        lambda entries: entries.update({"learning_rate": entries["lr"]}),
    ],
    ids=["changed", "missing", "left over"],
)
def test_stale_translation_is_refused(change, tmp_path):
    entries = yaml.safe_load(TRANSLATION.read_text(encoding="utf-8"))
    change(entries)
    (tmp_path / "zh.yaml").write_text(yaml.safe_dump(entries, allow_unicode=True), encoding="utf-8")
    with pytest.raises(UserError) as caught:
        read_translation(read_keys(), tmp_path / "zh.yaml")
    assert ("learning_rate" if "learning_rate" in entries else "lr") in str(caught.value)


def test_check_names_the_file_that_is_not_current(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(make_docs, "ROOT", tmp_path)
    monkeypatch.setattr(make_docs, "DOCS", tmp_path / "docs")
    monkeypatch.setattr(make_docs, "generate", lambda: {"a.md": "a\n", "images/b.svg": "b\n"})
    for options in ([], ["--check"]):
        monkeypatch.setattr("sys.argv", ["make_docs.py", *options])
        try:
            make_docs.main()
        except SystemExit as end:
            assert end.code == 0
    (tmp_path / "docs" / "images" / "b.svg").write_text("old\n")
    capsys.readouterr()
    with pytest.raises(SystemExit) as caught:
        make_docs.main()
    assert caught.value.code == 1
    message = capsys.readouterr().err
    assert "docs/images/b.svg" in message and "a.md" not in message


# --- the drawing ---


@pytest.fixture
def repository(tmp_path):
    """A repository with two commands, three folders and imports between them."""
    files = {
        "examples/det/ssd/train.py": "from ssd.boxes.ops import f\n\nif __name__ == '__main__':\n    f()\n",
        "examples/det/ssd/ssd/__init__.py": "",
        "examples/det/ssd/ssd/errors.py": "",
        "examples/det/ssd/ssd/boxes/__init__.py": "",
        "examples/det/ssd/ssd/boxes/ops.py": "from ..errors import UserError",
        "examples/det/ssd/ssd/models/__init__.py": "",
        "examples/det/ssd/ssd/models/head.py": "import mindspore\nfrom ..boxes import ops\nfrom ..boxes.ops import g",
        "examples/det/ssd/ssd/data/readers/__init__.py": "",
        "examples/det/ssd/ssd/data/readers/coco.py": "if TYPE_CHECKING:\n    from ...models import head",
        "tools/fit.py": 'import mindspore\n\n\nif __name__ == "__main__":\n    pass\n',
        "tools/part.py": "import mindspore",
    }
    for name, source in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(source.replace("'", '"'))
    return tmp_path


def test_floors_have_the_modules_and_imports_of_the_files(repository):
    rooms = [[(room.name, room.boxes, room.imports) for room in floor] for floor in read_floors(repository)]
    assert rooms == [
        [("commands", {"": {"train": False}}, {"boxes/": 1}), ("tools/", {"": {"fit": True}}, {})],
        [("data/", {"readers": {"coco": False}}, {})],
        [("models/", {"": {"head": True}}, {"boxes/": 2})],
        [("boxes/", {"": {"ops": False}}, {"ssd/*.py": 1})],
        [("ssd/*.py", {"": {"__init__": False, "errors": False}}, {})],
    ]


def test_drawing_is_small_valid_and_without_overlaps():
    text = draw_package(make_docs.ROOT)
    assert text == draw_package(make_docs.ROOT) and len(text) < 60_000
    svg = ElementTree.fromstring(text)
    width, height = (float(svg.get(name)) for name in ("width", "height"))
    boxes = [tuple(float(item.get(name)) for name in ("x", "y", "width", "height")) for item in svg.iter(f"{SVG}rect")]
    assert all(x >= 0 and y >= 0 and x + w <= width and y + h <= height for x, y, w, h in boxes)
    modules = [box for box in boxes if box[3] == 22]
    assert len(modules) > 80
    for index, (x, y, w, h) in enumerate(modules):
        for other_x, other_y, other_w, other_h in modules[index + 1 :]:
            assert x + w <= other_x or other_x + other_w <= x or y + h <= other_y or other_y + other_h <= y
    names = {item.text for item in svg.iter(f"{SVG}text")}
    assert {"training/", "boxes/", "train_step", "nms", "errors", "readers/"} <= names
    assert any(name and name.isdecimal() for name in names)  # numbers of imports

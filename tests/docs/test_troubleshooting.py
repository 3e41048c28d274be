"""docs/troubleshooting.md and its Chinese twin: the same entries, lines that parse, and errors quoted as printed."""

import importlib
import json
import re
import shlex
import sys
from types import SimpleNamespace

import pytest

import create_data
import train
from broken_shards import copy_shards
from fakes import WeightedSum
from printed_error import error_of
from rotated_images import write_dataset
from ssd.checkpoints.loading import load_weights
from ssd.checkpoints.metadata import refuse_mismatch
from ssd.checkpoints.reading import read_checkpoint
from ssd.checkpoints.records import STATE_KEY
from ssd.checkpoints.saving import save_checkpoint
from ssd.config.command_line import parse_recipe_and_options
from ssd.config.loading import CONFIGS, load_config
from ssd.config.schema import Config
from ssd.data.dataset import create_dataset, find_shard, iterate_batches
from ssd.data.mindrecord import convert
from ssd.data.readers.splits import open_dataset_folder, read_splits
from ssd.deployment.detector import Detector
from ssd.deployment.server.start import require_packages
from ssd.errors import exhaustion_message
from ssd.evaluation.coco_metrics import CocoEvaluator
from ssd.evaluation.evaluator import DetectorEvaluator
from ssd.inference.sources import find_inputs
from ssd.models.detector import create_detector
from ssd.runtime.folder_lock import lock_folder
from ssd.runtime.launch import number_of_ranks
from ssd.runtime.writable_folder import require_writable
from ssd.training.memory import GB, check_batch_size, estimate_step_memory
from ssd.training.resume import TrainingState, refuse_completed, resume_training
from tiny_onnx import write_model

ROOT = CONFIGS.parent
DOCS = ROOT / "examples" / "det" / "ssd" / "docs"
ENGLISH, CHINESE = DOCS / "troubleshooting.md", DOCS / "troubleshooting_CN.md"
KINDS = {"Type:": "Type", "Add:": "Add", "输入：": "Type", "加上：": "Add"}
RECIPE = "examples/det/ssd/ssd_mobilenetv2.yaml"
STATE = TrainingState(step=20, steps_per_epoch=10, images_per_step=8, seed=0)

# Errors that only another machine or a running training can print
NOT_PROVOKED = {
    "error: device_target: MindSpore … cannot use Ascend on this machine (…)",
    "error: training: the loss is not finite in epoch …",
}


def read_entries(page):
    """Return (heading, cause, kind of the line, line to type) of each entry of a page."""
    entries = []
    for block in re.split(r"^### ", page.read_text(), flags=re.MULTILINE)[1:]:
        heading, cause, last = block.splitlines()[:3]
        kind, line = re.fullmatch(r"- (\S+[:：]) ?`(.+)`", last).groups()
        assert cause and not cause.startswith(("-", "#"))
        entries.append((heading, cause, KINDS[kind], line))
    return entries


def code_in(text):
    return re.findall(r"`([^`]+)`", text)


def quoted_errors():
    headings = [heading for heading, *_ in read_entries(ENGLISH)]
    return [code for code in code_in("\n".join(headings)) if code.startswith("error:")]


@pytest.mark.parametrize("page", [ENGLISH, CHINESE], ids=["English", "Chinese"])
def test_a_page_is_short(page):
    lines = page.read_text().splitlines()
    assert len(lines) <= 200 and max(map(len, lines)) <= 160


def test_both_languages_have_the_same_entries():
    english, chinese = read_entries(ENGLISH), read_entries(CHINESE)
    assert len(english) == len(chinese) >= 25
    for (heading, cause, *line), (heading_cn, cause_cn, *line_cn) in zip(english, chinese):
        assert line == line_cn and code_in(heading) == code_in(heading_cn)
        assert set(code_in(cause)) == set(code_in(cause_cn)), heading
    groups = [len(re.findall(r"^## ", page.read_text(), flags=re.MULTILINE)) for page in (ENGLISH, CHINESE)]
    assert groups[0] == groups[1] == 9


def test_versions_are_those_of_pyproject():
    pins = (ROOT / "pyproject.toml").read_text()
    versions = set(re.findall(r"[\w-]+==[\d.]+", ENGLISH.read_text()))
    assert len(versions) == 2 and all(f'"{version}"' in pins for version in versions)


def parse_line(command, monkeypatch):
    """Parse a command of this repository as the command itself does. Other programs are not parsed."""
    words = shlex.split(command.partition("python examples/")[2] or command)
    script = words[0].rpartition("/")[2]
    if script == "create_data.py":
        monkeypatch.setattr(sys, "argv", words)
        create_data.parse_args()
    elif script in ("train.py", "eval.py", "export.py") and "--help" not in words:
        options = importlib.import_module(script.removesuffix(".py")).OPTIONS
        parse_recipe_and_options("", options, words[1:])
    elif words[0] == "python" and words[1].startswith("tools/"):
        source = (ROOT / words[1]).read_text()
        for name in [word[2:] for word in words if word.startswith("--")]:
            is_option = f'"--{name}"' in source or f'"{name}"' in source
            assert is_option or name == "config" or name in Config.model_fields, command
    else:
        return False
    return True


def test_lines_parse(monkeypatch):
    monkeypatch.chdir(ROOT)
    lines = [line for *_, kind, line in read_entries(ENGLISH) if kind == "Type"]
    parsed = [line for line in lines if parse_line(line, monkeypatch)]
    assert all(line in parsed for line in lines if ".py coco" in line or "eval.py" in line) and len(parsed) > 10


def test_options_to_add_parse(monkeypatch):
    monkeypatch.chdir(ROOT)
    added = [shlex.split(line) for *_, kind, line in read_entries(ENGLISH) if kind == "Add"]
    assert len(added) > 10
    for words in added:
        if words[0] == "--names":
            monkeypatch.setattr(sys, "argv", ["", "yolo", "--data_path", "D", "--out_path", "O", *words])
            create_data.parse_args()
        else:
            parse_recipe_and_options("", train.OPTIONS, ["--config", RECIPE, *words])


@pytest.fixture
def configuration_errors(monkeypatch, tmp_path, load_recipe):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(f"__BASE__: {ROOT / RECIPE}\nuse_syncbn: true\n")
    monkeypatch.setenv("RANK_SIZE", "8")
    monkeypatch.delenv("MS_ROLE", raising=False)
    with monkeypatch.context() as patch:
        patch.setattr("importlib.util.find_spec", lambda name: None)
        no_package = error_of(require_packages)
    (tmp_path / "ckpt").write_text("a file where a folder is needed")
    for name, value in {"WORLD_SIZE": "2", "RANK": "0"}.items():
        monkeypatch.setenv(name, value)
    with lock_folder(tmp_path / "locked", "ckpt_save_dir"):
        in_use = error_of(lambda: lock_folder(tmp_path / "locked", "ckpt_save_dir").__enter__())
    left_in_shell = error_of(number_of_ranks, "CPU")
    monkeypatch.delenv("RANK_SIZE")
    return [
        in_use,
        left_in_shell,
        error_of(load_config, ROOT / RECIPE, {"device_target": "GPU"}),
        error_of(load_config, recipe, {}),
        error_of(number_of_ranks, "CPU"),
        error_of(require_writable, tmp_path / "ckpt", key="ckpt_save_dir"),
        no_package,
        f"error: {exhaustion_message(MemoryError())}",
    ]


@pytest.fixture
def data_errors(tmp_path, shapes_coco, shapes_records, tiny_recipe):
    def copy(name):
        folder = tmp_path / name
        for path in shapes_coco.rglob("*.*"):
            target = folder / path.relative_to(shapes_coco)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
        return folder

    def conversion_error(folder, out_path):
        train_split, val_split = read_splits(open_dataset_folder("coco", folder))
        return error_of(convert, train_split, val_split, out_path, overwrite=False, num_workers=1)

    no_val, missing, truncated, damaged = map(copy, ("no_val", "missing", "truncated", "damaged"))
    (no_val / "annotations" / "instances_val2017.json").unlink()
    image = next((missing / "train2017").iterdir())
    image.unlink()
    content = (shapes_coco / "train2017" / image.name).read_bytes()
    (truncated / "train2017" / image.name).write_bytes(content[: len(content) // 2])
    (damaged / "train2017" / image.name).write_bytes(b"no image")
    annotations = json.loads((shapes_coco / "annotations" / "instances_val2017.json").read_text())
    (tmp_path / "val.json").write_text(json.dumps(annotations))
    (tmp_path / "file").write_text("")
    (tmp_path / "film.mp4").write_bytes(b"no video")

    yolo = tmp_path / "yolo"
    for name, text in (("data.yaml", "names: [cat]"), ("labels/train/1.txt", "3 .5 .5 .2 .2")):
        (yolo / name).parent.mkdir(parents=True, exist_ok=True)
        (yolo / name).write_text(text)
    (yolo / "images" / "train").mkdir(parents=True)
    (yolo / "images" / "train" / "1.jpg").write_bytes(content)

    copy_shards(shapes_records, tmp_path / "shards", "val", image=lambda jpeg: b"no image")
    with_damage = tiny_recipe(data_dir=str(tmp_path / "shards"), num_classes=None)
    rotated = write_dataset(tmp_path / "upright", "coco", [6], "upright")
    write_dataset(tmp_path / "stored", "coco", [6], "stored")
    stored = tmp_path / "stored" / "annotations" / "instances_val.json"
    (rotated / "annotations" / "instances_val.json").write_bytes(stored.read_bytes())

    large_batch = tiny_recipe(data_dir=str(shapes_records), num_classes=None, batch_size=100)
    return [
        error_of(find_shard, tmp_path, "train"),
        error_of(CocoEvaluator, tmp_path / "val.json", ("background", "person")),
        error_of(read_splits, open_dataset_folder("coco", no_val)),
        conversion_error(missing, tmp_path / "out"),
        conversion_error(truncated, tmp_path / "out"),
        conversion_error(damaged, tmp_path / "out"),
        conversion_error(shapes_coco, tmp_path / "file" / "out"),
        error_of(read_splits, open_dataset_folder("yolo", yolo), val_fraction=0.5),
        error_of(read_splits, open_dataset_folder("coco", rotated)),
        error_of(create_dataset, large_batch, "train"),
        error_of(lambda: list(iterate_batches(create_dataset(with_damage, "val")))),
        error_of(find_inputs, [str(tmp_path / "film.mp4")], tmp_path / "out"),
    ]


@pytest.fixture
def checkpoint_errors(tmp_path, tiny_recipe, tiny_detector):
    damaged, weights = tmp_path / "last.ckpt", tmp_path / "ssd-1.ckpt"
    save_checkpoint(tiny_detector, weights)
    damaged.write_bytes(b"no checkpoint")
    other = create_detector(tiny_recipe(backbone="mobilenet_v2_050_224"))
    step = WeightedSum()
    resumed = tmp_path / "ssd-2.ckpt"
    save_checkpoint(step, resumed, {STATE_KEY: STATE.__dict__})
    other_batch = TrainingState(**{**STATE.__dict__, "images_per_step": 4})
    (tmp_path / "file").write_text("")
    memory = estimate_step_memory(tiny_recipe(batch_size=2000), tiny_detector)
    names = {"classes": {"classes": ["background", "cat"]}}
    return [
        error_of(read_checkpoint, tmp_path / "mobilenet_v2_100-d5532038.ckpt"),
        error_of(read_checkpoint, damaged),
        error_of(save_checkpoint, tiny_detector, tmp_path / "file" / "ssd-1.ckpt"),
        error_of(load_weights, other, weights),
        error_of(create_detector, tiny_recipe(image_size=[64, 80], steps=[8, 16, 24])),
        error_of(refuse_mismatch, names, {"classes": {"classes": ["background", "dog"]}}, weights),
        error_of(refuse_mismatch, {"anchors": {"min_scale": 0.1}}, {"anchors": {"min_scale": 0.2}}, weights),
        error_of(check_batch_size, tiny_recipe(batch_size=2000), memory, memory=2 * GB, max_boxes=8),
        error_of(refuse_completed, STATE, epochs=2, path=weights),
        error_of(DetectorEvaluator.require_objects, SimpleNamespace(num_objects=0, annotation_path="val.json")),
        error_of(resume_training, step, resumed, initial_state=other_batch, metadata={}),
        error_of(resume_training, step, weights, initial_state=STATE, metadata={}),
        error_of(resume_training, step, damaged, initial_state=STATE, metadata={}),
    ]


def test_a_missing_provider_is_quoted_as_printed(tmp_path, caplog):
    Detector(write_model(tmp_path / "model"), provider="cann")
    (printed,) = caplog.messages
    (quoted,) = [code for code in code_in(ENGLISH.read_text()) if code.startswith("--provider: ")]
    assert re.match(".*".join(map(re.escape, quoted.split("…"))), printed)


def test_errors_are_quoted_as_printed(configuration_errors, data_errors, checkpoint_errors, deployment_errors):
    printed = configuration_errors + data_errors + checkpoint_errors + deployment_errors
    quoted = quoted_errors()
    assert set(quoted) >= NOT_PROVOKED and len(quoted) > 25
    for error in set(quoted) - NOT_PROVOKED:
        pattern = ".*".join(map(re.escape, error.split("…")))
        assert any(re.match(pattern, line) for line in printed), error


@pytest.mark.parametrize(
    "phrase",
    [
        "training … for … classes",
        "images that EXIF data rotate or mirror",
        "images that cannot be converted",
        "mAP: undefined, …",
        "skipped for overflow at loss scale …",
        "This rank was stopped because another rank failed.",
        "--master_port: the scheduler cannot listen on port …",
        "is the log of another job, of process …",
        "launch: still waiting for … ranks or their scheduler at …",
        "RANK_TABLE_FILE: ignored the rank table …",
        "Wrote … with scores of at least …",
    ],
)
def test_other_phrases_are_in_the_sources(phrase):
    """These phrases are printed by runs, so they are only searched for in the strings of the package."""
    sources = "\n".join(path.read_text() for path in (ROOT / "examples" / "det" / "ssd" / "ssd").rglob("*.py"))
    sources = re.sub(r'"\s*\n\s*f?"', "", sources)  # join strings that continue on the next line
    pieces = [piece.strip() for piece in phrase.split("…") if piece.strip()]
    page = ENGLISH.read_text()
    assert all(piece in page and piece in sources for piece in pieces)

"""The commands and folders in docs/data.md work as written, and so do the commands for own data in docs/training.md."""

import json
import re
import shlex
from pathlib import Path

import pytest

import create_data
from own_data import make_voc, make_yolo, xml_image, xml_object
from ssd.__main__ import SCRIPTS
from test_commands import ROOT, SHORT, expect_clean, run

pytestmark = pytest.mark.slow


def read_blocks(page):
    """Return the contents of the fenced blocks of a page."""
    text = (ROOT / "examples/det/ssd/docs" / page).read_text(encoding="utf-8")
    return re.findall(r"^```(?:text)?\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def run_line(line, cwd, extra=()):
    """Run a command of a page. The command `ssd` would run the checkout in which it was installed."""
    arguments = shlex.split(line)
    if arguments[0] == "ssd":
        arguments[:2] = ["python", SCRIPTS[arguments[1]]]
        recipe = arguments.index("-c") + 1
        # A recipe whose graphs other tests have compiled; tests/training/test_recipes.py trains the shipped ones.
        arguments[recipe] = "tests/tiny.yaml"
    return run([*arguments, *extra], cwd)


BLOCKS = read_blocks("data.md")
LINES = [line for block in BLOCKS for line in block.splitlines() if line.startswith("python ")]
TRAINING = [
    line
    for block in read_blocks("training.md")
    for line in block.splitlines()
    if line.startswith("ssd ") and "coco.ckpt" not in block  # the block that downloads a checkpoint of MindCV
]
FORMATS = {"coco": "train2017", "voc": "JPEGImages", "yolo": "data.yaml"}  # a name that occurs in one folder tree
SHAPES = {"circle", "square", "triangle", "star", "ring", "cross"}


def commands_for(annotation_format):
    """Return the commands of data.md for an annotation format: all except those that convert another one."""
    return [line for line in LINES if "create_data.py" not in line or f"create_data.py {annotation_format} " in line]


def paths_in_tree(annotation_format):
    """Return the paths in the folder tree that the page draws for an annotation format, below photos."""
    root = "cocodataset" if annotation_format == "coco" else "photos"  # COCO's tree is that of COCO format too
    (block,) = [block for block in BLOCKS if block.startswith(f"{root}\n") and FORMATS[annotation_format] in block]
    paths, above = [], ["photos"]
    for line in block.splitlines()[1:]:
        marks, name = re.fullmatch(r"((?:[│ ]   )*[├└]── )(.+)", line).groups()
        depth = len(marks) // 4
        above = [*above[:depth], name]
        paths.append(Path(*above))
    return paths


@pytest.fixture
def clone(tmp_path):
    """A folder with links to the folders in the root of the repository."""
    for name in ("examples", "configs", "tests", "tools"):
        (tmp_path / name).symlink_to(ROOT / name)
    return tmp_path


def make_photos(annotation_format, shapes_coco, folder):
    if annotation_format == "coco":
        folder.symlink_to(shapes_coco)
    else:
        {"voc": make_voc, "yolo": make_yolo}[annotation_format](shapes_coco, folder)


@pytest.mark.parametrize("annotation_format", ["voc", "yolo"])
def test_photos_are_converted(annotation_format, clone, shapes_coco):
    """What follows the conversion is the same for all formats, and runs for COCO."""
    make_photos(annotation_format, shapes_coco, clone / "photos")
    for path in paths_in_tree(annotation_format):
        assert (clone / path).exists(), path
    (line,) = [line for line in commands_for(annotation_format) if "create_data.py" in line]
    assert "train: 10 images" in expect_clean(run_line(line, clone)).stdout
    info = json.loads((clone / "data/own/dataset.json").read_text())
    assert info["classes"][0] == "background" and set(info["classes"][1:]) == SHAPES
    assert (info["train"]["images"], info["val"]["images"]) == (10, 4)


def test_the_walkthrough_runs(clone, shapes_coco):
    make_photos("coco", shapes_coco, clone / "photos")
    (clone / "cocodataset").symlink_to(shapes_coco)
    for path in paths_in_tree("coco"):
        assert (clone / path).exists(), path
    scripts = []
    for line in commands_for("coco") + TRAINING:
        arguments = shlex.split(line)
        script = Path(arguments[1]).name
        scripts.append(script)
        extra = {"train": SHORT, "eval": ["--batch_size", "2"], "predict": ["--batch_size", "2"]}
        stdout = expect_clean(run_line(line, clone, extra.get(script, []))).stdout
        if script == "create_data.py":
            assert "train: 10 images" in stdout or "--val_fraction" in arguments
            assert "at IoU 0.5" in stdout or "--config" not in arguments
        if "--pretrained_detector" in arguments:
            assert "weights of ckpt/own/last.ckpt, " in stdout and "random" not in stdout
    # COCO, own images with the usual splits, with --val_fraction, and with --report_only
    conversions = ["create_data.py"] * 4
    assert scripts == [*conversions, "anchors.py", "train", "eval", "predict", "train"]
    assert (clone / "data/coco/dataset.json").is_file()
    info = json.loads((clone / "data/own/dataset.json").read_text())
    assert info["classes"][0] == "background" and set(info["classes"][1:]) == SHAPES
    assert (clone / "output/own/anchors.png").is_file()
    metrics = json.loads((clone / "output/own/metrics.json").read_text())
    assert metrics["images"] == 4 and 0 <= metrics["mAP"] <= 1
    assert len(list((clone / "output/own/predictions").rglob("*.jpg"))) == 14
    assert json.loads((clone / "data/share/dataset.json").read_text())["val"]["images"] == 2  # with --val_fraction


def test_report_only_writes_nothing_and_does_not_load_mindspore(clone, shapes_coco):
    arguments = shlex.split(next(line for line in LINES if "--report_only" in line))[1:]
    (clone / "photos").symlink_to(shapes_coco)
    code = f"import runpy, sys; sys.argv = {arguments}; runpy.run_path(sys.argv[0], run_name='__main__'); "
    code += "print('mindspore' in sys.modules)"
    result = expect_clean(run(["python", "-c", code], clone, PYTHONPATH="examples/det/ssd"))
    assert "train: 10 images" in result.stdout and result.stdout.endswith("\nFalse\n")
    assert not (clone / "data").exists()


def test_mistakes_end_in_one_line(clone, shapes_coco, monkeypatch, capsys):
    (clone / "photos").symlink_to(shapes_coco)
    monkeypatch.chdir(clone)
    for annotation_format, options, part in (
        ("voc", [], "Annotations"),
        ("yolo", [], "--names FILE"),
        ("coco", ["--val_fraction", "2"], "--val_fraction: got 2"),
        ("coco", ["--names", "a.txt"], "--names: a.txt"),
        ("coco", ["--config", "absent.yaml"], "absent.yaml"),
    ):
        arguments = [annotation_format, "--data_path", "photos", "--out_path", "data/own", *options]
        monkeypatch.setattr("sys.argv", ["create_data.py", *arguments])
        with pytest.raises(SystemExit) as end:
            create_data.main()
        error = capsys.readouterr().err
        assert end.value.code == 2 and part in error, error
        assert error.startswith("error: ") and error.count("\n") == 1
    assert not (clone / "data").exists()


def test_evaluation_ignores_difficult_objects(tmp_path):
    """In both metrics, a detection of a difficult object is neither correct nor false, and missing it costs nothing."""
    import cv2
    import numpy as np

    from ssd.boxes.multiclass_nms import Detections
    from ssd.data.mindrecord import convert
    from ssd.data.readers.splits import read_splits
    from ssd.data.readers.voc import VocFolder
    from ssd.evaluation.coco_metrics import CocoEvaluator
    from ssd.evaluation.voc_metrics import compute_voc_metrics

    for part in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (tmp_path / "voc" / part).mkdir(parents=True)
    cv2.imwrite(str(tmp_path / "voc/JPEGImages/a.jpg"), np.zeros((100, 200, 3), np.uint8))
    flag = "<difficult>1</difficult>"
    objects = [xml_object("dog", (1, 1, 50, 50)), xml_object("dog", (101, 1, 200, 100), flag)]
    (tmp_path / "voc/Annotations/a.xml").write_text(xml_image("a.jpg", 100, 200, objects=objects))
    for split in ("train", "val"):
        (tmp_path / f"voc/ImageSets/Main/{split}.txt").write_text("a\n")
    train, val = read_splits(VocFolder(tmp_path / "voc"))
    info = convert(train, val, tmp_path / "out", overwrite=False, num_workers=1)
    assert (info.val.boxes, info.val.crowd_boxes) == (1, 1)

    easy, difficult, false = [0, 0, 50, 50], [0, 100, 100, 200], [60, 0, 90, 30]
    for boxes, expected in (([easy], 1.0), ([difficult, easy], 1.0), ([false, easy], 0.5)):
        evaluator = CocoEvaluator(tmp_path / "out" / info.annotations, info.classes)
        scores = np.linspace(0.9, 0.5, len(boxes), dtype=np.float32)
        labels = np.ones(len(boxes), np.int32)
        evaluator.add(val.images[0].image_id, Detections(np.array(boxes, np.float32), scores, labels))
        assert evaluator.summarize().metrics["AP"] == pytest.approx(expected)
        voc = compute_voc_metrics(evaluator.ground_truth, evaluator.results, {"dog": 1})
        assert voc.AP == pytest.approx(expected)

"""report.html: its content, that it is self-contained, and edge cases such as empty evaluations."""

import base64
import dataclasses
import io
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rotated_images import write_shards
from ssd.config.loading import CONFIGS
from ssd.data.dataset import create_dataset
from ssd.evaluation.evaluator import DetectorEvaluator
from ssd.evaluation.report.page import write_html_report
from ssd.evaluation.results import write_results
from ssd.evaluation.voc_metrics import VocMetrics
from ssd.models.detector import create_detector

CAT, DOG, BIRD = 1, 2, 3
CLASSES = ("background", "cat", "dog", "bird")
BOX, FAR = (10, 10, 40, 40), (60, 60, 30, 30)
OBJECTS = [(11, CAT, BOX), (11, DOG, FAR), (12, CAT, BOX), (13, BIRD, BOX)]
DETECTIONS = [(11, CAT, 0.9, BOX), (11, DOG, 0.8, FAR), (12, DOG, 0.7, BOX), (13, BIRD, 0.95, FAR)]


class Page(HTMLParser):
    """The parsed page. text: without markup, spaces joined; images: attributes of each; addresses: all src and href"""

    VOID = {"meta", "link", "img", "br"}

    def __init__(self, html):
        super().__init__()
        self.text_parts, self.images, self.addresses, self.open_tags = [], [], [], []
        self.feed(html)
        self.close()
        assert not self.open_tags, "every tag is closed"
        self.text = re.sub(r"\s+", " ", " ".join(self.text_parts))

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        if tag not in self.VOID:
            self.open_tags.append(tag)
        if tag == "img":
            self.images.append(attrs)
        self.addresses += [attrs[name] for name in ("src", "href") if name in attrs]
        assert tag not in ("script", "iframe", "object")

    def handle_endtag(self, tag):
        assert self.open_tags.pop() == tag

    def handle_data(self, data):
        if self.open_tags[-1:] != ["style"]:
            self.text_parts.append(data)

    def pictures(self):
        """Return the example images as arrays."""
        return [
            np.asarray(Image.open(io.BytesIO(base64.b64decode(image["src"].partition(",")[2]))))
            for image in self.images
            if image["src"].startswith("data:image/jpeg;base64,")
        ]


@pytest.fixture
def report(tiny_recipe, shapes_records, tmp_path):
    """report(result) writes the report and parses it."""

    def write(result, **overrides):
        cfg = tiny_recipe(**{"data_dir": str(shapes_records), "num_classes": None, **overrides})
        path = tmp_path / "report.html"
        write_html_report(path, cfg, result=result, checkpoint=Path("somewhere/ssd-7.ckpt"))
        assert path.stat().st_size < 8e6
        page = Page(path.read_text(encoding="utf-8"))
        assert all(address.startswith(("data:", "#")) for address in page.addresses)
        assert all(image["alt"] and image["src"].startswith("data:image/") for image in page.images)
        assert not re.search(r"\bnan\b|\binf\b|None|Undefined|-1\.000", page.text)
        return page

    return write


def test_content(report, evaluate_rows):
    page = report(evaluate_rows(OBJECTS, DETECTIONS))
    # Cat: one of two objects, 51/101. Dog: no false positive has a higher score. Bird: missed.
    assert "Evaluation of ssd-7.ckpt" in page.text and "somewhere/ssd-7.ckpt" in page.text
    assert f"AP50 AP at IoU 0.50 {(51 / 101 + 1 + 0) / 3:.3f}" in page.text
    assert "4 images 4 annotated objects" in page.text
    assert "data 40, network 4.0, postprocessing 40 images/s, CPU" in page.text
    assert re.search(r"cat 2 1 0\.505 0\.505 0\.505 0\.500 – 0\.505 –", page.text)
    assert "bird 0.95: " in page.text and re.search(r"dog 0\.70: [^:]* cat \(IoU 1\.00\)", page.text)
    assert re.search(r" class [A-Z][^0-9]* \+0\.165 0\.667 1 1 both", page.text)
    matrix = "cat dog bird (missed) cat 1 1 0 0 dog 0 1 0 0 bird 0 0 0 1 (background) 0 0 1"
    assert f"annotated ↓ detected → {matrix}" in page.text
    assert len(page.images) == 4 + 3 + 4  # charts, a curve per class, pictures
    assert [picture.shape for picture in page.pictures()] == [(480, 480, 3)] * 4


def test_a_picture_shows_its_image(report, evaluate_rows, shapes_coco):
    page = report(evaluate_rows([], [], image_ids=[12]))
    (picture,) = page.pictures()
    (path,) = (shapes_coco / "val2017").glob("*12.*")
    expected = np.asarray(Image.open(path).convert("RGB").resize((480, 480), Image.BICUBIC), np.float64)
    assert np.abs(picture - expected).mean() < 3


@pytest.mark.parametrize("is_old, shape", [(False, (320, 480, 3)), (True, (480, 320, 3))])
def test_pictures_are_upright_unless_the_shards_are_old(is_old, shape, report, evaluate_rows, tmp_path):
    folder = write_shards(tmp_path, [6], is_old)
    page = report(evaluate_rows([], [], image_ids=[101]), data_dir=str(folder))
    (picture,) = page.pictures()
    assert picture.shape == shape


def test_write_results_writes_the_report(tiny_recipe, shapes_records, evaluate_rows, tmp_path):
    folder = tmp_path / "new" / "output"
    cfg = tiny_recipe(data_dir=str(shapes_records), num_classes=None, output_dir=str(folder))
    write_results(cfg, evaluate_rows(OBJECTS, DETECTIONS), Path("ssd-7.ckpt"))
    assert "Evaluation of ssd-7.ckpt" in Page((folder / "report.html").read_text(encoding="utf-8")).text


@pytest.mark.parametrize(
    "objects, detections, expected",
    [
        ([], [], "There are no annotated objects"),
        (OBJECTS, [], "There are no true positives"),
        ([], DETECTIONS, "bird 0.95: "),
        ([(11, CAT, BOX, True)], DETECTIONS, "There are no annotated objects"),  # a crowd region only
        (OBJECTS[:1], DETECTIONS, "dog 0 2 – – – – – – –"),  # classes without objects
        (OBJECTS, [(11, CAT, 0.01, BOX)], "F1 0.00: 0 of 2 objects"),  # all scores are below display_score
    ],
)
def test_empty_cases(objects, detections, expected, report, evaluate_rows):
    assert expected in report(evaluate_rows(objects, detections)).text


def test_one_class_in_one_image(report, evaluate_rows):
    result = evaluate_rows([(11, CAT, BOX)], [(11, CAT, 0.9, BOX)], classes=("background", "cat"), image_ids=[11])
    page = report(result)
    assert "1 class " in page.text and "1 image 1 annotated object " in page.text
    assert "F1 1.00: 1 of 1 object detected, 0 false positives" in page.text
    assert len(page.pictures()) == 1


def test_eighty_classes_have_a_heat_map_and_the_most_frequent_confusions(report, evaluate_rows, random_rows):
    classes = ("background", *(f"kind {number}" for number in range(1, 81)))
    objects, detections = random_rows(1, num_classes=80)
    detections += [(12, 80, 0.99, BOX)] + [(14, 80, 0.9, BOX)] * 2
    objects += [(12, 79, BOX), (14, 79, BOX)]
    page = report(evaluate_rows(objects, detections, classes=classes))
    assert any("confusion matrix of 80 classes" in image["alt"] for image in page.images)
    assert re.search(r"Most frequent confusions [^0-9]* kind 79 kind 80 2 ", page.text)
    with_objects = {label for _, label, _, *iscrowd in objects if not any(iscrowd)}
    assert sum(image["alt"].startswith("Precision over recall of kind") for image in page.images) == len(with_objects)


@pytest.mark.filterwarnings("error:Glyph")
def test_class_names_may_hold_anything(report, evaluate_rows, capfd):
    names = ("<script>alert(1)</script>", "$x_{1$ & \"quoted\" 'name'", "公共汽车" * 12)
    for classes in (("background", *names), ("background", *names, "\x1b[2J\0\ufffe", *map(str, range(30)))):
        result = evaluate_rows(OBJECTS, DETECTIONS, classes=classes)
        result.evaluator.ground_truth.imgs[11]["file_name"] = "</div><script>\ud800"
        page = report(result)  # with a table, then with a heat map
        assert "image 11, </div><script>" in page.text
        assert all(name in page.text for name in names)
        assert any(names[0] in image["alt"] for image in page.images)
        for image in page.images:
            if image["src"].startswith("data:image/svg+xml;base64,"):
                svg = base64.b64decode(image["src"].partition(",")[2])
                assert b"<script" not in svg and ElementTree.fromstring(svg) is not None
    assert capfd.readouterr().err == ""  # no warning about missing glyphs or formulas


def test_pascal_voc_metrics_and_soft_nms(report, evaluate_rows):
    result = evaluate_rows(OBJECTS, DETECTIONS)
    page = report(result)
    assert "VOC" not in page.text and "exp(" not in page.text
    voc_result = dataclasses.replace(result, voc_metrics=VocMetrics(per_class={}, AP=0.625, AP11=0.375))
    page = report(voc_result, nms="soft", soft_nms_sigma=0.25)
    assert "0.625 Pascal VOC's AP" in page.text and "0.375 Pascal VOC's AP" in page.text
    assert "exp(-IoU² / 0.25)" in page.text


def test_images_missing_from_the_shards_are_not_shown(report, evaluate_rows):
    result = evaluate_rows([(11, CAT, BOX), (99, CAT, BOX)], [(11, CAT, 0.9, BOX)], image_ids=(11, 99))
    result.image_ids.remove(99)
    page = report(result)
    assert "1 evaluated, of 2 annotated" in page.text and len(page.pictures()) == 1


def test_a_detector_of_random_weights(report, tiny_recipe, shapes_records):
    cfg = tiny_recipe(data_dir=str(shapes_records), num_classes=None, batch_size=3, min_score=0.0)
    result = DetectorEvaluator(cfg, create_detector(cfg), create_dataset(cfg, "val"))()
    assert len(result.evaluator.results) == 4 * cfg.max_detections
    assert len(report(result, display_score=0.0).pictures()) == 4
    page = report(result, display_score=1.0)  # no detection is displayed
    assert len(page.pictures()) == 2 and "Most confident errors There are none." in page.text


def test_a_report_is_reproducible(report, evaluate_rows, tmp_path):
    report(evaluate_rows(OBJECTS, DETECTIONS))
    first = (tmp_path / "report.html").read_bytes()
    report(evaluate_rows(OBJECTS, DETECTIONS))
    assert (tmp_path / "report.html").read_bytes() == first


def test_the_evaluation_starts_without_matplotlib_and_jinja():
    code = "import ssd, sys; from ssd.evaluation import evaluator, results; "
    code += "print({'matplotlib', 'jinja2'} & set(sys.modules))"
    folder = CONFIGS.parent / "examples" / "det" / "ssd"
    run = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, timeout=120)
    assert run.stdout.strip() == "set()", run.stdout + run.stderr

"""Pictures of the documentation: curves, the screen of a terminal, and strips of detections."""

import re
import sys
import xml.etree.ElementTree as ET
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from docs_pictures import strip
from docs_pictures.curves import draw_curves
from docs_pictures.screenshot import take_screenshot
from docs_pictures.terminal import COLUMNS, draw_terminal, record_command
from ssd.errors import UserError
from ssd.inference.drawing import class_color

METRICS = """epoch,step,loss,box_loss,class_loss,mAP,AP50
1,5,4.5,2,2.5,,
1,10,2.5,1,1.5,,
1,10,,,,0.1,0.25
2,20,1.5,0.5,1,,
2,20,,,,0.2,0.5
"""


def texts(svg_path):
    """Return the text of each text element of an SVG file, with normal spaces."""
    return ["".join(e.itertext()).replace("\xa0", " ") for e in ET.parse(svg_path).iter() if e.tag.endswith("}text")]


def test_curves_show_losses_and_scores_over_epochs(tmp_path):
    (tmp_path / "metrics.csv").write_text(METRICS)
    draw_curves(tmp_path / "a.svg", tmp_path / "metrics.csv", title="cells")
    draw_curves(tmp_path / "b.svg", tmp_path / "metrics.csv", title="cells")
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
    shown = texts(tmp_path / "a.svg")
    assert shown.count("epoch") == 2 and {"total", "box", "class"} <= set(shown)
    assert any("cells" in text for text in shown)


@pytest.mark.parametrize("content", [None, "\n".join(METRICS.splitlines()[:3])])
def test_curves_need_an_evaluation(content, tmp_path):
    path = tmp_path / "metrics.csv"
    if content:
        path.write_text(content)
    with pytest.raises(UserError, match="metrics.csv.*--eval_while_train"):
        draw_curves(tmp_path / "a.svg", path, title="cells")
    assert not (tmp_path / "a.svg").exists()


PROGRAM = """
import shutil, sys, time
print("started", shutil.get_terminal_size().columns, sys.stdout.isatty())
for k in range(1, 4):
    print(f"\\r step {k}", end="", flush=True)
while True:
    time.sleep(0.1)
"""


def test_the_screen_of_a_command_is_recorded_until_a_line_matches():
    lines = record_command([sys.executable, "-c", PROGRAM], until=r"step 3", timeout_s=30)
    assert lines == [f"started {COLUMNS} True", " step 3"]  # the bar is overwritten, as on a terminal


def test_a_command_that_does_not_end_after_ctrl_c_is_killed():
    program = "import signal, time; signal.signal(signal.SIGINT, signal.SIG_IGN); print('ready', flush=True)"
    lines = record_command([sys.executable, "-c", f"{program}; time.sleep(60)"], until="ready", timeout_s=1)
    assert lines == ["ready"]


def test_a_command_that_ends_too_early_is_reported():
    with pytest.raises(UserError, match="never"):
        record_command([sys.executable, "-c", "print(1)"], until="never", timeout_s=30)


def test_a_drawn_terminal_has_the_command_and_the_screen_and_loads_nothing(tmp_path):
    path = tmp_path / "terminal.svg"
    draw_terminal(path, "python train.py", ["epoch 1/2 mAP 0.1250", " 50%|#####     | epoch 2/2", "x" * (COLUMNS + 9)])
    shown = "\n".join(texts(path))
    assert "python train.py" in re.sub(r"\s+", " ", shown) and "mAP 0.1250" in shown
    assert "x" * COLUMNS in shown and "x" * (COLUMNS + 1) not in shown
    assert "url(http" not in path.read_text() and "@font-face" not in path.read_text()


def test_tiles_have_one_height_and_show_detections_above_the_display_score(tmp_path, monkeypatch):
    class Predictor:
        def __init__(self, config, checkpoint, **overrides):
            self.cfg, self.classes = SimpleNamespace(display_score=0.5), ("background", "cat", "dog")

        def __call__(self, image):
            boxes = np.array([[150, 300, 450, 600], [0, 0, 60, 60]], np.float32)
            return SimpleNamespace(boxes_yxyx=boxes, scores=np.array([0.9, 0.4]), labels=np.array([1, 2]))

    monkeypatch.setattr(strip, "Predictor", Predictor)
    Image.new("RGB", (800, 600), (128, 128, 128)).save(tmp_path / "a.png")
    (tile,) = strip.draw_tiles("recipe", [tmp_path / "a.png"])
    assert tile.shape == (300, 400, 3)
    assert (tile[100, 149:151] == class_color(1)).all()  # left side of the box, at half its position
    assert not (tile == class_color(2)).all(axis=2).any()
    joined = np.asarray(strip.join_tiles([tile, tile]))
    assert joined.shape == (300, 806, 3) and (joined[:, 400:406] == 255).all()


def test_a_screenshot_needs_the_page(tmp_path):
    with pytest.raises(UserError, match="report.html"):
        take_screenshot(tmp_path / "report.html", tmp_path / "a.png", anchor="summary", width=100, height=100)

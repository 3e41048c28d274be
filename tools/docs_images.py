"""Make the pictures of the documentation:

    python tools/docs_images.py [--output examples/det/ssd/docs/images]

`make docs-images` runs the commands whose results this tool draws: `make demo`, and a training on the BCCD blood cells.

- detections.jpg: detections on drawn shapes and on photographs of blood cells
- report.png: charts of report.html for the blood cells, 1280 pixels wide
- curves.svg: loss and average precision while training on the blood cells
- anchors.png: default boxes before and after tools/anchors.py fitted them to the blood cells
- terminal.svg: the terminal while train.py trains the detector of the demo
"""

from __future__ import annotations

if __name__ == "__main__":
    from ssd.startup import prepare_process

    prepare_process()  # before slow imports, so that Ctrl-C ends these cleanly

import argparse
import shlex
import shutil
import sys
import tempfile
from pathlib import Path

from docs_pictures.curves import draw_curves
from docs_pictures.screenshot import take_screenshot
from docs_pictures.strip import draw_tiles, join_tiles
from docs_pictures.terminal import draw_terminal, record_command
from ssd.errors import UserError, exit_cleanly
from ssd.runtime.heartbeat import report_silence

RECIPES = "examples/det/ssd"
SHAPES = {"data_dir": "data/shapes/records", "ckpt_save_dir": "ckpt/shapes"}
CELLS = {"data_dir": "data/bccd", "ckpt_save_dir": "ckpt/bccd", "display_score": 0.5}
SHAPE_IMAGES = [Path("data/shapes/coco/val2017", name) for name in ("000000000810.jpg", "000000000811.jpg")]
CELL_IMAGES = ("BloodImage_00062.jpg", "BloodImage_00065.jpg")  # validation images


@exit_cleanly
@report_silence
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bccd", default="BCCD_Dataset/BCCD", help="folder of BCCD in Pascal VOC's layout")
    parser.add_argument("--output", default=f"{RECIPES}/docs/images", help="folder for the pictures")
    options = parser.parse_args()
    output = Path(options.output)
    output.mkdir(parents=True, exist_ok=True)

    cells = [Path(options.bccd, "JPEGImages", name) for name in CELL_IMAGES]
    for path in (*SHAPE_IMAGES, *cells):
        if not path.is_file():
            raise UserError(f"{path}: not found. Run make docs-images, which creates the input of this tool.")
    tiles = draw_tiles(f"{RECIPES}/ssd_shapes.yaml", SHAPE_IMAGES, **SHAPES)
    tiles += draw_tiles(f"{RECIPES}/ssd_mobilenetv2_plus.yaml", cells, **CELLS)
    join_tiles(tiles).save(output / "detections.jpg", quality=88, optimize=True)
    report = Path("output/bccd/report.html")
    take_screenshot(report, output / "report.png", anchor="curves", width=1280, height=625)
    draw_curves(output / "curves.svg", Path("ckpt/bccd/metrics.csv"), title="BCCD blood cells")
    shutil.copyfile("output/bccd/anchors.png", output / "anchors.png")
    with tempfile.TemporaryDirectory() as folder:
        command = f"python {RECIPES}/train.py --config {RECIPES}/ssd_shapes.yaml --eval_while_train true"
        arguments = [sys.executable, *shlex.split(command)[1:], "--ckpt_save_dir", folder]
        lines = record_command(arguments, until=r"epoch 2/3 step 5\d/100", timeout_s=300)
    draw_terminal(output / "terminal.svg", command, lines)
    for path in sorted(output.iterdir()):
        print(f"{path}: {path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()

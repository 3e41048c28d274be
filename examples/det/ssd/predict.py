"""Detect objects in images, a video or what a camera sees, and draw them:

    python examples/det/ssd/predict.py --config RECIPE --ckpt_path FILE --input photo.jpg [--output FOLDER]

where RECIPE is examples/det/ssd/ssd_mobilenetv2.yaml or another of that folder. Class names are those of dataset.json
in data_dir if it is there, else of `classes`; without either COCO's 80.

--output gets a drawn copy of each image, under its path below the folder that all images have in common (JPEGs as
JPEG, others as PNG), or NAME.mp4 of a video (its rate and size, but an odd side is one pixel less), and
detections.json: a list in COCO's results format with
    image_id         1, 2, … in the order of the files' paths, or of the frames
    category_id      as in the annotations that data_dir was made of, if it has a dataset.json; else the class index
    bbox, score      x, y, width, height in pixels of the upright image; 0..1
    file_name        below the folder that all images have in common; of a video its own
    frame            of a video only: 0, 1, … in the drawn one, so that frame / rate is its time; a camera's frames last
                     in it until the next is predicted
    category_name    the class
Detections of a score below --display_score are left out of both.

A file that is no image is told and passed over, and the exit code is 1 in the end. Ctrl-C ends a camera.
"""

import sys
from pathlib import Path

from ssd.config.command_line import parse_recipe_and_options
from ssd.errors import exit_cleanly

OPTIONS = {
    "input": {
        "required": True,
        "nargs": "+",
        "help": "images, folders (searched to their depths) and patterns like 'photos/*.jpg'; or one video file; or "
        "the number of a camera, 0 for the first",
    },
    "output": {"help": "folder for drawn images and detections.json [predictions in output_dir]"},
}


@exit_cleanly
def main() -> None:
    cfg, options = parse_recipe_and_options(__doc__, OPTIONS)
    output = Path(options.output or Path(cfg.output_dir) / "predictions")
    from ssd.inference.sources import open_source

    source = open_source(options.input, output)  # before MindSpore loads, so that a mistake is told at once

    from ssd.inference.prediction import predict

    failed = predict(cfg, source, output)
    if failed:
        print(f"{failed} of {len(source)} files could not be read", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()

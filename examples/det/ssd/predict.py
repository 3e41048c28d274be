"""Detect objects in images, a video or the stream of a camera, and draw them:

    python examples/det/ssd/predict.py --config RECIPE --ckpt_path FILE --input photo.jpg [--output FOLDER]

RECIPE is examples/det/ssd/ssd_mobilenetv2.yaml or another recipe in that folder. Class names come from dataset.json in
data_dir, else from the recipe key `classes`, else they are COCO's 80.

--output receives
  - a drawn copy of each image, at its path relative to the common folder of all images (JPEGs as JPEG, others as PNG);
    or NAME.mp4, the drawn video, with the same rate and size, except that an odd side loses one pixel
  - detections.json, a list in COCO's results format with these entries for each detection:
    image_id         1, 2, … in the order of the paths or frames
    category_id      id in the annotations that data_dir was created from; the class index if it has no dataset.json
    bbox, score      x, y, width, height in pixels of the upright image; 0..1
    file_name        path relative to the common folder of all images; for a video, its file name
    frame            videos only: number of the frame in the drawn video from 0, so that frame / rate is its time. The
                     last frame of a camera is repeated until the next one is predicted.
    category_name    class name
Both leave out detections with scores below --display_score.

Files that cannot be read are reported and skipped; the exit code is then 1. Ctrl-C stops a camera.
"""

import sys
from pathlib import Path

from ssd.config.command_line import parse_recipe_and_options
from ssd.errors import exit_cleanly

OPTIONS: dict[str, dict] = {
    "input": {
        "required": True,
        "nargs": "+",
        "help": "images, folders (searched recursively) and patterns such as 'photos/*.jpg'; or one video file; or "
        "the number of a camera, 0 for the first one",
    },
    "output": {"help": "folder for drawn images and detections.json [predictions in output_dir]"},
}


@exit_cleanly
def main() -> None:
    cfg, options = parse_recipe_and_options(__doc__, OPTIONS)
    output = Path(options.output or Path(cfg.output_dir) / "predictions")
    from ssd.inference.sources import open_inputs

    source = open_inputs(options.input, output)  # before MindSpore loads, so that errors appear at once

    from ssd.inference.prediction import predict

    num_unreadable = predict(cfg, source, output)
    if num_unreadable:
        print(f"{num_unreadable} of {len(source)} files could not be read.", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()

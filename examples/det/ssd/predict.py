"""Detect objects in images, a video or a camera stream, and draw the detections:

    python examples/det/ssd/predict.py --config RECIPE --ckpt_path FILE --input photo.jpg [--output FOLDER]

RECIPE is examples/det/ssd/ssd_mobilenetv2.yaml or another recipe in that folder. Class names come from dataset.json in
data_dir. If data_dir has no dataset.json, class names come from the recipe key `classes`. If the recipe has no class
names either, the 80 classes of COCO are used.

Two kinds of files are written to --output:
  - Annotated copies: images or a video with the drawn detections. An image keeps its path relative to the common folder
    of all images. JPEG files are written as JPEG, all other formats as PNG. A video is written as NAME.mp4 with the
    same frame rate and size, except that odd widths and heights are reduced by one pixel.
  - detections.json, a list in COCO's results format. Each detection has these keys:
    image_id         number of the image or processed frame, from 1, in the order of the paths or frames
    category_id      category id from dataset.json in data_dir; the class index if data_dir has no dataset.json
    bbox             [x, y, width, height] in pixels of the upright image
    score            confidence, 0..1
    file_name        for an image, the path relative to the common folder of all images; for a video, the file name
    frame            only for videos: number of the frame in the annotated video, from 0. frame / frame rate is the time
                     in seconds. The annotated video of a camera repeats each frame until the next frame is processed.
    category_name    class name
Detections with scores below --display_score are neither drawn nor written.

Files that cannot be read are reported and skipped; the exit code is then 1. Press Ctrl-C to stop a camera.
"""

import sys
from pathlib import Path

from ssd.errors import exit_cleanly
from ssd.runtime.folder_lock import lock_folder

OPTIONS: dict[str, dict] = {
    "input": {
        "required": True,
        "nargs": "+",
        "help": "one or more images, folders (searched recursively) or patterns such as 'photos/*.jpg'; or one video "
        "file; or the number of a camera, 0 for the first camera",
    },
    "output": {"help": "folder for the annotated images or video, and for detections.json [output_dir/predictions]"},
}


@exit_cleanly
def main() -> None:
    from ssd.config.command_line import parse_recipe_and_options
    from ssd.runtime.launch import leave_launch

    leave_launch()
    cfg, options = parse_recipe_and_options(__doc__, OPTIONS)
    output = Path(options.output or Path(cfg.output_dir) / "predictions")

    from ssd.inference.sources import open_inputs

    source = open_inputs(options.input, output)  # before the slow import of MindSpore, to report errors at once

    from ssd.inference.prediction import predict

    with lock_folder(output, "--output"):
        num_unreadable = predict(cfg, source, output)
    if num_unreadable:
        print(f"{num_unreadable} of {len(source)} files could not be read.", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()

"""Detect objects in images, videos, a camera or a network stream, and draw the detections:

    python examples/det/ssd/predict.py --config RECIPE --ckpt_path FILE --input photo.jpg [--output FOLDER]
    python examples/det/ssd/predict.py --model EXPORTED --input photo.jpg [--output FOLDER]

RECIPE is examples/det/ssd/ssd_mobilenetv2.yaml or another recipe in that folder. FILE is a checkpoint, or a folder, of
which best.ckpt or else the newest checkpoint is used. Class names come from the checkpoint, so no data are needed. If
the checkpoint has no class names, they come from dataset.json in data_dir, from the recipe key `classes`, or from COCO.
EXPORTED is a folder that export.py wrote. It needs no recipe, and an ONNX model needs no MindSpore.

Files written to --output:
  - Annotated copies: images and videos with the drawn detections. A copy keeps the path of the file relative to the
    common folder of all inputs. JPEG files are written as JPEG, all other images as PNG. A video is written as
    NAME.mp4 with the same size, except that odd widths and heights are reduced by one pixel. It shows each frame at its
    time, so frames of videos with a variable rate are repeated. The sound is not kept.
  - detections.json for all images, and NAME.json for each video: lists in COCO's results format. Each detection has
    these keys:
    image_id         number of the image or processed frame, from 1, in the order of the paths or frames
    category_id      category id of the training data; the class index if neither the checkpoint nor data_dir has ids
    bbox             [x, y, width, height] in pixels of the upright image
    score            confidence, 0..1
    file_name        path relative to the common folder of all inputs
    frame            only for videos: number of the frame in the annotated video, from 0
    time             only for videos: time of the frame in seconds, from the timestamps in the video file
    category_name    class name
    track_id         only with --track: number of the object in its video, from 1; null for a detection of no track
  - With --save_txt: labels/NAME.txt for each image and labels/NAME/FRAME.txt for each frame of a video. This is YOLO's
    format with the score as a sixth column: class index from 0 (without the background), center x, center y, width and
    height as fractions of the image size, score. Images without detections have an empty file.
  - With --save_crops: the image of each detection, crops/CLASS/NAME-NUMBER.jpg (or .png), where NUMBER counts the
    detections of the image. Crops of videos are crops/CLASS/NAME/FRAME-NUMBER.jpg.
If --output already has a folder labels or crops of yours, labels-2 or crops-2 is used.
Detections with scores below --display_score are neither drawn nor written. Results of an earlier run in --output are
moved to its subfolder earlier-1, earlier-2, ... when the first new result is complete.

Files that cannot be read, and videos of which frames are missing, are reported, and the other files are processed. The
exit code is then 1, also if the connection to a camera or a stream is lost. Press Ctrl-C to stop a camera or a stream.
"""

if __name__ == "__main__":
    from ssd.startup import prepare_process

    prepare_process()  # before slow imports, so that Ctrl-C ends these cleanly

import functools
import gc
import sys
from pathlib import Path

from ssd.errors import UserError, exit_cleanly
from ssd.runtime.folder_lock import lock_folder
from ssd.runtime.heartbeat import report_silence

OPTIONS: dict[str, dict] = {
    "input": {
        "required": True,
        "nargs": "+",
        "help": "one or more images, videos, folders (searched recursively), patterns such as 'photos/*.jpg', or http "
        "addresses of images and videos; or the number of a camera, 0 for the first camera; or the address of a stream "
        "(rtsp://, http:// and others)",
    },
    "model": {
        "metavar": "FOLDER",
        "help": "folder of an exported model, instead of a recipe and a checkpoint",
    },
    "provider": {
        "choices": ["cpu", "cuda", "cann"],
        "help": "with --model: device of an ONNX model [cpu]",
    },
    "output": {
        "help": "folder for the annotated images and videos, and for the lists of detections [output_dir/predictions]"
    },
    "classes": {
        "nargs": "+",
        "action": "extend",
        "metavar": "CLASS",
        "help": "names or category ids of the classes to keep; all other detections are dropped [all classes]. A "
        "list in brackets, '[background,cat,dog]', is instead the recipe key classes: names for a checkpoint without "
        "names",
    },
    "agnostic_nms": {
        "action": "store_true",
        "help": "apply NMS across classes, so that an object gets only one class",
    },
    "track": {
        "action": "store_true",
        "help": "follow objects from frame to frame with ByteTrack, and write their ids; for videos, cameras and "
        "streams; needs the extra track",
    },
    "vid_stride": {
        "type": int,
        "default": 1,
        "metavar": "N",
        "help": "process every Nth frame of videos, cameras and streams; the annotated video keeps its speed [1]",
    },
    "save_txt": {"action": "store_true", "help": "write label files in YOLO's format, with scores"},
    "save_crops": {"action": "store_true", "help": "write the image of each detection, in a folder for each class"},
    "no_labels": {"action": "store_true", "help": "draw boxes without class names, ids and scores"},
    "line_width": {
        "type": int,
        "metavar": "PIXELS",
        "help": "width of the lines of boxes [chosen by the size of the image]",
    },
}


@exit_cleanly(prints_results=False)
@report_silence
def main() -> None:
    gc.disable()  # garbage collection would take 0.3 s while modules are imported
    from ssd.config.command_line import parse_recipe_and_options
    from ssd.runtime.launch import leave_launch

    leave_launch()
    is_model = any(argument.partition("=")[0] == "--model" for argument in sys.argv[1:])
    if is_model:
        from ssd.config.command_line import parse_options
        from ssd.deployment.model_prediction import ModelSettings

        settings, options = parse_options(__doc__, OPTIONS, ModelSettings)
        output_dir = settings.output_dir
    else:
        cfg, options = parse_recipe_and_options(__doc__, OPTIONS)
        output_dir = cfg.output_dir
        if options.provider:
            raise UserError("--provider: it applies to exported models only. Set --model to an exported model.")
    output = Path(options.output or Path(output_dir) / "predictions")

    from ssd.inference.result_options import ResultOptions
    from ssd.inference.sources import find_inputs
    from ssd.runtime.writable_folder import require_writable

    # Report errors at once, before the slow import of MindSpore.
    results = ResultOptions.from_arguments(options)
    require_writable(output, key="--output")
    inputs = find_inputs(options.input, output)
    results.check(inputs)

    if is_model:
        from ssd.deployment.model_prediction import predict_with_model

        run = functools.partial(
            predict_with_model, Path(options.model), settings=settings, provider=options.provider or "cpu"
        )
    else:
        from ssd.inference.checkpoint_prediction import predict_with_checkpoint

        run = functools.partial(predict_with_checkpoint, cfg)
    gc.enable()
    gc.freeze()  # never search the imported modules for garbage
    with lock_folder(output, "--output"):
        failures = run(inputs, output, results=results)
    if failures.num_unreadable:
        print(f"{failures.num_unreadable} of {len(inputs)} files could not be read.", file=sys.stderr)
    if any(failures):
        sys.exit(1)


if __name__ == "__main__":
    main()

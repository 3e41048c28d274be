"""Export a detector as an ONNX or MINDIR model, and prove that its outputs equal those of the checkpoint:

    python examples/det/ssd/export.py --config RECIPE --format onnx mindir [--ckpt_path FILE] [--batch_size N] [--nms]

RECIPE is examples/det/ssd/ssd_mobilenetv2.yaml or another recipe in that folder. FILE is a checkpoint or a folder, by
default ckpt_save_dir.

Each format gets a folder NAME_FORMAT in --output, for example output/ssd_mobilenetv2_onnx, with these files:
    model.onnx or model.mindir   the model in float32
    metadata.yaml                classes, input, thresholds, SHA-256 of model, checkpoint and anchors, and versions
    labels.txt                   one class name on each line, without the background
predict.py --model, eval.py --model and serve.py --model need nothing else.

Input of the model: `image`, uint8 RGB pixels (B, H, W, 3), or with --raw_input float32 RGB values (B, 3, H, W), which
are normalized with the mean and std in metadata.yaml.
Outputs: `boxes` (B, T, 4) float32, corners y0, x0, y1, x1 as fractions of the image size; `scores` (B, T) float32, in
descending order; `labels` (B, T) int32, from 1. They are the candidates before non-maximum suppression (NMS), or with
--nms the final detections, followed by entries with the score 0.

Before a folder is written, the model is loaded and run on eight validation images of data_dir, or on drawn images. If
a box or score differs from MindSpore by more than 0.0001, the command fails and writes nothing.

--format om writes an ONNX model and a script with the command of Huawei's converter atc, and runs it if atc is
installed. --format air works only on Ascend.
"""

if __name__ == "__main__":
    from ssd.startup import prepare_process

    prepare_process()  # before slow imports, so that Ctrl-C ends these cleanly

from pathlib import Path

from ssd.errors import exit_cleanly
from ssd.runtime.heartbeat import report_silence

FORMATS = ("onnx", "mindir", "air", "om")
OPTIONS: dict[str, dict] = {
    "format": {"nargs": "+", "required": True, "choices": FORMATS, "help": "one or more formats of the model"},
    "output": {"default": "output", "help": "folder that contains the folders of the models [output]"},
    "batch_size": {
        "type": int,
        "metavar": "N",
        "help": "fixed number of images of a batch [any number in ONNX models, 1 in all others]",
    },
    "nms": {"action": "store_true", "help": "add non-maximum suppression to ONNX models"},
    "raw_input": {
        "action": "store_true",
        "help": "float32 input (B, 3, H, W), normalized by the caller, instead of uint8 pixels (B, H, W, 3)",
    },
    "soc": {
        "metavar": "NAME",
        "help": "with --format om: Ascend chip, for example 310P3, 310B4 or 910B; see `npu-smi info`",
    },
    "quantize": {
        "choices": ["int8", "float16"],
        "help": "also write a smaller ONNX model, and print its mAP and speed beside those of float32",
    },
}


@exit_cleanly
@report_silence
def main() -> None:
    from ssd.config.command_line import parse_recipe_and_options
    from ssd.runtime.launch import leave_launch
    from ssd.runtime.writable_folder import require_writable

    leave_launch()
    cfg, arguments = parse_recipe_and_options(__doc__, OPTIONS)
    output = Path(arguments.output)
    require_writable(output, key="--output")

    from ssd.deployment.export_request import ExportRequest

    request = ExportRequest.from_arguments(cfg, arguments)  # before slow work, so that mistakes are reported at once

    from ssd.deployment.export_models import export_models

    exported = export_models(cfg, request, output, name=Path(arguments.config).stem)
    if request.quantize:
        from ssd.evaluation.model_evaluation import compare_models

        print(compare_models(cfg, exported), end="")


if __name__ == "__main__":
    main()

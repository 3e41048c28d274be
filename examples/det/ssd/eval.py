"""Evaluate a detector on all validation images with COCO's evaluation protocol:

    python examples/det/ssd/eval.py --config RECIPE [--ckpt_path FILE]
    python examples/det/ssd/eval.py --config RECIPE --model EXPORTED
    msrun --worker_num 8 python examples/det/ssd/eval.py --config RECIPE [--ckpt_path FILE]

RECIPE is examples/det/ssd/ssd_mobilenetv2.yaml or another recipe in that folder. FILE is a checkpoint or a folder, by
default ckpt_save_dir. In a folder, best.ckpt is evaluated, or else the newest checkpoint. The metrics are printed.
metrics.json, predictions.json, per_class.csv and report.html are written to output_dir. Files of an earlier evaluation
with other results are moved to its subfolder earlier-1, earlier-2, ... EXPORTED is a folder that export.py wrote, which
is evaluated instead of a checkpoint.
"""

if __name__ == "__main__":
    from ssd.startup import prepare_process

    prepare_process()  # before slow imports, so that Ctrl-C ends these cleanly

from pathlib import Path

from ssd.errors import UserError, exit_cleanly
from ssd.runtime.heartbeat import report_silence
from ssd.runtime.msrun import supervise_under_msrun

OPTIONS: dict[str, dict] = {
    "model": {"metavar": "FOLDER", "help": "folder of an exported model, which is evaluated instead of a checkpoint"},
    "provider": {
        "choices": ["cpu", "cuda", "cann"],
        "help": "with --model: device of an ONNX model [cpu]",
    },
}


@supervise_under_msrun
@exit_cleanly
@report_silence
def main() -> None:
    from ssd.config.command_line import parse_recipe_and_options
    from ssd.runtime.launch import check_launch
    from ssd.runtime.writable_folder import require_writable

    cfg, options = parse_recipe_and_options(__doc__, OPTIONS)  # before the slow import of MindSpore
    check_launch(cfg.device_target)
    if options.provider and not options.model:
        raise UserError("--provider: it applies to exported models only. Set --model to an exported model.")
    require_writable(Path(cfg.output_dir), key="output_dir")

    from ssd.evaluation.results import format_metrics, write_results

    if options.model:
        from ssd.evaluation.model_evaluation import evaluate_model

        evaluation = evaluate_model(cfg, Path(options.model), provider=options.provider or "cpu")
    else:
        from ssd.evaluation.evaluator import evaluate

        evaluation = evaluate(cfg)
    if evaluation.runtime.is_main:
        try:
            write_results(cfg, evaluation.result, checkpoint=evaluation.checkpoint)
        finally:  # the mAP is the last line on stdout, and is printed also if the files cannot be written
            print(format_metrics(evaluation.result), end="")


if __name__ == "__main__":
    main()

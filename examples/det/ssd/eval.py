"""Evaluate a detector on all validation images with COCO's evaluation protocol:

    python examples/det/ssd/eval.py --config RECIPE [--ckpt_path FILE]
    msrun --worker_num 8 python examples/det/ssd/eval.py --config RECIPE [--ckpt_path FILE]

RECIPE is examples/det/ssd/ssd_mobilenetv2.yaml or another recipe in that folder. FILE is a checkpoint or a folder, by
default ckpt_save_dir. In a folder, best.ckpt is evaluated, or else the newest checkpoint. The metrics are printed.
metrics.json, predictions.json, per_class.csv and report.html are written to output_dir. Files of an earlier evaluation
with other results are moved to its subfolder earlier-1, earlier-2, ...
"""

if __name__ == "__main__":
    from ssd.startup import prepare_process

    prepare_process()  # before slow imports, so that Ctrl-C ends these cleanly

from pathlib import Path

from ssd.errors import exit_cleanly
from ssd.runtime.heartbeat import report_silence
from ssd.runtime.msrun import supervise_under_msrun


@supervise_under_msrun
@exit_cleanly
@report_silence
def main() -> None:
    from ssd.config.command_line import parse_command_line
    from ssd.runtime.launch import check_launch
    from ssd.runtime.writable_folder import require_writable

    cfg = parse_command_line(__doc__)  # before the slow import of MindSpore, so that mistakes are reported at once
    check_launch(cfg.device_target)
    require_writable(Path(cfg.output_dir), key="output_dir")

    from ssd.evaluation.evaluator import evaluate
    from ssd.evaluation.results import format_metrics, write_results

    evaluation = evaluate(cfg)
    if evaluation.runtime.is_main:
        try:
            write_results(cfg, evaluation.result, checkpoint=evaluation.checkpoint)
        finally:  # the mAP is the last line on stdout, and is printed also if the files cannot be written
            print(format_metrics(evaluation.result), end="")


if __name__ == "__main__":
    main()

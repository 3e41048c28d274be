"""Evaluate a detector by COCO's protocol on every validation image:

    python examples/det/ssd/eval.py --config RECIPE [--ckpt_path FILE]
    msrun --worker_num 8 python examples/det/ssd/eval.py --config RECIPE [--ckpt_path FILE]

where RECIPE is examples/det/ssd/ssd_mobilenetv2.yaml or another of that folder.
"""

from pathlib import Path

from ssd.config.command_line import parse_command_line
from ssd.errors import exit_cleanly
from ssd.runtime.msrun import supervised_by_msrun


@supervised_by_msrun
@exit_cleanly
def main() -> None:
    cfg = parse_command_line(__doc__)  # before MindSpore loads, so that a mistake is told at once

    from ssd.evaluation.evaluator import evaluate
    from ssd.evaluation.results import check_output, format_scores, write_results

    check_output(Path(cfg.output_dir))
    evaluated, checkpoint, runtime = evaluate(cfg)
    if runtime.is_main:
        print(format_scores(evaluated), end="")
        write_results(cfg, evaluated, checkpoint)


if __name__ == "__main__":
    main()

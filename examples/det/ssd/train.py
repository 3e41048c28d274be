"""Train a detector on one device, or on several devices under a launcher:

    python examples/det/ssd/train.py --config RECIPE [--resume [FILE]]
    msrun --bind_core=True --worker_num 8 python examples/det/ssd/train.py --config RECIPE

RECIPE is a YAML file, for example examples/det/ssd/ssd_mobilenetv2.yaml.
"""

if __name__ == "__main__":
    from ssd.startup import prepare_process

    prepare_process()  # before slow imports, so that Ctrl-C ends these cleanly

from pathlib import Path

from ssd.errors import exit_cleanly
from ssd.runtime.heartbeat import report_silence
from ssd.runtime.msrun import supervise_under_msrun

OPTIONS = {
    "resume": {
        "nargs": "?",
        "const": "",
        "metavar": "FILE",
        "help": "resume from the checkpoint FILE, or from the newest checkpoint in the folder FILE [ckpt_save_dir]",
    },
}


@supervise_under_msrun
@exit_cleanly(prints_results=False)
@report_silence
def main() -> None:
    # Parse arguments before importing MindSpore, which takes seconds, so that mistakes are reported immediately.
    from ssd.config.command_line import parse_recipe_and_options
    from ssd.runtime.launch import check_launch
    from ssd.runtime.main_process import is_main_process
    from ssd.runtime.writable_folder import require_writable

    cfg, options = parse_recipe_and_options(__doc__, OPTIONS)
    check_launch(cfg.device_target)
    if is_main_process():  # other ranks write nothing
        require_writable(Path(cfg.ckpt_save_dir), key="ckpt_save_dir")

    from ssd.training.trainer import train

    train(cfg, options.resume)


if __name__ == "__main__":
    main()

"""Train a detector on one device, or under a launcher as one of several:

    python examples/det/ssd/train.py --config RECIPE [--resume]
    msrun --bind_core=True --worker_num 8 python examples/det/ssd/train.py --config RECIPE

where RECIPE is examples/det/ssd/ssd_mobilenetv2.yaml or another of that folder.
"""

from ssd.config.command_line import parse_recipe_and_options
from ssd.errors import exit_cleanly
from ssd.runtime.msrun import supervised_by_msrun

OPTIONS = {
    "resume": {
        "nargs": "?",
        "const": "",
        "metavar": "FILE",
        "help": "go on from a checkpoint of train.py, the newest in ckpt_save_dir if no FILE is given",
    },
}


@supervised_by_msrun
@exit_cleanly
def main() -> None:
    cfg, options = parse_recipe_and_options(
        __doc__, OPTIONS
    )  # before MindSpore loads, so that a mistake is told at once

    from ssd.training.trainer import train

    train(cfg, options.resume)


if __name__ == "__main__":
    main()

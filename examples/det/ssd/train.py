"""Train a detector on one device, or under a launcher as one of several:

    python examples/det/ssd/train.py --config RECIPE [--resume [FILE]]
    msrun --bind_core=True --worker_num 8 python examples/det/ssd/train.py --config RECIPE

RECIPE is examples/det/ssd/ssd_mobilenetv2.yaml or another recipe of that folder.
"""

from ssd.config.command_line import parse_recipe_and_options
from ssd.errors import exit_cleanly
from ssd.runtime.msrun import supervise_under_msrun

OPTIONS = {
    "resume": {
        "nargs": "?",
        "const": "",
        "metavar": "FILE",
        "help": "resume a training from a checkpoint of train.py; without FILE from the newest in ckpt_save_dir",
    },
}


@supervise_under_msrun
@exit_cleanly
def main() -> None:
    # Before MindSpore is imported, which takes seconds, so that mistakes are reported at once.
    cfg, options = parse_recipe_and_options(__doc__, OPTIONS)

    from ssd.training.trainer import train

    train(cfg, options.resume)


if __name__ == "__main__":
    main()

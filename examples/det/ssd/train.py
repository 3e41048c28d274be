"""Train a detector on one device, or under a launcher as one of several:

    python examples/det/ssd/train.py --config RECIPE
    msrun --bind_core=True --worker_num 8 python examples/det/ssd/train.py --config RECIPE

where RECIPE is examples/det/ssd/ssd_mobilenetv2.yaml or another of that folder.
"""

from ssd.command_line import parse_command_line
from ssd.errors import exit_cleanly


@exit_cleanly
def main() -> None:
    cfg = parse_command_line(__doc__)  # before MindSpore loads, so that a mistake is told at once

    from ssd.engine.trainer import train

    train(cfg)


if __name__ == "__main__":
    main()

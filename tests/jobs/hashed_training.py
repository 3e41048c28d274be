"""train.py, except that each rank prints checksums of its weights and BatchNorm statistics at the end.

AVERAGES=late: environment variable with which ranks average BatchNorm statistics only before they are used
"""

import hashlib
import os
import sys
from collections.abc import Iterable
from pathlib import Path

from ssd.config.command_line import parse_command_line
from ssd.errors import exit_cleanly
from ssd.runtime.msrun import supervise_under_msrun

SSD = Path(__file__).resolve().parents[2] / "examples" / "det" / "ssd"


def checksum(parameters: Iterable) -> str:
    """Return the SHA-256 over names and values of MindSpore parameters, in the order of their names."""
    digest = hashlib.sha256()
    for parameter in sorted(parameters, key=lambda parameter: parameter.name):
        digest.update(parameter.name.encode() + parameter.asnumpy().tobytes())
    return digest.hexdigest()


def is_statistic(name: str) -> bool:
    """Return True for running means and variances, but not for the optimizer's moments of other parameters."""
    return "moving_" in name and not name.startswith("moments.")


@supervise_under_msrun
@exit_cleanly
def main() -> None:
    # The compile cache works only for the package's own commands, and MindSpore finds their sources on the path.
    sys.argv[0], sys.path[0] = str(SSD / "train.py"), str(SSD)
    cfg = parse_command_line("")

    from ssd.training import trainer

    class HashedModel(trainer.Model):
        def train(self, *args, **kwargs):
            super().train(*args, **kwargs)
            parameters = list(self.train_network.parameters_dict().values())
            statistics = [parameter for parameter in parameters if is_statistic(parameter.name)]
            weights = [parameter for parameter in parameters if not is_statistic(parameter.name)]
            print(f"weights: {len(weights)} {checksum(weights)}")
            print(f"statistics: {len(statistics)} {checksum(statistics)}", flush=True)

    trainer.Model = HashedModel
    if os.environ.get("AVERAGES") == "late":
        trainer.AVERAGE_INTERVAL = {"CPU": None}
    trainer.train(cfg)


if __name__ == "__main__":
    main()

"""train.py, and at its end each rank prints checksums of what it has learnt."""

import hashlib
import sys
from pathlib import Path

SSD = Path(__file__).resolve().parents[2] / "examples" / "det" / "ssd"
sys.path.insert(0, str(SSD))

from ssd.config.command_line import parse_command_line
from ssd.errors import exit_cleanly
from ssd.runtime.msrun import supervised_by_msrun


def checksum(parameters) -> str:
    total = hashlib.sha256()
    for parameter in sorted(parameters, key=lambda parameter: parameter.name):
        total.update(parameter.name.encode() + parameter.asnumpy().tobytes())
    return total.hexdigest()


@supervised_by_msrun
@exit_cleanly
def main() -> None:
    sys.argv[0] = str(SSD / "train.py")  # so that it takes its graphs from the cache
    cfg = parse_command_line("")

    from ssd.training import trainer

    class HashedModel(trainer.Model):
        def train(self, *args, **kwargs):
            super().train(*args, **kwargs)
            parameters = list(self.train_network.parameters_dict().values())
            statistics = [one for one in parameters if "moving_" in one.name and not one.name.startswith("moments.")]
            learnt = [one for one in parameters if not any(one is other for other in statistics)]
            print(f"learnt: {len(learnt)} {checksum(learnt)}")
            print(f"statistics: {len(statistics)} {checksum(statistics)}", flush=True)

    trainer.Model = HashedModel
    trainer.train(cfg)


if __name__ == "__main__":
    main()

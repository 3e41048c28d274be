"""train.py, except that each rank prints a digest of its training state after each epoch, for tools/soak.py."""

import hashlib
import sys
from pathlib import Path

from ssd.config.command_line import parse_recipe_and_options
from ssd.errors import exit_cleanly
from ssd.runtime.heartbeat import report_silence
from ssd.runtime.msrun import supervise_under_msrun

TRAIN = Path(__file__).resolve().parents[2] / "examples" / "det" / "ssd" / "train.py"
OPTIONS = {"resume": {"nargs": "?", "const": ""}}


@supervise_under_msrun
@exit_cleanly(prints_results=False)
@report_silence
def main() -> None:
    sys.argv[0] = str(TRAIN)  # the compile cache works only for the package's own commands
    cfg, options = parse_recipe_and_options("", OPTIONS)

    from ssd.training import trainer
    from ssd.training.events import StepEnd, TrainingCallback

    class PrintDigest(TrainingCallback):
        """Print the SHA-256 over names and values of all parameters of the training step, moments included.

        Accumulated gradients are left out, because they are those of the images of one rank.
        """

        def __init__(self, step: trainer.TrainStep):
            self.step = step

        def on_epoch_end(self, event: StepEnd) -> None:
            digest = hashlib.sha256()
            for name, parameter in sorted(self.step.parameters_dict().items()):
                if not name.startswith("accumulated."):
                    digest.update(name.encode() + parameter.asnumpy().tobytes())
            print(f"digest of epoch {event.epoch}: {digest.hexdigest()}", flush=True)

    class DigestModel(trainer.Model):
        def train(self, epochs, dataset, callbacks, **options):
            events = callbacks[0]
            # Before StopOnSignal, which raises an exception:
            events.callbacks.insert(len(events.callbacks) - 1, PrintDigest(self.train_network))
            super().train(epochs, dataset, callbacks=callbacks, **options)

    trainer.Model = DigestModel
    trainer.train(cfg, options.resume)


if __name__ == "__main__":
    main()

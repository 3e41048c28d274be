"""Commands that run with faults: their arguments, the earlier results that they find, and when results are whole."""

from __future__ import annotations

import json
import os
import shutil
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ssd.deployment.model_metadata import file_sha256, read_metadata
from ssd.errors import UserError

from .client import ROOT, Outcome, Worker
from .shim import Fault, Mode
from .snapshots import file_sums

MAKE_SHAPES = ROOT / "tools" / "make_shapes.py"
TINY = str(Path(__file__).with_name("tiny.yaml"))


class Command(ABC):
    """A command, run in the folder `live`, which is the same before each run.

    inputs: folder with the annotated images coco and coco2, the shards `records`, and the exported model `model`
    live: current folder of the runs, below which faults happen
    """

    name: str
    script: str
    modules: tuple[str, ...] = ()  # that the worker loads first
    setup: str | None = None

    def __init__(self, inputs: Path, live: Path):
        self.inputs = inputs
        self.live = live

    @abstractmethod
    def arguments(self) -> list[str]: ...

    def prepare(self, worker: Worker) -> None:  # noqa: B027  not abstract, because one command finds no results
        """Create the earlier results that the runs find in `live`."""

    @abstractmethod
    def state(self, worker: Worker) -> Any:
        """Return a summary of the results in `live`, which equals that of equal results."""

    def is_complete(self, state: Any, complete: Any) -> bool:
        """Return True if the results of a successful command equal those of a run without fault."""
        return bool(state == complete)

    @abstractmethod
    def is_intact(self, state: Any, before: Any, complete: Any) -> bool:
        """Return True if earlier results have survived a failed command, and no incomplete result looks complete."""

    def run(self, worker: Worker, fault: Fault) -> Outcome:
        return worker.run(self.script, self.arguments(), fault=fault, folder=self.live, setup=self.setup)

    def run_without_fault(self, worker: Worker, script: str, arguments: Sequence[str]) -> None:
        """Run a script whose results the runs need. Raises UserError if it fails."""
        outcome = worker.run(script, arguments, fault=Fault(Mode.COUNT), folder=self.live, setup=self.setup)
        if outcome.code:
            raise UserError(f"{script}: failed without a fault: {(outcome.log.splitlines() or [''])[-1]}")

    def restore(self, template: Path) -> None:
        """Let `live` have the content of the template again."""
        shutil.rmtree(self.live, ignore_errors=True)
        shutil.copytree(template, self.live, symlinks=True, copy_function=self.copy)

    @staticmethod
    def copy(source: str, target: str) -> None:
        shutil.copy2(source, target)


class Conversion(Command):
    """create_data.py into a new folder."""

    name, script = "conversion", "create_data.py"
    modules = ("ssd.data.mindrecord", "ssd.config.loading", "ssd.boxes.anchors", "mindspore.dataset")
    setup = "fault_injection.stand_ins:write_two_shards"  # each of the usual eight takes the same calls

    def arguments(self) -> list[str]:
        return ["coco", "--data_path", str(self.inputs / "coco"), "--out_path", "out", "--overwrite"]

    def state(self, worker: Worker) -> Any:
        try:
            return worker.call("fault_injection.snapshots:dataset_sums", "out", folder=self.live)
        except UserError as error:
            return str(error)

    def is_intact(self, state: Any, before: Any, complete: Any) -> bool:
        return state in (before, complete)


class Reconversion(Conversion):
    """create_data.py --overwrite, which replaces another dataset."""

    name = "conversion --overwrite"

    def prepare(self, worker: Worker) -> None:
        arguments = ["coco", "--data_path", str(self.inputs / "coco2"), "--out_path", "out"]
        self.run_without_fault(worker, self.script, arguments)

    @staticmethod
    def copy(source: str, target: str) -> None:
        """Link a file: shards have 50 MB, mostly zeros. A conversion must not write to those of another dataset."""
        os.link(source, target)


class Training(Command):
    """train.py with evaluations, in the folder of an earlier run."""

    name, script = "training", "train.py"
    modules = ("ssd.training.trainer", "ssd.training.tensorboard", "ssd.evaluation.evaluator", "mindspore.dataset")
    setup = "fault_injection.stand_ins:train_without_network"

    def arguments(self, seed: int = 0) -> list[str]:
        keys = {
            **{"config": TINY, "data_dir": self.inputs / "records", "ckpt_save_dir": "ckpt", "seed": seed},
            **{"checkpoint_every_steps": 2, "keep_checkpoint_max": 1, "device_target": "CPU"},
        }
        return [str(word) for key, value in keys.items() for word in (f"--{key}", value)]

    def prepare(self, worker: Worker) -> None:
        self.run_without_fault(worker, self.script, [*self.arguments(seed=1), "--epoch_size", "1"])

    def state(self, worker: Worker) -> Any:
        return worker.call("fault_injection.snapshots:checkpoint_sums", "ckpt", folder=self.live)

    def is_complete(self, state: Any, complete: Any) -> bool:
        """An old checkpoint may stay, because the command warns that it cannot be removed."""
        return all(state.get(name) == value for name, value in complete.items()) and "damaged" not in state.values()

    def is_intact(self, state: Any, before: Any, complete: Any) -> bool:
        return "damaged" not in state.values() and _is_together(before, state)


class ResumedTraining(Training):
    """train.py --resume, after a run that was interrupted in its second epoch."""

    name = "training --resume"

    def arguments(self, seed: int = 0) -> list[str]:
        return [*super().arguments(seed), "--resume"]

    def prepare(self, worker: Worker) -> None:
        arguments = super().arguments()
        self.run_without_fault(worker, self.script, [*arguments, "--epoch_size", "1"])

    def is_intact(self, state: Any, before: Any, complete: Any) -> bool:
        """The run goes on in the folder, so that last.ckpt becomes that of a later step."""
        newest = any(state.get(name) for name in ("last.ckpt", "ssd-1.ckpt", "ssd-2.ckpt"))
        return newest and "damaged" not in state.values()


class Prediction(Command):
    """predict.py for images, with label files and crops, in the folder of an earlier run."""

    name, script = "prediction", "predict.py"
    modules = ("ssd.inference.prediction", "ssd.deployment.model_prediction", "ssd.inference.drawing")

    def arguments(self) -> list[str]:
        images = sorted(str(path) for path in (self.inputs / "coco" / "val2017").iterdir())
        options = ["--model", str(self.inputs / "model"), "--output", "out", "--save_txt", "--save_crops"]
        return [*options, "--display_score", "0.01", "--input", *images[: self.num_images]]

    num_images = 3

    def prepare(self, worker: Worker) -> None:
        self.num_images = 1
        self.run_without_fault(worker, self.script, self.arguments())
        self.num_images = 3

    def state(self, worker: Worker) -> Any:
        return file_sums(self.live / "out")

    def is_intact(self, state: Any, before: Any, complete: Any) -> bool:
        known = {*before.values(), *complete.values()}
        # The list of a stopped run has the images so far.
        lists = {name for name in state if Path(name).name in ("detections.json", ".results.json")}
        for name in lists:
            json.loads((self.live / "out" / name).read_text())
        results = {name: value for name, value in before.items() if name != ".results.json"}
        return _is_together(results, state) and all(state[name] in known for name in state.keys() - lists)


class VideoPrediction(Prediction):
    """predict.py for a video."""

    name = "prediction of a video"

    def arguments(self) -> list[str]:
        return ["--model", str(self.inputs / "model"), "--output", "out", "--input", str(self.inputs / "film.mp4")]

    def prepare(self, worker: Worker) -> None:
        self.run_without_fault(worker, self.script, [*self.arguments(), "--vid_stride", "2"])


class Export(Command):
    """export.py, which replaces an earlier model."""

    name, script = "export", "export.py"
    modules = ("ssd.deployment.export_models", "ssd.deployment.export", "ssd.config.loading")
    setup = "fault_injection.stand_ins:export_without_comparison"
    model_format = "onnx"

    def arguments(self) -> list[str]:
        options = ["--config", TINY, "--format", self.model_format, "--output", "out", "--device_target", "CPU"]
        checkpoint = self.inputs / "model.ckpt"
        return [*options, "--ckpt_path", str(checkpoint), "--data_dir", str(self.inputs / "records")]

    def prepare(self, worker: Worker) -> None:
        self.run_without_fault(worker, self.script, [*self.arguments(), "--max_detections", "7"])

    def state(self, worker: Worker) -> Any:
        return file_sums(self.live / "out")

    def is_intact(self, state: Any, before: Any, complete: Any) -> bool:
        return state in (before, complete)


class MindirExport(Export):
    name, model_format = "export of MINDIR", "mindir"

    def state(self, worker: Worker) -> Any:
        """The bytes of MINDIR models differ from run to run, so their checksum in metadata.yaml is verified."""
        folder = self.live / "out" / "tiny_mindir"
        if not (folder / "metadata.yaml").exists():
            return sorted(file_sums(self.live / "out"))
        metadata = read_metadata(folder)
        is_intact = metadata.sha256 == file_sha256(folder / metadata.file)
        return [metadata.thresholds.max_detections, is_intact, sorted(file_sums(self.live / "out"))]


class Evaluation(Command):
    """eval.py of an exported model, which archives earlier results."""

    name, script = "evaluation", "eval.py"
    modules = ("ssd.evaluation.model_evaluation", "ssd.evaluation.results", "ssd.evaluation.report.page")

    def arguments(self) -> list[str]:
        keys = {
            "config": TINY,
            "model": self.inputs / "model",
            "data_dir": self.inputs / "records",
            "output_dir": "out",
        }
        words = [str(word) for key, value in keys.items() for word in (f"--{key}", value)]
        return [*words, "--max_detections", "2", "--device_target", "CPU"]

    def prepare(self, worker: Worker) -> None:
        (self.live / "out").mkdir()
        for name in ("predictions.json", "metrics.json", "per_class.csv", "report.html"):
            (self.live / "out" / name).write_text("old")

    def state(self, worker: Worker) -> Any:
        """Metrics and report contain times, so only their ends are compared."""
        out = self.live / "out"
        sums = file_sums(out)
        return {
            name: value if name.endswith(("predictions.json", ".csv")) else (out / name).read_text()[-3:]
            for name, value in sums.items()
        }

    def is_intact(self, state: Any, before: Any, complete: Any) -> bool:
        archived = {f"earlier-1/{name}": value for name, value in before.items()}
        return state in (before, archived, complete)


COMMANDS: tuple[type[Command], ...] = (
    Conversion,
    Reconversion,
    Training,
    ResumedTraining,
    Export,
    MindirExport,
    Prediction,
    VideoPrediction,
    Evaluation,
)


def _is_together(before: dict[str, str], state: dict[str, str]) -> bool:
    """Return True if all earlier files are unchanged, and are all in place or all in earlier-1."""
    return any(
        all(state.get(f"{folder}{name}") == value for name, value in before.items()) for folder in ("", "earlier-1/")
    )

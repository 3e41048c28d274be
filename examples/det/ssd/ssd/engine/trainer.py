"""Training of a recipe, from data to checkpoints."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

from mindspore.train import Model

from ..boxes.anchors import create_anchors
from ..data.dataset import create_dataset
from ..models.detector import create_detector
from .callbacks import CheckpointSaver, EvalWhileTrain, KeepGraphs, RecordSteps
from .checkpoint import find_checkpoint, load_backbone
from .closing import closing_words
from .compile_cache import compile_cache
from .evaluator import Evaluation
from .example_pictures import ExamplePictures
from .runtime import set_up_runtime
from .schedule import create_schedule
from .train_step import create_train_step, to_mixed_precision
from .training_display import TrainingDisplay
from .training_log import TrainingLog, open_files, set_aside_earlier


def train(cfg) -> None:
    """Train as a recipe says; under a launcher, as one of its devices. cfg: Config. Raises UserError."""
    start = time.monotonic()
    runtime = set_up_runtime(cfg)
    dataset = create_dataset(cfg, "train", runtime.rank, runtime.world)
    schedule = create_schedule(cfg, dataset.get_dataset_size())
    anchors = create_anchors(cfg)
    detector = create_detector(cfg)
    if cfg.backbone_ckpt_path:
        load_backbone(detector, cfg.backbone_ckpt_path)
    detector = to_mixed_precision(detector, cfg.amp_level)
    images_per_step = cfg.batch_size * runtime.world
    folder = Path(cfg.ckpt_save_dir)

    with contextlib.ExitStack() as stack:
        callbacks, recording, evaluating = [], [], None
        if runtime.is_main:
            scoring = _create_evaluation(cfg, detector, anchors) if cfg.eval_while_train else None
            log = stack.enter_context(_open_log(cfg, len(schedule), images_per_step))
            callbacks = [CheckpointSaver(folder, cfg.keep_checkpoint_max)]
            if scoring:
                when = cfg.eval_start_epoch, cfg.eval_interval, cfg.epoch_size
                evaluating = EvalWhileTrain(*scoring, log, detector, folder, *when)
                callbacks.append(evaluating)
            recording = [RecordSteps(log, schedule, images_per_step, cfg.log_interval, cfg.device_target)]
        model = Model(create_train_step(cfg, detector, anchors, schedule))
        keep = stack.enter_context(compile_cache(cfg, "train", runtime))
        callbacks += [KeepGraphs(keep), *recording]
        model.train(cfg.epoch_size, dataset, callbacks=callbacks, dataset_sink_mode=cfg.dataset_sink_mode)
    if runtime.is_main:
        best = evaluating.best if evaluating else None
        print(closing_words(folder, cfg.epoch_size, time.monotonic() - start, best, find_checkpoint(folder)))


def _create_evaluation(cfg, detector, anchors) -> tuple[Evaluation, ExamplePictures]:
    """What evaluates between epochs, and what draws it. Raises UserError."""
    evaluation = Evaluation(cfg, detector, anchors, create_dataset(cfg, "val"))
    return evaluation, ExamplePictures(Path(cfg.data_dir), cfg.classes, cfg.display_score)


def _open_log(cfg, steps: int, images_per_step: int) -> TrainingLog:
    """Make room for this run, say what it is, and open what it is recorded in. Raises UserError."""
    folder = Path(cfg.ckpt_save_dir)
    earlier = set_aside_earlier(folder)
    if earlier:
        print(f"{folder}: moved what an earlier run left to {earlier}")
    files = open_files(folder)
    print(
        f"training {cfg.backbone} for {cfg.num_classes - 1} classes on {images_per_step // cfg.batch_size} x "
        f"{cfg.device_target}: {cfg.epoch_size} epochs of {steps // cfg.epoch_size} steps of {images_per_step} images, "
        f"{'weights of ' + cfg.backbone_ckpt_path if cfg.backbone_ckpt_path else 'backbone from scratch'}",
        flush=True,
    )
    return TrainingLog(TrainingDisplay(cfg.epoch_size, steps), *files)

"""Training of a recipe, from data to checkpoints."""

from __future__ import annotations

import contextlib
import functools
import json
import time
from pathlib import Path

import mindspore.nn as nn
from mindspore.train import Callback, Model

from ..checkpoints.loading import find_checkpoint, load_backbone, load_pretrained
from ..checkpoints.metadata import METADATA_KEY, model_metadata
from ..data.dataset import create_dataset, image_ids_of_step
from ..evaluation.evaluator import create_evaluator
from ..models.detector import create_detector, to_mixed_precision
from ..runtime.compile_cache import compile_cache
from ..runtime.device import Runtime, set_up_runtime
from ..runtime.interrupt import Interrupt
from .bad_loss import StopOnNonFiniteLoss
from .batch_norm_statistics import SyncBatchNormStatistics
from .callbacks import RecordSteps, RestoreStep, SaveCompileCache
from .checkpointing import CheckpointSaver, StopOnSignal
from .closing import training_summary
from .earlier import archive_later_checkpoints, archive_previous_run
from .ending import SynchronizedStop
from .example_pictures import ValidationPictures
from .logger import TrainingLogger, open_log_files
from .optimizer import freeze
from .progress_bar import TrainingProgressBar
from .resume import TrainingState, find_resume_checkpoint, resume_training
from .schedule import create_schedule
from .train_step import TrainStep, create_train_step
from .validation import ValidationCallback, ema_weights, read_best

# After how many steps devices ask one another whether to end: to ask makes the host wait for an accelerator.
STEPS_TO_AGREE = {"CPU": 1, "GPU": 10, "Ascend": 10}


def train(cfg, resume: str | None = None) -> None:
    """Train as a recipe says; under a launcher, as one of its devices.

    cfg: Config; resume: None to start anew, else the checkpoint to go on from, empty for the newest in ckpt_save_dir
    Raises UserError, and KeyboardInterrupt when a signal ended it; its state is then in last.ckpt.
    """
    started = time.monotonic()
    runtime = set_up_runtime(cfg)
    dataset = create_dataset(cfg, "train", runtime.rank, runtime.world_size)
    schedule = create_schedule(cfg, dataset.get_dataset_size(), runtime.world_size)
    detector, origin = _create_learner(cfg, is_new=resume is None)
    words = {METADATA_KEY: json.dumps(model_metadata(cfg))}
    step = create_train_step(cfg, detector, schedule)
    state = TrainingState(0, dataset.get_dataset_size(), cfg.batch_size * runtime.world_size, cfg.seed)
    folder, path, best = Path(cfg.ckpt_save_dir), None, None
    if resume is not None:
        path = find_resume_checkpoint(folder, resume)
        state = resume_training(step, state, path, cfg.epoch_size, model_metadata(cfg))
        origin = f"going on from {path} after step {state.step}"
        dataset.set_init_step(state.step)
        best = read_best(folder, until=state.step)  # later steps are made again

    with contextlib.ExitStack() as stack:
        interrupt = stack.enter_context(Interrupt(told=runtime.is_main))
        log = stack.enter_context(_open_log(cfg, state, path, origin)) if runtime.is_main else None
        keep = stack.enter_context(compile_cache(cfg, "train", runtime))
        evaluating = None
        if cfg.eval_while_train:
            evaluation = create_evaluator(cfg, detector, runtime)
            evaluating = _create_evaluating(cfg, evaluation, log, detector, step, best, words)
        # Before those that evaluate, save and record come the ones that they build on.
        ending = SynchronizedStop(interrupt, runtime.world_size, STEPS_TO_AGREE[cfg.device_target])
        callbacks = [RestoreStep(state.step), ending, *_create_guards(cfg, step, runtime)]
        callbacks += [evaluating] if evaluating else []
        callbacks.append(SaveCompileCache(keep))
        if runtime.is_main:
            keeping = cfg.keep_checkpoint_max, cfg.checkpoint_every_steps
            recording = cfg.log_interval, cfg.device_target, state.step, int(step.skipped.asnumpy())
            callbacks.append(CheckpointSaver(folder, *keeping, state, ending, words))
            callbacks.append(RecordSteps(log, schedule, state.images_per_step, *recording))
        callbacks.append(StopOnSignal(ending))
        epochs = cfg.epoch_size
        Model(step).train(epochs, dataset, callbacks, cfg.dataset_sink_mode, initial_epoch=state.epochs_done)
    if runtime.is_main:
        best, ended = (evaluating.best, evaluating.ended_at) if evaluating else (None, None)
        seconds = time.monotonic() - started
        print(training_summary(folder, ended or epochs, bool(ended), seconds, best, find_checkpoint(folder)))


def _create_learner(cfg, is_new: bool) -> tuple[nn.Cell, str]:
    """The detector as it is trained, and where its weights are from. is_new: false if all of them are loaded later"""
    detector, origin = create_detector(cfg), "backbone from scratch"
    if cfg.pretrained_detector and is_new:
        fresh = load_pretrained(detector, cfg.pretrained_detector, cfg.use_ema, model_metadata(cfg))
        origin = f"weights of {cfg.pretrained_detector}, {_fresh_words(fresh)}"
    elif cfg.backbone_ckpt_path and is_new:
        load_backbone(detector, cfg.backbone_ckpt_path)
        origin = f"weights of {cfg.backbone_ckpt_path}"
    freeze(detector, cfg.freeze)
    return to_mixed_precision(detector, cfg.amp_level), origin


def _fresh_words(names: list[str]) -> str:
    layers = dict.fromkeys(name.rpartition(".")[0] for name in names)
    return f"fresh ones in {', '.join(layers)}" if layers else "all of them, for its classes are the same"


def _create_guards(cfg, step: TrainStep, runtime: Runtime) -> list[Callback]:
    """What looks after a training on every device."""
    image_ids = functools.partial(image_ids_of_step, cfg, rank=runtime.rank, world_size=runtime.world_size)
    bad_loss = StopOnNonFiniteLoss(cfg.log_interval, cfg.checkpoint_every_steps, image_ids, runtime.rank)
    return [bad_loss, *([SyncBatchNormStatistics(step, runtime.world_size)] if runtime.world_size > 1 else [])]


def _create_evaluating(cfg, evaluation, log, detector, step: TrainStep, best, words) -> ValidationCallback:
    """Evaluation between epochs. log: None on all devices but the main one; best: so far;
    words: to keep in best.ckpt"""
    draw = ValidationPictures(Path(cfg.data_dir), cfg.classes, cfg.display_score)
    average = functools.partial(ema_weights, detector, step) if cfg.ema_decay else None
    when = cfg.eval_start_epoch, cfg.eval_interval, cfg.epoch_size
    more = {"average": average, "patience": cfg.early_stop_patience, "best": best, "words": words}
    return ValidationCallback(evaluation, draw, log, detector, Path(cfg.ckpt_save_dir), *when, **more)


def _open_log(cfg, state: TrainingState, resumed: Path | None, origin: str) -> TrainingLogger:
    """Make room for this run, say what it is, and open what it is recorded in. Raises UserError."""
    folder = Path(cfg.ckpt_save_dir)
    if resumed is None:
        moved, what = archive_previous_run(folder), "what an earlier run left"
    else:
        moved = archive_later_checkpoints(folder, resumed, state.step, state.steps_per_epoch)
        what = f"checkpoints from after step {state.step}"
    if moved:
        print(f"{folder}: moved {what} to {moved}")
    files = open_log_files(folder, state.step)
    print(
        f"training {cfg.backbone} for {cfg.num_classes - 1} classes on {state.images_per_step // cfg.batch_size} x "
        f"{cfg.device_target}: {cfg.epoch_size} epochs of {state.steps_per_epoch} steps of {state.images_per_step} "
        f"images, {origin}",
        flush=True,
    )
    steps = cfg.epoch_size * state.steps_per_epoch
    return TrainingLogger(TrainingProgressBar(cfg.epoch_size, steps, state.step), *files)

"""Train a detector: create the dataset, detector and training step, and train with callbacks."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import logging
import time
from pathlib import Path

import mindspore.nn as nn
import numpy as np
from mindspore.train import Model

from ..checkpoints.choice import BEST_NAME, choose_resume_checkpoint
from ..checkpoints.metadata import Metadata
from ..checkpoints.records import METADATA_KEY
from ..config.metadata import training_metadata
from ..config.schema import Config, graph_settings
from ..data.dataset import create_dataset, find_broken_images, image_ids_of_step
from ..data.dataset_info import dataset_fingerprint
from ..data.thread_errors import raise_thread_errors
from ..errors import count_noun
from ..evaluation.evaluator import DetectorEvaluator, create_evaluator
from ..runtime.compile_cache import compile_cache
from ..runtime.device import Runtime, create_runtime
from ..runtime.folder_lock import lock_folder
from ..runtime.interrupt import Interrupt
from .accumulated_gradients import GatherAccumulatedGradients
from .callbacks import RecordSteps, ReportBrokenImages, SaveCompileCache, StopOnNonFiniteLoss, SyncBatchNormStatistics
from .checkpointing import CheckpointSaver, StopOnSignal, SynchronizedStop
from .events import StepEnd, TrainingCallback, TrainingEvents, usable_sink_size
from .initial_weights import create_initialized_detector
from .logger import METRICS_NAME, TrainingLogger, open_log_files, training_summary
from .memory import fit_to_memory
from .optimizer import warn_of_high_rate
from .progress_bar import TrainingProgressBar
from .records import EvalRecord
from .resume import (
    TrainingState,
    archive_later_checkpoints,
    archive_previous_run,
    lacks_evaluation,
    read_best,
    refuse_completed,
    refuse_unshared_file,
    resume_training,
    warn_of_changed_max_gt,
)
from .schedule import create_schedule
from .train_step import TrainStep, create_train_step
from .validation import ValidationCallback, ValidationImages, ema_weights, evaluation_epochs

log = logging.getLogger(__name__)

# Number of steps between checks whether a device wants to stop. Each check makes the host wait for the device.
STOP_CHECK_INTERVAL = {"CPU": 1, "Ascend": 10}
# Number of steps between averages of BatchNorm statistics; None averages only before they are used. On CPU every step,
# so that a resumed run rounds like an uninterrupted one.
AVERAGE_INTERVAL = {"CPU": 1, "Ascend": None}


def train(cfg: Config, resume: str | None = None) -> None:
    """Train the detector of a recipe. Under a launcher, this process trains on one of several devices.

    resume: None for a new run, the path of a checkpoint, or "" for the newest checkpoint in ckpt_save_dir
    Raises UserError if a setting or file is invalid, or if another training uses ckpt_save_dir. Raises
    KeyboardInterrupt after a stop signal, when last.ckpt has been saved.
    """
    runtime = create_runtime(cfg)
    # Lock the folder before anything is read from it, because another training may still be writing to it:
    lock = lock_folder(Path(cfg.ckpt_save_dir), "ckpt_save_dir") if runtime.is_main else contextlib.nullcontext()
    with lock:
        _train(cfg, resume, runtime)


def _train(cfg: Config, resume: str | None, runtime: Runtime) -> None:
    """Train the detector on this device. `train` explains the parameters and errors."""
    started = time.monotonic()
    folder, metadata = Path(cfg.ckpt_save_dir), training_metadata(cfg)
    resumed_from = None if resume is None else choose_resume_checkpoint(resume, cfg.ckpt_save_dir)
    # Forward pass: backbone, neck and head
    detector, initialization = create_initialized_detector(cfg, is_resumed=resume is not None)
    recipe_max_gt = cfg.max_gt
    cfg = fit_to_memory(cfg, detector, runtime)  # refuses a batch that does not fit, before any file is moved
    # Data: batches of images and ground-truth boxes for this device
    dataset = create_dataset(
        cfg, "train", rank=runtime.rank, world_size=runtime.world_size, num_cores=runtime.num_cores
    )
    steps_per_epoch = dataset.get_dataset_size()
    # Loss, gradients and update, in one graph with the forward pass
    schedule = create_schedule(cfg, steps_per_epoch, runtime.world_size)
    step = create_train_step(cfg, detector, schedule, world_size=runtime.world_size)
    if runtime.is_main:
        warn_of_high_rate(cfg, schedule)

    images_per_step, total_steps = cfg.batch_size * runtime.world_size, cfg.epoch_size * steps_per_epoch
    start = TrainingState(
        step=0, steps_per_epoch=steps_per_epoch, images_per_step=images_per_step, seed=cfg.seed, max_gt=cfg.max_gt
    )
    best, evaluates_first = None, False
    if resumed_from is not None:
        start = resume_training(step, resumed_from, initial_state=start, metadata=metadata, runtime=runtime)
        if recipe_max_gt is None and runtime.is_main:
            warn_of_changed_max_gt(previous=start.max_gt, present=cfg.max_gt)
        start = dataclasses.replace(start, max_gt=cfg.max_gt)
        evaluates_first = _evaluates_first(cfg, start, resumed_from)
        dataset.set_init_step(start.step)
        best = read_best(folder, until=start.step)  # later steps run again
        initialization = f"resumed from {resumed_from} after step {start.step}"
    evaluator = create_evaluator(cfg, detector, runtime) if cfg.eval_while_train else None
    if evaluator:
        evaluator.require_objects()  # before files of a previous run are moved
    # With data sinking, the device runs groups of sink_size steps without the host. Otherwise a group is an epoch:
    sink_size = steps_per_epoch
    if cfg.dataset_sink_mode:
        sink_size = usable_sink_size(cfg.sink_size, steps_per_epoch=steps_per_epoch, first_step=start.step)

    with contextlib.ExitStack() as stack:
        interrupt = stack.enter_context(Interrupt(announce=runtime.is_main))
        # Cached graphs are numbered in the order of their compilation, so the order is part of the cache key:
        program = f"train, sink size {sink_size}, evaluation first: {evaluates_first}"
        settings, data = graph_settings(cfg), dataset_fingerprint(Path(cfg.data_dir))
        save_graphs = stack.enter_context(compile_cache(program, settings=settings, data=data, runtime=runtime))
        stop = SynchronizedStop(interrupt, runtime.world_size, interval=STOP_CHECK_INTERVAL[cfg.device_target])
        # All devices must evaluate, and stop early, at the same epochs:
        for name, has_found in ((METRICS_NAME, evaluates_first), (BEST_NAME, bool(cfg.early_stop_patience and best))):
            refuse_unshared_file(folder / name, stop.count_devices(has_found), world_size=runtime.world_size)
        if stop.exchange():  # also waits until all devices have read their files, before rank 0 moves files
            raise KeyboardInterrupt
        logger = None  # only the main device logs and saves
        if runtime.is_main:
            logger = stack.enter_context(_open_logger(cfg, start, resumed_from=resumed_from, source=initialization))

        # Callbacks are called in list order. SynchronizedStop precedes the callbacks that read its flag:
        callbacks: list[TrainingCallback] = [stop]
        # StopOnNonFiniteLoss precedes saving, so that a failed training does not replace a good checkpoint:
        image_ids = functools.partial(image_ids_of_step, cfg, rank=runtime.rank, world_size=runtime.world_size)
        callbacks.append(
            StopOnNonFiniteLoss(
                log_interval=cfg.log_interval,
                checkpoint_every_steps=cfg.checkpoint_every_steps,
                stop=stop,
                image_ids_of_step=image_ids,
                rank=runtime.rank,
            )
        )
        broken_images = find_broken_images(dataset)
        if broken_images is not None:  # before the evaluation, which takes minutes
            callbacks.append(ReportBrokenImages(broken_images, Path(cfg.data_dir) / "train"))
        # SyncBatchNormStatistics precedes saving and evaluation, which use the statistics. All devices wait there for
        # each other, so rank 0 does not save if StopOnNonFiniteLoss has raised an error on another rank:
        if runtime.world_size > 1:
            every = AVERAGE_INTERVAL[cfg.device_target] or cfg.checkpoint_every_steps
            callbacks.append(SyncBatchNormStatistics(step, runtime.world_size, every_steps=every, stop=stop))
        # Devices accumulate gradients of their own images, which rank 0 saves:
        arrays: dict[str, np.ndarray] = {}
        if runtime.world_size > 1 and cfg.accumulate_steps > 1:
            gather = GatherAccumulatedGradients(
                step, is_main=runtime.is_main, every_steps=cfg.checkpoint_every_steps, stop=stop
            )
            callbacks.append(gather)
            arrays = gather.gathered
        # Saving precedes evaluation, so that a kill during a long evaluation loses no steps:
        if logger:
            callbacks.append(
                CheckpointSaver(
                    step,
                    folder,
                    keep=cfg.keep_checkpoint_max,
                    every_steps=cfg.checkpoint_every_steps,
                    start=start,
                    stop=stop,
                    records={METADATA_KEY: metadata},
                    arrays=arrays,
                )
            )
        validation = None
        if evaluator:
            validation = _create_validation(
                cfg, detector, step, evaluator=evaluator, logger=logger, stop=stop, best=best, metadata=metadata
            )
            callbacks.append(validation)
        # SaveCompileCache follows evaluation, whose graph is saved too:
        callbacks.append(SaveCompileCache(save_graphs))
        # RecordSteps follows all slow callbacks, because the time of later callbacks would count as data loading:
        if logger:
            callbacks.append(
                RecordSteps(
                    logger,
                    schedule=schedule,
                    images_per_step=images_per_step,
                    interval=cfg.log_interval,
                    device_target=cfg.device_target,
                    sinks_data=cfg.dataset_sink_mode,
                    first_step=start.step,
                    skipped_updates=int(step.skipped.asnumpy()),
                    started=started,
                )
            )
        # StopOnSignal is last, because it raises an exception after the step is saved and recorded:
        callbacks.append(StopOnSignal(stop))

        if validation and start.step:
            validation.resume(StepEnd(start.step, start.step, steps_per_epoch), is_evaluated=not evaluates_first)
        if start.step < total_steps and not (validation and validation.stopped_epoch):
            with raise_thread_errors(dataset):
                Model(step).train(
                    total_steps // sink_size,
                    dataset,
                    callbacks=[TrainingEvents(callbacks, first_step=start.step, steps_per_epoch=steps_per_epoch)],
                    dataset_sink_mode=cfg.dataset_sink_mode,
                    sink_size=sink_size,
                    initial_epoch=start.step // sink_size,
                )
    if runtime.is_main:
        stopped_epoch, best = (validation.stopped_epoch, validation.best) if validation else (None, None)
        epochs, seconds = stopped_epoch or cfg.epoch_size, time.monotonic() - started
        log.info(training_summary(folder, epochs, seconds=seconds, stopped_early=bool(stopped_epoch), best=best))


def _evaluates_first(cfg: Config, start: TrainingState, path: Path) -> bool:
    """Return True if the previous run was stopped before or during the evaluation of its last epoch.

    start: state of the training at the start of this run
    path: checkpoint from which the training resumes
    Raises UserError if the training is complete, and no evaluation is missing.
    """
    is_missing = lacks_evaluation(Path(cfg.ckpt_save_dir), start, evaluation_epochs(cfg))
    if not is_missing:
        refuse_completed(start, epochs=cfg.epoch_size, path=path)
    return is_missing


def _create_validation(
    cfg: Config,
    detector: nn.Cell,
    step: TrainStep,
    *,
    evaluator: DetectorEvaluator,
    logger: TrainingLogger | None,
    stop: SynchronizedStop,
    best: EvalRecord | None,
    metadata: Metadata,
) -> ValidationCallback:
    """Create the callback that evaluates the detector between epochs.

    detector: detector to evaluate
    step: training step, which contains the EMA weights
    evaluator: evaluator of the detector
    logger: logger of the main device; None on the other devices
    stop: flag on which an evaluation ends early
    best: best evaluation before this run was resumed, or None
    metadata: settings to store in best.ckpt
    """
    return ValidationCallback(
        evaluate=functools.partial(evaluator, stop),
        draw=ValidationImages(Path(cfg.data_dir), classes=cfg.classes or (), min_score=cfg.display_score),
        logger=logger,
        detector=detector,
        folder=Path(cfg.ckpt_save_dir),
        due=evaluation_epochs(cfg),
        ema_context=functools.partial(ema_weights, detector, step) if cfg.ema_decay else None,
        patience=cfg.early_stop_patience,
        best=best,
        records={METADATA_KEY: metadata},
    )


def _open_logger(cfg: Config, start: TrainingState, *, resumed_from: Path | None, source: str) -> TrainingLogger:
    """Archive files of the previous run, log the settings of the training, and open the log files.

    start: state of the training at the start of this run
    resumed_from: checkpoint from which the training resumes, or None
    source: description of the initial weights
    Raises UserError if files cannot be moved or written.
    """
    folder = Path(cfg.ckpt_save_dir)
    if resumed_from is None:
        archive, moved = archive_previous_run(folder), "the previous run"
    else:
        archive = archive_later_checkpoints(folder, resumed=resumed_from, step=start.step)
        moved = f"checkpoints after step {start.step}"
    if archive:
        log.info(f"{folder}: moved {moved} to {archive}")
    log_files = open_log_files(folder, start.step)
    for line in cfg.adaptations:
        log.info(line)
    num_classes, num_devices = cfg.num_classes - 1, start.images_per_step // cfg.batch_size
    log.info(
        f"training {cfg.backbone} for {count_noun(num_classes, 'class', 'classes')} on {num_devices} x "
        f"{cfg.device_target}: {count_noun(cfg.epoch_size, 'epoch')}, {count_noun(start.steps_per_epoch, 'step')} per "
        f"epoch, {count_noun(start.images_per_step, 'image')} per step, {source}"
    )
    total_steps = cfg.epoch_size * start.steps_per_epoch
    progress_bar = TrainingProgressBar(epochs=cfg.epoch_size, total_steps=total_steps, steps_done=start.step)
    return TrainingLogger(progress_bar, *log_files)

"""Training of a recipe, from data to checkpoints."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

from mindspore.train import Model

from ..boxes.anchors import create_anchors
from ..data.dataset import create_dataset
from ..interrupt import Interrupt
from ..models.detector import create_detector
from .callbacks import CheckpointSaver, EndWhenAsked, EvalWhileTrain, GoOn, KeepGraphs, RecordSteps
from .checkpoint import find_checkpoint, load_backbone
from .closing import closing_words
from .compile_cache import compile_cache
from .evaluator import create_evaluation
from .example_pictures import ExamplePictures
from .runtime import set_up_runtime
from .schedule import create_schedule
from .train_step import create_train_step, to_mixed_precision
from .training_display import TrainingDisplay
from .training_log import EvalRecord, TrainingLog, open_files, set_aside_earlier
from .training_state import TrainingState, find_resume, go_on


def train(cfg, resume: str | None = None) -> None:
    """Train as a recipe says; under a launcher, as one of its devices.

    cfg: Config; resume: None to start anew, else the checkpoint to go on from, empty for the newest in ckpt_save_dir
    Raises UserError, and KeyboardInterrupt when a signal ended it; its state is then in last.ckpt.
    """
    started = time.monotonic()
    runtime = set_up_runtime(cfg)
    dataset = create_dataset(cfg, "train", runtime.rank, runtime.world)
    schedule = create_schedule(cfg, dataset.get_dataset_size())
    anchors = create_anchors(cfg)
    detector = create_detector(cfg)
    if cfg.backbone_ckpt_path and resume is None:
        load_backbone(detector, cfg.backbone_ckpt_path)
    detector = to_mixed_precision(detector, cfg.amp_level)
    step = create_train_step(cfg, detector, anchors, schedule)
    state = TrainingState(0, dataset.get_dataset_size(), cfg.batch_size * runtime.world, cfg.seed)
    folder, path = Path(cfg.ckpt_save_dir), None
    if resume is not None:
        path = find_resume(folder, resume)
        state = go_on(step, state, path, cfg.epoch_size)
        dataset.set_init_step(state.step)

    with contextlib.ExitStack() as stack:
        interrupt = stack.enter_context(Interrupt(told=runtime.is_main))
        log = stack.enter_context(_open_log(cfg, len(schedule), state, path)) if runtime.is_main else None
        evaluating = None
        callbacks = [GoOn(state.step)]
        if cfg.eval_while_train:
            draw = ExamplePictures(Path(cfg.data_dir), cfg.classes, cfg.display_score)
            when = cfg.eval_start_epoch, cfg.eval_interval, cfg.epoch_size
            evaluation = create_evaluation(cfg, detector, anchors, runtime)
            best = EvalRecord(**state.best, is_best=True, pictures={}) if state.best else None
            evaluating = EvalWhileTrain(evaluation, draw, log, detector, folder, *when, best)
            callbacks.append(evaluating)
        keep = stack.enter_context(compile_cache(cfg, "train", runtime))
        callbacks.append(KeepGraphs(keep))
        if runtime.is_main:
            keeping = cfg.keep_checkpoint_max, cfg.checkpoint_every_steps
            best = (lambda: evaluating.best) if evaluating else (lambda: None)
            saver = CheckpointSaver(folder, *keeping, state, best, interrupt)
            skipped = state.step - int(step.optimizer.global_step.asnumpy().item())
            recording = cfg.log_interval, cfg.device_target, state.step, skipped
            recorder = RecordSteps(log, schedule, state.images_per_step, *recording)
            callbacks += [saver, recorder, EndWhenAsked(saver)]
        sink = cfg.dataset_sink_mode
        Model(step).train(cfg.epoch_size, dataset, callbacks, sink, initial_epoch=state.epochs_done)
    if runtime.is_main:
        best = evaluating.best if evaluating else None
        print(closing_words(folder, cfg.epoch_size, time.monotonic() - started, best, find_checkpoint(folder)))


def _open_log(cfg, steps: int, state: TrainingState, resumed: Path | None) -> TrainingLog:
    """Make room for this run, say what it is, and open what it is recorded in. Raises UserError."""
    folder = Path(cfg.ckpt_save_dir)
    earlier = set_aside_earlier(folder) if resumed is None else None
    if earlier:
        print(f"{folder}: moved what an earlier run left to {earlier}")
    files = open_files(folder, state.step)
    origin = f"weights of {cfg.backbone_ckpt_path}" if cfg.backbone_ckpt_path else "backbone from scratch"
    print(
        f"training {cfg.backbone} for {cfg.num_classes - 1} classes on {state.images_per_step // cfg.batch_size} x "
        f"{cfg.device_target}: {cfg.epoch_size} epochs of {state.steps_per_epoch} steps of {state.images_per_step} "
        f"images, {f'going on from {resumed} after step {state.step}' if resumed else origin}",
        flush=True,
    )
    return TrainingLog(TrainingDisplay(cfg.epoch_size, steps, state.step), *files)

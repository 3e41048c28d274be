"""Training of a recipe, from data to checkpoints."""

from __future__ import annotations

import contextlib
import functools
import json
import time
from pathlib import Path

import mindspore.nn as nn
from mindspore.train import Callback, Model

from ..boxes.anchors import create_anchors
from ..data.dataset import create_dataset, image_ids_of_step
from ..interrupt import Interrupt
from ..models.detector import create_detector
from .bad_loss import StopAtBadLoss
from .batch_norm_statistics import ShareStatistics
from .callbacks import GoOn, KeepGraphs, RecordSteps
from .checkpoint import find_checkpoint, load_backbone, load_pretrained
from .closing import closing_words
from .compile_cache import compile_cache
from .earlier import set_aside_earlier, set_aside_later
from .ending import EndTogether
from .eval_while_train import EvalWhileTrain, averaged_weights, read_best
from .evaluator import create_evaluation
from .example_pictures import ExamplePictures
from .meaning import MEANING_KEY, meaning_of
from .optimizer import freeze
from .runtime import Runtime, set_up_runtime
from .saving import CheckpointSaver, EndWhenAsked
from .schedule import create_schedule
from .train_step import WatchedTrainStep, create_train_step, to_mixed_precision
from .training_display import TrainingDisplay
from .training_log import TrainingLog, open_files
from .training_state import TrainingState, find_resume, go_on

# After how many steps devices ask one another whether to end: to ask makes the host wait for an accelerator.
STEPS_TO_AGREE = {"CPU": 1, "GPU": 10, "Ascend": 10}


def train(cfg, resume: str | None = None) -> None:
    """Train as a recipe says; under a launcher, as one of its devices.

    cfg: Config; resume: None to start anew, else the checkpoint to go on from, empty for the newest in ckpt_save_dir
    Raises UserError, and KeyboardInterrupt when a signal ended it; its state is then in last.ckpt.
    """
    started = time.monotonic()
    runtime = set_up_runtime(cfg)
    dataset = create_dataset(cfg, "train", runtime.rank, runtime.world)
    schedule = create_schedule(cfg, dataset.get_dataset_size(), runtime.world)
    anchors = create_anchors(cfg)
    detector, origin = _create_learner(cfg, is_new=resume is None)
    words = {MEANING_KEY: json.dumps(meaning_of(cfg))}
    step = create_train_step(cfg, detector, anchors, schedule)
    state = TrainingState(0, dataset.get_dataset_size(), cfg.batch_size * runtime.world, cfg.seed)
    folder, path, best = Path(cfg.ckpt_save_dir), None, None
    if resume is not None:
        path = find_resume(folder, resume)
        state = go_on(step, state, path, cfg.epoch_size, meaning_of(cfg))
        origin = f"going on from {path} after step {state.step}"
        dataset.set_init_step(state.step)
        best = read_best(folder, until=state.step)  # later steps are made again

    with contextlib.ExitStack() as stack:
        interrupt = stack.enter_context(Interrupt(told=runtime.is_main))
        log = stack.enter_context(_open_log(cfg, state, path, origin)) if runtime.is_main else None
        keep = stack.enter_context(compile_cache(cfg, "train", runtime))
        evaluating = None
        if cfg.eval_while_train:
            evaluation = create_evaluation(cfg, detector, anchors, runtime)
            evaluating = _create_evaluating(cfg, evaluation, log, detector, step, best, words)
        # Before those that evaluate, save and record come the ones that they build on.
        ending = EndTogether(interrupt, runtime.world, STEPS_TO_AGREE[cfg.device_target])
        callbacks = [GoOn(state.step), ending, *_create_guards(cfg, step, runtime)]
        callbacks += [evaluating] if evaluating else []
        callbacks.append(KeepGraphs(keep))
        if runtime.is_main:
            keeping = cfg.keep_checkpoint_max, cfg.checkpoint_every_steps
            recording = cfg.log_interval, cfg.device_target, state.step, int(step.skipped.asnumpy())
            callbacks.append(CheckpointSaver(folder, *keeping, state, ending, words))
            callbacks.append(RecordSteps(log, schedule, state.images_per_step, *recording))
        callbacks.append(EndWhenAsked(ending))
        epochs = cfg.epoch_size
        Model(step).train(epochs, dataset, callbacks, cfg.dataset_sink_mode, initial_epoch=state.epochs_done)
    if runtime.is_main:
        best, ended = (evaluating.best, evaluating.ended_at) if evaluating else (None, None)
        seconds = time.monotonic() - started
        print(closing_words(folder, ended or epochs, bool(ended), seconds, best, find_checkpoint(folder)))


def _create_learner(cfg, is_new: bool) -> tuple[nn.Cell, str]:
    """The detector as it is trained, and where its weights are from. is_new: false if all of them are loaded later"""
    detector, origin = create_detector(cfg), "backbone from scratch"
    if cfg.pretrained_detector and is_new:
        fresh = load_pretrained(detector, cfg.pretrained_detector, cfg.use_ema, meaning_of(cfg))
        origin = f"weights of {cfg.pretrained_detector}, {_fresh_words(fresh)}"
    elif cfg.backbone_ckpt_path and is_new:
        load_backbone(detector, cfg.backbone_ckpt_path)
        origin = f"weights of {cfg.backbone_ckpt_path}"
    freeze(detector, cfg.freeze)
    return to_mixed_precision(detector, cfg.amp_level), origin


def _fresh_words(names: list[str]) -> str:
    layers = dict.fromkeys(name.rpartition(".")[0] for name in names)
    return f"fresh ones in {', '.join(layers)}" if layers else "all of them, for its classes are the same"


def _create_guards(cfg, step: WatchedTrainStep, runtime: Runtime) -> list[Callback]:
    """What looks after a training on every device."""
    image_ids = functools.partial(image_ids_of_step, cfg, rank=runtime.rank, world=runtime.world)
    bad_loss = StopAtBadLoss(cfg.log_interval, cfg.checkpoint_every_steps, image_ids, runtime.rank)
    return [bad_loss, *([ShareStatistics(step, runtime.world)] if runtime.world > 1 else [])]


def _create_evaluating(cfg, evaluation, log, detector, step: WatchedTrainStep, best, words) -> EvalWhileTrain:
    """Evaluation between epochs. log: None on all devices but the main one; best: so far;
    words: to keep in best.ckpt"""
    draw = ExamplePictures(Path(cfg.data_dir), cfg.classes, cfg.display_score)
    average = functools.partial(averaged_weights, detector, step) if cfg.ema_decay else None
    when = cfg.eval_start_epoch, cfg.eval_interval, cfg.epoch_size
    more = {"average": average, "patience": cfg.early_stop_patience, "best": best, "words": words}
    return EvalWhileTrain(evaluation, draw, log, detector, Path(cfg.ckpt_save_dir), *when, **more)


def _open_log(cfg, state: TrainingState, resumed: Path | None, origin: str) -> TrainingLog:
    """Make room for this run, say what it is, and open what it is recorded in. Raises UserError."""
    folder = Path(cfg.ckpt_save_dir)
    if resumed is None:
        moved, what = set_aside_earlier(folder), "what an earlier run left"
    else:
        moved = set_aside_later(folder, resumed, state.step, state.steps_per_epoch)
        what = f"checkpoints from after step {state.step}"
    if moved:
        print(f"{folder}: moved {what} to {moved}")
    files = open_files(folder, state.step)
    print(
        f"training {cfg.backbone} for {cfg.num_classes - 1} classes on {state.images_per_step // cfg.batch_size} x "
        f"{cfg.device_target}: {cfg.epoch_size} epochs of {state.steps_per_epoch} steps of {state.images_per_step} "
        f"images, {origin}",
        flush=True,
    )
    steps = cfg.epoch_size * state.steps_per_epoch
    return TrainingLog(TrainingDisplay(cfg.epoch_size, steps, state.step), *files)

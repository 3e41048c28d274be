"""Training of a recipe, from data to checkpoints."""

from __future__ import annotations

from pathlib import Path

from mindspore.train import Model

from ..boxes.anchors import create_anchors
from ..data.dataset import create_dataset
from ..models.detector import create_detector
from .callbacks import CheckpointSaver, EvalWhileTrain, KeepGraphs, TrainLog, set_aside_earlier
from .checkpoint import find_checkpoint, load_backbone
from .compile_cache import compile_cache
from .evaluator import Evaluation
from .runtime import set_up_runtime
from .schedule import create_schedule
from .train_step import create_train_step, to_mixed_precision


def train(cfg) -> None:
    """Train as a recipe says; under a launcher, as one of its devices. cfg: Config. Raises UserError."""
    runtime = set_up_runtime(cfg)
    dataset = create_dataset(cfg, "train", runtime.rank, runtime.world)
    steps_per_epoch = dataset.get_dataset_size()
    schedule = create_schedule(cfg, steps_per_epoch)
    anchors = create_anchors(cfg)
    detector = create_detector(cfg)
    if cfg.backbone_ckpt_path:
        load_backbone(detector, cfg.backbone_ckpt_path)
    detector = to_mixed_precision(detector, cfg.amp_level)

    callbacks = []
    folder = Path(cfg.ckpt_save_dir)
    if runtime.is_main:
        callbacks = [
            TrainLog(schedule, cfg.epoch_size, cfg.batch_size * runtime.world, cfg.log_interval),
            CheckpointSaver(folder, cfg.keep_checkpoint_max),
        ]
        if cfg.eval_while_train:
            evaluation = Evaluation(cfg, detector, anchors, create_dataset(cfg, "val"))
            callbacks.append(
                EvalWhileTrain(evaluation, detector, folder, cfg.eval_start_epoch, cfg.eval_interval, cfg.epoch_size)
            )
        earlier = set_aside_earlier(folder)
        if earlier:
            print(f"{folder}: moved the checkpoints of an earlier run to {earlier}")
        print(
            f"training {cfg.backbone} for {cfg.num_classes - 1} classes on {runtime.world} x {cfg.device_target}: "
            f"{cfg.epoch_size} epochs of {steps_per_epoch} steps of {cfg.batch_size * runtime.world} images, "
            f"{'weights of ' + cfg.backbone_ckpt_path if cfg.backbone_ckpt_path else 'backbone from scratch'}",
            flush=True,
        )
    model = Model(create_train_step(cfg, detector, anchors, schedule))
    with compile_cache(cfg, "train", runtime) as keep:
        callbacks.append(KeepGraphs(keep))
        model.train(cfg.epoch_size, dataset, callbacks=callbacks, dataset_sink_mode=cfg.dataset_sink_mode)
    if runtime.is_main:
        print(f"checkpoints are in {folder}; eval.py takes {find_checkpoint(folder)} if --ckpt_path is empty")

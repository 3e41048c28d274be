"""Checks of a recipe: data, network, initial weights, and disk space for checkpoints.

Modules of the package are imported inside functions, because their imports fail if packages are broken.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ssd.errors import UserError, count_noun

from .finding import FAULT, OK, WARNING, Finding

if TYPE_CHECKING:
    from ssd.config.schema import Config

GB = 10**9
BYTES_PER_VALUE = 4  # checkpoints are float32


def load_recipe(path: str, arguments: list[str], device: str | None) -> tuple[Config | None, Finding]:
    """Load a recipe, and return it with the finding; None if the recipe is invalid.

    path: YAML file
    arguments: recipe keys and values of the command line, for example ["--batch_size", "8"]
    device: "CPU" or "Ascend"; None for the recipe's device
    """
    try:
        from ssd.config.command_line import parse_overrides
        from ssd.config.loading import load_config

        overrides = parse_overrides(arguments)
        cfg = load_config(path, {**overrides, "device_target": device} if device else overrides)
    except ImportError as error:
        advice = f"Correct the packages above. Python's message is: {error}."
        return None, Finding(FAULT, what="recipe", found="the reader of recipes cannot be imported", advice=advice)
    except UserError as error:
        return None, _user_error("recipe", error)
    height, width = cfg.image_size
    found = f"{path}, {cfg.backbone} on {width}x{height} images, {cfg.device_target}, {cfg.num_classes - 1} classes"
    return cfg, Finding(OK, what="recipe", found=found)


def check_recipe(cfg: Config, has_mindspore: bool) -> list[Finding]:
    """Check the data, network, weights, memory and disk space of a valid recipe.

    has_mindspore: True if MindSpore works; the network and its weights are checked with MindSpore
    """
    findings = [check_data(cfg)]
    if not has_mindspore:
        advice = "Correct MindSpore first. The network, its initial weights and the disk were not checked."
        return [*findings, Finding(WARNING, what="network", found="not checked", advice=advice)]
    import mindspore as ms

    from ssd.models.detector import create_detector

    ms.set_device("CPU")  # creating and loading parameters needs no NPU
    try:
        detector = create_detector(cfg)
    except UserError as error:
        return [*findings, _user_error("network", error)]
    parameters = sum(parameter.size for parameter in detector.get_parameters())
    findings.append(Finding(OK, what="network", found=f"{parameters / 1e6:.1f} million parameters"))
    findings.append(check_initial_weights(cfg, detector))
    findings += check_checkpoint(cfg, detector)
    if findings[0].status != FAULT:
        findings.append(check_memory(cfg, detector))
    findings.append(check_checkpoint_disk(cfg, checkpoint_size(cfg, detector)))
    return findings


def check_data(cfg: Config) -> Finding:
    """Check that data_dir has complete shards, and enough images for a step."""
    from ssd.data.dataset_info import DATASET_INFO_NAME, check_files, read_dataset_info

    folder = Path(cfg.data_dir)
    try:
        if not (folder / DATASET_INFO_NAME).is_file():
            return _check_shards_without_info(folder)
        info = read_dataset_info(folder / DATASET_INFO_NAME)
        for split in ("train", "val"):
            check_files(info, folder, split)
    except UserError as error:
        return _user_error("data", error)
    images = info.train.images
    if cfg.drop_remainder and images < cfg.batch_size:
        found, expected = count_noun(images, "training image"), f"at least batch_size, {cfg.batch_size}"
        return Finding(FAULT, what="data", found=found, expected=expected, advice="Lower --batch_size.")
    found = f"{folder}, {count_noun(images, 'training image')}, {count_noun(info.val.images, 'validation image')}"
    return Finding(OK, what="data", found=found)


def _check_shards_without_info(folder: Path) -> Finding:
    """Check shards of MindCV's example, which have no dataset.json. folder: folder of the shards"""
    names = [folder / "train" / name for name in ("coco0", "coco")]  # MindRecord does not number a single shard
    if any(path.is_file() for path in names):
        advice = "The shards were not checked. create_data.py writes shards with this file."
        return Finding(WARNING, what="data", found=f"{folder} has no dataset.json", advice=advice)
    advice = "Create the shards with create_data.py, or set --data_dir."
    return Finding(FAULT, what="data", found=f"{names[0]} not found", advice=advice)


def check_initial_weights(cfg: Config, detector: Any) -> Finding:
    """Load the initial weights of a recipe. detector: network of the recipe, whose weights are replaced"""
    from ssd.checkpoints.choice import choose_checkpoint
    from ssd.checkpoints.loading import load_backbone, load_pretrained
    from ssd.config.metadata import model_metadata

    try:
        if cfg.pretrained_detector:
            path = choose_checkpoint(cfg.pretrained_detector, cfg.ckpt_save_dir, option="pretrained_detector")
            load_pretrained(detector, path, use_ema=cfg.use_ema, metadata=model_metadata(cfg))
        elif cfg.backbone_ckpt_path:
            load_backbone(detector, cfg.backbone_ckpt_path)
    except UserError as error:
        return _user_error("initial weights", error)
    found = cfg.pretrained_detector or cfg.backbone_ckpt_path or "none, so the backbone is trained from scratch"
    return Finding(OK, what="initial weights", found=found)


def check_checkpoint(cfg: Config, detector: Any) -> list[Finding]:
    """Load the checkpoint that eval.py and predict.py would use, if there is one.

    detector: network of the recipe, whose weights are replaced
    A checkpoint in ckpt_save_dir that does not match is no fault, because a new training run archives it.
    """
    from ssd.checkpoints.choice import choose_checkpoint, describe_checkpoint, find_checkpoint
    from ssd.checkpoints.loading import load_weights
    from ssd.checkpoints.metadata import describe_mismatches, read_metadata
    from ssd.config.metadata import model_metadata

    if not cfg.ckpt_path and find_checkpoint(Path(cfg.ckpt_save_dir)) is None:
        return []
    metadata = model_metadata(cfg)
    try:
        path = choose_checkpoint(cfg.ckpt_path, cfg.ckpt_save_dir)
        load_weights(detector, path, use_ema=cfg.use_ema, metadata=metadata)
    except UserError as error:
        return [_user_error("checkpoint", error, status=FAULT if cfg.ckpt_path else WARNING)]
    warning = describe_mismatches({"input": metadata["input"]}, read_metadata(path), path)
    if warning:
        return [Finding(WARNING, what="checkpoint", found=warning)]
    return [Finding(OK, what="checkpoint", found=f"{describe_checkpoint(path)}, matches the recipe")]


def check_memory(cfg: Config, detector: Any, memory: int | None = None) -> Finding:
    """Compare the estimated memory of a training step on one device with the memory of the device.

    detector: network of the recipe, in which frozen parameters are marked
    memory: memory of the device in bytes; None for the memory of this machine, which is unknown for an NPU
    """
    from ssd.data.dataset import max_boxes_per_image
    from ssd.models.detector import to_mixed_precision
    from ssd.training.memory import available_memory, check_batch_size, choose_max_boxes, estimate_step_memory
    from ssd.training.optimizer import freeze

    freeze(detector, cfg.freeze)
    step = estimate_step_memory(cfg, to_mixed_precision(detector, cfg.amp_level))
    if memory is None and cfg.device_target == "CPU":
        memory = available_memory("CPU", ranks_on_host=1)
    try:
        largest = max_boxes_per_image(Path(cfg.data_dir))
    except UserError as error:
        return _user_error("memory", error)
    max_boxes = choose_max_boxes(cfg, step, memory=memory, largest=largest)
    found = f"a training step needs about {step.total(cfg.batch_size, max_boxes) / GB:.1f} GB"
    if memory is None:
        return Finding(OK, what="memory", found=f"{found}. Compare with the memory of the NPU in npu-smi info")
    try:
        check_batch_size(cfg, step, memory=memory, max_boxes=max_boxes)
    except UserError as error:
        return _user_error("memory", error)
    if cfg.max_gt is None and max_boxes < largest:
        advice = f"Images have up to {largest:,} boxes. Set max_gt to choose how many boxes of an image are kept."
        found = f"{found} of {memory / GB:.1f} GB with the {max_boxes:,} largest boxes of each image"
        return Finding(WARNING, what="memory", found=found, advice=advice)
    return Finding(OK, what="memory", found=f"{found} of {memory / GB:.1f} GB")


def checkpoint_size(cfg: Config, detector: Any) -> int:
    """Return the size in bytes of a checkpoint of the training, without the small entries.

    detector: network of the recipe, in which frozen parameters are marked
    A checkpoint contains the weights, the optimizer's momentum of each trainable weight, the averaged (EMA) weights,
    and the accumulated gradients.
    """
    from ssd.training.optimizer import freeze

    freeze(detector, cfg.freeze)
    values = sum(parameter.size for parameter in detector.get_parameters())
    trainable = sum(parameter.size for parameter in detector.trainable_params())
    copies = values * (2 if cfg.ema_decay else 1) + trainable * (2 if cfg.accumulate_steps > 1 else 1)
    return copies * BYTES_PER_VALUE


def check_checkpoint_disk(cfg: Config, checkpoint_bytes: int, free: int | None = None) -> Finding:
    """Check the disk of ckpt_save_dir.

    checkpoint_bytes: size of one checkpoint in bytes
    free: free space in bytes; None for the space of the disk
    """
    folder = Path(cfg.ckpt_save_dir)
    existing = next(parent for parent in (folder.absolute(), *folder.absolute().parents) if parent.is_dir())
    free = shutil.disk_usage(existing).free if free is None else free
    # Besides the epoch checkpoints: best.ckpt, last.ckpt within an epoch, and the file that is being written.
    count = min(cfg.keep_checkpoint_max, cfg.epoch_size) + 3
    need = count * checkpoint_bytes
    found = f"{free / GB:.1f} GB free for ckpt_save_dir {folder}"
    if free >= need:
        return Finding(OK, what="disk", found=f"{found}, checkpoints need {need / GB:.1f} GB")
    # A resumed run replaces the checkpoints of the previous run; a new run keeps them in an archive folder.
    replaceable = sum(path.stat().st_size for path in folder.glob("ssd-*.ckpt"))
    status = WARNING if free + replaceable >= need else FAULT
    expected = f"{need / GB:.1f} GB for {count} checkpoints"
    advice = "Free some space, lower --keep_checkpoint_max, or set --ckpt_save_dir to another disk."
    return Finding(status, what="disk", found=found, expected=expected, advice=advice)


def _user_error(what: str, error: UserError, status: str = FAULT) -> Finding:
    """Return the finding for a UserError, whose message says what is wrong and what to do."""
    return Finding(status, what=what, found=str(error))

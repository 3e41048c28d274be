"""Schema of recipes: type, default, limits and description of each key, and its markers.

A new key is declared in this file, and read by the code that uses the key. No other code lists keys, except that the
keys of `augment` are also arguments of TrainBatchTransform. `make docs` writes the pages of recipe keys from this file;
their Chinese meanings are in tools/docs_pages/recipe_keys_zh.yaml. Markers state what else depends on a key:

    HOST        no compiled graph depends on the key, so the compile cache stays valid when the key changes
    EVALUATION  the key changes the evaluation scores of a checkpoint, and is listed in metrics.json
    CLASSES     the key determines the meaning of the class scores, and is stored with checkpoints
    ANCHORS     the key determines the anchors or the box coding, and is stored with checkpoints
    NETWORK     the key determines the layers, and is stored with checkpoints
    INPUT       the key determines the size of the input, and is stored with checkpoints

Keys are stored with checkpoints because parameter shapes cannot reveal a mismatch. `ssd.config.metadata` collects them.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, PositiveFloat, PositiveInt

from .sections import (
    ANCHORS,
    CLASSES,
    EVALUATION,
    HOST,
    INPUT,
    NETWORK,
    AdaptableSection,
    Augment,
    ExtraLayer,
    Marker,
    PrecisionMode,
)


class Config(AdaptableSection):
    """All settings of a recipe. Each field is a recipe key, and --help shows the description of each field."""

    # Paths
    data_dir: Annotated[str, HOST] = Field("./data/coco", description="folder of the shards that create_data.py wrote")
    backbone_ckpt_path: Annotated[str | None, HOST] = Field(
        None, description="ImageNet checkpoint of the backbone; if empty, the backbone is trained from scratch"
    )
    pretrained_detector: Annotated[str | None, HOST] = Field(
        None, description="detector checkpoint to fine-tune, possibly on other classes; replaces backbone_ckpt_path"
    )
    ckpt_path: Annotated[str | None, HOST] = Field(
        None,
        description="checkpoint or folder for eval.py and predict.py; in a folder [ckpt_save_dir], the best or else "
        "the newest",
    )
    ckpt_save_dir: Annotated[str, HOST] = Field(
        "./ckpt", description="folder to which train.py writes checkpoints, metrics.csv and TensorBoard events"
    )
    output_dir: Annotated[str, HOST] = Field(
        "./output", description="folder for the results of eval.py; predict.py writes to the subfolder predictions"
    )

    # Classes
    dataset: Literal["coco"] = Field("coco", description="format of the shards in data_dir")
    classes: Annotated[tuple[str, ...] | None, HOST, CLASSES] = Field(
        None, description="class names, background first; read from the data if not given"
    )
    num_classes: int = Field(ge=2, description="number of classes, background included; read from the data by default")

    # Detector
    backbone: Annotated[str, NETWORK] = Field(description="name of the backbone in MindCV")
    backbone_out_indices: Annotated[tuple[int, ...], NETWORK] = Field(
        min_length=1, description="indices of the backbone's feature maps to use"
    )
    backbone_channels: tuple[int, ...] | None = Field(
        None, description="channels of each backbone level; derived from the network, and checked if given"
    )
    extras_in_channels: tuple[PositiveInt, ...] | None = Field(
        None, min_length=1, description="input channels of each level; derived from the network, and checked if given"
    )
    backbone_max_stride: Annotated[int | None, NETWORK] = Field(
        None, gt=0, description="maximum stride of the backbone in input pixels; stages beyond that stride get stride 1"
    )
    backbone_padding: Annotated[Literal["mindcv", "torch"], NETWORK] = Field(
        "mindcv",
        description="padding of strided backbone layers: MindCV's (mindcv), or symmetric as in PyTorch (torch)",
    )
    backbone_taps: Annotated[Literal["output", "expansion"], NETWORK] = Field(
        "output",
        description="the backbone's maps: outputs of stages, or expansions in the next blocks (all but the last)",
    )
    neck: Annotated[Literal["extras", "residuals", "convs", "fpn"], NETWORK] = Field(
        "extras",
        description="extra levels: blocks of MindCV, torchvision (residuals) or SSD (convs), or pyramid (fpn)",
    )
    head: Annotated[Literal["separate", "separate_bias", "plain", "shared"], NETWORK] = Field(
        "separate",
        description="predictors: separable, separable with biases, 3x3, or shared by all levels",
    )
    anchors: Annotated[Literal["default", "grid"], ANCHORS] = Field(
        "default", description="SSD's default boxes (default) or RetinaNet's grid anchors (grid)"
    )
    image_size: Annotated[tuple[PositiveInt, PositiveInt], INPUT] = Field(
        description="height and width of the input image in pixels"
    )
    steps: Annotated[tuple[PositiveInt, ...], INPUT] = Field(
        min_length=1, description="distance between neighboring anchor locations in input pixels, for each level"
    )
    box_sizes: Annotated[tuple[PositiveFloat, ...] | None, ANCHORS] = Field(
        None, description="with anchors default: box sizes in pixels instead of scales, one per level and one more"
    )
    min_scale: Annotated[float, ANCHORS] = Field(
        0.2, gt=0, le=1, description="with anchors default: first level's box size as a fraction of the image sides"
    )
    max_scale: Annotated[float, ANCHORS] = Field(
        0.95, gt=0, le=1, description="with anchors default: last level's box size as a fraction of the image sides"
    )
    clip_default_boxes: Annotated[bool, ANCHORS] = Field(
        False, description="with anchors default: clip centers, heights and widths of the boxes to 0..1"
    )
    aspect_ratios: Annotated[tuple[tuple[PositiveFloat, ...], ...], ANCHORS] = Field(
        (), description="with anchors default: aspect ratios besides 1, one list for each level"
    )
    extra_layers: Annotated[tuple[ExtraLayer, ...], NETWORK] = Field(
        (),
        description="with all necks except fpn: blocks with the keys out_channels, expand_ratio, stride, pad",
    )
    fpn_channels: Annotated[int, NETWORK] = Field(
        256, gt=0, description="with neck fpn: number of channels of each level"
    )
    num_addition_layers: Annotated[int, NETWORK] = Field(
        4, ge=0, description="with head shared: number of convolutions before the prediction layers"
    )
    prior_scaling: Annotated[tuple[PositiveFloat, PositiveFloat], ANCHORS] = Field(
        (0.1, 0.2), description="scaling of center offsets and size offsets (SSD's variances)"
    )

    # Loss
    match_threshold: float = Field(
        0.5,
        gt=0,
        lt=1,
        description="not with loss task_aligned: IoU above which an anchor is matched to a ground-truth box",
    )
    loss: Annotated[Literal["focal", "multibox", "task_aligned"], CLASSES] = Field(
        "focal",
        description="classification loss: sigmoid focal, softmax with hard negatives, or task-aligned (TOOD)",
    )
    negatives_per_positive: int = Field(
        3, gt=0, description="with loss multibox: number of hard negatives for each positive anchor"
    )
    box_loss: Literal["smooth_l1", "giou", "ciou"] = Field("smooth_l1", description="box loss of positive anchors")
    box_loss_weight: float = Field(1.0, gt=0, description="weight of the box loss relative to the classification loss")
    prior_bias: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="not with loss multibox: initial probability of each object class; 0.01 is usual",
    )
    alpha: float = Field(0.25, ge=0, le=1, description="with loss focal: weight of the terms whose target is 1")
    gamma: float = Field(
        2.0, ge=0, description="with loss focal: focusing parameter; higher values reduce the weight of easy examples"
    )
    sync_num_positives: bool = Field(
        False,
        description="divide the loss by the positive anchors of all devices (true), or of each as in MindCV (false)",
    )

    # Training
    epoch_size: int = Field(500, gt=0, description="number of epochs")
    batch_size: int = Field(32, gt=0, description="number of images per device and step")
    schedule: Literal["cosine", "steps"] = Field("cosine", description="learning rate schedule after the warm-up")
    milestones: tuple[PositiveFloat, ...] = Field(
        (), description="with schedule steps: epochs after which the learning rate drops, possibly fractions"
    )
    lr_factor: float = Field(
        0.1, gt=0, lt=1, description="with schedule steps: multiplier of the learning rate at each milestone"
    )
    max_gt: int | None = Field(
        None,
        gt=0,
        description="maximum number of ground-truth boxes of a training image, largest first; if null, derived from "
        "data and memory",
    )
    lr: float = Field(0.05, gt=0, description="peak learning rate")
    lr_init: float = Field(0.001, ge=0, description="learning rate at the start of the warm-up")
    lr_end_rate: float = Field(0.001, ge=0, description="with schedule cosine: ratio of the final learning rate to lr")
    lr_reference_batch: int | None = Field(
        None, gt=0, description="batch size to which lr and lr_init refer; both are scaled to the actual batch size"
    )
    warmup_epochs: float = Field(2, ge=0, description="number of epochs of linear warm-up, possibly a fraction")
    optimizer: Literal["momentum", "adamw"] = Field(
        "momentum", description="SGD with momentum, or AdamW, which needs lower learning rates"
    )
    momentum: float = Field(0.9, ge=0, lt=1, description="with optimizer momentum: momentum of SGD")
    weight_decay: float = Field(0.00015, ge=0, description="weight decay of all parameters except BatchNorm parameters")
    decay_bias: bool = Field(True, description="apply weight_decay to biases too")
    freeze: Literal["backbone", "backbone_batch_norm"] | None = Field(
        None, description="frozen part of the detector: the backbone, or the BatchNorm layers of the backbone"
    )
    clip_grad_norm: float | None = Field(None, gt=0, description="maximum global L2 norm of the gradients")
    accumulate_steps: int = Field(
        1, gt=0, description="gradient accumulation: number of batches for each update of the weights"
    )
    ema_decay: float | None = Field(
        None, gt=0, lt=1, description="decay of the exponential moving average (EMA) of the weights; 0.9998 is usual"
    )
    use_ema: Annotated[bool, HOST, EVALUATION] = Field(
        True, description="load the averaged (EMA) weights from checkpoints that contain averaged weights"
    )
    loss_scale: float = Field(1024.0, gt=0, description="loss scale; with loss_scale_type dynamic: initial loss scale")
    loss_scale_type: Literal["fixed", "dynamic"] = Field(
        "fixed", description="constant loss scale (fixed), or loss scale that adapts to overflows (dynamic)"
    )
    augment: Annotated[Augment, HOST] = Augment()
    shuffle: bool = Field(True, description="shuffle the training images in each epoch")
    drop_remainder: bool = Field(True, description="drop the last, smaller batch of a training epoch")
    skip_bad_images: Annotated[bool, HOST] = Field(
        False, description="replace training images that cannot be decoded by others of their batch, and report them"
    )
    seed: int = Field(0, ge=0, lt=2**31, description="random seed of initialization, image order and augmentation")
    steps_per_epoch: int | None = Field(None, gt=0, description="maximum number of steps in an epoch")
    log_interval: Annotated[int, HOST] = Field(50, gt=0, description="number of steps between log lines")
    checkpoint_every_steps: Annotated[int | None, HOST] = Field(
        None, gt=0, description="number of steps between saves of last.ckpt within an epoch"
    )
    keep_checkpoint_max: Annotated[int, HOST] = Field(20, gt=0, description="number of epoch checkpoints to keep")
    eval_while_train: bool = Field(False, description="evaluate between epochs, and keep the best checkpoint")
    eval_start_epoch: int = Field(1, ge=1, description="with eval_while_train: first epoch after which to evaluate")
    eval_interval: int = Field(1, ge=1, description="with eval_while_train: number of epochs between evaluations")
    early_stop_patience: Annotated[int | None, HOST] = Field(
        None, gt=0, description="with eval_while_train: number of evaluations without a new best mAP before stopping"
    )

    # Evaluation and prediction
    min_score: Annotated[float, HOST, EVALUATION] = Field(
        0.01, ge=0, lt=1, description="score below which evaluation drops detections"
    )
    display_score: Annotated[float, HOST] = Field(
        0.3, ge=0, le=1, description="score below which detections are not drawn, and are not listed by predict.py"
    )
    nms: Annotated[Literal["hard", "soft"], HOST, EVALUATION] = Field(
        "hard", description="non-maximum suppression: drop overlapping boxes (hard), or lower their scores (soft)"
    )
    nms_threshold: Annotated[float, HOST, EVALUATION] = Field(
        0.6, gt=0, le=1, description="with nms hard: IoU above which the box with the lower score is dropped"
    )
    soft_nms_sigma: Annotated[float, HOST, EVALUATION] = Field(
        0.5, gt=0, description="with nms soft: scores of overlapping boxes are multiplied by exp(-IoU^2 / sigma)"
    )
    pre_nms_top_k: Annotated[int, EVALUATION] = Field(
        1000, gt=0, description="maximum number of candidate boxes per image before NMS"
    )
    max_detections: Annotated[int, HOST, EVALUATION] = Field(
        100, gt=0, description="maximum number of detections of an image"
    )
    metric: Annotated[Literal["coco", "voc"], HOST, EVALUATION] = Field(
        "coco", description="definition of mAP: COCO's AP, or Pascal VOC's AP at IoU 0.5 (area under the curve)"
    )

    # Device
    device_target: Literal["Ascend", "CPU"] = Field(description="device that runs the detector; detected if not given")
    mode: Literal[0, 1] = Field(0, description="0 for graph mode, 1 for PyNative mode")
    jit_level: Literal["", "O0", "O1", "O2"] = Field(
        "", description="graph compilation level; if empty, MindSpore chooses the level for the device"
    )
    amp_level: Literal["O0", "O2", "O3"] = Field(
        "O0", description="mixed precision: O0 for float32, O2 for float16 except BatchNorm, O3 for float16"
    )
    dataset_sink_mode: bool = Field(
        False, description="on Ascend: data sinking, in which the device reads batches from a queue without the host"
    )
    sink_size: int = Field(
        10,
        gt=0,
        description="with dataset_sink_mode: maximum number of steps without the host; the largest divisor of the "
        "steps per epoch is used",
    )
    num_parallel_workers: Annotated[int, HOST] = Field(
        8, gt=0, description="number of data loading threads per device, limited to the device's share of the CPU cores"
    )
    comm_fusion_mb: int | None = Field(
        None, gt=0, description="on several devices: size in MB of the groups in which gradients are sent"
    )
    conv_allow_hf32: bool | None = Field(None, description="on Ascend: compute float32 convolutions in HF32")
    matmul_allow_hf32: bool | None = Field(None, description="on Ascend: compute float32 matrix products in HF32")
    precision_mode: PrecisionMode | None = Field(
        None, description="on Ascend: rule by which MindSpore may change the precision of operators"
    )
    execute_timeout_s: Annotated[int | None, HOST] = Field(
        None, ge=0, description="on Ascend: maximum duration of an operator in seconds; 0 for no limit"
    )


def keys_marked(marker: Marker) -> list[str]:
    """Return the names of the top-level keys that carry a marker, in the order of their declaration."""
    return [name for name, field in Config.model_fields.items() if marker in field.metadata]


def graph_settings(cfg: Config) -> dict[str, Any]:
    """Return the keys on which compiled graphs may depend, as {key: JSON value}."""
    return cfg.model_dump(mode="json", exclude=set(keys_marked(HOST)))

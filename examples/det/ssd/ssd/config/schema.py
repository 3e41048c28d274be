"""What a recipe may say: Config, its sections, and what their values must be."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", coerce_numbers_to_str=True, allow_inf_nan=False)


class Augment(_Section):
    """Augmentation of training images."""

    crop_prob: float = Field(5 / 6, ge=0, le=1, description="share of images cropped under an IoU constraint")
    crop_min_iou: tuple[Annotated[float, Field(ge=0, le=1)], ...] = Field(
        (0.1, 0.3, 0.5, 0.7, 0.9), min_length=1, description="constraints, one drawn for each crop"
    )
    zoom_out_prob: float = Field(
        0.0, ge=0, le=1, description="share of images shrunk on a larger canvas before the crop"
    )
    zoom_out_max: float = Field(4.0, ge=1, le=16, description="longest canvas side over the image's")
    flip_prob: float = Field(0.5, ge=0, le=1, description="share of images flipped left to right")
    color_prob: float = Field(1.0, ge=0, le=1, description="share of images with jittered colours")
    brightness: float = Field(0.4, ge=0, lt=1, description="factor drawn from 1 - x .. 1 + x")
    contrast: float = Field(0.4, ge=0, lt=1, description="factor drawn from 1 - x .. 1 + x")
    saturation: float = Field(0.4, ge=0, lt=1, description="factor drawn from 1 - x .. 1 + x")
    hue: float = Field(0.05, ge=0, le=0.5, description="part of a turn drawn from -x .. x; 0.05 is SSD's 18 degrees")


class ExtraLayer(_Section):
    """One block behind the backbone: an inverted residual (neck `extras`), or a 1x1 and a 3x3 convolution (`convs`)."""

    out_channels: int = Field(gt=0)
    expand_ratio: float = Field(gt=0, description="hidden channels over input channels")
    stride: Literal[1, 2] = 2
    pad: bool = Field(True, description="neck `convs`: whether the 3x3 convolution pads; if not, maps lose 2 locations")


class Config(_Section):
    """Everything a run needs. Each field is a recipe key; `description` is what --help shows."""

    data_dir: str = Field("./data/coco", description="folder written by create_data.py")
    backbone_ckpt_path: str | None = Field(None, description="ImageNet weights of the backbone; empty: from scratch")
    pretrained_detector: str | None = Field(
        None, description="detector to start from, of other classes; then backbone_ckpt_path is not read"
    )
    ckpt_path: str | None = Field(
        None, description="detector to evaluate or predict with; empty: best, else newest, in ckpt_save_dir"
    )
    ckpt_save_dir: str = Field("./ckpt", description="where train.py writes checkpoints, metrics.csv and events")
    output_dir: str = Field(
        "./output", description="where eval.py writes report.html and figures, and predict.py, in predictions/"
    )
    dataset: Literal["coco"] = Field("coco", description="kind of shards under data_dir")
    classes: tuple[str, ...] | None = Field(
        None, description="class names, background first; follow the data if not given"
    )
    num_classes: int = Field(ge=2, description="K, background included; follows the data if not given")

    backbone: str = Field(description="name of a MindCV model")
    backbone_out_indices: tuple[int, ...] = Field(min_length=1, description="which of its feature maps are used")
    backbone_channels: tuple[int, ...] | None = Field(
        None, description="channels of its levels; derived, checked if given"
    )
    extras_in_channels: tuple[PositiveInt, ...] | None = Field(
        None, min_length=1, description="channels that each level reads; derived, checked if given"
    )
    backbone_max_stride: int | None = Field(
        None, gt=0, description="input pixels between locations of its coarsest map; later stages have stride 1"
    )
    backbone_padding: Literal["mindcv", "torch"] = Field(
        "mindcv", description="how its strided layers pad: as in MindCV, or both sides alike, for weights of PyTorch"
    )
    neck: Literal["extras", "convs", "fpn"] = Field(
        "extras", description="what makes the feature levels: inverted residuals, plain convolutions, a pyramid"
    )
    head: Literal["separate", "plain", "shared"] = Field(
        "separate", description="predictors: depthwise separable or one 3x3 convolution a level, or one for all levels"
    )
    anchors: Literal["default", "grid"] = Field("default", description="SSD's default boxes or RetinaNet's grid")
    image_size: tuple[PositiveInt, PositiveInt] = Field(description="input (height, width) in pixels")
    steps: tuple[PositiveInt, ...] = Field(min_length=1, description="pixels between anchors, one a level")
    min_scale: float = Field(0.2, gt=0, le=1, description="default box size of the first level, share of the image")
    max_scale: float = Field(0.95, gt=0, le=1, description="default box size of the last level, share of the image")
    box_sizes: tuple[PositiveFloat, ...] | None = Field(
        None, description="default box sizes in pixels instead, one a level and one beyond the last"
    )
    clip_default_boxes: bool = Field(False, description="limit centres and sides of default boxes to the image")
    aspect_ratios: tuple[tuple[PositiveFloat, ...], ...] = Field(
        (), description="default box ratios besides 1, a list a level"
    )
    extra_layers: tuple[ExtraLayer, ...] = Field((), description="blocks of the necks `extras` and `convs`")
    fpn_channels: int = Field(256, gt=0, description="channels of every level of the neck `fpn`")
    num_addition_layers: int = Field(4, ge=0, description="convolutions in the head `shared` before its predictors")

    match_threshold: float = Field(0.5, gt=0, lt=1, description="IoU above which an anchor answers for an object")
    prior_scaling: tuple[PositiveFloat, PositiveFloat] = Field(
        (0.1, 0.2), description="factors of centre and size offsets"
    )
    loss: Literal["focal", "multibox"] = Field(
        "focal", description="of the classes: sigmoid focal loss, or softmax with hard negative mining"
    )
    negatives_per_positive: int = Field(3, gt=0, description="multibox: hardest negatives that count in an image")
    box_loss: Literal["smooth_l1", "giou", "ciou"] = Field("smooth_l1", description="of the boxes of positive anchors")
    box_loss_weight: float = Field(1.0, gt=0, description="of the box loss beside that of the classes")
    prior_bias: float | None = Field(
        None, gt=0, lt=1, description="focal: probability that fresh class predictors give each object class; try 0.01"
    )
    alpha: float = Field(0.25, ge=0, le=1, description="focal loss: weight of the positive term")
    gamma: float = Field(2.0, ge=0, description="focal loss: how much easy examples are played down")

    epoch_size: int = Field(500, gt=0, description="epochs")
    batch_size: int = Field(32, gt=0, description="images on each device")
    schedule: Literal["cosine", "steps"] = Field("cosine", description="how the learning rate falls after the warm-up")
    milestones: tuple[PositiveInt, ...] = Field((), description="steps: epochs after which the learning rate falls")
    lr_factor: float = Field(0.1, gt=0, lt=1, description="steps: what the learning rate is multiplied by at each")
    lr: float = Field(0.05, gt=0, description="highest learning rate")
    lr_init: float = Field(0.001, ge=0, description="learning rate at the start of the warm-up")
    lr_end_rate: float = Field(0.001, ge=0, description="cosine: learning rate at the end, as a share of lr")
    lr_reference_batch: int | None = Field(
        None, gt=0, description="lr and lr_init are meant for this many images an update, and scaled to what it has"
    )
    warmup_epochs: int = Field(2, ge=0)
    momentum: float = Field(0.9, ge=0, lt=1)
    weight_decay: float = Field(0.00015, ge=0, description="of all weights but BatchNorm's")
    decay_bias: bool = Field(True, description="whether weight_decay holds for biases, too")
    freeze: Literal["backbone", "backbone_batch_norm"] | None = Field(
        None, description="what keeps its weights and statistics: all of the backbone, or its BatchNorm"
    )
    clip_grad_norm: float | None = Field(None, gt=0, description="longest gradient, all weights as one vector")
    accumulate_steps: int = Field(1, gt=0, description="batches whose mean gradient makes an update")
    ema_decay: float | None = Field(
        None, gt=0, lt=1, description="keep a moving average of the weights, too, and evaluate it; try 0.9998"
    )
    use_ema: bool = Field(True, description="take the averaged weights of a checkpoint that has them")
    loss_scale: float = Field(1024.0, gt=0, description="fixed, or the start of a dynamic one")
    loss_scale_type: Literal["fixed", "dynamic"] = "fixed"
    augment: Augment = Augment()
    shuffle: bool = True
    drop_remainder: bool = Field(True, description="drop the last, smaller batch of a training epoch")
    seed: int = Field(0, ge=0, lt=2**31, description="seeds initialisation, order and augmentation")
    steps_per_epoch: int | None = Field(None, gt=0, description="shorten epochs to this many steps")
    log_interval: int = Field(50, gt=0, description="steps between log lines")
    checkpoint_every_steps: int | None = Field(
        None, gt=0, description="save last.ckpt within epochs, too; not with sunk data"
    )
    keep_checkpoint_max: int = Field(20, gt=0, description="how many epoch checkpoints stay")
    eval_while_train: bool = Field(False, description="evaluate between epochs and keep the best checkpoint")
    eval_start_epoch: int = Field(1, ge=1)
    eval_interval: int = Field(1, ge=1)
    early_stop_patience: int | None = Field(
        None, gt=0, description="evaluations without a new best after which training ends"
    )

    min_score: float = Field(0.01, ge=0, lt=1, description="evaluation: detections below are dropped")
    display_score: float = Field(
        0.3, ge=0, le=1, description="detections below are not drawn, nor listed by predict.py"
    )
    nms: Literal["hard", "soft"] = Field("hard", description="hard drops overlapping boxes, soft lowers their scores")
    nms_threshold: float = Field(
        0.6, gt=0, le=1, description="hard: IoU above which the weaker box of a class is dropped"
    )
    soft_nms_sigma: float = Field(0.5, gt=0, description="soft: scores fall by exp(-IoU^2 / sigma)")
    pre_nms_top_k: int = Field(1000, gt=0, description="T, candidates an image that reach NMS")
    max_detections: int = Field(100, gt=0, description="detections kept in an image")
    metric: Literal["coco", "voc"] = Field(
        "coco", description="what mAP means: COCO's AP, or Pascal VOC's at IoU 0.5 by area"
    )

    device_target: Literal["Ascend", "GPU", "CPU"] = Field(description="what the machine has, if not given")
    mode: Literal[0, 1] = Field(0, description="0 graph, 1 PyNative")
    jit_level: Literal["O0", "O1", "O2"] = "O2"
    amp_level: Literal["O0", "O1", "O2", "O3"] = "O0"
    dataset_sink_mode: bool = False
    num_parallel_workers: int = Field(
        8, gt=0, description="threads that prepare data, at most the cores of the machine"
    )

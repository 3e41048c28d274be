"""Memory of a training step: its parts by hand, its growth, the refusal of a batch, and the derived max_gt."""

import dataclasses
import json
import re
import types

import numpy as np
import pytest

from ssd.errors import UserError
from ssd.models.detector import create_detector, to_mixed_precision
from ssd.runtime.device import Runtime
from ssd.training import memory as memory_module
from ssd.training.feature_maps import FeatureMapValues
from ssd.training.memory import (
    LIVE_TENSORS,
    LiveTensors,
    StepMemory,
    check_batch_size,
    estimate_step_memory,
    fit_to_memory,
)
from ssd.training.optimizer import freeze

STEP = StepMemory(
    weights=100,
    compilation=50,
    inputs_per_image=1,
    activations_per_image=20,
    loss_per_image=4,
    assignment_per_box=3,
)


@pytest.fixture
def estimate(tiny_recipe):
    """estimate(batch_size=2) is the StepMemory of `tiny_recipe` with these keys."""

    def compute(**keys):
        cfg = tiny_recipe(**keys)
        detector = create_detector(cfg)
        freeze(detector, cfg.freeze)
        return estimate_step_memory(cfg, to_mixed_precision(detector, cfg.amp_level))

    return compute


@pytest.fixture
def with_memory(monkeypatch):
    """with_memory(size) lets the device of each rank have this many bytes; None is unknown."""
    monkeypatch.setattr(memory_module, "minimum_of_ranks", lambda memory, world_size: memory)
    return lambda size: monkeypatch.setattr(
        memory_module, "available_memory", lambda device_target, ranks_on_host: size
    )


# --- totals ---


def test_parts_and_total_of_a_batch():
    parts = STEP.parts(batch_size=2, max_boxes=5)
    assert parts == {
        "weights": 100,
        "compilation": 50,
        "activations": 40,
        "target assignment": 30,
        "loss": 8,
        "inputs": 2,
    }
    assert list(parts.values()) == sorted(parts.values(), reverse=True)
    assert STEP.total(batch_size=2, max_boxes=5) == 230


def test_total_is_linear_in_images_and_boxes():
    totals = np.array([[STEP.total(images, boxes) for boxes in range(4)] for images in range(5)])
    assert not np.diff(totals, n=2, axis=0).any() and not np.diff(totals, n=2, axis=1).any()


@pytest.mark.parametrize("memory, batch, boxes", [(149, 0, 0), (189, 0, 0), (190, 1, 0), (229, 1, 4), (230, 2, 5)])
def test_largest_batch_and_most_boxes(memory, batch, boxes):
    """The fixed parts are 150. An image with 5 boxes adds 40; two images without boxes add 50, and a box of each 6."""
    assert STEP.largest_batch(memory, max_boxes=5) == batch
    assert STEP.most_boxes(memory, batch_size=2) == boxes


# --- estimate of a recipe ---


def test_estimate_by_hand(tiny_recipe, monkeypatch):
    live = LiveTensors(
        convolution=2,
        batch_norm=3,
        activation=5,
        focal=7,
        multibox=1,
        assignment=11,
        task_alignment=29,
        image=13,
        gradient=17,
        compilation=19,
    )
    monkeypatch.setitem(LIVE_TENSORS, "CPU", live)
    maps = FeatureMapValues(convolution=100, batch_norm=10, activation=1)
    monkeypatch.setattr(memory_module, "count_feature_map_values", lambda detector, image_size: maps)
    parameters = [types.SimpleNamespace(shape=(2, 3)), types.SimpleNamespace(shape=())]  # 7 values
    detector = types.SimpleNamespace(
        anchors=range(23), get_parameters=lambda: parameters, trainable_params=lambda: parameters[:1]
    )
    cfg = tiny_recipe(image_size=[64, 32], num_classes=4)
    assert estimate_step_memory(cfg, detector) == StepMemory(
        weights=4 * (7 + 17 * 6),
        compilation=19,
        inputs_per_image=64 * 32 * 3 * (1 + 4 * 13),
        activations_per_image=4 * (2 * 100 + 3 * 10 + 5 * 1),
        loss_per_image=4 * 7 * 23 * 4,
        assignment_per_box=4 * 11 * 23,
    )
    cfg = tiny_recipe(ema_decay=0.99, accumulate_steps=3, loss="multibox")
    copies = estimate_step_memory(cfg, detector)
    assert copies.weights == 4 * (2 * 7 + (17 + 2) * 6) and copies.loss_per_image == 4 * 1 * 23 * 4
    aligned = estimate_step_memory(
        tiny_recipe(num_classes=4, loss="task_aligned", prior_bias=0.01, optimizer="adamw"), detector
    )
    assert aligned.weights == 4 * (7 + (17 + 1) * 6) and aligned.loss_per_image == 4 * 7 * 23 * 4
    assert aligned.assignment_per_box == 4 * 29 * 23


@pytest.mark.parametrize("device_target", ["CPU", "Ascend"])
def test_copies_add_memory(device_target, estimate):
    plain = estimate(device_target=device_target)
    assert estimate(device_target=device_target, ema_decay=0.99).weights > plain.weights
    assert estimate(device_target=device_target, accumulate_steps=2).weights > plain.weights
    more_classes = estimate(device_target=device_target, num_classes=8)
    assert more_classes.loss_per_image == 2 * plain.loss_per_image
    assert (
        more_classes.assignment_per_box == plain.assignment_per_box == 4 * 336 * LIVE_TENSORS[device_target].assignment
    )


def test_frozen_backbone_keeps_no_activations_and_gradients(estimate):
    plain, frozen = estimate(), estimate(freeze="backbone")
    assert frozen.activations_per_image < plain.activations_per_image / 2 and frozen.weights < plain.weights
    batch_norm = estimate(freeze="backbone_batch_norm")
    assert batch_norm.activations_per_image == plain.activations_per_image


def test_float16_halves_the_activations_of_ascend_alone(estimate):
    float32, mixed, float16 = (estimate(device_target="Ascend", amp_level=level) for level in ("O0", "O2", "O3"))
    assert float16.activations_per_image == float32.activations_per_image / 2
    assert float16.activations_per_image < mixed.activations_per_image < float32.activations_per_image
    assert float16.loss_per_image == float32.loss_per_image  # the loss is computed in float32
    assert estimate(amp_level="O3") == estimate(amp_level="O0")


def test_published_recipe_fits_the_npu_it_was_trained_on(load_recipe):
    """MindCV trained batches of 32 on NPUs with 32 GB. COCO has at most 93 boxes in a training image."""
    cfg = load_recipe("ssd_resnet50_fpn", device_target="Ascend", amp_level="O3")
    step = estimate_step_memory(cfg, create_detector(cfg))
    assert 20e9 < step.total(batch_size=32, max_boxes=93) < 30e9
    assert step.total(batch_size=32, max_boxes=1000) > 40e9
    check_batch_size(cfg, step, memory=32 * 10**9, max_boxes=93)


# --- refusal ---


def test_refused_batch_names_the_largest_batch_and_the_accumulation(tiny_recipe):
    cfg, step = tiny_recipe(batch_size=32, accumulate_steps=3), dataclasses.replace(STEP, weights=0, compilation=0)
    # An image with 5 boxes takes 40 bytes. 32 of them take 1,280, at most 1.4 times 915.
    check_batch_size(cfg, step, memory=915, max_boxes=5)
    with pytest.raises(UserError, match="^batch_size: ") as raised:
        check_batch_size(cfg, step, memory=900, max_boxes=5)
    # 22 images fit, the next part of 32 is 16; fewer boxes fit with 32 images: (900 - 32 * 25) / (32 * 3) = 1
    assert re.findall(r"(?<![\d.])\d+(?![\d.]*\d)", str(raised.value).partition("available")[2]) == [
        "22",
        "96",
        "16",
        "6",
        "1",
    ]


def test_suggested_accumulation_divides_the_batch(tiny_recipe):
    """10 images of 40 bytes fit. The parts of 15 images are 5, and not 7."""
    step = dataclasses.replace(STEP, weights=0, compilation=0)
    with pytest.raises(UserError, match="at most 10[^0-9].* 15 images .*batch_size 5 and accumulate_steps 3"):
        check_batch_size(tiny_recipe(batch_size=15), step, memory=400, max_boxes=5)


def test_image_size_is_named_if_no_batch_fits(tiny_recipe):
    with pytest.raises(UserError, match="^image_size: .*64x64"):
        check_batch_size(tiny_recipe(batch_size=4), STEP, memory=189, max_boxes=5)
    with pytest.raises(UserError, match="^image_size: "):
        check_batch_size(tiny_recipe(batch_size=3), STEP, memory=151, max_boxes=5)


def test_smaller_images_are_no_advice_if_weights_do_not_fit(tiny_recipe):
    """Weights and compilation take 150 bytes."""
    with pytest.raises(UserError, match="^memory: "):
        check_batch_size(tiny_recipe(batch_size=2), STEP, memory=150, max_boxes=5)


# --- max_gt ---


def fit(cfg, capsys, rank=0):
    """Return the recipe that fits, and the text on stdout and stderr."""
    fitted = fit_to_memory(cfg, create_detector(cfg), Runtime(rank=rank, world_size=2))
    return fitted, *capsys.readouterr()


def test_recipe_is_unchanged_if_the_data_fits(tiny_recipe, shapes_records, with_memory, capsys):
    for size, text in ((64 * 10**9, " of 64.0 GB"), (None, r" GB for")):
        with_memory(size)
        for keys in ({}, {"max_gt": 1000}):
            cfg = tiny_recipe(data_dir=str(shapes_records), num_classes=7, batch_size=2, **keys)
            fitted, out, err = fit(cfg, capsys)
            assert fitted is cfg and not err
            assert out.startswith("memory: about 0.") and text in out and "batch of 2 (" in out and out.count("\n") == 1


def test_max_gt_of_the_recipe_and_its_warning(tiny_recipe, shapes_records, with_memory, capsys):
    with_memory(None)
    counts = [len(boxes) for boxes in annotations(shapes_records)]
    cfg = tiny_recipe(data_dir=str(shapes_records), num_classes=7, max_gt=2)
    fitted, _, err = fit(cfg, capsys)
    images, boxes = sum(count > 2 for count in counts), sum(max(count - 2, 0) for count in counts)
    assert images > 1 and fitted == cfg
    assert re.findall(r"\d+", err) == [*map(str, (images, 2, max(counts), 2, boxes))] and err.startswith("max_gt: ")
    assert not fit(cfg, capsys, rank=1)[2]  # one rank warns


def annotations(folder):
    """Return the boxes of each training image of `shapes_coco`, from which the shards in the folder were made."""
    content = json.loads((folder.parent / "coco/annotations/instances_train2017.json").read_text())
    images = [annotation["image_id"] for annotation in content["annotations"]]
    return [[own for own in images if own == image["id"]] for image in content["images"]]


@pytest.mark.parametrize("memory_in_boxes, expected", [(1000, 500), (470, 400), (120, 100), (90, 100)])
def test_derived_max_gt(memory_in_boxes, expected, tiny_recipe, shapes_records, with_memory, monkeypatch, capsys):
    """The data has at most 500 boxes in an image. The derived number is a multiple of 100, and at least 100."""
    monkeypatch.setattr(memory_module, "max_boxes_per_image", lambda folder: 500)
    monkeypatch.setattr(memory_module, "estimate_step_memory", lambda cfg, detector: STEP)
    with_memory(STEP.total(2, memory_in_boxes))
    cfg = tiny_recipe(data_dir=str(shapes_records), num_classes=7, batch_size=2)
    fitted, _, err = fit(cfg, capsys)
    assert fitted.max_gt == (None if expected == 500 else expected)
    assert bool(err) == (expected < 500) and (not err or "set max_gt" in err)


def test_a_batch_is_refused_before_max_gt_falls_below_100(tiny_recipe, shapes_records, with_memory, monkeypatch):
    monkeypatch.setattr(memory_module, "max_boxes_per_image", lambda folder: 500)
    monkeypatch.setattr(memory_module, "estimate_step_memory", lambda cfg, detector: STEP)
    with_memory(int(STEP.total(4, 100) / 1.5))
    with pytest.raises(UserError, match="^batch_size: a batch of 4 "):
        fit_to_memory(tiny_recipe(data_dir=str(shapes_records), num_classes=7, batch_size=4), None, Runtime())

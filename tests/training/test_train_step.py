"""The training step: what it changes, and what it leaves unchanged."""

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, nn, ops

from fakes import WeightedSum
from ssd.checkpoints.loading import load_weights
from ssd.checkpoints.saving import save_checkpoint
from ssd.models.detector import create_detector
from ssd.models.layers import NormalizeImage
from ssd.models.losses import FocalDetectionLoss
from ssd.models.target_assigner import TargetAssigner
from ssd.training.train_step import OUTPUTS, TrainStep
from trained_detector import LR, STEPS, Trainer, changed, is_statistic, noise_batch

FIRST_NORM = "backbone.features.net.features_1"


@pytest.fixture(scope="module")
def compiled(tiny_recipe):
    """{loss_scale_type: Trainer}, the second with a large weight decay."""
    trainers = {
        "fixed": Trainer(tiny_recipe(loss_scale_type="fixed")),
        "dynamic": Trainer(tiny_recipe(loss_scale_type="dynamic", weight_decay=0.5)),
    }
    yield trainers
    trainers.clear()


@pytest.fixture
def trainer(compiled):
    return compiled["fixed"].reset()


@pytest.fixture
def dynamic(compiled):
    return compiled["dynamic"].reset()


@pytest.fixture(scope="module")
def batch(tiny_recipe):
    return noise_batch(tiny_recipe())


def trainable_weights(state, detector):
    return {parameter.name: state[parameter.name] for parameter in detector.trainable_params()}


def weights_and_momentum(state, detector):
    return {
        name: state[name] for weight in trainable_weights(state, detector) for name in (weight, f"moments.{weight}")
    }


# --- learning ---


def test_loss_falls_on_one_batch(trainer, batch):
    losses = trainer.train(batch, steps=15)
    assert np.isfinite(losses).all()
    assert losses[-1] < 0.25 * losses[0]


def test_a_step_changes_every_weight_and_statistic(trainer, batch):
    before = trainer.state()
    trainer.train(batch)
    names = {parameter.name for parameter in trainer.detector.get_parameters()}
    assert names - set(changed(before, trainer.state())) == set()
    assert trainer.state()["global_step"] == before["global_step"] + 1


def test_learning_rates_come_from_the_schedule(trainer, batch):
    ops.assign(trainer.step.optimizer.global_step, Tensor([STEPS - 1], ms.int32))  # where it is 0
    before = trainer.state()
    trainer.train(batch)
    assert changed(trainable_weights(before, trainer.detector), trainer.state()) == []


def test_weight_decay_shrinks_convolutions_and_spares_batch_norms(dynamic, batch):
    image, boxes, labels = batch
    dynamic.train((image, boxes, np.zeros_like(labels)))  # without boxes the box branch has no gradients
    for name, value in dynamic.state().items():
        if name.startswith("head.box") and not is_statistic(name):
            kept = 1.0 if name.endswith(("gamma", "beta")) else 1 - LR * 0.5
            np.testing.assert_allclose(value, kept * dynamic.start[name], rtol=1e-5, err_msg=name)


@pytest.mark.parametrize("scale", [1.0, 2.0**16])
def test_the_fixed_loss_scale_changes_no_result(scale, trainer, batch):
    trainer.train(batch, steps=2)
    expected = trainer.state()
    trainer.reset()
    assert expected.pop("scale_sense") == trainer.cfg.loss_scale == 1024
    trainer.set_scale(scale)
    trainer.train(batch, steps=2)
    assert trainer.state()["scale_sense"] == scale
    for name, value in expected.items():
        np.testing.assert_allclose(trainer.state()[name], value, rtol=1e-5, atol=1e-7, err_msg=name)


def test_a_batch_without_boxes_trains(trainer, batch):
    image, boxes, labels = batch
    (loss,) = trainer.train((image, np.zeros_like(boxes), np.zeros_like(labels)))
    assert np.isfinite(loss) and all(np.isfinite(value).all() for value in trainer.state().values())


def test_the_loss_is_that_of_the_recipe_and_the_batch(trainer, batch, pynative):
    image, boxes, labels = (Tensor(array) for array in batch)
    outputs = trainer.detector(NormalizeImage()(image))
    anchors = trainer.detector.anchors
    targets = TargetAssigner(anchors.boxes_cyxhw, anchors.boxes_yxyx, threshold=0.5)(boxes, labels)
    expected = float(FocalDetectionLoss(alpha=0.75, gamma=2.0)(*outputs, *targets)[0].asnumpy())
    ms.set_context(mode=ms.GRAPH_MODE)
    assert trainer.reset().train(batch) == [pytest.approx(expected, rel=1e-4)]


def test_pynative_mode_computes_the_same(trainer, batch, pynative):
    in_pynative_mode = [trainer.outputs(batch) for _ in range(2)]
    ms.set_context(mode=ms.GRAPH_MODE)
    trainer.reset()
    for expected in in_pynative_mode:
        assert trainer.outputs(batch) == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("kind", ["fixed", "dynamic"])
def test_a_checkpoint_of_the_training_step_holds_the_detector(kind, compiled, batch, tmp_path, tiny_recipe, values_of):
    trainer = compiled[kind].reset()
    trainer.train(batch)
    save_checkpoint(trainer.step, tmp_path / "ssd-1.ckpt")
    detector = create_detector(tiny_recipe())
    load_weights(detector, tmp_path / "ssd-1.ckpt")
    assert changed(values_of(trainer.detector), values_of(detector)) == []


# --- outputs ---


def test_the_parts_of_the_loss_add_up(trainer, batch):
    outputs = trainer.outputs(batch)
    assert outputs["box_loss"] > 0.1 and outputs["cls_loss"] > 0.1
    assert outputs["box_loss"] + outputs["cls_loss"] == pytest.approx(outputs["loss"], rel=1e-6)


def test_without_boxes_the_loss_is_the_classification_loss(trainer, batch):
    image, boxes, labels = batch
    outputs = trainer.outputs((image, boxes, np.zeros_like(labels)))
    assert outputs["box_loss"] == 0 and outputs["cls_loss"] == outputs["loss"] > 0


@pytest.mark.parametrize("scale", [1.0, 1024.0])
def test_the_gradient_norm_is_that_of_the_gradients(scale, trainer, batch):
    trainer.set_scale(scale)
    outputs = trainer.outputs(batch)
    squares = 0.0
    # Momentum that began at zero is, after one step, the gradient and the weight decay.
    for name, weight in trainable_weights(trainer.start, trainer.detector).items():
        decay = 0 if name.endswith(("gamma", "beta")) else trainer.cfg.weight_decay
        gradient = trainer.state()[f"moments.{name}"].astype(np.float64) - decay * weight
        squares += np.sum(gradient**2)
    assert outputs["grad_norm"] == pytest.approx(np.sqrt(squares), rel=1e-4)


def test_updates_are_counted(trainer, batch):
    assert [trainer.outputs(batch)["updates"] for _ in range(3)] == [0, 1, 2]


# --- overflow ---


def overflow(trainer, batch):
    """Train a step with a loss scale at which gradients overflow -> (state before, state after)."""
    trainer.train(batch)  # so that there is momentum that could be applied
    trainer.set_scale(2.0**127)  # float32 ends at 2^128
    before = trainer.state()
    image, boxes, labels = batch
    outputs = trainer.outputs(
        (image, boxes, np.zeros_like(labels))
    )  # a sum over all anchors, divided by 1: far above 2
    assert np.isfinite(outputs["loss"])
    assert outputs["skipped"] == 1 and outputs["steps_since_non_finite"] == 0 and not np.isfinite(outputs["grad_norm"])
    assert outputs["loss_scale"] == 2.0**127 and outputs["updates"] == 1
    return before, trainer.state()


@pytest.mark.parametrize("kind", ["fixed", "dynamic"])
def test_skipped_updates_are_counted(kind, compiled, batch):
    trainer = compiled[kind].reset()
    assert trainer.outputs(batch)["skipped"] == 0
    trainer.reset()
    overflow(trainer, batch)
    trainer.set_scale(1024.0)
    outputs = trainer.outputs(batch)
    assert (outputs["skipped"], outputs["loss_scale"], outputs["updates"]) == (
        1,
        1024,
        1,
    )  # one of three updates was skipped


@pytest.mark.parametrize("kind", ["fixed", "dynamic"])
def test_a_step_that_overflows_changes_no_weight(kind, compiled, batch):
    trainer = compiled[kind].reset()
    before, after = overflow(trainer, batch)
    assert changed(weights_and_momentum(before, trainer.detector), after) == []
    assert after["global_step"] == before["global_step"]


def test_an_overflow_halves_a_dynamic_scale_and_training_continues(dynamic, batch):
    before, after = overflow(dynamic, batch)
    assert (before["scale_sense"], after["scale_sense"]) == (2.0**127, 2.0**126)
    dynamic.set_scale(1024.0)
    dynamic.train(batch)
    assert dynamic.state()["scale_sense"] == 1024  # a step without overflow keeps it
    trained = weights_and_momentum(after, dynamic.detector)
    assert set(changed(trained, dynamic.state())) == set(trained)


@pytest.mark.parametrize(
    "gradients, overflows",
    [([1, -2], False), ([8, 1], True), ([8, -8], True), ([-8, 1], True), ([np.nan, 1], True)],
)
def test_infinities_of_either_sign_are_detected(gradients, overflows):
    net = WeightedSum()
    optimizer = nn.SGD(net.trainable_params(), learning_rate=0.5)
    step = TrainStep(net, optimizer, nn.FixedLossScaleUpdateCell(2.0**126)).set_train()  # times 8: beyond float32
    outputs = dict(zip(OUTPUTS, step(Tensor(np.array(gradients, np.float32))).asnumpy()))
    assert outputs["skipped"] == overflows and np.isfinite(outputs["grad_norm"]) == (not overflows)
    expected = [1, 1] if overflows else [1 - 0.5 * 1, 1 + 0.5 * 2]
    assert net.weight.asnumpy().tolist() == expected


def test_an_overflow_leaves_a_fixed_scale(trainer, batch):
    before, after = overflow(trainer, batch)
    assert before["scale_sense"] == after["scale_sense"] == 2.0**127


# --- BatchNorm ---


def test_statistics_move_once_a_step(trainer, batch):
    convolution = trainer.detector.backbone.features.net[0]
    maps = convolution(NormalizeImage()(Tensor(batch[0]))).asnumpy()
    mean = maps.mean(axis=(0, 2, 3))
    assert not trainer.start[f"{FIRST_NORM}.moving_mean"].any()
    trainer.train(batch)
    moved = trainer.state()[f"{FIRST_NORM}.moving_mean"]
    np.testing.assert_allclose(moved, 0.1 * mean, rtol=1e-3, atol=1e-5)  # 0.19 of it if they moved twice


def test_the_heads_statistics_move_as_published(trainer, batch):
    # A momentum of 0.97: from 1 a variance goes to 0.97 + 0.03 x, with x >= 0.
    trainer.train(batch)
    variance = trainer.state()["head.box.0.1.moving_variance"]
    assert variance.min() >= 0.97 - 1e-6 and variance.min() < 0.971

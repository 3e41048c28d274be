"""The training step around an update: clipping, accumulation, averaging, losses that are not finite."""

import numpy as np
import pytest
from mindspore import Parameter, Tensor, nn, ops

from fakes import WeightedSum
from ssd.models.detector import create_detector
from ssd.training.optimizer import freeze
from ssd.training.train_step import OUTPUTS, SaturatingTrainStep, TrainStep, create_train_step

HUGE = 2.0**125  # a loss scale that, times 8, is beyond float32


class StepWithRegister(SaturatingTrainStep):
    """A SaturatingTrainStep whose status register is a parameter, because only some NPUs have the register."""

    def __init__(self, *arguments, **settings):
        super().__init__(*arguments, **settings)
        self.register = Parameter(Tensor(0.0), "register", requires_grad=False)

    def get_overflow_status(self, status, compute_output):
        return self.register > 0


class Step:
    """A training step at a learning rate of 0.5 on two weights of 1, whose gradients are its inputs."""

    def __init__(self, scale=1.0, step_class=TrainStep, **more):
        self.net = WeightedSum()
        optimizer = nn.Momentum(self.net.trainable_params(), learning_rate=0.5, momentum=0.0)
        self.step = step_class(self.net, optimizer, nn.FixedLossScaleUpdateCell(scale), **more).set_train()

    def __call__(self, *gradients):
        """-> {name of OUTPUTS: value}"""
        return dict(zip(OUTPUTS, self.step(Tensor(np.array(gradients, np.float32))).asnumpy().tolist()))

    @property
    def weight(self):
        return self.net.weight.asnumpy().tolist()

    @property
    def average(self):
        return self.step.ema_weight[0].asnumpy().tolist()


def test_adamw_follows_its_formula():
    rates, decay = np.float32([0.1, 0.2, 0.05]), 0.3
    net = WeightedSum()
    optimizer = nn.Adam(net.trainable_params(), Tensor(rates))
    scale = nn.FixedLossScaleUpdateCell(8.0)
    step = TrainStep(net, optimizer, scale, weight_decay=decay, decouples_decay=True, num_decayed=1).set_train()
    weight, mean, square = np.ones(2), np.zeros(2), np.zeros(2)
    for count, gradient in enumerate(np.float32([[1, -2], [3, 0.5], [-0.25, 4]]), start=1):
        step(Tensor(gradient))
        mean, square = 0.9 * mean + 0.1 * gradient, 0.999 * square + 0.001 * gradient**2
        update = mean / (1 - 0.9**count) / (np.sqrt(square / (1 - 0.999**count)) + 1e-8)
        weight = weight - rates[count - 1] * (decay * weight + update)
        np.testing.assert_allclose(net.weight.asnumpy(), weight, rtol=1e-5)


def adamw_step(rate=0.1, decay=0.5, scale=1.0, **more):
    net = WeightedSum()
    settings = {"weight_decay": decay, "decouples_decay": True, "num_decayed": 1, **more}
    step = TrainStep(net, nn.Adam(net.trainable_params(), rate), nn.FixedLossScaleUpdateCell(scale), **settings)
    return net, step.set_train()


def test_adamw_of_several_batches_uses_their_mean():
    (one, step), (several, accumulating) = adamw_step(), adamw_step(accumulate=2)
    step(Tensor(np.float32([2, -1])))
    for gradient in ([1, -4], [3, 2]):
        accumulating(Tensor(np.float32(gradient)))
    np.testing.assert_allclose(several.weight.asnumpy(), one.weight.asnumpy(), rtol=1e-6)


def test_an_overflow_changes_nothing_of_adamw():
    _, step = adamw_step(scale=HUGE)
    before = {name: value.asnumpy().copy() for name, value in step.parameters_dict().items()}
    step(Tensor(np.float32([8, 8])))
    after = {name: value.asnumpy() for name, value in step.parameters_dict().items()}
    assert [name for name in before if not np.array_equal(before[name], after[name])] == ["skipped_updates"]


def test_recipes_choose_adamw(tiny_recipe):
    cfg = tiny_recipe(optimizer="adamw", weight_decay=0.03)
    step = create_train_step(cfg, create_detector(cfg), np.full(2, 1e-3, np.float32))
    assert isinstance(step.optimizer, nn.Adam) and step.decouples_decay and step.weight_decay == 0.03
    assert not create_train_step(tiny_recipe(), create_detector(cfg), np.full(2, 1e-3, np.float32)).decouples_decay


def test_decoupled_decay_spares_other_parameters():
    net = WeightedSum()
    optimizer = nn.Adam(net.trainable_params(), 0.1)
    scale = nn.FixedLossScaleUpdateCell(1.0)
    step = TrainStep(net, optimizer, scale, weight_decay=0.5, decouples_decay=True, num_decayed=0).set_train()
    step(Tensor(np.float32([0, 0])))
    assert net.weight.asnumpy().tolist() == [1, 1]


def test_gradients_are_clipped_to_the_maximum_norm():
    step = Step(clip_norm=2.5)
    assert step(3, -4)["grad_norm"] == 5  # before clipping
    assert step.weight == [1 - 0.5 * 1.5, 1 + 0.5 * 2]
    assert step(1.5, 2)["grad_norm"] == 2.5
    assert step.weight == [0.25 - 0.75, 2 - 1]


def test_several_batches_make_an_update_of_their_mean():
    step = Step(accumulate=2)
    outputs = step(1, -2)
    assert step.weight == [1, 1] and (outputs["grad_norm"], outputs["updates"]) == (0, 0)
    outputs = step(3, 4)
    assert step.weight == [1 - 0.5 * 2, 1 - 0.5 * 1]
    assert outputs["grad_norm"] == pytest.approx(np.sqrt(5)) and outputs["updates"] == 0
    assert step(2, 2)["updates"] == 1 and step.weight == [0, 0.5]
    step(0, 0)
    assert step.weight == [-0.5, 0]  # the first two batches are forgotten


@pytest.mark.parametrize("num_decayed, weights", [(1, [1 - 0.5 * (1.5 + 0.25), 1 + 0.5 * (2 - 0.25)]), (0, [0.25, 2])])
def test_weight_decay_is_added_after_clipping(num_decayed, weights):
    step = Step(clip_norm=2.5, weight_decay=0.25, num_decayed=num_decayed)
    assert step(3, -4)["grad_norm"] == 5
    assert step.weight == weights


def test_accumulated_gradients_are_clipped_together():
    step = Step(accumulate=2, clip_norm=2.5)
    step(6, 0)
    assert step(0, -8)["grad_norm"] == 5
    assert step.weight == [1 - 0.5 * 1.5, 1 + 0.5 * 2]


@pytest.mark.parametrize("batches", [[(8, 1), (1, 1)], [(1, 1), (1, -8)]])
def test_an_overflow_in_any_batch_skips_the_update(batches):
    step = Step(HUGE, accumulate=2)
    for batch in batches:
        outputs = step(*batch)
    assert step.weight == [1, 1] and outputs["skipped"] == 1 and not np.isfinite(outputs["grad_norm"])
    step(1, 1)
    assert step(1, 1)["skipped"] == 1 and step.weight == [0.5, 0.5]


@pytest.fixture(scope="module")
def step_with_register():
    """step_with_register(accumulate) is a Step with its first values, compiled once for each number of batches."""
    made = {}

    def reset(accumulate):
        if accumulate not in made:
            step = Step(step_class=StepWithRegister, accumulate=accumulate)
            made[accumulate] = step, {name: value.asnumpy().copy() for name, value in parameters_of(step)}
        step, start = made[accumulate]
        for name, parameter in parameters_of(step):
            ops.assign(parameter, Tensor(start[name].copy()))  # compiled graphs do not see set_data
        return step

    def parameters_of(step):
        return step.step.parameters_dict().items()

    yield reset
    made.clear()


@pytest.mark.parametrize("accumulate", [1, 3])
@pytest.mark.parametrize("saturated", [[], [0], [1], [2]])
def test_an_overflow_in_the_register_at_any_batch_skips_the_update(accumulate, saturated, step_with_register):
    step = step_with_register(accumulate)
    skipped = []
    for batch in range(6):
        ops.assign(step.step.register, Tensor(float(batch in saturated)))  # gradients stay finite, as if saturated
        skipped.append(step(1, 1)["skipped"])
    if accumulate == 1:
        assert skipped == [sum(number <= batch for number in saturated) for batch in range(6)]
    else:
        assert skipped[:2] == [0, 0] and set(skipped[2:]) == {len(saturated)}  # the second update is not skipped
    assert step.weight == [1 - 0.5 * (6 // accumulate - len(saturated))] * 2


def test_the_average_follows_the_weights():
    step = Step(ema_decay=0.9)
    step(2, 0)  # to 0, 1; the decay after the first update is 2 / 11
    assert step.weight == [0, 1] and step.average == pytest.approx([2 / 11, 1])
    step(-4, 0)  # to 2, 1, with 3 / 12
    assert step.average == pytest.approx([2 / 11 / 4 + 2 * 3 / 4, 1])
    ops.assign(step.step.optimizer.global_step, Tensor([10**6], step.step.optimizer.global_step.dtype))
    before = step.average[0]
    step(0, 0)
    assert step.average[0] == pytest.approx(before * 0.9 + 2 * 0.1)


def test_the_average_rests_while_batches_are_accumulated_or_skipped():
    step = Step(HUGE, ema_decay=0.9, accumulate=2)
    step(1, 1)
    assert step.average == [1, 1]
    step(8, 1)
    assert step.average == [1, 1]
    step(1, 1), step(1, 1)
    assert step.average == pytest.approx([0.5 + 0.5 * 2 / 11] * 2)


def test_steps_since_a_non_finite_loss_are_counted():
    step = Step()
    assert [step(*batch)["steps_since_non_finite"] for batch in ((1, 1), (np.nan, 1), (1, 1), (np.inf, 1))] == [
        0,
        1,
        2,
        3,
    ]
    assert step.weight == [0, 0]  # the two good ones were applied, the others left out


def test_an_overflow_of_gradients_alone_is_no_non_finite_loss():
    step = Step(HUGE)
    outputs = step(8, -1)
    assert (outputs["loss"], outputs["skipped"], outputs["steps_since_non_finite"]) == (7, 1, 0)


def test_the_average_has_statistics_and_frozen_ones_stay(tiny_recipe):
    cfg = tiny_recipe(ema_decay=0.5, freeze="backbone_batch_norm")
    detector = create_detector(cfg)
    freeze(detector, cfg.freeze)
    step = create_train_step(cfg, detector, np.full(9, 0.01, np.float32)).set_train()
    before = {name: value.asnumpy().copy() for name, value in step.parameters_dict().items()}
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (2, 64, 64, 3)).astype(np.uint8)
    step(Tensor(image), Tensor(np.full((2, 1, 4), [0.1, 0.1, 0.6, 0.6], np.float32)), Tensor(np.ones((2, 1), np.int32)))
    after = {name: value.asnumpy() for name, value in step.parameters_dict().items()}
    frozen = [name for name in detector.parameters_dict() if name.startswith("backbone.") and "weight" not in name]
    assert frozen and all(np.array_equal(before[name], after[name]) for name in frozen)
    moved = [name for name in detector.parameters_dict() if not np.array_equal(before[name], after[name])]
    assert any("moving" in name for name in moved) and any("backbone" in name for name in moved)
    for name in moved:
        average = before[name] + (after[name] - before[name]) * np.float32(9 / 11)
        np.testing.assert_allclose(after[f"ema.{name}"], average, rtol=1e-5, atol=1e-7)

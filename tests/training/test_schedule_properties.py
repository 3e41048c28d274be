"""Properties of the learning rate schedules: length, limits, shape, and scaling."""

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ssd.training.schedule import warmup_cosine, warmup_steps

rates = st.floats(1e-6, 10)
lengths = st.fixed_dictionaries(
    {"epoch_size": st.integers(1, 20), "steps_per_epoch": st.integers(1, 50), "warmup_epochs": st.floats(0, 1)}
)


@st.composite
def milestones(draw):
    return sorted(draw(st.sets(st.floats(0.1, 20), min_size=1, max_size=3)))


@st.composite
def schedules(draw):
    """(learning rates, lr, lr_init, warm-up steps, learning rates with lr and lr_init doubled)"""
    lr, lr_init, length = draw(rates), draw(rates | st.just(0.0)), draw(lengths)
    if draw(st.booleans()):
        options = {"lr_end_rate": draw(st.floats(0, 1))}
        schedule = warmup_cosine
    else:
        options = {"milestones": draw(milestones()), "factor": draw(st.floats(0.01, 0.99))}
        schedule = warmup_steps
    found, doubled = (schedule(lr=lr * n, lr_init=lr_init * n, **options, **length) for n in (1, 2))
    assert len(found) == length["epoch_size"] * length["steps_per_epoch"]
    return found, lr, lr_init, math.floor(length["warmup_epochs"] * length["steps_per_epoch"] + 1e-6), doubled


@given(schedules())
def test_rates_are_finite_and_between_start_and_peak(case):
    found, lr, lr_init, warmup, _ = case
    assert found.dtype == np.float32 and np.isfinite(found).all() and (found >= 0).all()
    assert found.max() <= np.float32(max(lr, lr_init)) * (1 + 1e-6)
    assert (found[warmup:] <= np.float32(lr) * (1 + 1e-6)).all()


@given(schedules())
def test_rates_rise_to_the_peak_and_then_never_rise(case):
    found, lr, lr_init, warmup, _ = case
    direction = np.sign(lr - lr_init)
    assert (direction * np.diff(found[:warmup]) >= -1e-6 * lr).all()  # a milestone may lie before the peak
    assert (np.diff(found[warmup:]) <= 0).all()
    if warmup and len(found):
        np.testing.assert_allclose(found[0], lr_init, rtol=1e-6)


@given(schedules())
def test_rates_are_proportional_to_lr(case):
    found, _, _, _, doubled = case
    np.testing.assert_allclose(doubled, 2 * found, rtol=1e-6)


@given(rates, milestones(), st.integers(1, 20), st.integers(1, 50))
def test_each_milestone_lowers_the_rate_once(lr, epochs, epoch_size, steps_per_epoch):
    found = warmup_steps(
        lr=lr,
        lr_init=0,
        milestones=epochs,
        factor=0.5,
        warmup_epochs=0,
        epoch_size=epoch_size,
        steps_per_epoch=steps_per_epoch,
    )
    last = epoch_size * steps_per_epoch - 1
    passed = sum(math.ceil(epoch * steps_per_epoch - 1e-6) <= last for epoch in epochs)
    np.testing.assert_allclose(found[-1], lr * 0.5**passed, rtol=1e-6)

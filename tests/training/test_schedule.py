"""Learning rates typed by hand, and a table that MindCV's example left in a checkpoint."""

import mindspore as ms
import numpy as np
import pytest

from ssd.errors import UserError
from ssd.training.schedule import create_schedule, warmup_cosine, warmup_steps


def test_by_hand():
    # Two steps of warm-up from 0.2 to 1, then (1 + cos(pi k/4)) / 2 of what lies above 0.
    rates = warmup_cosine(lr=1, lr_init=0.2, lr_end_rate=0, warmup_epochs=1, epoch_size=3, steps_per_epoch=2)
    assert rates == pytest.approx([0.2, 0.6, 1, 0.853553, 0.5, 0.146447], abs=1e-6)
    assert rates.dtype == np.float32


def test_it_ends_at_a_share_of_the_highest_rate():
    rates = warmup_cosine(lr=2, lr_init=0.2, lr_end_rate=0.1, warmup_epochs=1, epoch_size=3, steps_per_epoch=2)
    assert rates == pytest.approx([0.2, 1.1, 2, 0.2 + 1.8 * 0.853553, 1.1, 0.2 + 1.8 * 0.146447], abs=1e-6)
    long = warmup_cosine(lr=2, lr_init=0.2, lr_end_rate=0.1, warmup_epochs=1, epoch_size=100, steps_per_epoch=100)
    assert len(long) == 10_000 and long.max() == 2
    assert 0.2 < long[-1] < 0.2 + 1e-6  # the step after the last would have the end's rate
    assert (np.diff(long[:101]) > 0).all() and (np.diff(long[100:]) <= 0).all()


def test_without_warmup_it_starts_at_the_highest_rate():
    rates = warmup_cosine(lr=1, lr_init=0.2, lr_end_rate=0, warmup_epochs=0, epoch_size=2, steps_per_epoch=2)
    assert rates == pytest.approx([1, 0.853553, 0.5, 0.146447], abs=1e-6)


def test_a_single_step():
    assert warmup_cosine(
        lr=1, lr_init=0.2, lr_end_rate=0, warmup_epochs=0, epoch_size=1, steps_per_epoch=1
    ).tolist() == [1]


def test_steps_by_hand():
    # Two steps of warm-up, then a fifth after epoch 2 and again after epoch 3.
    rates = warmup_steps(
        lr=1, lr_init=0.5, milestones=[2, 3], factor=0.2, warmup_epochs=1, epoch_size=4, steps_per_epoch=2
    )
    assert rates == pytest.approx([0.5, 0.75, 1, 1, 0.2, 0.2, 0.04, 0.04], abs=1e-7) and rates.dtype == np.float32


def test_a_milestone_beyond_the_training_is_never_reached():
    rates = warmup_steps(
        lr=1, lr_init=0.5, milestones=[1, 9], factor=0.1, warmup_epochs=0, epoch_size=2, steps_per_epoch=2
    )
    assert rates == pytest.approx([1, 1, 0.1, 0.1])


def test_ssd300_falls_at_epochs_43_and_54_of_65(load_recipe):
    rates = create_schedule(load_recipe("ssd_resnet50"), steps_per_epoch=10, world_size=8)
    assert len(rates) == 650 and rates[0] == 0
    # 2.6e-3 for each 32 images of an update, which has 8 x 32
    assert rates[10:430] == pytest.approx(0.0208)
    assert rates[430:540] == pytest.approx(0.00208)
    assert rates[540:] == pytest.approx(0.000208)
    assert create_schedule(load_recipe("ssd_resnet50"), 10)[10:430] == pytest.approx(0.0026)


def test_warm_up_and_milestones_of_a_fraction_of_an_epoch():
    # A third of 10 steps, rounded down: 3 steps. The rate drops from step 7 on: 0.66 x 10 = 6.6, rounded up.
    third = {"lr_init": 0.4, "warmup_epochs": 1 / 3, "epoch_size": 1, "steps_per_epoch": 10}
    rates = warmup_steps(lr=1, milestones=[0.66, 0.9], factor=0.1, **third)
    assert rates == pytest.approx([0.4, 0.6, 0.8, 1, 1, 1, 1, 0.1, 0.1, 0.01])
    rates = warmup_cosine(lr=1, lr_end_rate=0, **third)
    assert rates[:4] == pytest.approx([0.4, 0.6, 0.8, 1]) and (np.diff(rates[3:]) < 0).all()


def test_fractions_that_are_whole_steps_are_not_rounded():
    """0.07 x 100 is 7.000000000000001, and 0.29 x 100 is 28.999999999999996."""
    for epochs, steps in ((0.07, 7), (0.29, 29)):
        one_epoch = {"lr": 1, "lr_init": 0, "epoch_size": 1, "steps_per_epoch": 100}
        rates = warmup_steps(**one_epoch, milestones=[epochs], factor=0.1, warmup_epochs=0)
        assert np.argmax(rates < 1) == steps
        rates = warmup_steps(**one_epoch, milestones=[0.9], factor=0.1, warmup_epochs=epochs)
        assert np.argmax(rates == 1) == steps


def test_one_epoch_of_one_step_has_the_highest_rate(load_recipe):
    for recipe, rate in (("ssd_mobilenetv2", 0.05), ("ssd_shapes", 0.004)):
        assert create_schedule(load_recipe(recipe, epoch_size=1), steps_per_epoch=1) == pytest.approx([rate])


def test_recipes_choose_the_schedule(load_recipe):
    values = {"lr": 0.4, "lr_init": 0.1, "lr_end_rate": 0.5, "warmup_epochs": 1, "epoch_size": 2}
    steps = load_recipe("ssd_mobilenetv2", **values, schedule="steps", milestones=[1], lr_factor=0.25)
    assert create_schedule(steps, steps_per_epoch=2) == pytest.approx([0.1, 0.25, 0.1, 0.1])


def test_recipes_say_all_of_it(load_recipe):
    values = {"lr": 0.4, "lr_init": 0.1, "lr_end_rate": 0.5, "warmup_epochs": 1, "epoch_size": 2}
    rates = create_schedule(load_recipe("ssd_mobilenetv2", **values), steps_per_epoch=2)
    assert rates == pytest.approx([0.1, 0.25, 0.4, 0.3], abs=1e-6)


def test_the_rate_follows_the_images_of_an_update_if_the_recipe_says_so(load_recipe):
    values = {"lr": 0.4, "lr_init": 0.1, "lr_end_rate": 0.5, "warmup_epochs": 1, "epoch_size": 2, "batch_size": 8}
    expected = np.array([0.1, 0.25, 0.4, 0.3])
    off = create_schedule(load_recipe("ssd_mobilenetv2", **values), steps_per_epoch=2, world_size=4)
    assert off == pytest.approx(expected, abs=1e-6)
    cfg = load_recipe("ssd_mobilenetv2", **values, lr_reference_batch=16)
    assert create_schedule(cfg, 2, world_size=1) == pytest.approx(expected / 2, abs=1e-6)
    assert create_schedule(cfg, 2, world_size=4) == pytest.approx(expected * 2, abs=1e-6)
    cfg = load_recipe("ssd_mobilenetv2", **values, lr_reference_batch=16, accumulate_steps=2)
    rates = create_schedule(cfg, 2, world_size=1)
    assert rates == pytest.approx([0.25, 0.3], abs=1e-6) and rates.dtype == np.float32


def test_an_update_of_several_batches_has_the_rate_of_the_last(load_recipe):
    values = {"lr": 0.4, "lr_init": 0.1, "lr_end_rate": 0.5, "warmup_epochs": 1, "epoch_size": 2}
    cfg = load_recipe("ssd_mobilenetv2", **values, accumulate_steps=3)
    assert create_schedule(cfg, steps_per_epoch=2) == pytest.approx([0.4], abs=1e-6)  # the fourth makes no update
    cfg = load_recipe("ssd_mobilenetv2", **values, accumulate_steps=5)
    with pytest.raises(UserError, match="^accumulate_steps: .*5.* 4 steps"):
        create_schedule(cfg, steps_per_epoch=2)


def test_equals_the_table_of_the_example(load_recipe, reference):
    path = reference / "ssd_mobilenetv2_bccd" / "mindcv_example.ckpt"
    if not path.is_file():
        pytest.skip(f"SSD_REFERENCE has no {path.relative_to(reference)}")
    expected = ms.load_checkpoint(str(path))["learning_rate"].asnumpy()
    cfg = load_recipe("ssd_mobilenetv2", lr=0.02, epoch_size=20)
    assert cfg.warmup_epochs == 2 and expected.shape == (720,)
    np.testing.assert_allclose(create_schedule(cfg, steps_per_epoch=36), expected, rtol=1e-6, atol=1e-9)

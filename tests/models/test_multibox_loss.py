"""The SSD paper's loss against a loop over anchors in float64, and against hand-computed sums."""

import mindspore as ms
import numpy as np
import pytest
from loss_inputs import Gradients, LossInputs

from ssd.models.hard_negatives import LargestValues
from ssd.models.losses import FocalDetectionLoss, MultiboxLoss, create_loss

B, A, K = 3, 40, 4


def cross_entropies(logits, labels):
    """Compute -log softmax(logits)[label] of each anchor of an image. logits: (A, K); labels: (A,). Returns (A,)."""
    logits = logits.astype(np.float64)
    shifted = logits - logits.max(axis=1, keepdims=True)
    log_probabilities = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return -log_probabilities[np.arange(len(labels)), labels]


def smooth_l1(difference):
    absolute = np.abs(difference.astype(np.float64))
    return np.where(absolute < 1, absolute**2 / 2, absolute - 0.5).sum()


def multibox_loss(inputs, negatives_per_positive=3):
    """Return (box loss, class loss), computed image by image from sorted negatives."""
    losses = np.zeros(2)
    for image in range(len(inputs.target_labels)):
        offsets, logits, targets, labels = (values[image] for values in inputs)
        positive = np.flatnonzero(labels > 0)
        if not len(positive):
            continue
        cross_entropy = cross_entropies(logits, labels)
        negatives = sorted(cross_entropy[labels == 0], reverse=True)[: negatives_per_positive * len(positive)]
        losses[0] += smooth_l1(offsets[positive] - targets[positive]) / len(positive)
        losses[1] += (cross_entropy[positive].sum() + sum(negatives)) / len(positive)
    return losses / len(inputs.target_labels)


def random_inputs(rng, positive_fraction=0.1):
    labels = rng.integers(1, K, (B, A)) * (rng.uniform(size=(B, A)) < positive_fraction)
    labels[0, 0] = 1
    offsets, targets = rng.normal(0, 2, (2, B, A, 4)).astype(np.float32)
    logits = rng.normal(0, 3, (B, A, K)).astype(np.float32)
    return LossInputs(offsets, logits, target_offsets=targets, target_labels=labels.astype(np.int32))


@pytest.fixture(scope="module")
def loss():
    return MultiboxLoss()


@pytest.fixture(scope="module")
def mining():
    return LargestValues()


@pytest.fixture(scope="module")
def gradients(loss, call):
    """gradients(inputs) are the gradients of the loss with respect to box_offsets and cls_logits."""
    net = Gradients(loss)
    return lambda inputs: call(net, *inputs)[:2]


# From a half on, there are fewer negatives than three for each positive.
@pytest.mark.parametrize("positive_fraction", [0.02, 0.1, 0.5, 1.0])
def test_loss_equals_the_loop(positive_fraction, loss, call, rng):
    inputs = random_inputs(rng, positive_fraction)
    total, box_loss, cls_loss = call(loss, *inputs)
    expected = multibox_loss(inputs)
    assert [box_loss, cls_loss] == pytest.approx(expected.tolist(), rel=1e-5)
    assert total == pytest.approx(expected.sum(), rel=1e-5)


def test_hand_computed_loss(loss, call):
    labels, logits = np.zeros((B, A), np.int32), np.zeros((B, A, K), np.float32)
    logits[..., 0] = 100  # background has probability 1, so the loss of negatives is 0
    labels[0, 3], logits[0, 3] = 2, [0, 0, np.log(3), 0]  # class 2 has probability 3/6: log 2
    for anchor, denominator in zip((7, 8, 9, 30), (5, 7, 9, 8)):
        logits[0, anchor] = [0, 0, 0, np.log(denominator - 3)]  # background has 1/denominator: log denominator
    targets = np.zeros((B, A, 4), np.float32)
    offsets = np.full_like(targets, 50)  # offsets of negatives do not count
    offsets[0, 3] = [0.5, 0, -2, 0]  # 0.125 + 1.5
    inputs = LossInputs(offsets, logits, target_offsets=targets, target_labels=labels)
    total, box_loss, cls_loss = call(loss, *inputs)
    # The three hardest of four negatives; one positive in one of three images.
    assert cls_loss == pytest.approx((np.log(2) + np.log(9) + np.log(8) + np.log(7)) / 3, rel=1e-5)
    assert box_loss == pytest.approx(1.625 / 3, rel=1e-5)
    assert total == pytest.approx(box_loss + cls_loss, rel=1e-6)


def test_loss_of_a_batch_is_the_mean_of_its_images(loss, call, rng):
    inputs = random_inputs(rng)
    inputs.target_labels[:, 0] = 1
    alone = [call(loss, *(np.repeat(values[row : row + 1], B, axis=0) for values in inputs))[0] for row in range(B)]
    assert call(loss, *inputs)[0] == pytest.approx(np.mean(alone), rel=1e-5)


def test_the_order_of_anchors_does_not_matter(loss, call, rng):
    inputs, order = random_inputs(rng), rng.permutation(A)
    shuffled = [values[:, order] for values in inputs]
    assert call(loss, *shuffled)[0] == pytest.approx(call(loss, *inputs)[0], rel=1e-5)


def test_three_negatives_count_among_equally_hard_ones(loss, call, rng):
    inputs = random_inputs(rng)._replace(cls_logits=np.zeros((B, A, K), np.float32))
    _, _, cls_loss = call(loss, *inputs)
    fraction_with_positives = (inputs.target_labels > 0).any(axis=1).mean()
    # One positive and three negatives, each log K.
    assert cls_loss == pytest.approx(4 * np.log(K) * fraction_with_positives, rel=1e-5)


def test_loss_and_gradients_of_images_without_positives_are_0(loss, gradients, call, rng):
    inputs = random_inputs(rng)
    inputs.target_labels[:] = 0
    assert [float(value) for value in call(loss, *inputs)] == [0, 0, 0]
    for gradient in gradients(inputs):
        assert np.isfinite(gradient).all() and not gradient.any()


def test_gradients_are_those_of_the_loop(gradients, rng):
    inputs = random_inputs(rng)
    inputs.target_labels[2] = 0  # an image without positives
    for name, gradient in zip(("box_offsets", "cls_logits"), gradients(inputs)):
        assert not gradient[2].any()
        nonzero, zero = list(zip(*np.nonzero(gradient))), list(zip(*np.nonzero(gradient == 0)))
        places = [nonzero[i] for i in rng.choice(len(nonzero), 40)] + [zero[i] for i in rng.choice(len(zero), 40)]
        for place in places:
            both_sides = []
            for step in (1e-6, -1e-6):
                moved = getattr(inputs, name).astype(np.float64)
                moved[place] += step
                both_sides.append(multibox_loss(inputs._replace(**{name: moved})).sum())
            expected = (both_sides[0] - both_sides[1]) / 2e-6
            assert gradient[place] == pytest.approx(expected, rel=1e-3, abs=1e-5)


def test_only_positives_and_the_hardest_negatives_have_gradients(gradients, rng):
    inputs = random_inputs(rng)
    inputs.target_labels[:] = 0
    inputs.target_labels[:, :2] = 1
    offsets_gradient, logits_gradient = gradients(inputs)
    assert (offsets_gradient.any(axis=2).nonzero()[1] < 2).all()
    assert logits_gradient.any(axis=2).sum(axis=1).tolist() == [8, 8, 8]  # two positives and six negatives per image


def test_loss_and_gradients_of_extreme_logits_are_finite(loss, gradients, call, rng):
    inputs = random_inputs(rng)
    logits = np.where(inputs.cls_logits > 0, np.float32(1e4), np.float32(-1e4))
    inputs = inputs._replace(box_offsets=inputs.box_offsets * 1000, cls_logits=logits)
    assert np.isfinite(call(loss, *inputs)).all()
    assert all(np.isfinite(gradient).all() for gradient in gradients(inputs))


def test_recipes_choose_the_loss_and_the_number_of_negatives(load_recipe, small_anchors, call, rng):
    inputs = random_inputs(rng)
    loss = create_loss(load_recipe("ssd_mobilenetv2", loss="multibox", negatives_per_positive=1), small_anchors)
    expected = multibox_loss(inputs, negatives_per_positive=1).sum()
    assert call(loss, *inputs)[0] == pytest.approx(expected, rel=1e-5)
    assert isinstance(create_loss(load_recipe("ssd_resnet50"), small_anchors), MultiboxLoss)
    assert isinstance(create_loss(load_recipe("ssd_mobilenetv2"), small_anchors), FocalDetectionLoss)


@pytest.mark.parametrize("kind", ["multibox", "focal"])
def test_recipes_choose_the_weight_of_the_box_loss(kind, load_recipe, small_anchors, call, rng):
    inputs = random_inputs(rng)
    single, double = (
        call(create_loss(load_recipe("ssd_mobilenetv2", loss=kind, box_loss_weight=weight), small_anchors), *inputs)
        for weight in (1, 2)
    )
    assert double[1] == pytest.approx(2 * single[1], rel=1e-6) and double[2] == single[2]
    assert double[0] == pytest.approx(double[1] + double[2], rel=1e-6)


@pytest.mark.parametrize(
    "values, k, expected",
    [
        ([5, 1, 4, 3], 2, [1, 0, 1, 0]),
        ([5, 1, 4, 3], 0, [0, 0, 0, 0]),
        ([5, 1, 4, 3], 4, [1, 1, 1, 1]),
        ([5, 1, 4, 3], 9, [1, 1, 1, 1]),
        ([2, 7, 2, 2], 2, [1 / 3, 1, 1 / 3, 1 / 3]),
        ([0, 0, 0, 0], 2, [0.5, 0.5, 0.5, 0.5]),
        ([0, 7, 0, 0], 9, [1, 1, 1, 1]),
        ([1e-6, 2e-6, 1000, 0], 3, [1, 1, 1, 0]),
        ([2e-20, 3e-20, 1e-20, 0], 2, [1, 1, 0, 0]),
        (1 + 2**-23 * np.array([3, 0, 1, 2]), 2, [1, 0, 0, 1]),  # neighbors in float32
        (1 + 2**-23 * np.array([0, 1, 0, -1]), 2, [0.5, 1, 0.5, 0]),
    ],
)
def test_the_largest_values_are_selected(values, k, expected, mining, call):
    selected = call(mining, np.array([values], np.float32), np.array([k], np.float32))
    assert selected.tolist() == [pytest.approx(expected)]


def test_rows_of_different_scales_are_independent(mining, call):
    values = np.array([[2e-20, 3e-20, 1e-20, 0], [5, 1, 4, 3], [1, 1e-4, 1, 1e4]], np.float32)
    selected = call(mining, values, np.array([2, 1, 3], np.float32))
    assert selected.tolist() == [[1, 1, 0, 0], [1, 0, 0, 0], [1, 0, 1, 1]]
    assert mining.fractions.dtype == ms.float32  # NPUs have no float64


def test_each_row_has_its_own_k(call, rng):
    values = rng.exponential(1, (6, 500)).astype(np.float32)
    k = np.array([0, 1, 2, 100, 499, 500], np.float32)
    selected = call(LargestValues(), values, k)
    expected = np.argsort(np.argsort(-values, axis=1), axis=1) < k[:, None]
    np.testing.assert_array_equal(selected, expected)

"""The SSD paper's loss against a loop over anchors in float64, and against sums done by hand."""

import numpy as np
import pytest
from gradients import Gradients

from ssd.models.losses import MultiboxLoss, SSDLoss, create_loss

B, A, K = 3, 40, 4


def cross_entropies(logits, labels):
    """-log softmax(logits)[label] of each anchor of an image. logits: (A, K); labels: (A,) -> (A,)"""
    logits = logits.astype(np.float64)
    shifted = logits - logits.max(axis=1, keepdims=True)
    log_shares = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return -log_shares[np.arange(len(labels)), labels]


def smooth_l1(difference):
    size = np.abs(difference.astype(np.float64))
    return np.where(size < 1, size**2 / 2, size - 0.5).sum()


def multibox(offsets, logits, targets, labels, ratio=3):
    """-> (box part, class part), image by image, with the hardest negatives picked one by one."""
    parts = np.zeros(2)
    for image in range(len(labels)):
        positive = np.flatnonzero(labels[image] > 0)
        if not len(positive):
            continue
        wrong = cross_entropies(logits[image], labels[image])
        negatives = sorted((wrong[anchor] for anchor in np.flatnonzero(labels[image] == 0)), reverse=True)
        parts[0] += smooth_l1(offsets[image, positive] - targets[image, positive]) / len(positive)
        parts[1] += (wrong[positive].sum() + sum(negatives[: ratio * len(positive)])) / len(positive)
    return parts / len(labels)


def random_inputs(rng, share_of_positives=0.1):
    labels = rng.integers(1, K, (B, A)) * (rng.uniform(size=(B, A)) < share_of_positives)
    labels[0, 0] = 1
    offsets, targets = rng.normal(0, 2, (2, B, A, 4)).astype(np.float32)
    return offsets, rng.normal(0, 3, (B, A, K)).astype(np.float32), targets, labels.astype(np.int32)


@pytest.fixture(scope="module")
def loss():
    return MultiboxLoss()


@pytest.fixture(scope="module")
def gradients(loss, call):
    net = Gradients(loss)
    return lambda *inputs: call(net, *inputs)[:2]


@pytest.mark.parametrize("share", [0.02, 0.1, 0.5, 1.0])  # of a half on, there are fewer negatives than are wanted
def test_loss_is_the_oracle(share, loss, call, rng):
    inputs = random_inputs(rng, share)
    total, box_loss, cls_loss = call(loss, *inputs)
    expected = multibox(*inputs)
    assert [box_loss, cls_loss] == pytest.approx(expected.tolist(), rel=1e-5)
    assert total == pytest.approx(expected.sum(), rel=1e-5)


def test_by_hand(loss, call):
    labels, logits = np.zeros((B, A), np.int32), np.zeros((B, A, K), np.float32)
    logits[..., 0] = 100  # background, as sure as can be: negatives cost nothing
    labels[0, 3], logits[0, 3] = 2, [0, 0, np.log(3), 0]  # share 3 of 6: log 2
    for anchor, share in zip((7, 8, 9, 30), (5, 7, 9, 8)):
        logits[0, anchor] = [0, 0, 0, np.log(share - 3)]  # background has 1 of `share`: log share
    targets = np.zeros((B, A, 4), np.float32)
    offsets = np.full_like(targets, 50)  # those of negatives do not count
    offsets[0, 3] = [0.5, 0, -2, 0]  # 0.125 + 1.5
    total, box_loss, cls_loss = call(loss, offsets, logits, targets, labels)
    # The three hardest of the four; one positive in one image of three.
    assert cls_loss == pytest.approx((np.log(2) + np.log(9) + np.log(8) + np.log(7)) / 3, rel=1e-5)
    assert box_loss == pytest.approx(1.625 / 3, rel=1e-5)
    assert total == pytest.approx(box_loss + cls_loss, rel=1e-6)


def test_a_batch_is_the_mean_of_its_images(loss, call, rng):
    inputs = random_inputs(rng)
    inputs[3][:, 0] = 1
    alone = [call(loss, *(np.repeat(values[row : row + 1], B, axis=0) for values in inputs))[0] for row in range(B)]
    assert call(loss, *inputs)[0] == pytest.approx(np.mean(alone), rel=1e-5)


def test_the_order_of_anchors_does_not_matter(loss, call, rng):
    inputs, order = random_inputs(rng), rng.permutation(A)
    shuffled = [values[:, order] for values in inputs]
    assert call(loss, *shuffled)[0] == pytest.approx(call(loss, *inputs)[0], rel=1e-5)


def test_equal_negatives_count_as_often_as_wanted(loss, call, rng):
    offsets, _, targets, labels = random_inputs(rng)
    _, _, cls_loss = call(loss, offsets, np.zeros((B, A, K), np.float32), targets, labels)
    with_objects = (labels > 0).any(axis=1).mean()
    assert cls_loss == pytest.approx(4 * np.log(K) * with_objects, rel=1e-5)  # a positive and three negatives each


def test_images_without_objects_cost_nothing_and_stay_finite(loss, gradients, call, rng):
    offsets, logits, targets, labels = random_inputs(rng)
    labels[:] = 0
    assert [float(part) for part in call(loss, offsets, logits, targets, labels)] == [0, 0, 0]
    for gradient in gradients(offsets, logits, targets, labels):
        assert np.isfinite(gradient).all() and not gradient.any()


def test_gradients_are_those_of_the_oracle(gradients, rng):
    inputs = random_inputs(rng)
    inputs[3][2] = 0  # an image without objects
    found = gradients(*inputs)
    for which, gradient in enumerate(found):
        assert not gradient[2].any()
        places = list(zip(*np.nonzero(gradient)))
        zeros = list(zip(*np.nonzero(gradient == 0)))
        chosen = [places[i] for i in rng.choice(len(places), 40)] + [zeros[i] for i in rng.choice(len(zeros), 40)]
        for place in chosen:
            sides = []
            for step in (1e-6, -1e-6):
                moved = [array.astype(np.float64) for array in inputs[:3]]
                moved[which][place] += step
                sides.append(multibox(*moved, inputs[3]).sum())
            assert gradient[place] == pytest.approx((sides[0] - sides[1]) / 2e-6, rel=1e-3, abs=1e-5)


def test_only_positives_and_the_hardest_negatives_learn(gradients, rng):
    offsets, logits, targets, labels = random_inputs(rng)
    labels[:] = 0
    labels[:, :2] = 1
    of_offsets, of_logits = gradients(offsets, logits, targets, labels)
    assert (of_offsets.any(axis=2).nonzero()[1] < 2).all()
    assert of_logits.any(axis=2).sum(axis=1).tolist() == [8, 8, 8]  # two positives and six negatives an image


def test_extreme_logits_stay_finite(loss, gradients, call, rng):
    offsets, logits, targets, labels = random_inputs(rng)
    logits = np.where(logits > 0, np.float32(1e4), np.float32(-1e4))
    assert np.isfinite(call(loss, offsets * 1000, logits, targets, labels)).all()
    assert all(np.isfinite(gradient).all() for gradient in gradients(offsets * 1000, logits, targets, labels))


def test_recipes_choose_the_loss_and_its_ratio(load_recipe, call, rng):
    inputs = random_inputs(rng)
    loss = create_loss(load_recipe("ssd_mobilenetv2", loss="multibox", negatives_per_positive=1), None)
    assert call(loss, *inputs)[0] == pytest.approx(multibox(*inputs, ratio=1).sum(), rel=1e-5)
    assert isinstance(create_loss(load_recipe("ssd_resnet50"), None), MultiboxLoss)
    assert isinstance(create_loss(load_recipe("ssd_mobilenetv2"), None), SSDLoss)


@pytest.mark.parametrize("kind", ["multibox", "focal"])
def test_recipes_choose_the_weight_of_the_box_loss(kind, load_recipe, call, rng):
    inputs = random_inputs(rng)
    single, double = (
        call(create_loss(load_recipe("ssd_mobilenetv2", loss=kind, box_loss_weight=weight), None), *inputs)
        for weight in (1, 2)
    )
    assert double[1] == pytest.approx(2 * single[1], rel=1e-6) and double[2] == single[2]
    assert double[0] == pytest.approx(double[1] + double[2], rel=1e-6)

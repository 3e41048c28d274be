"""Target assignment in the graph against the NumPy references `Matcher` and `BoxCoder`."""

import math

import numpy as np
import pytest
from gt_batches import B, M, clustered, pad, random_batch, repeated, spread, tiny

from ssd.boxes.coder import BoxCoder
from ssd.boxes.matcher import FORCED_MATCH_ROUNDS, Matcher
from ssd.models.target_assigner import TargetAssigner, create_assigner


def reference_targets(anchors, boxes, labels):
    """Compute the targets of a padded batch with Matcher and BoxCoder. Returns offsets and labels of the anchors."""
    offsets = np.zeros((len(boxes), len(anchors), 4), np.float32)
    targets = np.zeros((len(boxes), len(anchors)), np.int32)
    for image, (rows, classes) in enumerate(zip(boxes, labels)):
        rows, classes = rows[classes > 0], classes[classes > 0]
        matches = Matcher(0.5).match(rows, anchors.boxes_yxyx)
        positive = matches >= 0
        targets[image, positive] = classes[matches[positive]]
        offsets[image, positive] = BoxCoder().encode(rows[matches[positive]], anchors.boxes_cyxhw[positive])
    return offsets, targets


def assert_equal_targets(targets, expected):
    np.testing.assert_array_equal(targets[1], expected[1])
    # Boxes are rounded to about 1e-7, which is divided by the anchor's side and by the prior scaling of 0.1.
    np.testing.assert_allclose(targets[0], expected[0], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", [spread, clustered, tiny, repeated])
@pytest.mark.parametrize("seed", range(6))
def test_targets_equal_the_reference(kind, seed, assigner, small_anchors, call):
    boxes, labels = random_batch(np.random.default_rng(seed), kind)
    targets = call(assigner, boxes, labels)
    assert (targets[0].shape, targets[0].dtype) == ((B, 80, 4), np.float32)
    assert (targets[1].shape, targets[1].dtype) == ((B, 80), np.int32)
    assert targets[1].any()
    assert_equal_targets(targets, reference_targets(small_anchors, boxes, labels))


def test_published_anchors_equal_the_reference(load_recipe, published_anchors, call):
    assigner = create_assigner(load_recipe("ssd_mobilenetv2"), published_anchors)
    for seed, kind in enumerate((spread, clustered, tiny, repeated)):
        boxes, labels = random_batch(np.random.default_rng(seed), kind)
        targets = call(assigner, boxes, labels)
        assert targets[1].shape == (B, 1917)
        assert_equal_targets(targets, reference_targets(published_anchors, boxes, labels))


def test_hand_computed_targets(call):
    # Left half, right half, whole image.
    anchors_yxyx = np.array([[0, 0, 1, 0.5], [0, 0.5, 1, 1], [0, 0, 1, 1]], np.float32)
    anchors_cyxhw = np.array([[0.5, 0.25, 1, 0.5], [0.5, 0.75, 1, 0.5], [0.5, 0.5, 1, 1]], np.float32)
    left, quarter = (0, 0, 1, 0.5, 7), (0, 0.25, 1, 0.5, 9)
    boxes, labels = pad([[left], [left, quarter], [quarter, left], []], rows=5)
    offsets, targets = call(TargetAssigner(anchors_cyxhw, anchors_yxyx), boxes, labels)
    # `left` equals the first anchor. Its IoU with the third is 1/2, which is not above the threshold. The best anchor
    # of `quarter` is the first as well, with 1/2. `left` has it, so the forced match of `quarter` is the third anchor,
    # with 1/4.
    assert targets.tolist() == [[7, 0, 0], [7, 0, 9], [7, 0, 9], [0, 0, 0]]
    # The center of `quarter` is 0.125 left of the third anchor's, whose width is 1, and `quarter` is 1/4 as wide.
    quarter_offsets = pytest.approx([0, -0.125 / 0.1, 0, math.log(0.25) / 0.2], abs=1e-5)
    for image in (1, 2):
        assert offsets[image, 2] == quarter_offsets
        offsets[image, 2] = 0
    assert not offsets.any()


def test_more_boxes_than_anchors(call):
    whole = np.array([[0, 0, 1, 1]], np.float32)
    boxes, labels = pad([[(0, 0, 1, 0.9, 3), (0, 0, 1, 1, 4), (0, 0, 1, 1, 5)]], rows=5)
    _, targets = call(TargetAssigner(np.array([[0.5, 0.5, 1, 1]], np.float32), whole), boxes, labels)
    assert targets.tolist() == [[4]]  # the highest IoU, and the first of two equal ones


def test_more_boxes_with_the_same_best_anchor_than_rounds(assigner, small_anchors, call):
    # The boxes are too small for the threshold, so all matches are forced. They have the same best anchor.
    boxes_and_labels = [(0.1, 0.1, 0.12 + 0.001 * index, 0.12, index + 1) for index in range(M)]
    boxes, labels = pad([boxes_and_labels] * B)
    _, targets = call(assigner, boxes, labels)
    # The largest boxes get an anchor, one in each round.
    assert sorted(targets[0][targets[0] > 0]) == list(range(M - FORCED_MATCH_ROUNDS + 1, M + 1))
    assert_equal_targets((0, targets), (0, reference_targets(small_anchors, boxes, labels)[1]))


def test_the_first_of_equal_boxes_gets_the_best_anchor(assigner, small_anchors, call):
    box = small_anchors.boxes_yxyx[20]
    boxes, labels = pad([[(*box, 5), (*box, 6)], [(*box, 6), (*box, 5)], [], []])
    _, targets = call(assigner, boxes, labels)
    assert targets[:, 20].tolist() == [5, 6, 0, 0]
    assert set(targets[0]) == set(targets[1]) == {0, 5, 6}  # the second box has an anchor too


def test_empty_boxes_and_padding_are_not_matched(assigner, call):
    point = (0.3, 0.3, 0.3, 0.3, 2)  # a box without area has IoU 0 with every anchor
    boxes, labels = pad([[], [point], [(0.1, 0.1, 0.9, 0.9, 0)], []])  # label 0 is padding
    offsets, targets = call(assigner, boxes, labels)
    assert not targets.any() and not offsets.any()


def test_targets_of_a_batch_are_those_of_its_images(assigner, call, rng):
    boxes, labels = random_batch(rng, clustered)
    offsets, targets = call(assigner, boxes, labels)
    for image in range(B):
        alone = call(assigner, boxes[image : image + 1], labels[image : image + 1])
        np.testing.assert_array_equal(alone[0][0], offsets[image])
        np.testing.assert_array_equal(alone[1][0], targets[image])


@pytest.mark.parametrize("kind", [spread, clustered])
def test_the_order_of_boxes_and_padding_does_not_matter(kind, assigner, call, rng):
    boxes, labels = random_batch(rng, kind)
    offsets, targets = call(assigner, boxes, labels)
    assert targets.any()
    order = rng.permutation(M)
    shuffled = call(assigner, boxes[:, order], labels[:, order])
    np.testing.assert_array_equal(shuffled[0], offsets)
    np.testing.assert_array_equal(shuffled[1], targets)


def test_boxes_of_padding_do_not_matter(assigner, call, rng):
    boxes, labels = random_batch(rng, spread)
    expected = call(assigner, boxes, labels)
    boxes[labels == 0] = rng.uniform(0, 1, (np.sum(labels == 0), 4))
    targets = call(assigner, boxes, labels)
    np.testing.assert_array_equal(targets[0], expected[0])
    np.testing.assert_array_equal(targets[1], expected[1])


def test_recipes_choose_the_threshold_and_the_prior_scaling(load_recipe, small_anchors, call, rng):
    boxes, labels = random_batch(rng, spread)
    default = call(create_assigner(load_recipe("ssd_mobilenetv2"), small_anchors), boxes, labels)
    changed = load_recipe("ssd_mobilenetv2", match_threshold=0.7, prior_scaling=[0.2, 0.8])
    offsets, targets = call(create_assigner(changed, small_anchors), boxes, labels)
    assert 0 < np.sum(targets > 0) < np.sum(default[1] > 0)
    same = (targets > 0) & (targets == default[1])
    np.testing.assert_allclose(offsets[same] * (2, 2, 4, 4), default[0][same], rtol=1e-3, atol=1e-3)

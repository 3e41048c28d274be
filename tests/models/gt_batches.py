"""Batches of ground-truth boxes for the tests of target assigners, padded to M rows."""

import numpy as np

M = 12  # in most batches here, so that each network is compiled once
B = 4


def pad(images, rows=M):
    """Turn [[(y0, x0, y1, x1, label), ...] for each image] into boxes (B, rows, 4) and labels (B, rows)."""
    batch = np.zeros((len(images), rows, 5), np.float32)
    for image, gt_boxes in enumerate(images):
        batch[image, : len(gt_boxes)] = np.reshape(gt_boxes, (-1, 5))
    return batch[..., :4], batch[..., 4].astype(np.int32)


def spread(rng, count):
    """Return `count` boxes of random positions and sizes, clipped to the image."""
    centers, sizes = rng.uniform(0, 1, (count, 2)), rng.uniform(0.05, 0.8, (count, 2))
    return np.clip(np.hstack([centers - sizes / 2, centers + sizes / 2]), 0, 1)


def clustered(rng, count):
    """Return `count` nearly equal boxes, which share their best anchors."""
    return np.clip(spread(rng, 1) + rng.uniform(-0.02, 0.02, (count, 4)), 0, 1)


def tiny(rng, count):
    """Return `count` boxes far smaller than any anchor."""
    low = rng.uniform(0, 0.98, (count, 2))
    return np.hstack([low, low + rng.uniform(0.0005, 0.02, (count, 2))])


def repeated(rng, count):
    """Return `count` boxes of which at most three differ, so that IoUs are equal."""
    return spread(rng, 3)[rng.integers(3, size=count)]


def random_batch(rng, kind):
    """Return 0 to M ground-truth boxes of each image, in random rows between the padding."""
    boxes, labels = np.zeros((B, M, 4), np.float32), np.zeros((B, M), np.int32)
    for image in range(B):
        rows = rng.permutation(M)[: rng.integers(M + 1)]
        boxes[image, rows] = kind(rng, len(rows))
        labels[image, rows] = rng.integers(1, 81, len(rows))
    return boxes, labels

"""Hypothesis strategies of boxes. Half of the arrays are on a coarse grid, so that many boxes are equal or touch."""

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

GRID = 8  # cells of the coarse grid in the unit square
UNIT = st.floats(0, 1, width=32)
UNIT_ON_GRID = st.integers(0, GRID).map(lambda cell: cell / GRID)


@st.composite
def boxes(draw, min_count=1, max_count=6, *, min_side=0.0, on_grid=None):
    """Arrays (N, 4) float64, corners y0, x0, y1, x1 in 0..1.

    min_side: smallest height and width; smaller boxes are enlarged
    on_grid: whether corners are multiples of 1 / GRID; None for half of the arrays
    """
    count = draw(st.integers(min_count, max_count))
    elements = UNIT_ON_GRID if (draw(st.booleans()) if on_grid is None else on_grid) else UNIT
    corners = draw(arrays(np.float64, (count, 2, 2), elements=elements))
    low, high = corners.min(axis=1), corners.max(axis=1)
    low = np.minimum(low, 1 - min_side)
    return np.concatenate([low, np.maximum(high, low + min_side)], axis=1)


def unit_draws(*shape):
    """Arrays of random numbers 0..1, 1 excluded, as augmentation draws them."""
    return arrays(np.float64, shape, elements=st.floats(0, 1, exclude_max=True))


@st.composite
def permutations(draw, count):
    """Orders of `count` rows, as index arrays."""
    return np.array(draw(st.permutations(range(count))), dtype=np.int64)

"""PyTorch state dicts with random arrays."""

import numpy as np


def batch_norm_shapes(name, channels):
    """{name: shape} of a BatchNorm layer without its batch counter."""
    return {f"{name}.{parameter}": (channels,) for parameter in ("weight", "bias", "running_mean", "running_var")}


def random_arrays(shapes):
    """{name: array} from {name: shape}: float32 from 0 to 1, and 1234 for batch counters."""
    rng = np.random.default_rng(0)
    return {
        name: np.array(1234) if name.endswith("num_batches_tracked") else rng.random(shape, np.float32)
        for name, shape in shapes.items()
    }

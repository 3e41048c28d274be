"""Records of shards: their format, their classes, and boxes that training can use."""

import numpy as np
import pytest

from ssd.data.record_check import check_record
from ssd.errors import UserError

ID, BOX = np.array([7]), [1, 2, 3, 4, 2]


@pytest.mark.parametrize("dtype", [np.float32, np.int32])
def test_usable_records_are_accepted(dtype):
    """Boxes without area are in shards of MindCV's example, which rounds corners."""
    check_record(ID, np.array([BOX, [3, 3, 3, 3, 1], [0, 0, 0, 0, 0], [-5, -5, 1000, 1000, 1]], dtype), num_classes=3)


@pytest.mark.parametrize(
    "row",
    [
        *([np.nan, 2, 3, 4, 1], [1, -np.inf, 3, 4, 1], [1, 2, np.inf, 4, 1]),
        [0, 0, 0, np.nan, 0],  # also in padding: NaN * 0 is NaN
        *([3, 2, 1, 4, 1], [1, 4, 3, 2, 1]),  # reversed corners
    ],
)
def test_boxes_that_would_spoil_training_are_refused(row):
    with pytest.raises(UserError, match=r"^image 7 in the shards: box \["):
        check_record(ID, np.array([BOX, row], np.float32), num_classes=3)


@pytest.mark.parametrize("label", [3, -1, np.nan])
def test_classes_out_of_range_are_refused(label):
    with pytest.raises(UserError, match="^image 7 in the shards: class index"):
        check_record(ID, np.array([[*BOX[:4], label]], np.float32), num_classes=3)


@pytest.mark.parametrize("shape", [(5,), (1, 4), (1, 6), (1, 1, 5)])
def test_annotations_of_another_shape_are_refused(shape):
    with pytest.raises(UserError, match="^image 7 in the shards: annotation"):
        check_record(ID, np.ones(shape, np.float32), num_classes=3)

"""Average precision by the rules of COCO and Pascal VOC, on curves typed by hand."""

import numpy as np
import pytest

from ssd.evaluation.average_precision import coco_average_precision, voc_average_precision


@pytest.mark.parametrize(
    "is_true_positive, num_gt, coco, area, eleven_points",
    [
        ([True, True], 2, 1, 1, 1),
        ([], 2, 0, 0, 0),
        ([False], 1, 0, 0, 0),
        # Precision 1 up to recall 1/2: 51 of 101 thresholds, half of the area, 6 of 11 thresholds.
        ([True], 2, 51 / 101, 1 / 2, 6 / 11),
        ([True, False], 2, 51 / 101, 1 / 2, 6 / 11),
        ([False, True], 1, 1 / 2, 1 / 2, 1 / 2),
        # Precision 1 up to recall 1/2, then 2/3: the envelope skips the 1/2 in between.
        ([True, False, True], 2, (51 + 50 * 2 / 3) / 101, 1 / 2 + 1 / 2 * 2 / 3, (6 + 5 * 2 / 3) / 11),
        # Recall 3/10 reaches the threshold 0.3 of both.
        ([True] * 3, 10, 31 / 101, 0.3, 4 / 11),
        # Recall 14/15 is between the thresholds 0.93 and 0.94, and between 0.9 and 1.
        ([True] * 14, 15, 94 / 101, 14 / 15, 10 / 11),
    ],
)
def test_values_by_hand(is_true_positive, num_gt, coco, area, eleven_points):
    is_true_positive = np.array(is_true_positive, bool)
    assert coco_average_precision(is_true_positive, num_gt) == pytest.approx(coco)
    assert voc_average_precision(is_true_positive, num_gt) == pytest.approx((area, eleven_points))


def test_only_coco_adds_a_rounding_term_to_the_precision():
    """As in pycocotools and in the VOC devkit: 1 / (1 + 2**-52) is below 1."""
    perfect = np.array([True])
    assert voc_average_precision(perfect, 1) == (1, 1)
    assert 1 - 1e-15 < coco_average_precision(perfect, 1) < 1
    assert coco_average_precision(perfect, 101) == 1 / (1 + 2**-52) / 101  # recall 1/101 reaches only the threshold 0
